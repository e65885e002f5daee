# Copyright (c) 2026, The edgeml.fleet authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Connections by a real OpenSSH, and what a device counts as where one cannot be made: refused, or away."""

from __future__ import annotations

import json
import shutil
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from rollouts import UNMEASURED
from sites import Site
from sshd import Sshd, find_sshd

PLAIN = "-F none -o StrictHostKeyChecking=yes"
CONFIG = """\
Host gateway gateway-down
    HostName 127.0.0.1
    Port {port}
Host gateway-down
    HostName 127.0.0.1
    Port 1
Host *
    User root
    IdentityFile {directory}/key
    UserKnownHostsFile {directory}/known_hosts
"""


@pytest.fixture(scope="module")
def ssh(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, Any]]:
    """The variables of a host that is reached by OpenSSH; its files are beside its private key."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    directory = tmp_path_factory.mktemp("sshd")
    with Sshd(directory, *find_sshd(), port=port) as server:
        yield {**server.variables("127.0.0.1"), "ansible_connection": "ssh", "ansible_ssh_retries": 0}


Devices = dict[str, tuple[dict[str, Any], str, str]]
# Devices by their names: what is different from the one that is well, what each counts as, and what is said. Of each of
# them nothing was begun, so nothing of it says anything of the version.
WITHOUT_SSH: Devices = {
    "well-too": ({}, "updated", ""),
    "no-python": ({"ansible_python_interpreter": "/usr/bin/python-not-there"}, "refused", "/usr/bin/python-not-there"),
    "not-python": ({"ansible_python_interpreter": "/bin/false"}, "refused", "result"),
    "no-name": ({"ansible_connection": "ssh", "ansible_host": "host.invalid"}, "away", "host.invalid"),
    "no-address": ({"ansible_connection": "ssh", "ansible_host": ""}, "away", "hostname"),
    "wrong-user": ({"ansible_become": True, "ansible_become_user": "nobody-there"}, "refused", "sudo"),
    "no-shell": ({"ansible_shell_executable": "/bin/shell-not-there"}, "refused", "/bin/shell-not-there"),
    # Ansible itself says so of these two, before anything of ours begins.
    "wrong-timeout": ({"ansible_timeout": "ten"}, "refused", "'ten'"),
    "no-password": (
        {"ansible_become": True, "ansible_become_password": "{{ not_in_the_vault }}"},
        "refused",
        "'not_in_the_vault' is undefined",
    ),
}


def with_ssh(ssh: dict[str, Any]) -> Devices:
    """Devices that differ from the one that ``ssh`` reaches."""
    directory = Path(ssh["ansible_ssh_private_key_file"]).parent
    config = directory / "config"
    # The first match counts.
    config.write_text(CONFIG.format(port=ssh["ansible_port"], directory=directory).replace(" gateway-down", "", 1))
    for name, text, mode in (("no-key", "not a key\n", 0o600), ("open-key", (directory / "key").read_text(), 0o644)):
        (directory / name).write_text(text)
        (directory / name).chmod(mode)

    def key(path: str) -> dict[str, str]:
        return {"ansible_ssh_private_key_file": path}

    def arguments(text: str) -> dict[str, str]:
        return {"ansible_ssh_common_args": text}

    return {
        "well": ({}, "updated", ""),
        "by-gateway": (arguments(f"-F {config} -o ProxyJump=gateway"), "updated", ""),
        # Nobody is there, or who is there lets nobody in: it may be back.
        "behind-gateway": (
            {**arguments(f"-F {config} -J gateway"), "ansible_port": 1},
            "away",
            "Connection closed by UNKNOWN port",
        ),
        "gateway-down": (arguments(f"-F {config} -J gateway-down"), "away", "Connection closed by UNKNOWN port"),
        "key-is-not-there": (key(str(directory / "nothing")), "away", "Permission denied ("),
        "key-is-none": (key(str(directory / "no-key")), "away", "no-key"),
        "key-is-open": (key(str(directory / "open-key")), "away", "open-key' are too open"),
        "other-user": ({"ansible_user": "nobody"}, "away", "nobody@127.0.0.1: Permission denied"),
        "unknown-key": (arguments(f"{PLAIN} -o UserKnownHostsFile=/dev/null"), "away", "Host key verification failed"),
        "wrong-option": (
            arguments(f"{ssh['ansible_ssh_common_args']} -o NoSuchOption=1"),
            "away",
            "Bad configuration option: nosuchoption",
        ),
        # Somebody has to set something right.
        "no-ssh": ({"ansible_ssh_executable": "/nowhere/ssh"}, "refused", "/nowhere/ssh"),
        "no-sshpass": (
            {"ansible_password": "x", "ansible_ssh_password_mechanism": "sshpass", **key("/dev/null")},
            "away" if shutil.which("sshpass") else "refused",
            "sshpass",
        ),
        "no-host-text": ({"ansible_host": ["127.0.0.1"]}, "refused", "ansible_host"),
    }


def test_what_a_device_counts_as_where_no_connection_can_be_made(tmp_path: Path, ssh: dict[str, Any]) -> None:
    site = Site(tmp_path, command=False)
    by_ssh = with_ssh(ssh)
    expected = {**WITHOUT_SSH, **by_ssh}
    hosts = {name: {"number": number, **expected[name][0]} for number, name in enumerate(expected)}
    for number, name in enumerate(by_ssh):
        # Each has a master connection of its own, or the first one's would do for all.
        hosts[name] = {**ssh, "ansible_control_path": f"%(directory)s/{number}", **hosts[name]}
    site.write("hosts.json", {"all": {"vars": site.variables(), "children": {"edge": {"hosts": hosts}}}})
    limits = {**UNMEASURED, "max_failures": len(hosts), "reporting_share_min": 0}
    run = site.rollout("-i", "hosts.json", "-e", json.dumps({"rollout_limits": limits}), rollout_waves=["100%"])
    assert run.code == 0, run
    assert site.outcomes == {name: outcome for name, (_variables, outcome, _detail) in expected.items()}
    details = {row["device"]: row["detail"] for row in site.book["devices"]}
    for name, (_variables, _outcome, detail) in expected.items():
        assert detail in details[name], details[name]
        assert "\n" not in details[name]
