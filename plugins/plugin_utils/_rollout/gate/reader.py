# Copyright (c) 2026, The edgeml.fleet authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# PRIVATE to the collection edgeml.fleet: no stable interface.

"""Reads what a device measured from the result of its module: valid numbers, or a problem with a name. Pure."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Callable, Mapping, TypeVar

from ansible_collections.edgeml.fleet.plugins.module_utils._common.packed import unpack_flags
from ansible_collections.edgeml.fleet.plugins.module_utils._common.records import is_number, is_whole
from ansible_collections.edgeml.fleet.plugins.module_utils._release.probe_set import Metric

from .measurements import Board, Labels, Observation, ProbeResult, Requests, Shadow, sample_results

Value = TypeVar("Value")

COUNT_MAX = 10**15
BUCKETS_MAX = 1000


@dataclass
class Reader:
    """Reads the result of one device; ``problems`` names every value that is not valid."""

    problems: list[str] = field(default_factory=list)

    def observation(self, document: Any, probe: Any = None, what: str = "") -> Observation:
        """Read the entry ``model`` of a result of ``model_info``, or its ``past``, and a ``probe``. Never raises.

        ``what`` precedes the names in ``problems``.
        """
        if document is None:
            document = {}
        if not isinstance(document, Mapping):
            self.problems.append(f"{what or 'model'}: expected a mapping")
            document = {}

        def read(name: str, parse: Callable[[Any], Value]) -> Value | None:
            return self._read(f"{what}{name}", document.get(name), parse)

        return Observation(
            requests=read("requests", _requests),
            labels=read("labels", _labels),
            shadow=read("shadow", _shadow),
            drift_alarms=read("drift", _drift_alarms),
            resident_bytes=read("resident_bytes", lambda value: _count(value, "it", least=1)),
            restarts=read("restarts", lambda value: _count(value, "it")),
            probe=self._read(f"{what}probe", probe, _probe),
            board=read("board", _board),
        )

    def _read(self, name: str, value: Any, parse: Callable[[Any], Value]) -> Value | None:
        if value is None:
            return None
        try:
            return parse(value)
        except (ValueError, TypeError, KeyError, ArithmeticError) as error:
            self.problems.append(f"{name}: {str(error)[:200]}")
            return None


def _count(value: Any, name: str, least: int = 0) -> int:
    if not is_whole(value) or not least <= value <= COUNT_MAX:
        raise ValueError(f"{name}: expected a count; found {_shown(value)}")
    return int(value)


def _number(value: Any, name: str, most: float) -> float:
    if not is_number(value) or not 0 <= value <= most:
        raise ValueError(f"{name}: expected a number from 0 to {most:g}; found {_shown(value)}")
    return float(value)


def _shown(value: Any) -> str:
    return repr(value)[:50] if isinstance(value, (str, float, bool)) or value is None else type(value).__name__


def _counts(value: Any, *names: str) -> list[int]:
    if not isinstance(value, Mapping):
        raise ValueError(f"expected a mapping; found {_shown(value)}")
    return [_count(value.get(name), name) for name in names]


def _requests(value: Any) -> Requests:
    requests, errors, timed = _counts(value, "requests", "errors", "timed")
    if errors > requests or timed > requests - errors:
        raise ValueError(f"{errors} errors and {timed} answers of {requests} requests")
    pairs = value.get("latency_buckets") or []
    if not isinstance(pairs, list) or len(pairs) > BUCKETS_MAX:
        raise ValueError("latency_buckets: expected a list of pairs")
    buckets: list[tuple[float, int]] = []
    for pair in pairs:
        if not isinstance(pair, (list, tuple)) or len(pair) != 2:
            raise ValueError("latency_buckets: expected pairs of an edge and a count")
        edge, count = _number(pair[0], "latency_buckets", 1e6), _count(pair[1], "latency_buckets")
        last = buckets[-1] if buckets else (1e-9, 0)
        if edge <= last[0] or count < last[1] or count > timed:
            raise ValueError("latency_buckets: expected rising edges and counts")
        buckets.append((edge, count))
    return Requests(requests, errors, timed, tuple(buckets))


def _labels(value: Any) -> Labels:
    return Labels(*_counts(value, "right", "wrong"))


def _shadow(value: Any) -> Shadow:
    return Shadow(*_counts(value, "agreed", "disagreed", "failed", "requests"))


def _board(value: Any) -> Board:
    if not isinstance(value, Mapping):
        raise ValueError(f"expected a mapping; found {_shown(value)}")
    requests = value.get("requests")
    return Board(
        joules=_optional(value.get("energy_joules"), "energy_joules", most=1e15),
        watts=_optional(value.get("power_watts"), "power_watts", most=1e9),
        celsius=_optional(value.get("temperature_celsius"), "temperature_celsius", least=-100.0, most=1000.0),
        clock=_optional(value.get("clock_ratio"), "clock_ratio", most=1.0),
        requests=None if requests is None else _count(requests, "requests"),
        seconds=_optional(value.get("seconds"), "seconds", most=1e12),
        mode=str(value["power_mode"])[:100] if value.get("power_mode") else None,
    )


def _drift_alarms(value: Any) -> tuple[str, ...] | None:
    if not isinstance(value, list):
        raise ValueError(f"expected a list; found {_shown(value)}")
    alarms, compared = [], 0
    for series in value:
        if not isinstance(series, Mapping) or not isinstance(series.get("alarm"), bool):
            raise ValueError("expected series with an alarm, yes or no")
        _number(series.get("psi"), "psi", 1e9)
        if _count(series.get("windows"), "windows"):
            compared += 1
            if series["alarm"]:
                alarms.append(str(series.get("series"))[:100])
    return tuple(alarms) if compared else None


def unasked(value: Any) -> str:
    """Why a probe set could not be asked; nothing where it was."""
    if not isinstance(value, Mapping) or value.get("error") is None:
        return ""
    return f"the probe set could not be asked: {str(value['error'])[:300]}"


def _probe(value: Any) -> ProbeResult:
    if not isinstance(value, Mapping):
        raise ValueError(f"expected a mapping; found {_shown(value)}")
    if reason := unasked(value):
        raise ValueError(reason)
    metric = Metric(value.get("metric"))
    (samples,) = _counts(value, "samples")
    if not 1 <= samples <= metric.samples_max:
        raise ValueError(f"samples: expected 1 to {metric.samples_max}; found {samples}")
    results = value.get("results")
    if not isinstance(results, Mapping):
        raise ValueError(f"results: expected a mapping; found {_shown(results)}")
    result = ProbeResult(
        metric=metric,
        samples=samples,
        value=_optional(value.get("value"), "value", least=-1e15 if metric is Metric.R2 else 0.0, most=1e15),
        packed=str(results.get("flags" if metric.has_flags else "numbers")),
        scale=_optional(results.get("scale"), "scale", most=1e300) or 1.0,
        positives=_positives(results, samples) if metric is Metric.AUC else (),
        label_variance=_optional(value.get("label_variance"), "label_variance", most=1e300),
        not_finite=_count(value.get("not_finite", 0), "not_finite"),
        latency_seconds=_optional(value.get("latency_seconds"), "latency_seconds", most=1e6),
        top=_count(value.get("top", 1), "top"),
    )
    found = sample_results(result)
    if not metric.has_flags and not metric.is_error and metric is not Metric.AUC and not result.label_variance:
        raise ValueError("label_variance: expected a number above 0")
    if metric.has_flags:
        (correct,) = _counts(value, "correct")
        if correct != sum(found) or result.value is None or abs(result.value - correct / samples) > 1e-5:
            raise ValueError(
                f"{correct} correct of {samples} samples, {sum(found):g} flags, and the value {result.value}"
            )
    elif result.value is None and result.not_finite < samples:
        raise ValueError("value: expected a number; found None")
    return result


def _positives(results: Mapping[str, Any], samples: int) -> tuple[bool, ...]:
    positives = tuple(unpack_flags(str(results.get("positives")), samples))
    if len(set(positives)) < 2:
        raise ValueError("positives: expected both labels")
    return positives


def _optional(value: Any, name: str, *, least: float = 0.0, most: float) -> float | None:
    if value is None:
        return None
    if not is_number(value) or not least <= value <= most:
        raise ValueError(f"{name}: expected a number from {least:g} to {most:g}; found {_shown(value)}")
    return float(value)
