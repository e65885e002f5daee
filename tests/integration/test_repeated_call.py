# Copyright (c) 2026, The edgeml.fleet authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What a repeated call of ``model_swap`` reads: counted by the kernel."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import Any

import onnx_models
import pytest
from controller import Ansible
from device import Device
from device_app import PYTHON
from measure import measured, read_costs
from releases import make_release, publish

# What starting Python and Ansible's module reads is much less.
MODEL_BYTES = 32 << 20


@pytest.mark.parametrize("way", ["request", "module"])
def test_a_repeated_call_reads_no_model_unless_it_is_told_to(
    machines: dict[str, Device], tmp_path: Path, way: str
) -> None:
    device = machines["edge-s1"]
    device.reset()
    repository, log, python = tmp_path / "repository", tmp_path / "costs", tmp_path / "python"
    model = onnx_models.padded(MODEL_BYTES)
    assert len(model) > MODEL_BYTES
    publish(make_release(files={"model.onnx": model}), repository)
    python.write_text(f'#!/bin/sh\nexec {shlex.join(measured(log, PYTHON))} "$@"\n')
    python.chmod(0o755)
    if way == "request":
        device.install_command(program=f"#!/bin/sh\nexec {Device.command(*measured(log))}\n")
    else:
        device.remove_command()

    def swap(state: str, **arguments: Any) -> dict[str, Any]:
        common = {"model": "digits", "version": "1.0.0", "min_ready_seconds": 0, "trial_seconds": 0}
        return {
            "edgeml.fleet.model_swap": {**common, "state": state, "repository": str(repository), **arguments},
            "vars": {"ansible_python_interpreter": str(python)},
        }

    ansible = Ansible(tmp_path, [device])
    ansible.tasks(swap("active"))
    log.unlink()
    results = ansible.tasks(
        swap("active"),
        swap("present"),
        {**swap("active"), "check_mode": True},
        swap("active", verify="full"),
        swap("present", verify="full"),
    )
    assert [result["changed"] for result in results] == [False] * 5
    *quick, active, present = [cost.read_bytes for cost in read_costs(log)]
    assert len(quick) == 3
    assert max(quick) < MODEL_BYTES
    assert min(active, present) > MODEL_BYTES
