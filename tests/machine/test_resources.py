# Copyright (c) 2026, The edgeml.fleet authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The service's limit of memory and its watchdog, on a machine with control groups of version 2."""

from __future__ import annotations

import json
import urllib.request

from prometheus_client.parser import text_string_to_metric_families
from whole_machine import WholeMachine

LIMIT = 512 << 20
GROUP = "/sys/fs/cgroup/system.slice/edgeml-inference.service"
SHOW = "systemctl show --property={} --value edgeml-inference"


def metric(machine: WholeMachine, name: str) -> float:
    with urllib.request.urlopen(f"http://127.0.0.1:{machine.port}/metrics", timeout=300) as reply:
        text = reply.read().decode()
    (found,) = [
        sample for family in text_string_to_metric_families(text) for sample in family.samples if sample.name == name
    ]
    return found.value


def test_the_server_reads_its_limit_from_its_control_group(machine: WholeMachine) -> None:
    assert int(machine.shell(f"cat {GROUP}/memory.max").stdout) == LIMIT
    current = int(machine.shell(f"cat {GROUP}/memory.current").stdout)
    available = metric(machine, "edgeml_memory_available_bytes")
    # What it could give back counts as available, and meanwhile it takes some.
    assert LIMIT - current - (16 << 20) <= available < LIMIT


def test_what_exceeds_the_limit_is_ended_and_the_server_serves_on(machine: WholeMachine) -> None:
    """As a new process of the server that memory does not suffice for."""
    before = machine.shell(f"{SHOW.format('MainPID')}; {SHOW.format('NRestarts')}").stdout
    machine.shell(
        "cat >/run/eater",
        stdin=f"echo $$ >{GROUP}/cgroup.procs\nexec python3 -c 'held = bytearray(b\"1\") * (600 << 20)'\n",
    )
    assert machine.shell("sh /run/eater || echo ended $?").stdout.split() == ["ended", "137"]
    assert "oom_kill 0" not in machine.shell(f"cat {GROUP}/memory.events").stdout.splitlines()
    assert machine.shell(f"{SHOW.format('MainPID')}; {SHOW.format('NRestarts')}").stdout == before
    assert metric(machine, "edgeml_memory_available_bytes") > 0


def test_systemd_replaces_a_server_that_hangs(machine: WholeMachine) -> None:
    before = machine.shell(SHOW.format("MainPID")).stdout.strip()
    machine.shell(f"kill -STOP {before}")
    machine.wait_until(f"[ $({SHOW.format('MainPID')}) -gt 0 ] && [ $({SHOW.format('MainPID')}) != {before} ]")
    machine.wait_until("systemctl --quiet is-active edgeml-inference")
    journal = machine.shell("journalctl --unit=edgeml-inference --output=cat --boot").stdout
    assert "Watchdog timeout" in journal
    models = json.loads(machine.shell("edgeml status --json").stdout)["models"]
    assert [model["live"] for model in models if model["name"] == "digits"] == ["1.1.0"]
