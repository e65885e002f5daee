# Copyright (c) 2026, The edgeml.fleet authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""A slice of the conformance run that takes seconds: those of onnx's backend tests that its package has as files."""

from __future__ import annotations

from pathlib import Path

from conformance_cases import installed_cases
from conformance_page import FAULTS
from conformance_reference import Judge
from conformance_serving import Kind, ServedModels

EACH = 4
KINDS = ("simple", "pytorch-converted", "pytorch-operator")


def test_models_of_others_are_served_as_their_runtime_answers(tmp_path: Path) -> None:
    cases = [case for kind in KINDS for case in list(installed_cases([kind]))[::EACH]]
    judge, served = Judge(), ServedModels(tmp_path)
    try:
        found = [served.ask(case, judge.ask(case)) for case in cases]
    finally:
        served.close()
        judge.close()
    assert [each for each in found if each.kind in FAULTS] == []
    right = [each for each in found if each.kind in (Kind.SAME, Kind.CLOSE)]
    assert len(right) > len(found) // 2
