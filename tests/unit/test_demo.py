# Copyright (c) 2026, The edgeml.fleet authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The demonstration on a machine that is busy with other work: what is only slow is no failure."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parents[2] / "examples" / "digits"))

import demo


class Playbooks:
    """An ``ansible-playbook`` that ends with one code after another, and notes how patient it is told to be."""

    def __init__(self, directory: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self._log = directory / "log"
        self._codes = directory / "codes"
        program = directory / "ansible-playbook"
        program.write_text(
            "#!/bin/sh\n"
            f'echo "$1 $ANSIBLE_TIMEOUT $ANSIBLE_SSH_RETRIES" >>{self._log}\n'
            f"code=$(head -n 1 {self._codes})\n"
            f"sed -i 1d {self._codes}\n"
            "exit $code\n"
        )
        program.chmod(0o755)
        monkeypatch.setenv("PATH", f"{directory}:{os.environ['PATH']}")
        self.pauses: list[float] = []
        monkeypatch.setattr(time, "sleep", self.pauses.append)

    def end_with(self, *codes: int) -> None:
        self._codes.write_text("".join(f"{code}\n" for code in codes))

    @property
    def calls(self) -> list[str]:
        return self._log.read_text().splitlines()


@pytest.fixture
def playbooks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Playbooks:
    for name in demo.PATIENCE:
        monkeypatch.delenv(name, raising=False)
    return Playbooks(tmp_path, monkeypatch)


def test_preparations_are_tried_again_while_a_device_is_unreachable(playbooks: Playbooks) -> None:
    playbooks.end_with(4, 4, 0)
    assert demo.prepare("edgeml.fleet.provision").code == 0
    assert playbooks.calls == ["edgeml.fleet.provision 60 5"] * 3
    assert playbooks.pauses == [5, 10]


def test_a_preparation_that_fails_is_not_tried_again(playbooks: Playbooks) -> None:
    playbooks.end_with(2, 0)
    assert demo.prepare("edgeml.fleet.provision").code == 2
    assert playbooks.pauses == []


def test_the_time_of_trying_again_is_bounded(playbooks: Playbooks, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(demo, "PREPARATION_SECONDS", 0)
    playbooks.end_with(4, 0)
    assert demo.prepare("edgeml.fleet.provision").code == 4
    assert len(playbooks.calls) == 1


def test_who_sets_a_timeout_is_heard(playbooks: Playbooks, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ANSIBLE_TIMEOUT", "300")
    playbooks.end_with(0)
    demo.playbook("edgeml.fleet.provision")
    assert playbooks.calls == ["edgeml.fleet.provision 300 5"]


def test_the_load_ends_with_the_demonstration() -> None:
    code = "import demo, os, sys, time\nwith demo.busy(2): print(flush=True); time.sleep(60)"
    directory = str(Path(demo.__file__).parent)
    with subprocess.Popen([sys.executable, "-c", code], cwd=directory, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        process.stdout.readline()
        children = Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()
        assert len(children) == 2
        process.kill()
    deadline = time.monotonic() + 60
    while any(is_alive(child) for child in children):
        assert time.monotonic() < deadline
        time.sleep(0.05)


def is_alive(number: str) -> bool:
    try:
        return Path(f"/proc/{number}/stat").read_text().rsplit(")", 1)[1].split()[0] != "Z"
    except OSError:
        return False
