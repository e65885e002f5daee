# Copyright (c) 2026, The edgeml.fleet authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The smoke test in a process of its own, as the store runs it on a version that does not serve yet."""

from __future__ import annotations

import json
import os
import resource
import signal
import subprocess
import sys
from typing import Any

import onnx_models
import pytest
from links import PYTHON_PATH
from server_process import GUARD_SECONDS, Device, plus_input, repeat_request


def golden(addend: float) -> dict[str, Any]:
    return {
        "inputs": [plus_input([1, 2])],
        "outputs": [{"name": "sum", "datatype": "FP32", "shape": [1, 2], "data": [1 + addend, 2 + addend]}],
        "tolerance": {"absolute": 1e-4, "relative": 1e-3},
    }


def limit_processor_time() -> None:
    resource.setrlimit(resource.RLIMIT_CPU, (3, GUARD_SECONDS))


def run_smoke(*arguments: str) -> tuple[int, str]:
    """Run the command; return its exit code and its standard output."""
    done = subprocess.run(
        [sys.executable, "-m", "edgeml_server.tools.smoke", *arguments],
        env={**os.environ, "PYTHONPATH": str(PYTHON_PATH)},
        capture_output=True,
        text=True,
        timeout=GUARD_SECONDS,
        preexec_fn=limit_processor_time,
    )
    return done.returncode, done.stdout


def smoke(*arguments: str) -> tuple[int, Any]:
    """Run the command; return its exit code and the one line of JSON that it prints."""
    code, text = run_smoke(*arguments)
    (line,) = text.splitlines()
    return code, json.loads(line)


def directory(device: Device, content: bytes, golden_test: Any = None, model_format: str = "onnx") -> str:
    device.publish("plus", "1.0.0", content, golden_test, model_format)
    return device.store.version("plus", "1.0.0").directory


def test_a_version_that_could_serve(device: Device) -> None:
    code, result = smoke(directory(device, onnx_models.plus(1), golden(1)), "--threads", "2")
    assert code == 0
    assert set(result) == {"latency_seconds", "load_seconds", "runtime"}
    assert result["latency_seconds"] > 0
    assert result["load_seconds"] > 0
    assert result["runtime"] == "onnxruntime 1.32.0"


def test_without_golden_inputs_a_model_does_not_run_and_has_no_latency(device: Device) -> None:
    code, result = smoke(directory(device, onnx_models.gather(first=5)))
    assert (code, result["latency_seconds"]) == (0, None)


@pytest.mark.parametrize(
    ("content", "golden_test", "model_format", "expected"),
    [
        (onnx_models.plus(1), golden(10), "onnx", "output 'sum' at [0, 0]: expected 11.0, found 2.0"),
        (b"not a model", None, "onnx", "ONNX Runtime 1.32.0 cannot load it"),
        (onnx_models.plus(1), None, "paper", "format 'paper': expected ncnn, onnx, tflite"),
    ],
)
def test_a_version_that_could_not_serve(
    device: Device, content: bytes, golden_test: Any, model_format: str, expected: str
) -> None:
    code, result = smoke(directory(device, content, golden_test, model_format))
    assert code == 1
    assert set(result) == {"error"}
    assert expected in result["error"]


def test_several_versions_are_tested_in_one_process(device: Device) -> None:
    good = directory(device, onnx_models.plus(1), golden(1))
    code, text = run_smoke(good, device.store.root, good)
    first, second, third = map(json.loads, text.splitlines())
    assert code == 1
    assert first["runtime"] == third["runtime"] == "onnxruntime 1.32.0"
    assert "version.json: cannot be used" in second["error"]


def test_no_version_there(device: Device) -> None:
    code, result = smoke(device.store.root)
    assert code == 1
    assert "version.json: cannot be used" in result["error"]


def test_a_model_that_does_not_end_is_the_callers_to_kill(device: Device) -> None:
    endless = {
        "inputs": repeat_request(2**62)["inputs"],
        "outputs": [{"name": "y", "datatype": "FP32", "shape": [1], "data": [0.0]}],
        "tolerance": {"absolute": 0, "relative": 0},
    }
    assert run_smoke(directory(device, onnx_models.repeat(), endless)) == (-signal.SIGXCPU, "")


def test_the_http_stack_is_not_imported(device: Device) -> None:
    program = (
        "import edgeml_server.tools.smoke, sys; print([name for name in ('uvicorn', 'asyncio') if name in sys.modules])"
    )
    done = subprocess.run(
        [sys.executable, "-c", program],
        env={**os.environ, "PYTHONPATH": str(PYTHON_PATH)},
        stdout=subprocess.PIPE,
        text=True,
        check=True,
    )
    assert done.stdout.strip() == "[]"
