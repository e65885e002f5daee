# Copyright (c) 2026, The edgeml.fleet authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""OpenSSH's server, with a configuration and keys of its own, from Debian's package without installing that."""

from __future__ import annotations

import os
import platform
import shutil
import socket
import subprocess
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from links import REPOSITORY

_UNPACKED = REPOSITORY / ".cache" / "sshd"
_PACKAGES = ("openssh-server", "libwrap0")
_SECONDS = 20

_CONFIG = """\
AuthorizedKeysFile {directory}/key.pub
HostKey {directory}/host_key
PasswordAuthentication no
PermitRootLogin prohibit-password
PidFile none
StrictModes no
Subsystem sftp internal-sftp
# Hundreds of devices answer here, each with its own.
MaxStartups 1000
UsePAM no
"""


def find_sshd() -> tuple[Path, Path]:
    """OpenSSH's server and the directory of its libraries; from Debian's packages where it is not installed."""
    libraries = _UNPACKED / "usr" / "lib" / f"{platform.machine()}-linux-gnu"
    installed = shutil.which("sshd", path="/usr/sbin:/usr/local/sbin")
    if installed:
        return Path(installed), libraries
    program = _UNPACKED / "usr" / "sbin" / "sshd"
    if not program.exists():
        shutil.rmtree(_UNPACKED, ignore_errors=True)
        _UNPACKED.mkdir(parents=True)
        subprocess.run(["apt-get", "download", *_PACKAGES], cwd=_UNPACKED, check=True, capture_output=True)
        for package in _UNPACKED.glob("*.deb"):
            subprocess.run(["dpkg-deb", "--extract", str(package), str(_UNPACKED)], check=True)
    return program, libraries


class Sshd:
    """Listens on port 22 of every address of a network that this process has for itself, and lets root in by a key.

    As a context manager it runs; its files are below ``directory``. ``enter`` is the command that starts another one in
    its network, where that is not this process's own; ``address`` one of its addresses there. Needs
    ``simulated_fleet.leave_the_machine``.
    """

    def __init__(
        self,
        directory: Path,
        program: Path,
        libraries: Path,
        enter: Sequence[str] = (),
        address: str = "127.0.0.1",
    ) -> None:
        self._directory = directory / "ssh"
        self._command = [*enter, str(program), "-D", "-e", "-f", str(self._directory / "sshd_config")]
        self._address = address
        self._libraries = libraries
        self._process: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> Sshd:
        self._directory.mkdir()
        for name in ("key", "host_key"):
            subprocess.run(
                ["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", "", "-f", str(self._directory / name)], check=True
            )
        host_key = (self._directory / "host_key.pub").read_text()
        (self._directory / "known_hosts").write_text(f"* {host_key}")
        (self._directory / "sshd_config").write_text(_CONFIG.format(directory=self._directory))
        self._add_user()
        os.makedirs("/run/sshd", mode=0o755, exist_ok=True)
        with (self._directory / "log").open("wb") as log:
            self._process = subprocess.Popen(
                self._command, stderr=log, env={"PATH": os.environ["PATH"], "LD_LIBRARY_PATH": str(self._libraries)}
            )
        deadline = time.monotonic() + _SECONDS
        while not _answers(self._address):
            assert self._process.poll() is None, self.log
            assert time.monotonic() < deadline, self.log
            time.sleep(0.02)
        return self

    def __exit__(self, *_exception: object) -> None:
        assert self._process is not None
        self._process.terminate()
        self._process.wait()
        subprocess.run(["umount", "/etc/passwd"], check=True)

    @property
    def log(self) -> str:
        """What the server said."""
        return (self._directory / "log").read_text()

    def variables(self, address: str) -> dict[str, Any]:
        """The variables for Ansible of a host that is reached at ``address``."""
        return {
            "ansible_host": address,
            "ansible_user": "root",
            "ansible_ssh_private_key_file": str(self._directory / "key"),
            "ansible_ssh_common_args": f"-F none -o UserKnownHostsFile={self._directory}/known_hosts",
        }

    def _add_user(self) -> None:
        """The user without rights that the server is while nobody has logged in."""
        passwd = self._directory / "passwd"
        passwd.write_text(Path("/etc/passwd").read_text() + "sshd:x:65533:65534::/run/sshd:/usr/sbin/nologin\n")
        subprocess.run(["mount", "--bind", str(passwd), "/etc/passwd"], check=True)


def _answers(address: str) -> bool:
    with socket.socket() as client:
        return client.connect_ex((address, 22)) == 0
