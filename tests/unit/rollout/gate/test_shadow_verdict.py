# Copyright (c) 2026, The edgeml.fleet authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The verdict on wave 0, by what devices with a shadow measured."""

from __future__ import annotations

import dataclasses
from typing import Any

import pytest

from ansible_collections.edgeml.fleet.plugins.plugin_utils._rollout.gate.checks import Cause, Check, Verdict
from ansible_collections.edgeml.fleet.plugins.plugin_utils._rollout.gate.limits import Limits
from ansible_collections.edgeml.fleet.plugins.plugin_utils._rollout.gate.shadow import (
    MEMORY_MARGIN_BYTES,
    SHADOW_CHECKS,
    ShadowObservation,
    judge_shadow,
    observe_shadow,
)
from ansible_collections.edgeml.fleet.plugins.plugin_utils._rollout.outcome import Outcome
from ansible_collections.edgeml.fleet.plugins.plugin_utils._rollout.report import words

DECLARED = 10 << 20
MEMORY = {"onnx-fp32": DECLARED}


def counts(agreed: int, disagreed: int = 0, slower: float = 1.0, resident: int = 60 << 20) -> dict[str, Any]:
    """What a server has measured of a shadow since it started."""
    timed = agreed + disagreed
    return {
        "shadow": {"agreed": agreed, "disagreed": disagreed, "failed": 0, "dropped": 3, "requests": timed},
        "model_seconds": {"timed": timed, "active": 0.001 * timed, "candidate": 0.001 * timed * slower},
        "resident_bytes": resident,
    }


NOTHING = counts(0, resident=50 << 20)
STARTED = {"changed": True, "variant": "onnx-fp32", "candidate": NOTHING}
AWAY = {"unreachable": True, "started": False, "msg": "ssh: connect to host"}


def shadow(name: str = "a", found: Any = None, start: Any = None, **changes: Any) -> ShadowObservation:
    read = {"model": {"candidate": counts(1000) if found is None else found}}
    return observe_shadow(name, changes.pop("device_class", "small"), STARTED if start is None else start, read, MEMORY)


def judged(*devices: ShadowObservation, **limits: Any) -> tuple[Verdict, dict[Check, Any]]:
    verdict, findings = judge_shadow(devices, Limits(**limits))
    for finding in findings:
        assert words.reason(finding) not in ("", "not judged")
    return verdict, {finding.check: finding for finding in findings}


def test_a_release_that_answers_alike_passes() -> None:
    verdict, found = judged(shadow("a"), shadow("b", device_class="large"))
    assert verdict is Verdict.PASS
    always = {Check.FAILED_DEVICES, Check.COVERAGE, Check.MEASUREMENTS, Check.SHADOW_DISAGREEMENT}
    assert set(found) == always | set(SHADOW_CHECKS)
    assert found[Check.SHADOW_MEMORY].verdict is Verdict.PASS


def test_a_class_that_disagrees_fails() -> None:
    verdict, findings = judge_shadow([shadow("a"), shadow("b", counts(500, 500), device_class="large")], Limits())
    assert verdict is Verdict.FAIL
    of_class = {item.device_class: item.verdict for item in findings if item.check is Check.SHADOW_DISAGREEMENT}
    assert (of_class["small"], of_class["large"]) == (Verdict.PASS, Verdict.FAIL)


def batches(requests: int, rows: int, otherwise: int) -> dict[str, Any]:
    """Requests with so many rows each, of which ``otherwise`` in all were answered otherwise."""
    of_rows = {"agreed": requests * rows - otherwise, "disagreed": otherwise, "failed": 0, "dropped": 0}
    return {**counts(requests), "shadow": {**of_rows, "requests": requests}}


def test_a_row_of_each_batch_that_differs_is_no_batch_that_differs() -> None:
    verdict, found = judged(shadow(found=batches(1000, 32, 1000)))
    finding = found[Check.SHADOW_DISAGREEMENT]
    assert (verdict, finding.samples, finding.estimate) == (Verdict.PASS, 32000, 0.03125)
    assert words.reason(finding).startswith("1000 of 32000 rows of copied requests answered differently from the ")


def test_rows_that_come_together_are_no_more_certain_than_their_requests() -> None:
    """One scene of four has other answers in all of its frames: that is chance as one request in four would be."""
    few = judged(shadow(found=batches(4, 1000, 1000)))[1][Check.SHADOW_DISAGREEMENT]
    assert few.verdict is not Verdict.FAIL
    alone = judged(shadow(found=counts(3, 1)))[1][Check.SHADOW_DISAGREEMENT]
    assert (few.bounds, few.verdict) == (alone.bounds, alone.verdict)
    assert judged(shadow(found=batches(400, 1000, 200_000)))[0] is Verdict.FAIL


def test_large_batches_of_one_device_hide_no_small_ones_of_another() -> None:
    """Of 4,000,400 rows four clusters are a thousandth of the requests, and nearly all that is known."""
    wave = [shadow("a", batches(4, 1_000_000, 1_000_000)), shadow("b", counts(400))]
    finding = judged(*wave)[1][Check.SHADOW_DISAGREEMENT]
    assert (finding.verdict is Verdict.FAIL, finding.bounds is not None) == (False, True)
    assert finding.bounds is not None
    assert finding.bounds.lower < 0.2 < finding.bounds.upper


def test_a_server_that_is_read_between_rows_and_requests_is_no_fault() -> None:
    found = {**counts(1000), "shadow": {**counts(1000)["shadow"], "requests": 1001}}
    assert judged(shadow(found=found))[0] is Verdict.PASS


def test_what_was_counted_before_does_not_count() -> None:
    """The same version was a shadow before, and disagreed then, for the images of another day."""
    start = {**STARTED, "candidate": counts(0, 5000)}
    verdict, found = judged(shadow(found=counts(1000, 5000), start=start))
    assert verdict is Verdict.PASS
    assert found[Check.SHADOW_DISAGREEMENT].samples == 1000


def test_a_server_that_started_anew_counts_from_nothing() -> None:
    item = shadow(found=counts(700), start={**STARTED, "candidate": counts(5000)})
    assert item.now.shadow == (700, 0, 0, 700)
    assert item.now.model_seconds == pytest.approx(0.001)


def test_a_slow_release_fails_by_its_processor_time() -> None:
    wave = [shadow(name, counts(1000, slower=3.0)) for name in "abcd"]
    verdict, found = judged(*wave)
    assert (verdict, found[Check.SHADOW_TIME].verdict) == (Verdict.FAIL, Verdict.FAIL)
    assert found[Check.SHADOW_TIME].estimate == pytest.approx(3.0)
    assert Check.SHADOW_TIME not in judged(*wave, latency_ratio_max=None)[1]


def test_a_server_that_batches_is_not_timed() -> None:
    found = {**counts(1000), "model_seconds": NOTHING["model_seconds"]}
    verdict, findings = judged(shadow(found=found))
    assert (verdict, findings[Check.SHADOW_TIME].cause) == (Verdict.PASS, Cause.NOT_REPORTED)


@pytest.mark.parametrize(("beyond", "verdict"), [(0, Verdict.PASS), (1, Verdict.FAIL)])
def test_memory_beyond_what_the_release_declares_fails(beyond: int, verdict: Verdict) -> None:
    grown = (50 << 20) + DECLARED + MEMORY_MARGIN_BYTES + beyond
    found, findings = judged(shadow(found=counts(1000, resident=grown)))
    assert (found, findings[Check.SHADOW_MEMORY].verdict) == (verdict, verdict)
    if beyond:
        assert "a 77594625" in words.reason(findings[Check.SHADOW_MEMORY])


def test_a_kernel_that_tells_no_memory_is_skipped() -> None:
    found = {**counts(1000), "resident_bytes": None}
    assert judged(shadow(found=found))[1][Check.SHADOW_MEMORY].verdict is Verdict.SKIPPED


def test_a_wave_that_nobody_asked_says_nothing() -> None:
    verdict, found = judged(shadow(found=NOTHING))
    assert (verdict, found[Check.MEASUREMENTS].cause) == (Verdict.INCONCLUSIVE, Cause.NOTHING_ASKED)


def test_numbers_that_cannot_be_are_named() -> None:
    verdict, found = judged(shadow(found={**counts(1000), "shadow": {"agreed": -1}}))
    assert (verdict, found[Check.MEASUREMENTS].named[0].name) == (Verdict.INCONCLUSIVE, "a")
    odd = shadow(found={**counts(1000), "model_seconds": {"timed": "many"}})
    assert odd.now.model_seconds is None


@pytest.mark.parametrize(
    ("start", "read", "outcome"),
    [
        (STARTED, {"model": {"candidate": counts(1)}}, Outcome.SHADOWED),
        ({**STARTED, "candidate": None, "changed": False}, {}, Outcome.ALREADY_THERE),
        ({"failed": True, "refused": True, "live": "1.0.0", "msg": "no room"}, {}, Outcome.REFUSED),
        (AWAY, {}, Outcome.AWAY),
        (STARTED, AWAY, Outcome.SILENT),
        (STARTED, None, Outcome.SILENT),
        ({}, {}, Outcome.SILENT),
        (None, None, Outcome.SILENT),
    ],
)
def test_what_became_of_a_device(start: Any, read: Any, outcome: Outcome) -> None:
    assert observe_shadow("a", "small", start, read, MEMORY).outcome is outcome


def test_a_device_that_refuses_fails_the_wave_and_one_that_is_away_does_not() -> None:
    refused = dataclasses.replace(shadow("b"), outcome=Outcome.REFUSED)
    assert judged(shadow("a"), refused)[0] is Verdict.FAIL
    away = dataclasses.replace(shadow("b"), outcome=Outcome.AWAY)
    assert judged(shadow("a"), away)[0] is Verdict.PASS
    assert judged(away)[0] is Verdict.INCONCLUSIVE


def test_a_device_that_is_silent_is_asked_again_first() -> None:
    silent = dataclasses.replace(shadow("b"), outcome=Outcome.SILENT)
    first = judge_shadow([shadow("a"), silent], Limits(), analysis=1, analyses_max=2)
    assert first.verdict is Verdict.INCONCLUSIVE
    assert judge_shadow([shadow("a"), silent], Limits(), analysis=2, analyses_max=2).verdict is Verdict.FAIL
