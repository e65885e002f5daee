# Copyright (c) 2026, The edgeml.fleet authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""A new runtime is proved with what serves before it is installed."""

from __future__ import annotations

import os
import shlex
import subprocess
import sys
from pathlib import Path
from typing import Any

import onnx_models
import pytest
from edgeml_device._common.errors import CandidateError
from edgeml_device._device import upgrade
from edgeml_device._device.smoke_test import Runtime
from edgeml_device._device.state import ModelServer, State
from edgeml_device._device.upgrade import main, prove_runtime
from links import PYTHON_PATH
from server_process import Device, plus_input

BROKEN = """echo '{"error": "golden test: output sum"}'; exit 1"""


def runtime(directory: Path, script: str = f'exec {shlex.quote(sys.executable)} "$@"') -> Runtime:
    """A runtime whose Python is a shell script; by default a good one."""
    python = directory / "new-python"
    python.write_text(f"#!/bin/sh\n{script}\n")
    python.chmod(0o755)
    return Runtime("venv-new app-new", str(python), str(PYTHON_PATH))


def publish(device: Device, version: str, addend: float = 1) -> None:
    output = {"name": "sum", "datatype": "FP32", "shape": [1, 2], "data": [1 + addend, 2 + addend]}
    tolerance = {"absolute": 1e-4, "relative": 1e-3}
    golden = {"inputs": [plus_input([1, 2])], "outputs": [output], "tolerance": tolerance}
    device.publish("plus", version, onnx_models.plus(addend), golden)
    note_server(device)


def note_server(device: Device, **more: Any) -> None:
    state = device.store.state("plus")._replace(serving=ModelServer(server=device.socket_path), **more)
    device.store.update("plus", state)


def noted(device: Device) -> dict[str, Any] | None:
    return device.store.tested(device.store.version("plus", "1.0.0"))


def test_what_serves_passes_and_the_result_is_kept(device: Device, tmp_path: Path) -> None:
    publish(device, "1.0.0")
    device.start()
    prove_runtime(device.store, runtime(tmp_path))
    found = noted(device)
    assert found is not None
    assert found["runtime_id"] == "venv-new app-new"
    assert found["latency_seconds"] > 0


def test_a_runtime_with_which_it_fails_is_refused_and_the_live_version_named(device: Device, tmp_path: Path) -> None:
    publish(device, "1.0.0")
    device.start()
    with pytest.raises(CandidateError, match=r"plus 1\.0\.0: smoke test: golden test.* Live now, .*: plus 1\.0\.0$"):
        prove_runtime(device.store, runtime(tmp_path, BROKEN))
    assert noted(device) is None
    assert device.infer("plus", [1, 2]).json()["outputs"][0]["data"] == [2.0, 3.0]


def test_what_does_not_serve_is_no_reason_against_a_runtime(device: Device, tmp_path: Path) -> None:
    publish(device, "1.0.0")
    prove_runtime(device.store, runtime(tmp_path, BROKEN))
    assert noted(device) is None


def test_what_another_server_serves_is_not_asked(device: Device, tmp_path: Path) -> None:
    device.publish("plus", "1.0.0", onnx_models.plus(1))
    device.store.update("plus", State("1.0.0", None, serving=ModelServer(strategy="none")))
    prove_runtime(device.store, runtime(tmp_path, f"touch {tmp_path}/asked; {BROKEN}"))
    assert not (tmp_path / "asked").exists()


def installers_call(device: Device, new: Runtime, names: tuple[str, str]) -> subprocess.CompletedProcess[str]:
    """What the installer does, with the device's store where it is on a device."""
    (device.directory / "lib" / "edgeml").mkdir(parents=True, exist_ok=True)
    (device.directory / "lib" / "edgeml" / "store").symlink_to(device.store.root)
    command = [sys.executable, "-m", "edgeml_device._device.upgrade", new.python, new.app, *names]
    script = f'mount --bind {device.directory}/lib /var/lib; exec "$@"'
    return subprocess.run(
        ["unshare", "--mount", "--propagation", "private", "sh", "-c", script, "sh", *command],
        env={**os.environ, "PYTHONPATH": str(PYTHON_PATH)},
        capture_output=True,
        text=True,
        check=False,
    )


@pytest.mark.parametrize("good", [True, False])
def test_the_installers_call(device: Device, tmp_path: Path, good: bool) -> None:
    publish(device, "1.0.0")
    device.start()
    new = runtime(tmp_path) if good else runtime(tmp_path, BROKEN)
    done = installers_call(device, new, ("venv-newer", "app-newer"))
    assert done.returncode == (0 if good else 1), done.stderr
    assert ("the new runtime is not installed" in done.stderr) != good
    assert (noted(device) or {}).get("runtime_id") == ("venv-newer app-newer" if good else None)


def test_a_device_without_a_store_has_nothing_to_prove(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(upgrade, "STORE", str(tmp_path / "no store"))
    bad = runtime(tmp_path, BROKEN)
    assert main([bad.python, bad.app, "venv-newer", "app-newer"]) == 0
