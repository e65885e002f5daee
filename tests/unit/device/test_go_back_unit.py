# Copyright (c) 2026, The edgeml.fleet authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""How the device has the installation before serve again: by a new process that takes over, or by a restart."""

from __future__ import annotations

import fcntl
import os
import re
import subprocess
from pathlib import Path

import pytest
from links import REPOSITORY

UNIT = REPOSITORY / "roles/inference_service/files/device/systemd/edgeml-go-back.service"
SYSTEMCTL = """#!/bin/sh
echo "$1" >>{calls}
case $1 in
    show) cat {main} ;;
    reload) {reload} ;;
esac
"""


def command(lock: Path) -> str:
    """The unit's shell command that switches processes, with another lock, which it does not wait for."""
    text = UNIT.read_text().replace("\\\n", "").replace("$$", "$")
    (found,) = re.findall(r"^ExecStart=/bin/sh -c '(.*)'$", text, re.MULTILINE)
    return str(found).replace("/var/lib/edgeml/store/lock", str(lock)).replace("--timeout=60", "--timeout=0")


@pytest.mark.parametrize(
    ("reload", "locked", "restarts"),
    [
        ("echo 2 >{main}", False, False),
        # An app of before handovers reads its certificates again, and that is all.
        ("true", False, True),
        ("exit 1", False, True),
        ("echo 2 >{main}", True, True),
    ],
    ids=["takes over", "stays", "fails", "locked"],
)
def test_it_restarts_what_no_new_process_took_over(tmp_path: Path, reload: str, locked: bool, restarts: bool) -> None:
    calls, main, lock, systemctl = (tmp_path / name for name in ("calls", "main", "lock", "systemctl"))
    main.write_text("1\n")
    systemctl.write_text(SYSTEMCTL.format(calls=calls, main=main, reload=reload.format(main=main)))
    systemctl.chmod(0o755)
    with lock.open("w") as held:
        if locked:
            fcntl.flock(held, fcntl.LOCK_EX)
        environment = {**os.environ, "PATH": f"{tmp_path}:{os.environ['PATH']}"}
        done = subprocess.run(["/bin/sh", "-c", command(lock)], env=environment, check=False)
    assert done.returncode == 0
    assert ("restart" in calls.read_text().split()) == restarts
    assert ("reload" in calls.read_text().split()) != locked
