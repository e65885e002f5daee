# Copyright (c) 2026, The edgeml.fleet authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The service's whole sandbox on a real kernel: what the unit says is what its processes have."""

from __future__ import annotations

import json

import pytest
from whole_machine import WholeMachine

# Started by systemd in the unit's sandbox: tries what the sandbox forbids, and writes what became of it.
PROBE = """
import ctypes, errno, json, os, socket
libc = ctypes.CDLL(None, use_errno=True)
numbers = {
    "aarch64": {"mount": 40, "unshare": 97, "keyctl": 219, "reboot": 142, "bpf": 280, "personality": 92},
    "x86_64": {"mount": 165, "unshare": 272, "keyctl": 250, "reboot": 169, "bpf": 321, "personality": 135},
}[os.uname().machine]
def attempt(call):
    try:
        call()
    except OSError as error:
        return errno.errorcode[error.errno]
    return "allowed"
def system_call(number, *arguments):
    def call():
        ctypes.set_errno(0)
        if libc.syscall(number, *arguments) < 0:
            raise OSError(ctypes.get_errno(), "")
    return call
found = {
    "mount": attempt(system_call(numbers["mount"], b"none", b"/mnt", b"tmpfs", 0, None)),
    "unshare": attempt(system_call(numbers["unshare"], 0x10000000)),
    "keyctl": attempt(system_call(numbers["keyctl"], 0, 0, 0)),
    "reboot": attempt(system_call(numbers["reboot"], 0, 0, 0)),
    "bpf": attempt(system_call(numbers["bpf"], 0, None, 0)),
    "personality": attempt(system_call(numbers["personality"], 0x0200000)),
    "packet socket": attempt(lambda: socket.socket(socket.AF_PACKET, socket.SOCK_RAW)),
    "netlink socket": attempt(lambda: socket.socket(socket.AF_NETLINK, socket.SOCK_RAW)),
    "real-time": attempt(lambda: os.sched_setscheduler(0, os.SCHED_FIFO, os.sched_param(1))),
    "set-uid file": attempt(lambda: os.chmod("/run/edgeml/probe", 0o4755)),
    "system": attempt(lambda: open("/usr/probe", "w")),
    "store": attempt(lambda: open("/var/lib/edgeml/store/probe", "w")),
    "home": attempt(lambda: os.listdir("/home/ops")),
    "kernel tunable": attempt(lambda: open("/proc/sys/kernel/hostname", "w")),
    "control group": attempt(lambda: open("/sys/fs/cgroup/cgroup.procs", "w")),
    "kernel log": attempt(lambda: open("/dev/kmsg")),
    "disk": attempt(lambda: open("/dev/vda", "rb")),
    "init's files": attempt(lambda: os.listdir("/proc/1")),
    "prediction log": attempt(lambda: open("/var/lib/edgeml-inference/probe", "w")),
    "runtime directory": attempt(lambda: open("/run/edgeml/probe.json", "w")),
}
print(json.dumps(found), file=open("/run/edgeml/probe.json", "w"))
"""
ALLOWED = {"prediction log", "runtime directory"}
SERVER = "$(systemctl show --property=MainPID --value edgeml-inference)"


@pytest.fixture(scope="module")
def probed(machine: WholeMachine) -> dict[str, str]:
    """What became of each attempt in the sandbox."""
    machine.shell("cat >/usr/local/lib/edgeml-probe.py", stdin=PROBE)
    machine.shell("""
        directory=/run/systemd/system/edgeml-inference.service.d
        mkdir --parents $directory
        cat >$directory/probe.conf <<'END'
[Service]
ExecStartPre=/bin/touch /run/edgeml/probe
ExecStartPre=/usr/bin/python3 /usr/local/lib/edgeml-probe.py
END
        systemctl daemon-reload
        systemctl restart edgeml-inference
        rm -r $directory
        systemctl daemon-reload
    """)
    found: dict[str, str] = json.loads(machine.shell("cat /run/edgeml/probe.json").stdout)
    return found


def test_the_machine_is_what_containers_are_not(machine: WholeMachine) -> None:
    said = machine.shell("uname -m; stat --file-system --format=%T /sys/fs/cgroup; cat /proc/1/comm")
    assert said.stdout.split() == [machine.architecture, "cgroup2fs", "systemd"]
    assert machine.shell("systemd-detect-virt --container", check=False).stdout.strip() == "none"


def test_the_sandbox_forbids_each_of_these_and_lets_the_server_work(probed: dict[str, str]) -> None:
    allowed = {name for name, outcome in probed.items() if outcome == "allowed"}
    assert allowed == ALLOWED, probed


def test_the_server_has_no_capability_and_is_filtered(machine: WholeMachine, probed: dict[str, str]) -> None:
    status = dict(line.split(":\t", 1) for line in machine.shell(f"cat /proc/{SERVER}/status").stdout.splitlines())
    capabilities = {status[name] for name in ("CapEff", "CapPrm", "CapBnd", "CapAmb", "CapInh")}
    assert (capabilities, status["NoNewPrivs"], status["Seccomp"]) == ({"0" * 16}, "1", "2")


def test_no_drop_in_weakens_the_unit(machine: WholeMachine, probed: dict[str, str]) -> None:
    """As the emulated containers need one."""
    assert machine.shell("systemctl show --property=DropInPaths --value edgeml-inference").stdout.strip() == ""


def test_the_model_serves_in_it(machine: WholeMachine, probed: dict[str, str]) -> None:
    models = json.loads(machine.shell("edgeml status --json").stdout)["models"]
    assert ("digits", "1.1.0") in [(model["name"], model["live"]) for model in models]
