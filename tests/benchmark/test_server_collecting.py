# Copyright (c) 2026, The edgeml.fleet authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What collecting inputs for retraining costs: processor time and latency of a request, with consent and without."""

from __future__ import annotations

import os
import statistics
import time
from pathlib import Path

import onnx_models
import pytest
from server_process import Device

REQUESTS = 400
ROUNDS = 5
# All are of low confidence. A tenth is looked at, as by default; and each, most of which are kept already.
CASES = {"a tenth logged": 10, "all logged": 100}


def cpu_seconds(device: Device) -> float:
    """Processor time that the server has used so far."""
    fields = Path(f"/proc/{device.pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def ask(device: Device) -> list[float]:
    """Send requests one after the other, each another; return the seconds of each."""
    found = []
    for turn in range(REQUESTS):
        started = time.perf_counter()
        assert device.infer("plus", [turn, turn + 0.25], id=f"{time.time()}").status == 200
        found.append(time.perf_counter() - started)
    return found


def start(directory: Path, percent: int, collects: bool) -> Device:
    directory.mkdir()
    device = Device(directory)
    device.publish("plus", "1.0.0", onnx_models.plus(1))
    rule = {"model": "plus", "reasons": ["disagreeing", "drifting", "low_confidence"], "margin": 0.5}
    device.start(
        prediction_log=str(directory / "predictions.db"),
        prediction_log_sample_percent=percent,
        collect_inputs=[rule] if collects else [],
    )
    ask(device)
    return device


@pytest.mark.parametrize("case", CASES)
def test_collecting(tmp_path: Path, capsys: pytest.CaptureFixture[str], case: str) -> None:
    devices = {collects: start(tmp_path / str(collects), CASES[case], collects) for collects in (True, False)}
    processor, latency = [], []
    for _ in range(ROUNDS):
        used: dict[bool, float] = {}
        median: dict[bool, float] = {}
        for collects, device in devices.items():
            before = cpu_seconds(device)
            median[collects] = statistics.median(ask(device))
            used[collects] = cpu_seconds(device) - before
        processor.append(used[True] / used[False])
        latency.append(median[True] / median[False])
    kept = len(list((tmp_path / "True/collected/plus").glob("*.input")))
    for device in devices.values():
        device.stop()
    assert kept
    with capsys.disabled():
        print(f"\ncollecting, {case}: {statistics.median(processor):.2f} times the processor time, ", end="")
        print(f"{statistics.median(latency):.2f} times the median latency; {kept} inputs kept")
