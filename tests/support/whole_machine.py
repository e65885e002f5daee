# Copyright (c) 2026, The edgeml.fleet authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""A whole machine: Debian on its own kernel, emulated by QEMU, with a disk that outlives its power.

It reaches nothing, this machine included; its SSH and its inference server are published on ports of 127.0.0.1.
"""

from __future__ import annotations

import shlex
import shutil
import socket
import subprocess
import time
from contextlib import suppress
from pathlib import Path
from typing import Any, NamedTuple

from links import REPOSITORY

KEY = REPOSITORY / ".ansible" / "fleet" / "id_ed25519"
NAME = "machine"
INFERENCE_PORT = 8080
# However busy this machine is. It takes half a minute on one that is not.
BOOT_SECONDS = 900
_MEMORY = "2G"
_LOOPBACK = "127.0.0.1"
_SSH_PORT = 22
_SNAPSHOT = "saved"
# On a busy machine a service takes minutes to start. What systemd would give up waits like everything else here.
_KERNEL_OPTIONS = f"quiet systemd.default_timeout_start_sec={BOOT_SECONDS}"
_DEVICES = [
    *("-smp", "2", "-nodefaults", "-display", "none", "-device", "virtio-rng-pci"),
    *("-device", "virtio-net-pci,netdev=net,romfile=", "-device", "virtio-blk-pci,drive=disk"),
]


class _Architecture(NamedTuple):
    """What a machine of one architecture, as ``uname -m`` calls it, is in QEMU."""

    machine: str
    command: tuple[str, ...]
    console: str


# By Debian's names.
_ARCHITECTURES = {
    "arm64": _Architecture(
        "aarch64",
        ("qemu-system-aarch64", "-machine", "virt", "-cpu", "cortex-a72", "-accel", "tcg,thread=multi"),
        "ttyAMA0",
    ),
    "amd64": _Architecture(
        "x86_64", ("qemu-system-x86_64", "-machine", "q35", "-cpu", "max", "-accel", "tcg,thread=multi"), "ttyS0"
    ),
}
# Nothing answers where the port was taken by another process since; a machine that did not begin tries others.
_STARTS = 5


def architecture_of(base: Path) -> str:
    """The architecture of the machines that ``base`` is the disk of, as ``uname -m`` calls it."""
    return _architecture(base).machine


def _architecture(base: Path) -> _Architecture:
    return _ARCHITECTURES[(base / "architecture").read_text().strip()]


class WholeMachine:
    """One machine: ``base`` is what build-disk made, and ``directory`` gets its own disk, an overlay over that one.

    With ``saved``, the directory of a machine that was saved, it goes on from there instead: it needs no boot."""

    def __init__(self, base: Path, directory: Path, saved: Path | None = None) -> None:
        self._base = base
        self._architecture = _architecture(base)
        self._directory = directory
        self._disk = directory / "disk.qcow2"
        self._monitor = directory / "monitor"
        self._qemu: subprocess.Popen[bytes] | None = None
        self._ssh_port = 0
        self.port = 0
        """The inference server's port on 127.0.0.1."""
        self._saved = saved is not None
        directory.mkdir(parents=True)
        if saved:
            shutil.copyfile(saved / "disk.qcow2", self._disk)
        else:
            backing = str((base / "disk.img").resolve())
            create = ["qemu-img", "create", "-q", "-f", "qcow2", "-F", "raw", "-b", backing, str(self._disk)]
            subprocess.run(create, check=True)

    def __enter__(self) -> WholeMachine:
        self.boot()
        return self

    def __exit__(self, *_exception: object) -> None:
        self.cut_power()

    @property
    def architecture(self) -> str:
        """Its architecture, as ``uname -m`` calls it."""
        return self._architecture.machine

    @property
    def console(self) -> str:
        """What the machine has written to its serial line since its last boot."""
        return (self._directory / "console.log").read_text(errors="replace")

    def inventory(self) -> dict[str, Any]:
        """Ansible's variables to reach it."""
        return {
            "ansible_host": _LOOPBACK,
            "ansible_port": self._ssh_port,
            "ansible_user": "ops",
            # Ansible's own, of 10 s, goes before what the arguments of SSH say.
            "ansible_ssh_timeout": BOOT_SECONDS,
            "ansible_become": True,
            "ansible_python_interpreter": "/usr/bin/python3",
            "ansible_ssh_private_key_file": str(KEY),
            "ansible_ssh_common_args": shlex.join(self._ssh_options()),
        }

    def boot(self) -> None:
        """Switch it on, and wait until it takes a login and systemd has started all that it starts; a saved one goes on
        where it was, the first time."""
        for _start in range(_STARTS):
            self._start()
            if self._wait_for_login():
                break
        else:
            raise AssertionError(f"the machine did not boot; its console: {self.console[-4000:]}")
        state = self.shell("systemctl is-system-running --wait", check=False).stdout.strip()
        assert state == "running", f"{state}: {self.shell('systemctl --failed --no-legend --plain').stdout}"

    def shell(self, script: str, *, check: bool = True, stdin: str = "") -> subprocess.CompletedProcess[str]:
        """Run a script as root on it, with ``stdin`` as its input; with ``check`` it must end with 0."""
        run = subprocess.run(self._ssh(script), input=stdin, capture_output=True, text=True, check=False)
        assert not check or run.returncode == 0, f"{script}\nended with {run.returncode}: {run.stdout}{run.stderr}"
        return run

    def wait_until(self, condition: str) -> None:
        """Wait until a command of its shell succeeds."""
        self.shell(f"timeout {BOOT_SECONDS} sh -c {shlex.quote(f'until {condition}; do sleep 1; done')}")

    def start(self, script: str) -> subprocess.Popen[str]:
        """Start a script as root on it."""
        return subprocess.Popen(
            self._ssh(script), stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
        )

    def cut_power(self) -> None:
        """End it as a power cut does: what it has not written to its disk is lost."""
        if self._qemu:
            self._qemu.kill()
            self._qemu.wait()
            self._qemu = None

    def save(self) -> None:
        """Keep it as it is, with its memory, for others to go on from, and end it."""
        assert self._qemu
        self.shell("sync")
        with socket.socket(socket.AF_UNIX) as monitor:
            monitor.connect(str(self._monitor))
            monitor.sendall(f"savevm {_SNAPSHOT}\nquit\n".encode())
            self._qemu.wait(BOOT_SECONDS)
        self._qemu = None

    def _start(self) -> None:
        self.cut_power()
        self._ssh_port, self.port = _free_ports(2)
        forwards = [(self._ssh_port, _SSH_PORT), (self.port, INFERENCE_PORT)]
        network = ",".join(f"hostfwd=tcp:{_LOOPBACK}:{outside}-:{inside}" for outside, inside in forwards)
        with (self._directory / "console.log").open("wb") as console:
            self._qemu = subprocess.Popen(
                [
                    *self._architecture.command,
                    *_DEVICES,
                    *("-m", _MEMORY, "-kernel", str(self._base / "vmlinuz"), "-initrd", str(self._base / "initrd.img")),
                    *("-append", f"console={self._architecture.console} {_KERNEL_OPTIONS}", "-serial", "stdio"),
                    *("-netdev", f"user,id=net,restrict=on,{network}"),
                    *("-drive", f"id=disk,if=none,format=qcow2,file={self._disk}"),
                    *("-monitor", f"unix:{self._monitor},server,nowait"),
                    *(("-loadvm", _SNAPSHOT) if self._saved else ()),
                ],
                stdin=subprocess.DEVNULL,
                stdout=console,
                stderr=subprocess.STDOUT,
            )
        self._saved = False
        known = (self._base / "host-key.pub").read_text()
        (self._directory / "known_hosts").write_text(f"[{_LOOPBACK}]:{self._ssh_port} {known}")

    def _wait_for_login(self) -> bool:
        """Whether a login succeeded; not, when the machine has ended."""
        assert self._qemu
        end = time.monotonic() + BOOT_SECONDS
        while self._qemu.poll() is None and time.monotonic() < end:
            if self._is_listening() and self.shell("true", check=False).returncode == 0:
                return True
            time.sleep(1)
        return False

    def _is_listening(self) -> bool:
        """Whether its SSH server answers; qemu itself takes every connection."""
        with suppress(OSError), socket.create_connection((_LOOPBACK, self._ssh_port), timeout=60) as connection:
            return connection.recv(4) == b"SSH-"
        return False

    def _ssh(self, script: str) -> list[str]:
        target = ["-p", str(self._ssh_port), "-i", str(KEY), f"ops@{_LOOPBACK}"]
        return ["ssh", "-T", *self._ssh_options(), *target, shlex.join(["sudo", "sh", "-euc", script])]

    def _ssh_options(self) -> list[str]:
        known = f"UserKnownHostsFile={self._directory / 'known_hosts'}"
        options = [
            known,
            "IdentitiesOnly=yes",
            "StrictHostKeyChecking=yes",
            "BatchMode=yes",
            f"ConnectTimeout={BOOT_SECONDS}",
        ]
        return [word for option in options for word in ("-o", option)]


def _free_ports(count: int) -> list[int]:
    """Ports of 127.0.0.1 that nobody listens on."""
    sockets = [socket.create_server((_LOOPBACK, 0)) for _number in range(count)]
    ports = [listener.getsockname()[1] for listener in sockets]
    for listener in sockets:
        listener.close()
    return ports
