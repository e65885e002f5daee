# Copyright (c) 2026, The edgeml.fleet authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The desk's judge, which is TensorFlow Lite Micro itself, of models that the firmware runs."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from mcu_images import Digits, Images
from microcontrollers import BUILT, MAP

from ansible_collections.edgeml.fleet.plugins.plugin_utils._mcu.release import (
    MODEL,
    McuClass,
    McuRelease,
    operators_of,
    publish_mcu,
)
from ansible_collections.edgeml.fleet.plugins.plugin_utils._publish.model import RefusedError

JUDGE = str(BUILT / "venv" / "bin" / "python")


def golden(digits: Digits, directory: Path, count: int = 4) -> str:
    """A golden file of the model's answers."""
    inputs, outputs = digits.inputs[:count], digits.expected[:count]
    document = {
        "inputs": [{"name": "image", "datatype": "INT8", "shape": [count, 64], "data": inputs.ravel().tolist()}],
        "outputs": [{"name": "scores", "datatype": "INT8", "shape": [count, 10], "data": outputs.ravel().tolist()}],
        "tolerance": {"absolute": 0, "relative": 0},
    }
    path = directory / "golden.json"
    path.write_text(json.dumps(document))
    return str(path)


def judged(tmp_path: Path, images: Images, digits: Digits, arena: int = MAP["ARENA_SIZE"]) -> Any:
    operators = frozenset(operators_of(images.digits.payload.read_bytes()))
    kind = McuClass("mps2-an385", MAP["IMAGE_MAX"], arena, operators)
    made = McuRelease("digits", "1.0.0", MODEL, str(images.model), golden=golden(digits, tmp_path), judge_python=JUDGE)
    return publish_mcu(str(tmp_path / "repository"), made, kind)


def test_the_interpreter_names_the_arena_of_a_good_model(tmp_path: Path, images: Images) -> None:
    published = judged(tmp_path, images, images.digits)
    arena = published.facts["arena_bytes"]
    assert 1000 < arena < MAP["ARENA_SIZE"]
    assert published.document["variants"][0]["memory_bytes"] == arena
    print(f"TensorFlow Lite Micro works in {arena} bytes; the class has {MAP['ARENA_SIZE']}")


def test_an_arena_that_is_too_small_is_refused(tmp_path: Path, images: Images) -> None:
    with pytest.raises(RefusedError, match="does not take it with an arena of 1024 bytes"):
        judged(tmp_path, images, images.digits, arena=1024)


def test_answers_of_another_model_are_refused(tmp_path: Path, images: Images) -> None:
    with pytest.raises(RefusedError, match="golden input 0: expected"):
        judged(tmp_path, images, images.new_digits)
