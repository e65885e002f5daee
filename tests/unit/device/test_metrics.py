# Copyright (c) 2026, The edgeml.fleet authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Metrics in Prometheus' text format, read as counts of one version of one model."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ansible_collections.edgeml.fleet.plugins.module_utils._device.metrics import (
    counted_since,
    measure,
    parse_metrics,
    request_counts,
)

NOTHING = {"requests": 0, "errors": 0, "timed": 0, "latency_seconds_sum": 0.0, "latency_buckets": []}
PAGE = """\
# HELP edgeml_inference_requests_total Inference requests answered.
# TYPE edgeml_inference_requests_total counter
edgeml_inference_requests_total{code="200",model="digits",version="1.1.0"} 812.0
edgeml_inference_requests_total{code="400",model="digits",version="1.1.0"} 3.0
edgeml_inference_requests_total{code="500",model="digits",version="1.1.0"} 2.0
edgeml_inference_requests_total{code="503",model="digits",version="1.1.0"} 1.0
edgeml_inference_requests_total{code="500",model="digits",version="1.0.0"} 99.0
edgeml_inference_requests_total{code="500",model="faces",version="1.1.0"} 99.0
edgeml_inference_duration_seconds_count{model="digits",version="1.1.0"} 812.0
edgeml_inference_duration_seconds_sum{model="digits",version="1.1.0"} 1.9
edgeml_inference_duration_seconds_bucket{le="0.005",model="digits",version="1.1.0"} 810.0
edgeml_inference_duration_seconds_bucket{le="0.0025",model="digits",version="1.1.0"} 511.0
edgeml_inference_duration_seconds_bucket{le="+Inf",model="digits",version="1.1.0"} 812.0
edgeml_inference_duration_seconds_bucket{le="0.005",model="digits",version="1.0.0"} NaN
edgeml_feedback_labels_total{model="digits",outcome="right",version="1.1.0"} 90.0
edgeml_feedback_labels_total{model="digits",outcome="wrong",version="1.1.0"} 7.0
edgeml_drift_psi{model="digits",series="mean",version="1.1.0"} 0.31
edgeml_drift_alarm{model="digits",series="mean",version="1.1.0"} 1.0
edgeml_drift_windows_total{model="digits",series="mean",version="1.1.0"} 4.0
edgeml_drift_psi{model="digits",series="argmax",version="1.1.0"} 0.01
edgeml_shadow_rows_total{model="digits",outcome="agreed",version="1.1.0"} 40.0
edgeml_shadow_rows_total{model="digits",outcome="failed",version="1.1.0"} 2.0
edgeml_shadow_requests_total{model="digits",version="1.1.0"} 21.0
process_resident_memory_bytes 1.2e+08
process_start_time_seconds 1.7e+09
weird{a="with \\"quotes\\", a } and = signs",b=""} NaN
edgeml_up +Inf
"""


def test_counts_are_of_one_version_of_one_model() -> None:
    assert request_counts(PAGE, "digits", "1.1.0") == {
        **NOTHING,
        "requests": 815,
        "errors": 3,
        "timed": 812,
        "latency_seconds_sum": 1.9,
        "latency_buckets": [[0.0025, 511], [0.005, 810]],
    }
    assert request_counts(PAGE, "digits", "1.0.0") == {**NOTHING, "requests": 99, "errors": 99}
    assert request_counts(PAGE, "none", "1.0.0") == NOTHING
    assert request_counts("", "digits", "1.0.0")["requests"] == 0


def test_all_that_is_told_of_a_version() -> None:
    told = measure(PAGE, "digits", "1.1.0")
    assert told == {
        "requests": request_counts(PAGE, "digits", "1.1.0"),
        "labels": {"right": 90, "wrong": 7},
        "drift": [
            {"series": "argmax", "psi": 0.01, "alarm": False, "windows": 0},
            {"series": "mean", "psi": 0.31, "alarm": True, "windows": 4},
        ],
        "shadow": {"agreed": 40, "disagreed": 0, "failed": 2, "dropped": 0, "requests": 21},
        "resident_bytes": 120_000_000,
        "started": 1.7e9,
    }
    nothing = measure("", "digits", "1.1.0")
    assert nothing["requests"] == NOTHING
    assert (nothing["drift"], nothing["resident_bytes"], nothing["started"]) == ([], None, None)


def test_what_was_counted_since() -> None:
    begun, now = request_counts(PAGE, "digits", "1.0.0"), request_counts(PAGE, "digits", "1.1.0")
    first = {**now, "requests": 15, "errors": 1, "timed": 12, "latency_buckets": [[0.0025, 11], [0.005, 12]]}
    assert counted_since(first, now) == {
        "requests": 800,
        "errors": 2,
        "timed": 800,
        "latency_seconds_sum": 0.0,
        "latency_buckets": [[0.0025, 500], [0.005, 798]],
    }
    assert counted_since({}, now) == now
    assert counted_since(begun, now) == now, "99 errors before and 3 now: the server counts anew"
    assert counted_since({"right": 3, "wrong": 1}, {"right": 4, "wrong": 1}) == {"right": 1, "wrong": 0}


def test_what_is_no_finite_number_is_not_counted() -> None:
    counted = 'edgeml_inference_requests_total{code="500",model="digits",version="1.0.0"}'
    summed = 'edgeml_inference_duration_seconds_sum{model="digits",version="1.0.0"}'
    for value in ("NaN", "+Inf", "-Inf"):
        page = f"{counted} 2\n{counted} {value}\n{summed} {value}\n"
        assert request_counts(page, "digits", "1.0.0") == {**NOTHING, "requests": 2, "errors": 2}


def test_samples_have_names_labels_and_values() -> None:
    samples = {(name, *sorted(labels.items())): value for name, labels, value in parse_metrics(PAGE)}
    assert len(samples) == 25
    assert samples[("process_start_time_seconds",)] == 1.7e9
    assert samples[("edgeml_up",)] == float("inf")
    assert ("weird", ("a", 'with \\"quotes\\", a } and = signs'), ("b", "")) in samples


@given(st.text())
def test_any_page_is_parsed(page: str) -> None:
    parse_metrics(page)


@pytest.mark.parametrize("value", ["x", "1,0", "NaN5", ""])
def test_a_sample_without_a_number_is_passed_over(value: str) -> None:
    assert parse_metrics(f"a 1\nb {value}\nc 2\n") == [("a", {}, 1.0), ("c", {}, 2.0)]
