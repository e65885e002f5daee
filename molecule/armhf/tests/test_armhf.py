# Copyright (c) 2026, The edgeml.fleet authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""A 32-bit ARM device that serves a release, by the runtime that there is for it."""

from __future__ import annotations

import json
import urllib.error
import urllib.request
from typing import Any

import pytest
from testinfra.host import Host

URL = "http://127.0.0.1:8105"
GUARD_SECONDS = 60


def ask(path: str, document: object = None) -> Any:
    body = None if document is None else json.dumps(document).encode()
    with urllib.request.urlopen(urllib.request.Request(URL + path, body), timeout=GUARD_SECONDS) as reply:
        return json.load(reply)


def infer(*rows: list[float]) -> Any:
    numbers = [{"name": "x", "datatype": "FP32", "shape": [len(rows), 2], "data": rows}]
    return ask("/v2/models/plus/infer", {"id": "7", "inputs": numbers})


def test_the_device_is_a_32_bit_arm_machine(host: Host) -> None:
    assert host.check_output("uname -m") == "armv7l"
    assert host.check_output("python3 -c 'import sys; print(sys.maxsize)'") == str(2**31 - 1)


def test_the_service_is_active_and_says_what_it_serves(host: Host) -> None:
    assert host.service("edgeml-inference").is_running
    shown = host.check_output("systemctl show edgeml-inference --property=StatusText,NRestarts,WatchdogUSec")
    assert set(shown.splitlines()) == {"WatchdogUSec=1min", "StatusText=serving plus 1.0.0", "NRestarts=0"}


def test_it_answers(host: Host) -> None:
    assert ask("/v2/models/plus")["platform"] == "tensorflowlite"
    answer = infer([1, 2], [3, 4], [5, 6])
    assert answer["id"] == "7"
    assert {output["name"]: output["data"] for output in answer["outputs"]} == {
        "sum": [2, 3, 4, 5, 6, 7],
        "twice": [2, 4, 6, 8, 10, 12],
    }


def test_bad_requests_are_refused_as_elsewhere() -> None:
    wrong: list[Any] = [[], [{"name": "x", "datatype": "FP32", "shape": [1, 2], "data": ["a", 1]}]]
    for inputs in wrong:
        with pytest.raises(urllib.error.HTTPError) as refused:
            ask("/v2/models/plus/infer", {"inputs": inputs})
        with refused.value:
            assert refused.value.code == 400
            assert "error" in json.load(refused.value)


def test_the_variant_is_that_for_its_architecture(host: Host) -> None:
    with urllib.request.urlopen(f"{URL}/metrics", timeout=GUARD_SECONDS) as reply:
        assert 'variant="litert-32bit"' in reply.read().decode()
    facts = json.loads(host.check_output("/etc/ansible/facts.d/edgeml.fact"))
    assert (facts["architecture"], facts["runtimes"]) == ("armv7l", {"tflite-runtime": "2.14.0"})


def test_the_release_was_tested_on_the_device_before_it_served(host: Host) -> None:
    tested = json.loads(host.file("/var/lib/edgeml/store/models/plus/versions/1.0.0/tested.json").content_string)
    assert tested["runtime"] == "tflite-runtime 2.14.0"


def test_numpy_is_the_systems_and_what_has_no_wheels_is_done_without(host: Host) -> None:
    assert host.package("python3-numpy").is_installed
    log = host.check_output("journalctl --unit=edgeml-inference --output=cat")
    assert "loop=asyncio" in log
    assert "h11" in log.lower()
    assert "without uvloop" in log


def test_the_device_runs_without_failed_units(host: Host) -> None:
    assert host.check_output("systemctl is-system-running") == "running"
