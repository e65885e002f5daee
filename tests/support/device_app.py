# Copyright (c) 2026, The edgeml.fleet authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The app of a device, as the role inference_service installs it, made of links into this clone."""

from __future__ import annotations

import os
import sys
from pathlib import Path

from links import PYTHON_PATH, REPOSITORY

from ansible_collections.edgeml.fleet.plugins.module_utils._common.code import code_digest

# The Python that modules and the device's command run with; the server has that of the tests (tools/matrix).
PYTHON = os.environ.get("EDGEML_TEST_DEVICE_PYTHON") or sys.executable
COMMAND = f"#!{PYTHON} -sSE\n" + (REPOSITORY / "roles/inference_service/files/device/edgeml").read_text()

_SHELL = """\
#!/bin/sh
exec unshare --mount --propagation private sh -c '
    mount -t overlay -o lowerdir={bin}:/usr/local/bin overlay /usr/local/bin && exec /bin/sh "$@"
' sh "$@"
"""


def make_app(directory: Path) -> None:
    """Make the app in an empty directory."""
    for package in ("edgeml_device", "edgeml_server"):
        (directory / package).symlink_to(PYTHON_PATH / package)
    write_command(directory)


def write_command(directory: Path, code: str | None = None, program: str = COMMAND) -> None:
    """Write the app's command ``edgeml``, which says that its code has the digest ``code``, by default the true one."""
    (directory / "edgeml_device.sha256").write_text(code or code_digest())
    (directory / "edgeml").write_text(program)
    (directory / "edgeml").chmod(0o755)


def command_shell(directory: Path) -> Path:
    """Make a shell with which this machine has the command ``edgeml`` where a device has it, and return its path.

    For ``ansible_shell_executable``: Ansible then calls the command, which costs a fraction of a module's start.
    """
    made = directory / "device"
    (made / "app").mkdir(parents=True)
    make_app(made / "app")
    (made / "bin").mkdir()
    (made / "bin" / "edgeml").symlink_to(made / "app" / "edgeml")
    shell = made / "shell"
    shell.write_text(_SHELL.format(bin=made / "bin"))
    shell.chmod(0o755)
    return shell
