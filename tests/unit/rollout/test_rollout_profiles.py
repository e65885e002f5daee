# Copyright (c) 2026, The edgeml.fleet authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What signed profiles of device classes say of a release at the plan, before any device is touched."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
from controller import DIGITS
from links import REPOSITORY
from profiles import ProfileDesk, measured
from releases import make_release
from rollout_stage import Stage

from ansible_collections.edgeml.fleet.plugins.module_utils._common.errors import ArgumentError
from ansible_collections.edgeml.fleet.plugins.module_utils._device.device_class import device_class
from ansible_collections.edgeml.fleet.plugins.module_utils._device.request import SwapRequest
from ansible_collections.edgeml.fleet.plugins.module_utils._watch.profile import is_emulated
from ansible_collections.edgeml.fleet.plugins.plugin_utils._profiles import Profile
from ansible_collections.edgeml.fleet.plugins.plugin_utils._publish.profiles import class_profile
from ansible_collections.edgeml.fleet.plugins.plugin_utils._rollout.gate.limits import Limits
from ansible_collections.edgeml.fleet.plugins.plugin_utils._rollout.profiled import (
    HEADROOM_PERCENT,
    judge_profiles,
    of_gate_classes,
)
from ansible_collections.edgeml.fleet.plugins.plugin_utils._rollout.steps.scene import StepError

TREES = json.loads((REPOSITORY / "tests/unit/device/device_trees.json").read_text())
SLOW = {"p50_seconds": 0.3, "p95_seconds": 0.4, "requests_per_second": 3.0}


@pytest.fixture
def desk(tmp_path: Path) -> ProfileDesk:
    repository = tmp_path / "repository"
    shutil.copytree(DIGITS, repository)
    return ProfileDesk(tmp_path / "keys", repository)


@pytest.fixture
def stage(tmp_path: Path, desk: ProfileDesk) -> Stage:
    (tmp_path / "scratch").mkdir()
    return Stage(tmp_path, model_repository=str(desk.repository), rollout_profiles_key=desk.public)


def refused(stage: Stage) -> str:
    """Why the plan refuses the release; it noted nothing, and opened no ledger."""
    with pytest.raises(StepError) as caught:
        stage.step("plan")
    assert stage.noted == {}
    assert not stage.ledger.exists()
    return str(caught.value)


def test_a_release_that_fits_no_memory_of_a_class_is_refused_with_both_figures(stage: Stage, desk: ProfileDesk) -> None:
    desk.keep("small", device={"memory_bytes": 1_000_000}, version="1.0.0")
    desk.keep("large")
    why = refused(stage)
    assert why.startswith(
        "digits 1.1.0 does not fit, by the profiles of the model repository: device class small (2 dev"
    )
    assert "bytes of memory; the device has 1000000, of which 20% are to stay free" in why
    assert "measured with digits 1.0.0 onnx-fp32 on 1 device at 2026-11-29T09:00:00Z" in why
    assert "device class large" not in why


def test_the_memory_of_a_class_is_known_by_any_model_that_was_measured_there(stage: Stage, desk: ProfileDesk) -> None:
    desk.keep("small", device={"memory_bytes": 1_000_000}, model="other")
    assert "measured with other 1.0.0" in refused(stage)
    stage.host = {name: {"device_class": "large"} for name in stage.hosts}
    assert stage.step("plan")["next"] == "roll_out"


@pytest.mark.parametrize(
    ("device", "why"),
    [
        ({"architecture": "riscv64"}, "the device is riscv64"),
        ({"runtimes": {"onnxruntime": "0.1"}}, "the device has 0.1"),
    ],
)
def test_architecture_and_runtime_are_those_of_the_profile(
    stage: Stage, desk: ProfileDesk, device: dict[str, Any], why: str
) -> None:
    desk.keep("large", device=device)
    assert why in refused(stage)


@pytest.mark.parametrize(
    ("limits", "figures"),
    [
        ({"latency_seconds_max": 0.05}, "requests took 0.4 s (95th percentile); rollout_limits allow 0.05 s"),
        ({"memory_bytes_max": 50_000_000}, "the server had 60000000 bytes in memory; rollout_limits allow 50000000"),
    ],
)
def test_a_limit_that_the_same_variant_was_beyond_is_no_surprise_of_the_gate(
    stage: Stage, desk: ProfileDesk, limits: dict[str, Any], figures: str
) -> None:
    stage.variables["rollout_limits"] = {**stage.variables["rollout_limits"], **limits}
    desk.keep("large")
    path = desk.keep("small", version="1.1.0", sustained=SLOW)
    assert f"device class small (2 devices): {figures}" in refused(stage)
    # Of another version it is no reason, and a person should know.
    path.unlink()
    desk.keep("small", version="1.0.0", sustained=SLOW)
    planned = stage.step("plan")
    assert planned["next"] == "roll_out"
    assert any(line.startswith(f"profile of small: {figures}") for line in planned["msg"])


def test_an_emulated_profile_judges_no_board(stage: Stage, desk: ProfileDesk) -> None:
    desk.keep("small", device={"memory_bytes": 1_000_000, "emulated": True})
    desk.keep("large", sustained=SLOW)
    planned = stage.step("plan")
    assert "profile of small: only emulated devices were measured, which judge no board" in planned["msg"]
    assert stage.noted["profiled"] == {"large": 0.4}


def test_a_class_without_a_profile_is_named(stage: Stage, desk: ProfileDesk) -> None:
    desk.keep("large")
    assert "profile of small: no profile" in stage.step("plan")["msg"]


def test_without_a_key_no_profile_is_read(stage: Stage, desk: ProfileDesk) -> None:
    desk.keep("small", device={"memory_bytes": 1})
    del stage.variables["rollout_profiles_key"]
    assert stage.step("plan")["next"] == "roll_out"
    assert stage.noted["profiled"] == {}


def test_a_profile_of_another_key_or_class_stops_the_plan(stage: Stage, desk: ProfileDesk, tmp_path: Path) -> None:
    path = desk.keep("large")
    (path.parents[1] / "small").mkdir()
    other = shutil.copy(path, path.parents[1] / "small/digits.json")
    with pytest.raises(ArgumentError, match=r"small/digits.json: device_class: expected small; found large"):
        stage.step("plan")
    Path(other).unlink()
    stage.variables["rollout_profiles_key"] = ProfileDesk(tmp_path / "stranger", desk.repository).public
    with pytest.raises(ArgumentError, match=r"large/digits.json: expected a profile signed by .*another key"):
        stage.step("plan")


def test_a_profile_that_lacks_a_figure_is_said_by_the_figure() -> None:
    whole = class_profile("small", [measured()], "now")
    assert Profile.from_dict(whole).p95_seconds == 0.004
    for field, wrong in (("memory_bytes", None), ("resident_bytes", 0), ("emulated", "no"), ("runtimes", [])):
        with pytest.raises(ArgumentError, match=f"^{field}: expected .*; found "):
            Profile.from_dict({**whole, field: wrong})
    with pytest.raises(ArgumentError, match=r"^sustained.p95_seconds: expected a number above 0; found None"):
        Profile.from_dict({**whole, "sustained": None})


def test_a_class_of_the_gate_has_the_longest_of_those_that_were_measured() -> None:
    classes = [("north", "pi-4"), ("north", "pi-5"), ("south", "pi-5"), ("west", "pi-5"), ("west", "other")]
    assert of_gate_classes({"pi-4": 2.0, "pi-5": 1.0}, classes) == {"north": 2.0, "south": 1.0}


def test_the_plan_leaves_as_much_memory_free_as_a_device_does() -> None:
    assert SwapRequest._field_defaults["headroom_percent"] == HEADROOM_PERCENT


@pytest.mark.parametrize("board", TREES, ids=lambda board: str(board["name"]))
def test_a_model_of_700_mb_is_refused_on_recorded_boards_that_have_less(tmp_path: Path, board: dict[str, Any]) -> None:
    tree = tmp_path / "proc/device-tree/compatible"
    tree.parent.mkdir(parents=True)
    tree.write_text("".join(f"{entry}\0" for entry in board["compatible"]))
    memory = board["mem_total_kib"] * 1024
    name = device_class(tree.read_text(), memory, "aarch64")
    # What is measured on it is a board's.
    device = {"memory_bytes": memory, "emulated": is_emulated(str(tmp_path))}
    profile = Profile.from_dict(class_profile(name, [measured(device=device)], "now"))
    release = make_release("1.0.0").release
    (variant,) = release.variants
    large = release._replace(variants=(variant._replace(architectures=("aarch64",), memory_bytes=700 << 20),))
    found = judge_profiles(large, {name: [profile]}, {name: 1}, Limits())
    assert bool(found.reasons) == name.endswith("-512mb")
    if found.reasons:
        assert f"needs {700 << 20} bytes of memory; the device has {memory}" in found.reasons[0]
