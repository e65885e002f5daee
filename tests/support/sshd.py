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
from logged_process import LoggedProcess

_UNPACKED = REPOSITORY / ".cache" / "sshd"
_SECONDS = 60

# A user that exists for this server alone: it is one without rights while nobody has logged in.
_WITH_ITS_USER = 'mount --bind "$1" /etc/passwd && shift && exec "$@"'

_CONFIG = """\
AuthorizedKeysFile {directory}/key.pub
HostKey {directory}/host_key
PasswordAuthentication no
PermitRootLogin prohibit-password
PidFile none
StrictModes no
Port {port}
Subsystem sftp internal-sftp
# Hundreds of devices answer here, each with its own.
MaxStartups 1000
UsePAM no
"""


def find_sshd() -> tuple[Path, Path]:
    """OpenSSH's server and the directory of its libraries; as make setup unpacks it, where it is not installed."""
    libraries = _UNPACKED / "usr" / "lib" / f"{platform.machine()}-linux-gnu"
    installed = shutil.which("sshd", path="/usr/sbin:/usr/local/sbin")
    if installed:
        return Path(installed), libraries
    program = _UNPACKED / "usr" / "sbin" / "sshd"
    assert program.exists(), f"{program} is not there: make setup unpacks it"
    return program, libraries


class Sshd(LoggedProcess):
    """Lets root in by a key, on port 22 of every address of a network that this process has for itself.

    As a context manager it runs; its files are below ``directory``. ``enter`` is the command that starts another one in
    its network, where that is not this process's own; ``address`` one of its addresses there. Needs
    ``simulated_fleet.leave_the_machine``; with another ``port`` it listens on ``address`` only, and needs nothing.
    """

    def __init__(
        self,
        directory: Path,
        program: Path,
        libraries: Path,
        enter: Sequence[str] = (),
        address: str = "127.0.0.1",
        port: int = 22,
    ) -> None:
        self._directory = directory / "ssh"
        own_mounts = [*enter, "unshare", "--mount", "--propagation", "private", "sh", "-c", _WITH_ITS_USER, "sh"]
        server = [str(program), "-D", "-e", "-f", str(self._directory / "sshd_config")]
        self._command = [*own_mounts, str(self._directory / "passwd"), *server]
        self._address = address
        self._port = port
        self._libraries = libraries
        super().__init__(self._directory)

    def __enter__(self) -> Sshd:
        self._directory.mkdir()
        for name in ("key", "host_key"):
            subprocess.run(
                ["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", "", "-f", str(self._directory / name)], check=True
            )
        host_key = (self._directory / "host_key.pub").read_text()
        (self._directory / "known_hosts").write_text(f"* {host_key}")
        config = _CONFIG.format(directory=self._directory, port=self._port)
        if self._port != 22:
            config += f"ListenAddress {self._address}\n"
        (self._directory / "sshd_config").write_text(config)
        user = "sshd:x:65533:65534::/run/sshd:/usr/sbin/nologin\n"
        (self._directory / "passwd").write_text(Path("/etc/passwd").read_text() + user)
        os.makedirs("/run/sshd", mode=0o755, exist_ok=True)
        self.start(self._command, {"PATH": os.environ["PATH"], "LD_LIBRARY_PATH": str(self._libraries)})
        deadline = time.monotonic() + _SECONDS
        while not self._answers():
            assert self.process.poll() is None, self.log
            assert time.monotonic() < deadline, self.log
            time.sleep(0.02)
        return self

    def variables(self, address: str) -> dict[str, Any]:
        """The variables for Ansible of a host that is reached at ``address``."""
        return {
            "ansible_host": address,
            "ansible_port": self._port,
            "ansible_user": "root",
            "ansible_ssh_private_key_file": str(self._directory / "key"),
            "ansible_ssh_common_args": f"-F none -o UserKnownHostsFile={self._directory}/known_hosts",
        }

    def _answers(self) -> bool:
        with socket.socket() as client:
            return client.connect_ex((self._address, self._port)) == 0
