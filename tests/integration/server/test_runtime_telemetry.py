# Copyright (c) 2026, The edgeml.fleet authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""ONNX Runtime sends its vendor nothing: where it may, it first keeps an identifier in the user's home directory."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import onnx_models
import pytest
from links import PYTHON_PATH

RUN = """
import importlib, sys
importlib.import_module(sys.argv[1])
import onnxruntime
onnxruntime.InferenceSession(sys.argv[2])
"""
VARIABLE = "ORT_DISABLE_TELEMETRY"


def kept(module: str, home: Path) -> list[str]:
    """The files that a process with this module leaves in its home directory after it has loaded a model."""
    model = home.parent / "model.onnx"
    model.write_bytes(onnx_models.plus(1.0))
    # On a CI service ONNX Runtime is silent by itself, and knows it by such variables.
    environment = {"HOME": str(home), "PATH": os.environ["PATH"], "PYTHONPATH": str(PYTHON_PATH)}
    subprocess.run([sys.executable, "-c", RUN, module, str(model)], env=environment, check=True)
    return [path.name for path in home.rglob("*") if path.is_file()]


@pytest.mark.parametrize(
    "module",
    [
        "edgeml_server.models.backend_onnx",
        "ansible_collections.edgeml.fleet.plugins.plugin_utils._publish.variants",
    ],
)
def test_a_process_of_ours_keeps_nothing(tmp_path: Path, module: str) -> None:
    home = tmp_path / "home"
    home.mkdir()
    assert kept(module, home) == []


def test_any_other_process_keeps_an_identifier(tmp_path: Path) -> None:
    """Otherwise the test above would show nothing."""
    home = tmp_path / "home"
    home.mkdir()
    assert "deviceid" in kept("json", home)
