# Copyright (c) 2026, The edgeml.fleet authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# PRIVATE to the collection edgeml.fleet: no stable interface.

"""What devices measured, read from what they told: each number is what it must be, or its device is named. Pure."""

from __future__ import annotations

import dataclasses
import math
from dataclasses import dataclass, field
from typing import Any, Callable, Mapping, TypeVar

from .estimates import NORMAL

Value = TypeVar("Value")

COUNT_MAX = 10**15
BUCKETS_MAX = 1000
# Shares of a histogram are taken as no nearer to 0 and 1, however much was counted.
SHARE_NEAREST = 0.001


@dataclass(frozen=True)
class Requests:
    """Requests, those that failed, and how many took no longer than each time in seconds."""

    requests: int
    errors: int
    timed: int
    buckets: tuple[tuple[float, int], ...]

    def quantile(self, share: float) -> float | None:
        """The logarithm of the time that ``share`` of the requests took no longer than; None where nothing was timed.

        Between the edges of the histogram the logarithm of the time is taken to go with the normal quantile of the
        share: exact for a log-normal distribution, near for what resembles one, where a straight line would be far
        off in the histogram's wide buckets. Beyond its first and last edge, that edge.
        """
        if not self.timed or not self.buckets:
            return None
        wanted = NORMAL.inv_cdf(share)
        before: tuple[float, float] | None = None
        for edge, count in self.buckets:
            reached = NORMAL.inv_cdf(min(max(count / self.timed, SHARE_NEAREST), 1 - SHARE_NEAREST))
            if reached >= wanted:
                if before is None or reached == before[1]:
                    return math.log(edge)
                start = before[0]
                return start + (math.log(edge) - start) * (wanted - before[1]) / (reached - before[1])
            before = (math.log(edge), reached)
        return math.log(self.buckets[-1][0])


@dataclass(frozen=True)
class Labels:
    """Predictions that were right and wrong, by the labels that came back."""

    right: int
    wrong: int


@dataclass(frozen=True)
class Shadow:
    """Copies of requests that a candidate answered like the active version, or not; or failed."""

    agreed: int
    disagreed: int
    failed: int


@dataclass(frozen=True)
class Probe:
    """Answers to the release's labelled probe set, and the median time of a batch in seconds."""

    samples: int
    correct: int
    latency_seconds: float | None


@dataclass(frozen=True)
class Measured:
    """All that was measured of one version on one device in one stretch of time. None: not told, or not right.

    ``alarms`` are the names of the drift series with an alarm; None where no window was compared.
    """

    requests: Requests | None = None
    labels: Labels | None = None
    shadow: Shadow | None = None
    alarms: tuple[str, ...] | None = None
    resident_bytes: int | None = None
    restarts: int | None = None
    probe: Probe | None = None

    def since(self, before: Measured) -> Measured:
        """The same without what was counted ``before``; counters that are lower than they were began anew."""
        return dataclasses.replace(
            self,
            requests=_requests_since(before.requests, self.requests),
            labels=_since(before.labels, self.labels),
            shadow=_since(before.shadow, self.shadow),
        )


@dataclass
class Reader:
    """Reads what one device told; ``broken`` gathers what was not right."""

    broken: list[str] = field(default_factory=list)

    def measured(self, document: Any, probe: Any = None, what: str = "") -> Measured:
        """Read an entry ``model`` of ``model_info``, or its ``past``, and a ``probe``. Never raises."""
        if document is None:
            document = {}
        if not isinstance(document, Mapping):
            self.broken.append(f"{what or 'model'}: expected a mapping")
            document = {}

        def read(name: str, parse: Callable[[Any], Value]) -> Value | None:
            return self._read(f"{what}{name}", document.get(name), parse)

        return Measured(
            requests=read("requests", _requests),
            labels=read("labels", _labels),
            shadow=read("shadow", _shadow),
            alarms=read("drift", _alarms),
            resident_bytes=read("resident_bytes", lambda value: _count(value, "it", least=1)),
            restarts=read("restarts", lambda value: _count(value, "it")),
            probe=self._read(f"{what}probe", probe, _probe),
        )

    def _read(self, name: str, value: Any, parse: Callable[[Any], Value]) -> Value | None:
        if value is None:
            return None
        try:
            return parse(value)
        except (ValueError, TypeError, KeyError, ArithmeticError) as error:
            self.broken.append(f"{name}: {str(error)[:200]}")
            return None


def _count(value: Any, name: str, least: int = 0) -> int:
    if isinstance(value, bool) or not isinstance(value, int) or not least <= value <= COUNT_MAX:
        raise ValueError(f"{name}: expected a count; found {_shown(value)}")
    return value


def _number(value: Any, name: str, most: float) -> float:
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not 0 <= value <= most:
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
    return Shadow(*_counts(value, "agreed", "disagreed", "failed"))


def _alarms(value: Any) -> tuple[str, ...] | None:
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


def _probe(value: Any) -> Probe:
    samples, correct = _counts(value, "samples", "correct")
    accuracy = _number(value.get("accuracy"), "accuracy", 1.0)
    if correct > samples or not samples or abs(accuracy - correct / samples) > 1e-5:
        raise ValueError(f"{correct} correct of {samples} samples, and an accuracy of {accuracy}")
    seconds = value.get("latency_seconds")
    return Probe(samples, correct, None if seconds is None else _number(seconds, "latency_seconds", 1e6))


def _requests_since(before: Requests | None, now: Requests | None) -> Requests | None:
    if before is None or now is None:
        return now
    # A request that failed is never timed, so the three are apart.
    lower = now.requests < before.requests or now.errors < before.errors or now.timed < before.timed
    earlier = dict(before.buckets)
    buckets = [(edge, count - earlier.get(edge, 0)) for edge, count in now.buckets]
    if lower or [edge for edge, _count in now.buckets] != list(earlier) or any(count < 0 for _edge, count in buckets):
        return now
    # The buckets of what was counted since rise as well, or one of the two readings is not of this counter.
    if any(later[1] < sooner[1] for sooner, later in zip(buckets, buckets[1:])):
        return now
    return Requests(
        now.requests - before.requests, now.errors - before.errors, now.timed - before.timed, tuple(buckets)
    )


def _since(before: Value | None, now: Value | None) -> Value | None:
    if before is None or now is None:
        return now
    earlier, later = vars(before), vars(now)
    if any(later[name] < earlier[name] for name in later):
        return now
    return type(now)(**{name: later[name] - earlier[name] for name in later})
