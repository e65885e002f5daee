# Copyright (c) 2026, The edgeml.fleet authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# PRIVATE to the collection edgeml.fleet: no stable interface.

"""What devices measured, read from the results of their modules: valid numbers, or a problem with a name. Pure."""

from __future__ import annotations

import dataclasses
import functools
import math
from dataclasses import dataclass, field
from typing import Any, Callable, Iterable, Mapping, Sequence, TypeVar, Union

from ansible_collections.edgeml.fleet.plugins.module_utils._common.packed import unpack_flags, unpack_numbers
from ansible_collections.edgeml.fleet.plugins.module_utils._common.records import is_number, is_whole
from ansible_collections.edgeml.fleet.plugins.module_utils._release.probe_set import Metric
from ansible_collections.edgeml.fleet.plugins.plugin_utils._rollout.outcome import ON_NEW_VERSION, outcome

from .numerics import NORMAL

Value = TypeVar("Value")

COUNT_MAX = 10**15
BUCKETS_MAX = 1000
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


@dataclass(frozen=True)
class Labels:
    """Predictions that were right and wrong by the labels that clients sent."""

    right: int
    wrong: int


@dataclass(frozen=True)
class Shadow:
    """Copies of requests that a shadow answered like the active version, answered otherwise, or failed."""

    agreed: int
    disagreed: int
    failed: int


@dataclass(frozen=True)
class ProbeResult:
    """The answers to the release's probe set.

    ``value`` is the metric over all samples; None if no answer is a finite number. ``packed`` holds the results of the
    samples, to be multiplied by ``scale`` (see ``sample_results``). ``positives``: which labels are 1, for auc.
    ``label_variance``: the variance of the labels, for r2. ``not_finite``: answers that are no finite number.
    ``latency_seconds`` is the median time of a request.
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

    ``drift_alarms`` names the drift series with an alarm; it is None where no window of requests was compared.
    """

    requests: Requests | None = None
    labels: Labels | None = None
    shadow: Shadow | None = None
    drift_alarms: tuple[str, ...] | None = None
    resident_bytes: int | None = None
    restarts: int | None = None
    probe: ProbeResult | None = None

    def since(self, before: Observation) -> Observation:
        """Return the observation without what was counted ``before``. A counter that is lower than before was reset."""
        return dataclasses.replace(
            self,
            requests=_requests_since(before.requests, self.requests),
            labels=_since(before.labels, self.labels),
            shadow=_since(before.shadow, self.shadow),
        )


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
        )

    def _read(self, name: str, value: Any, parse: Callable[[Any], Value]) -> Value | None:
        if value is None:
            return None
        try:
            return parse(value)
        except (ValueError, TypeError, KeyError, ArithmeticError) as error:
            self.problems.append(f"{name}: {str(error)[:200]}")
            return None


@dataclass(frozen=True)
class DeviceObservation:
    """One device of the wave: its ``outcome`` and, where it reported, its observations.

    ``first_installation``: the new version replaced none. ``now`` is the new version since it became active, ``past``
    the version before until then; their probe results are answers to the same questions. ``problems`` names values
    that are not valid. ``probe_expected``: the release has a probe set, and the device was to answer it.
    """

    name: str
    device_class: str
    outcome: str
    first_installation: bool = False
    now: Observation = Observation()
    past: Observation = Observation()
    problems: tuple[str, ...] = ()
    probe_expected: bool = True


@dataclass(frozen=True)
class Control:
    """A device that keeps the old version: ``now`` is what it measured during the soak, ``past`` what it did before."""

    name: str
    device_class: str
    now: Observation
    past: Observation


@dataclass(frozen=True)
class Groups:
    """The devices of a wave that serve the new version and the controls, by device class."""

    wave: Mapping[str, Sequence[DeviceObservation]]
    controls: Mapping[str, Sequence[Control]]

    @classmethod
    def of(cls, serving: Sequence[DeviceObservation], controls: Sequence[Control]) -> Groups:
        """Group the devices; a control of a class that the wave does not have is left out."""
        names = sorted({item.device_class for item in serving})
        return cls(
            {name: [item for item in serving if item.device_class == name] for name in names},
            {name: [item for item in controls if item.device_class == name] for name in names},
        )

    @property
    def device_classes(self) -> list[str]:
        """The device classes of the wave, in order."""
        return list(self.wave)

    @property
    def serving(self) -> list[DeviceObservation]:
        """All devices of the wave that serve the new version."""
        return [item for items in self.wave.values() for item in items]

    @property
    def all_controls(self) -> list[Control]:
        """The controls of all device classes."""
        return [item for items in self.controls.values() for item in items]


Device = Union[DeviceObservation, Control]


def has_past(item: Device) -> bool:
    """Whether the device served a version before."""
    return not (isinstance(item, DeviceObservation) and item.first_installation)


def observe_device(name: str, device_class: str, swap: Any, read: Any) -> DeviceObservation:
    """Read the results of ``model_swap`` and ``model_info`` of a device of the wave. Never raises."""
    swap, read = _mapping(swap), _mapping(read)
    result = outcome(swap, read)
    if result not in ON_NEW_VERSION:
        return DeviceObservation(name, device_class, result)
    model, reader = read["model"], Reader()
    baseline, probe = model.get("baseline"), model.get("probe")
    past = reader.observation(model.get("past"), baseline, "past ")
    now = reader.observation(model, probe)
    if past.probe and now.probe and (past.probe.metric, past.probe.samples) != (now.probe.metric, now.probe.samples):
        reader.problems.append(
            f"baseline: expected {now.probe.samples} samples of {now.probe.metric.value}; "
            f"found {past.probe.samples} of {past.probe.metric.value}"
        )
    for what, document, version in (("probe", probe, swap["version"]), ("baseline", baseline, model.get("replaced"))):
        answered = _mapping(document).get("version", version)
        if answered != version:
            reader.problems.append(f"{what}: expected answers of {version}; found those of {str(answered)[:50]}")
    return DeviceObservation(
        name=name,
        device_class=device_class,
        outcome=result,
        first_installation=model.get("replaced") is None,
        now=now,
        past=past,
        problems=tuple(reader.problems),
        probe_expected="probe" not in model or probe is not None,
    )


def observe_control(name: str, document: Any, version: str | None) -> Control | None:
    """Read a control's device class and its results of ``model_info`` before and after the soak. Never raises.

    Returns None for a device that cannot be a control: it did not answer, has the new ``version``, changed its version
    during the soak, or reported a value that is not valid.
    """
    entry = _mapping(document)
    reads = [_mapping(entry.get(name)) for name in ("before", "after")]
    if any(read.get("failed") or read.get("unreachable") for read in reads):
        return None
    before, after = (_mapping(read.get("model")) for read in reads)
    live = after.get("live")
    if not isinstance(live, str) or live != before.get("live") or live == version:
        return None
    reader = Reader()
    past = reader.observation(before, before.get("probe"))
    now = reader.observation(after, after.get("probe"))
    return None if reader.problems else Control(name, str(entry.get("device_class")), now.since(past), past)


def by_name(items: Iterable[Any]) -> list[Any]:
    """Return devices in the order of their names."""
    return sorted(items, key=lambda item: str(item.name))


def _mapping(value: Any) -> Mapping[str, Any]:
    return value if isinstance(value, Mapping) else {}


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
    return Shadow(*_counts(value, "agreed", "disagreed", "failed"))


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


def _probe(value: Any) -> ProbeResult:
    if not isinstance(value, Mapping):
        raise ValueError(f"expected a mapping; found {_shown(value)}")
    if value.get("error") is not None:
        raise ValueError(f"the probe set could not be asked: {str(value['error'])[:300]}")
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


def _since(before: Value | None, now: Value | None) -> Value | None:
    if before is None or now is None:
        return now
    earlier, later = vars(before), vars(now)
    if any(later[name] < earlier[name] for name in later):
        return now
    return type(now)(**{name: later[name] - earlier[name] for name in later})
