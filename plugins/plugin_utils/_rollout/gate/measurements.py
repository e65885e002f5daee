# Copyright (c) 2026, The edgeml.fleet authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# PRIVATE to the collection edgeml.fleet: no stable interface.

"""What a device measured: numbers that are valid, and their difference over a period. Pure."""

from __future__ import annotations

import dataclasses
import functools
import math
from dataclasses import dataclass
from typing import NamedTuple, TypeVar

from ansible_collections.edgeml.fleet.plugins.module_utils._common.packed import unpack_flags, unpack_numbers
from ansible_collections.edgeml.fleet.plugins.module_utils._release.probe_set import Metric

from .numerics import NORMAL

# A share of a histogram counts as no closer to 0 and 1 than this, however many requests there are.
SHARE_NEAREST = 0.001


@dataclass(frozen=True)
class Requests:
    """Requests, how many failed, and a cumulative histogram of the time that ``timed`` of them took.

    ``buckets`` holds pairs of an upper edge in seconds and how many requests took no longer, both ascending.
    """

    requests: int
    errors: int
    timed: int
    buckets: tuple[tuple[float, int], ...]

    def quantile(self, share: float) -> float | None:
        """Return the logarithm of a quantile of the time in seconds; None where nothing was timed.

        Between two edges of the histogram, the logarithm of the time is interpolated over the normal quantile of the
        share. This is exact for a log-normal distribution and close for similar ones; linear interpolation is far
        off in the wide buckets. Outside the first and the last edge, the result is that edge.
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


class Labels(NamedTuple):
    """Predictions that were right and wrong by the labels that clients sent."""

    right: int
    wrong: int


class Board(NamedTuple):
    """What the sensors of the board said, each None where there is none: energy and seconds over the period in which
    ``requests`` were counted; power, temperature, the clock that the processors may have (1 is the highest) and the
    board's power mode now."""

    joules: float | None
    watts: float | None
    celsius: float | None
    clock: float | None
    requests: int | None
    seconds: float | None
    mode: str | None = None

    @property
    def joules_per_request(self) -> float | None:
        """The energy of a request, by the counter of energy, or by the power of the moment."""
        joules = self.joules
        if joules is None and self.watts is not None and self.seconds is not None:
            joules = self.watts * self.seconds
        return joules / self.requests if joules and self.requests else None

    def since(self, before: Board) -> Board:
        """Return it without what was counted ``before``. If one is lower than before, all were counted anew."""
        pairs = (
            (self.joules, before.joules),
            (self.seconds, before.seconds),
            (self.requests, before.requests),
        )
        known = [(now, then) for now, then in pairs if now is not None and then is not None]
        if any(now < then for now, then in known):
            return self
        joules, seconds, requests = (now if now is None or then is None else now - then for now, then in pairs)
        return self._replace(joules=joules, seconds=seconds, requests=None if requests is None else int(requests))


class Shadow(NamedTuple):
    """Rows that a shadow answered like the active version, answered otherwise, or failed at; and how many ``requests``
    they came in."""

    agreed: int
    disagreed: int
    failed: int
    requests: int

    @property
    def rows(self) -> int:
        """All of the rows."""
        return self.agreed + self.disagreed + self.failed


@dataclass(frozen=True)
class ProbeResult:
    """The answers to the release's probe set.

    ``value`` is the metric over all samples; None if no answer is a finite number. ``packed`` holds the results of the
    samples, to be multiplied by ``scale`` (see ``sample_results``). ``positives``: which labels are 1, for auc.
    ``label_variance``: the variance of the labels, for r2. ``not_finite``: answers that are no finite number.
    ``latency_seconds`` is the median time of a request. ``top``: among how many of the best classes the right one is.
    """

    metric: Metric
    samples: int
    value: float | None
    packed: str
    scale: float = 1.0
    positives: tuple[bool, ...] = ()
    label_variance: float | None = None
    not_finite: int = 0
    latency_seconds: float | None = None
    top: int = 1

    @property
    def measured(self) -> str:
        """The metric as people read it."""
        return metric_words(self.metric.value, self.top)


def metric_words(metric: str, top: int = 1) -> str:
    """Return the metric as people read it: an accuracy by the best few classes is not the usual one."""
    return f"top-{top} {metric}" if top > 1 else metric


def sample_results(result: ProbeResult) -> list[float]:
    """Return one number for each sample: 1 or 0 for right or wrong, an error, or for auc a placement."""
    if result.metric.has_flags:
        return [float(flag) for flag in _unpacked_flags(result.packed, result.samples)]
    return [result.scale * number for number in _unpacked_numbers(result.packed, result.samples)]


@functools.lru_cache(maxsize=256)
def _unpacked_flags(packed: str, count: int) -> tuple[bool, ...]:
    return tuple(unpack_flags(packed, count))


@functools.lru_cache(maxsize=256)
def _unpacked_numbers(packed: str, count: int) -> tuple[float, ...]:
    return tuple(unpack_numbers(packed, count))


@dataclass(frozen=True)
class Observation:
    """What was measured of one version on one device over one period. None: not reported, or not valid.

    ``model_seconds``: the mean processor time of the model for a request that a shadow answered too.
    ``drift_alarms`` names the drift series with an alarm; it is None where no window of requests was compared.
    """

    requests: Requests | None = None
    labels: Labels | None = None
    shadow: Shadow | None = None
    drift_alarms: tuple[str, ...] | None = None
    resident_bytes: int | None = None
    restarts: int | None = None
    model_seconds: float | None = None
    probe: ProbeResult | None = None
    board: Board | None = None

    def since(self, before: Observation) -> Observation:
        """Return the observation without what was counted ``before``. A counter that is lower than before was reset."""
        return dataclasses.replace(
            self,
            requests=_requests_since(before.requests, self.requests),
            labels=_since(before.labels, self.labels),
            shadow=_since(before.shadow, self.shadow),
            board=self.board.since(before.board) if self.board and before.board else self.board,
        )


NOT_MEASURED = Observation()
Counts = TypeVar("Counts", Labels, Shadow)


def _requests_since(before: Requests | None, now: Requests | None) -> Requests | None:
    if before is None or now is None:
        return now
    lower = now.requests < before.requests or now.errors < before.errors or now.timed < before.timed
    earlier = dict(before.buckets)
    buckets = [(edge, count - earlier.get(edge, 0)) for edge, count in now.buckets]
    if lower or [edge for edge, _count in now.buckets] != list(earlier) or any(count < 0 for _edge, count in buckets):
        return now
    # A difference that is no cumulative histogram is one of two different counters.
    if any(later[1] < sooner[1] for sooner, later in zip(buckets, buckets[1:])):
        return now
    return Requests(
        now.requests - before.requests, now.errors - before.errors, now.timed - before.timed, tuple(buckets)
    )


def _since(before: Counts | None, now: Counts | None) -> Counts | None:
    if before is None or now is None or any(later < sooner for sooner, later in zip(before, now)):
        return now
    return type(now)(*(later - sooner for sooner, later in zip(before, now)))
