# Copyright (c) 2026, The edgeml.fleet authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# PRIVATE to the collection edgeml.fleet: no stable interface.

"""The golden file and the probe set of a release, made from samples and from what the source answers to them."""

from __future__ import annotations

import io
import json
import math
import statistics
from collections import Counter
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Collection, Mapping, Sequence

from ansible_collections.edgeml.fleet.plugins.module_utils._device.probe_scores import ProbeScores, unfilled
from ansible_collections.edgeml.fleet.plugins.module_utils._release.arrays import unpacked
from ansible_collections.edgeml.fleet.plugins.module_utils._release.datatypes import NUMBERS, TEXT
from ansible_collections.edgeml.fleet.plugins.module_utils._release.probe_set import (
    Metric,
    Output,
    ProbeSet,
    ProbeSetError,
    Task,
)
from ansible_collections.edgeml.fleet.plugins.module_utils._release.probe_set_file import read_probe_set
from ansible_collections.edgeml.fleet.plugins.plugin_utils._rollout.gate.measurements import ProbeResult
from ansible_collections.edgeml.fleet.plugins.plugin_utils._rollout.gate.reader import Reader

from .samples import Samples
from .varying import like

if TYPE_CHECKING:
    import numpy as np

    Array = np.ndarray[Any, Any]

# A probe set with more bytes of JSON than this is a .npz file.
JSON_BYTES_MAX = 1 << 20
# Without labels: how far off an answer may be, as a part of the spread of the source's answers.
REFERENCE_TOLERANCE = 0.05
# Yes and no, as whole numbers, are no scores.
_DECISIONS = 2


@dataclass(frozen=True)
class Spread:
    """How far the outputs of a variant are from those of its source: absolute, and as a part of the largest."""

    absolute: float
    scale: float


@dataclass(frozen=True)
class Probe:
    """A probe set: the content of its file, and what reads it."""

    path: str
    content: bytes
    probe_set: ProbeSet
    task: Task
    metric: Metric

    def scores(self, outputs: Mapping[str, Array]) -> tuple[ProbeResult, float | None]:
        """What a device would measure if these were its answers, and the metric."""
        values = outputs[self.probe_set.output]
        found = self._compared(values.reshape(len(values), -1).tolist())
        reader_of_results = Reader()
        result = reader_of_results.observation(None, found).probe
        if result is None:
            raise ProbeSetError(f"{self.path}: {'; '.join(reader_of_results.problems)}")
        return result, found["value"]

    def of_same_answer(self) -> float | None:
        """What the metric would be of a model that always gives the same answer: of classes the most frequent, of
        numbers the one in the middle, and nothing where the number of values differs."""
        if self.task is Task.REFERENCE and not self.probe_set.ragged:
            return self._of_same_numbers()
        if self.metric is Metric.R2:
            # By its definition. What is computed differs in its last digits.
            return 0.0
        value: float | None = self._compared([self._same_answer()] * self.probe_set.samples)["value"]
        return value

    def _same_answer(self) -> Sequence[Any]:
        probe = self.probe_set
        size, yes, no = probe.label_values, probe.threshold, -math.inf
        if self.task is Task.REFERENCE:
            return []
        if self.task is Task.REGRESSION:
            middle = statistics.fmean if self.metric is Metric.RMSE else statistics.median
            return [middle(probe.labels[place::size]) for place in range(size)]
        often = Counter(probe.labels[at : at + size] for at in range(0, len(probe.labels), size))
        if self.task is Task.CLASS_SCORES:
            return [often[(place,)] for place in range(max(probe.labels) + 1)]
        ((row, _times),) = often.most_common(1)
        return row if self.task is Task.LABELS else [yes if label else no for label in row]

    def _of_same_numbers(self) -> float:
        """Of a reference, which may have millions of values."""
        import numpy as np

        probe = self.probe_set
        if probe.expected is None:
            raise ProbeSetError(f"{self.path}: expected reference outputs")
        with probe.expected.open() as reader:
            rows = reader.read(probe.samples)
        kind = NUMBERS[probe.expected.datatype][0]
        values = np.frombuffer(rows, f"<{kind}") if isinstance(rows, bytes) else np.array(rows)
        expected = values.astype(np.float64).reshape(probe.samples, -1)
        apart = np.abs(expected - np.median(expected, axis=0))
        if self.metric is Metric.DISTANCE:
            return float(apart.mean())
        return float((apart <= probe.absolute + probe.relative * np.abs(expected)).all(axis=1).mean())

    def _compared(self, answers: Sequence[Sequence[Any]]) -> dict[str, Any]:
        scores = ProbeScores(self.probe_set, self.task, self.metric)
        expected: list[Any] = [None] * len(answers)
        if self.probe_set.expected is not None:
            array = self.probe_set.expected
            with array.open() as reader:
                expected = [unpacked(reader.read(1), array.datatype) for _row in range(array.rows)]
        for answer, wanted in zip(answers, expected, strict=True):
            if self.probe_set.ragged:
                answer, wanted = unfilled(answer), unfilled(wanted)
            scores.add(answer, wanted)
        return scores.result()


def datatype_of(values: Array) -> str:
    """The protocol's name for an array's type."""
    if values.dtype.kind in "US":
        return TEXT
    letters = values.dtype.str[1:]
    return next(name for name, (known, _code) in NUMBERS.items() if known == letters)


def tensor(name: str, values: Array) -> dict[str, Any]:
    """An array as a tensor of the protocol, with flat data; NaN is null, and whole numbers have no fraction."""
    return {"name": name, "datatype": datatype_of(values), "shape": list(values.shape), "data": _data(values)}


def _data(values: Array) -> list[Any]:
    flat = values.reshape(-1)
    if values.dtype.kind != "f":
        found: list[Any] = flat.tolist()
        return found
    # The fewest digits that are the same number of 32 bits.
    digits = {2: 5, 4: 9, 8: 17}[values.dtype.itemsize]
    numbers = [float(f"{value:.{digits}g}") for value in flat.tolist()]
    return [None if math.isnan(value) else int(value) if value.is_integer() and abs(value) < 1e15 else value
            for value in numbers]  # fmt: skip


def golden_rows(inputs: Mapping[str, Array], allowed: Sequence[int], count: int) -> list[int]:
    """Choose samples for the golden file: the loudest and the faintest, those with the largest and the smallest value,
    and others from the whole range of the samples. ``allowed`` are those on which all variants agree."""
    import numpy as np

    chosen: list[int] = []
    places = np.asarray(allowed)
    for values in inputs.values():
        if values.dtype.kind not in "fiu" or not len(places):
            continue
        flat = values[places].reshape(len(places), -1).astype(np.float64)
        if not flat.shape[1]:
            continue
        flat = np.nan_to_num(flat)
        means = flat.mean(axis=1)
        for row in (means.argmax(), means.argmin(), flat.max(axis=1).argmax(), flat.min(axis=1).argmin()):
            chosen.append(int(places[int(row)]))
    others = [int(places[int(at)]) for at in np.linspace(0, len(places) - 1, max(count, 1))] if len(places) else []
    return sorted(list(dict.fromkeys([*chosen, *others]))[:count])


def golden_file(
    inputs: Mapping[str, Array],
    outputs: Mapping[str, Array],
    rows: Sequence[int],
    *,
    absolute: float,
    relative: float,
    exact: Mapping[str, Array] | None = None,
) -> bytes:
    """The golden file of these rows, with the tolerance of a conversion; what each variant may be off is in the
    manifest. ``exact`` are outputs of these rows as they are, of varying sizes."""
    chosen = {name: values[list(rows)] for name, values in outputs.items()}
    document = {
        "inputs": [tensor(name, values[list(rows)]) for name, values in inputs.items()],
        "outputs": [tensor(name, values) for name, values in {**chosen, **(exact or {})}.items()],
        "tolerance": {"absolute": absolute, "relative": relative},
    }
    return compact(document)


def compact(document: Any) -> bytes:
    """Compact JSON with a final newline."""
    return (json.dumps(document, separators=(",", ":"), allow_nan=False) + "\n").encode()


def make_probe(
    samples: Samples,
    outputs: Mapping[str, Array],
    directory: str,
    *,
    output: str | None,
    settings: Mapping[str, Any],
    varying: Collection[str] = (),
) -> Probe:
    """Make the probe set of the samples; ``outputs`` are the source's. Raises ProbeSetError for what is ambiguous.

    Where ``output`` is None, it is the one that the labels fit; of several, the one with scores. Those named in
    ``varying`` have another size for each sample.
    """
    wanted = output or samples.settings.get("output")
    names = [wanted] if wanted else list(outputs)
    if wanted and wanted not in outputs:
        raise ProbeSetError(f"output: expected one of {', '.join(outputs)}; found {wanted!r}")
    is_reference = _is_reference(samples, settings)
    fitting: list[Probe] = []
    reasons: list[str] = []
    for name in names:
        try:
            own = {**settings, "ragged": True} if name in varying and is_reference else settings
            fitting.append(_probe(samples, name, outputs[name], directory, own, is_reference=is_reference))
        except ProbeSetError as error:
            reasons.append(f"output {name!r}: {error}")
    if not fitting:
        raise ProbeSetError("; ".join(reasons))
    scores = [probe for probe in fitting if _has_scores(probe, outputs[probe.probe_set.output])]
    if len(scores) == 1:
        # Where the highest score is not the class that the model names, such as of distances, the name is what it says.
        names_of = [probe for probe in fitting if probe.task is Task.LABELS]
        scores = [max([*scores, *names_of], key=lambda probe: probe.scores(outputs)[1] or 0.0)]
    if len(fitting) > 1 and len(scores) != 1:
        found = ", ".join(probe.probe_set.output for probe in fitting)
        why = (
            "the samples have no labels, and any output could be compared"
            if samples.labels is None
            else "the labels fit several"
        )
        raise ProbeSetError(f"output: {why}: {found}; name one")
    return (scores if len(fitting) > 1 else fitting)[0]


def _has_scores(probe: Probe, values: Array) -> bool:
    """Whether an output has scores, of which others, such as the labels that apply, are made."""
    return probe.task is Task.CLASS_SCORES or (probe.task is Task.MULTI_LABEL and values.dtype.kind == "f")


def _probe(
    samples: Samples, name: str, values: Array, directory: str, settings: Mapping[str, Any], *, is_reference: bool
) -> Probe:
    import os

    import numpy as np

    # What is right, where it is an output, such as the true boxes.
    truth = samples.labels if is_reference else None
    if truth is not None:
        samples = replace(samples, labels=None)
    elif samples.labels is not None:
        samples = replace(samples, labels=_places(samples.labels, values))
    document: dict[str, Any] = {
        **{key: value for key, value in samples.settings.items() if key != "output"},
        **{key: value for key, value in settings.items() if value is not None},
        "output": name,
    }
    if truth is not None and not document.get("ragged"):
        _check_truth(truth, name, values)
    if samples.labels is None and truth is None and "tolerance" not in document:
        spread = _spread_of(values)
        document["tolerance"] = {"absolute": float(f"{REFERENCE_TOLERANCE * spread:.3g}"), "relative": 0}
    described = Output.of_shape(datatype_of(values), values.shape[1:])
    if samples.labels is not None and "task" not in document:
        # Devices need not find it out again, and one with older code finds out less.
        document["task"] = _task(samples.labels, name, described).value
    expected = values if truth is None else truth
    content = _as_json(samples, expected, document)
    suffix = "json" if content is not None else "npz"
    if content is None:
        content = _as_archive(samples, expected, document)
    path = os.path.join(directory, f"probe.{suffix}")
    with open(path, "wb") as file:
        file.write(content)
    try:
        probe_set = read_probe_set(path)
    except ProbeSetError as error:
        # The file is one of this publication's own, which nobody has written.
        raise ProbeSetError(str(error).removeprefix(f"{path}: not a probe set: ")) from error
    task, metric = probe_set.resolved(described)
    if metric is Metric.AUC and values.dtype.kind in "iub" and len(np.unique(values)) <= _DECISIONS:
        raise ProbeSetError(
            f"metric auc: expected scores in {name!r}; found no more than {_DECISIONS} different values, which are "
            "decisions: name the output with the scores, or declare labels"
        )
    return Probe(f"probe.{suffix}", content, probe_set, task, metric)


def _check_truth(truth: Array, name: str, values: Array) -> None:
    """Raise ProbeSetError for right answers that no answer of the output can equal."""
    if truth.dtype.kind in "US" or truth[0].size != values[0].size:
        found = "texts" if truth.dtype.kind in "US" else "numbers"
        raise ProbeSetError(
            f"labels: expected numbers of the shape {list(values.shape)} for the task reference, as {name!r} has them; "
            f"found {found} of the shape {list(truth.shape)}"
        )


def _is_reference(samples: Samples, settings: Mapping[str, Any]) -> bool:
    """Whether answers are compared with outputs: those that are given as labels, or without labels the source's own."""
    task = settings.get("task") or samples.settings.get("task")
    return samples.labels is None or task == Task.REFERENCE.value


def _spread_of(values: Array) -> float:
    """The standard deviation of the finite numbers; 0 where there are none."""
    import numpy as np

    if values.dtype.kind not in "fiu":
        return 0.0
    wide = values.astype(np.float64)
    finite = wide[np.isfinite(wide)]
    return float(finite.std()) if finite.size else 0.0


def _places(labels: Array, values: Array) -> Array:
    """Labels as places among several values, where they are written as floats, or as booleans among two; others as they
    are."""
    import numpy as np

    sizes = {"f": values[0].size > 1, "b": values[0].size == 2}
    if labels[0].size != 1 or not sizes.get(labels.dtype.kind):
        return labels
    places = labels.astype(np.int64)
    return places if (places == labels).all() else labels


def _task(labels: Array, output: str, described: Output) -> Task:
    """The task that labels of such an output have. Raises ProbeSetError."""
    flat = tuple(labels.reshape(-1).tolist())
    return ProbeSet((), output, len(labels), flat, labels[0].size).task_of(described)


def _as_json(samples: Samples, values: Array, settings: Mapping[str, Any]) -> bytes | None:
    """The probe set as JSON, or None if that is too much."""
    size = sum(array.size for array in samples.inputs.values())
    if 3 * size > JSON_BYTES_MAX:
        return None
    document = {**settings, "inputs": [tensor(name, array) for name, array in samples.inputs.items()]}
    if samples.labels is not None:
        document["labels"] = samples.labels.tolist()
    else:
        document["expected"] = tensor("expected", values)
    content = compact(document)
    return content if len(content) <= JSON_BYTES_MAX else None


def _as_archive(samples: Samples, values: Array, settings: Mapping[str, Any]) -> bytes:
    import numpy as np

    arrays = {f"input:{name}": array for name, array in samples.inputs.items()}
    arrays["labels" if samples.labels is not None else "expected"] = (
        samples.labels if samples.labels is not None else values
    )
    arrays["probe"] = np.array(json.dumps(settings))
    target = io.BytesIO()
    # The same arrays give the same bytes: NumPy writes no time into the archive. NumPy's types take every name for
    # that of its option allow_pickle, too.
    np.savez_compressed(target, **arrays)  # type: ignore[arg-type]
    return target.getvalue()


def spreads(
    found: Mapping[str, Array], wanted: Mapping[str, Array], rows: Sequence[int] | None = None
) -> dict[str, Spread]:
    """How far each output with numbers is off, over ``rows`` or all."""
    import numpy as np

    result = {}
    for name, expected in wanted.items():
        if expected.dtype.kind not in "fiu":
            continue
        places = slice(None) if rows is None else list(rows)
        both = expected, like(found[name], expected)
        exact, actual = (values[places].astype(np.float64) for values in both)
        with np.errstate(invalid="ignore"):
            difference = np.nan_to_num(np.abs(exact - actual), nan=0.0, posinf=np.inf)
        scale = float(np.abs(np.nan_to_num(exact)).max(initial=0.0))
        result[name] = Spread(float(difference.max(initial=0.0)), scale)
    return result
