# Copyright (c) 2026, The edgeml.fleet authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Requests that are wrong in every way that Hypothesis finds. ``make fuzz`` sends 100,000 of them."""

from __future__ import annotations

import contextlib
import os
from pathlib import Path

import onnx_models
import pytest
from fuzz_requests import Fuzzer
from server_process import Device

REQUESTS = int(os.environ.get("FUZZ_REQUESTS", "1200"))
"""About as many for each parser."""
_ROUNDS = 12
GROWTH_BYTES_MAX = 4 << 20


def resident_bytes(device: Device) -> int:
    pages = int(Path(f"/proc/{device.pid}/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE")


@pytest.mark.parametrize("parser", ["httptools and orjson", "h11 and json"])
def test_bad_binary_requests_do_no_harm(device: Device, parser: str) -> None:
    device.publish("plus", "1.0.0", onnx_models.plus(1))
    device.publish("identities", "1.0.0", onnx_models.identities())
    hidden_by = device.hide("httptools", "orjson") if "h11" in parser else None
    device.spawn(hidden_by=hidden_by, max_request_bytes=100_000)
    device.wait_ready()
    pid = device.pid
    sizes = []
    with contextlib.closing(Fuzzer(device)) as fuzzer:
        for number in range(_ROUNDS):
            fuzzer.run(REQUESTS // _ROUNDS, number)
            sizes.append(resident_bytes(device))
    print(f"{parser}: replies by status {fuzzer.statuses}, resident bytes after each round {sizes}")
    assert sum(fuzzer.statuses.values()) > REQUESTS * 0.9
    assert device.metric("edgeml_inference_in_flight_requests") == 0
    assert {200, 400, 404} <= set(fuzzer.statuses)
    assert (device.pid, device.get("/v2/health/ready").status) == (pid, 200)
    assert not [line for line in device.log.all() if line.startswith("error")]
    # The first of them still warm caches up.
    later = sizes[len(sizes) // 4 :]
    assert max(later) - later[0] <= GROWTH_BYTES_MAX, sizes
