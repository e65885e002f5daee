# Copyright (c) 2026, The edgeml.fleet authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""edge-l1, after twenty swaps and an inference that never ended: the watchdog, the status line, the end of a server."""

from __future__ import annotations

import threading
import time
from typing import Any

from on_device import GUARD_SECONDS, Server
from testinfra.host import Host

testinfra_hosts = ["ssh://edge-l1"]

SERVER = Server(8103)
# Long enough for a stop to come in between, well within the ten seconds that a server waits for it.
SLOW_SECONDS = 6.0


def repeat(count: int) -> tuple[int, Any]:
    """An inference that takes as long as ``count`` says."""
    inputs = [
        {"name": "count", "datatype": "INT64", "shape": [], "data": [count]},
        {"name": "x", "datatype": "FP32", "shape": [1], "data": [0]},
    ]
    return SERVER.ask("/v2/models/repeat/infer", {"inputs": inputs})


def test_the_watchdog_ended_what_hung_and_systemd_started_it_again(host: Host) -> None:
    assert "NRestarts=1" in host.check_output("systemctl show edgeml-inference --property=NRestarts")
    journal = host.check_output("journalctl --unit=edgeml-inference --output=cat --boot")
    assert "inference hangs, watchdog not fed" in journal
    assert "Watchdog timeout" in journal
    assert "Failed with result 'watchdog'" in journal


def test_the_status_line_says_what_serves(host: Host) -> None:
    shown = host.check_output("systemctl show edgeml-inference --property=StatusText --value")
    assert shown == "serving digits 1.1.0, repeat 1.0.0"


def test_a_stop_waits_for_the_requests_in_flight(host: Host) -> None:
    began = time.monotonic()
    assert repeat(20_000)[0] == 200
    count = int(20_000 * SLOW_SECONDS / (time.monotonic() - began))
    answers: list[tuple[int, Any]] = []
    thread = threading.Thread(target=lambda: answers.append(repeat(count)))
    thread.start()
    deadline = time.monotonic() + GUARD_SECONDS
    while SERVER.metrics()["edgeml_inference_in_flight_requests"] != 1:
        assert time.monotonic() < deadline
    stopped = host.check_output(
        "systemctl stop edgeml-inference; systemctl show edgeml-inference --property=Result,ExecMainStatus"
    )
    thread.join()
    status, answer = answers[0]
    assert status == 200, answer
    assert answer["outputs"][0]["data"] == [count]
    assert set(stopped.splitlines()) == {"Result=success", "ExecMainStatus=0"}
    log = host.check_output("journalctl --unit=edgeml-inference --output=cat --boot; systemctl start edgeml-inference")
    assert "stopping requests_in_flight=1" in log
    assert "stopped abandoned_requests=0" in log
