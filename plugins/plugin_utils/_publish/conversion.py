# Copyright (c) 2026, The edgeml.fleet authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# PRIVATE to the collection edgeml.fleet: no stable interface.

"""Whether the source's file computes what its framework does: the proof of a conversion."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Mapping

from .candidate import Candidate, draft, not_finite
from .desk import Desk, Measured, RunFailedError
from .model import Model, RefusedError, random_operators
from .options import ReleaseOptions
from .publication import Publication
from .samples import Samples, fitted, write_inputs
from .source import Source
from .varying import Varying, filled_sizes, like

if TYPE_CHECKING:
    import numpy as np

    Array = np.ndarray[Any, Any]

_ROWS_SHOWN = 5
_FINITE = (
    ". Have the model give a finite number where it has no answer, leave the output out of the export, or leave out "
    "samples that clients never send"
)


@dataclass(frozen=True)
class SourceRun:
    """The source's own file, run on all samples: the first variant.

    ``samples_path`` is a ``.npz`` file with the inputs as the model takes them, ``reference_path`` the drift reference.
    """

    candidate: Candidate
    samples: Samples
    samples_path: str
    reference_path: str


def run_source(publication: Publication, source: Source, raw: Samples) -> SourceRun:
    """Run the source's file. Raises RefusedError where it does not run, or answers no finite numbers."""
    model = source.model
    named = replace(model, name=f"{model.format}-fp32")
    publication.progress.step(f"running the source on {raw.rows} samples")
    candidate = Candidate("fp32", named)
    directory = draft(publication, candidate)
    samples_path, reference_path = publication.path("samples.npz"), publication.path("reference.json")
    try:
        samples, candidate.measured = _run(publication.desk, directory, raw, samples_path, reference_path)
    except RunFailedError as error:
        raise RefusedError([f"the source does not run: {error}"]) from error
    outputs = candidate.measured.outputs
    reasons = (
        _random(model, candidate.measured, publication.options)
        or _not_by_samples(outputs, samples.rows)
        or [reason + _FINITE for reason in not_finite(candidate.measured, "the source")]
    )
    if reasons:
        raise RefusedError(reasons)
    return SourceRun(candidate, samples, samples_path, reference_path)


def _random(model: Model, measured: Measured, options: ReleaseOptions) -> list[str]:
    """Why no golden test holds of a model: it draws random numbers, and the same samples had several answers."""
    operators = ", ".join(map(str, random_operators(model)))
    return [
        f"output {name!r} of the source: expected the same answers to the same samples; found some that differ by "
        f"{spread:.3g}, because the model draws random numbers ({operators}), and no device can prove that it computes "
        "what you tested. Export it as it is in use (PyTorch: model.eval() first); where the noise belongs to the "
        "model, make it an input"
        for name, spread in measured.said["batch_spread"].items()
        if operators and spread > options.conversion_absolute
    ]


def _not_by_samples(outputs: Mapping[str, Array], samples: int) -> list[str]:
    """Why outputs cannot be told apart by samples: they have no axis for them."""
    return [
        f"output {name!r} of the source: expected {samples} rows, one for each sample; found {len(values)}. Export it "
        "with a first axis for the samples; where each has another number of rows, such as of boxes, for one sample "
        "at once"
        for name, values in outputs.items()
        if len(values) != samples
    ]


def _run(desk: Desk, directory: str, raw: Samples, samples_path: str, reference_path: str) -> tuple[Samples, Measured]:
    """Run the samples as they were given, and once more as the model takes them only where that is something else."""
    write_inputs(samples_path, raw.inputs)
    try:
        described = desk.measure(directory, samples_path, reference=reference_path)
        ran = True
    except RunFailedError:
        described, ran = desk.measure(directory), False
    samples = fitted(raw, described.said["inputs"])
    if ran and all(samples.inputs[name].dtype == values.dtype for name, values in raw.inputs.items()):
        return samples, described
    write_inputs(samples_path, samples.inputs)
    return samples, desk.measure(directory, samples_path, reference=reference_path)


def right_outputs(publication: Publication, source: Source, run: SourceRun) -> dict[str, Array]:
    """The right outputs: those of the source framework where they are known, else of the source's file.

    Raises RefusedError for a converted file that computes something else, with the rows that differ.
    """
    measured = run.candidate.known
    reference = {**source.reference, **run.samples.reference}
    right = dict(measured.outputs)
    reasons: list[str] = []
    for name, values in reference.items():
        if not name and len(right) == 1:
            name = next(iter(right))
        if name not in right:
            raise RefusedError([f"reference: expected outputs of the model, {', '.join(right)}; found {name!r}"])
        reason = None
        if name in measured.varying:
            reason = _other_sizes(name, values, measured.varying[name])
            values = values if reason else like(values.astype(right[name].dtype), right[name])
        if reason is None:
            reason = _difference(publication, name, values, right[name], measured.said["batch_spread"].get(name, 0.0))
        if reason is not None:
            reasons.append(reason)
        else:
            right[name] = _like(values, right[name])
    if reasons:
        raise RefusedError(reasons)
    if not reference:
        publication.notes.append("no reference outputs: nothing says that the source's file computes what was trained")
    return right


def _other_sizes(name: str, expected: Array, found: Varying) -> str | None:
    """How the sizes of what varies differ from those of the source framework, or None where they are the same."""
    import numpy as np

    wanted, sizes = filled_sizes(expected), found.sizes()
    rows = np.flatnonzero(wanted != sizes)
    if not len(rows):
        return None
    shown = "; ".join(f"sample {row}: expected {wanted[row]} values, found {sizes[row]}" for row in rows[:_ROWS_SHOWN])
    return (
        f"conversion: output {name!r} is not what the source framework computes, in {len(rows)} of {len(sizes)} "
        f"samples: {shown}"
    )


def _difference(publication: Publication, name: str, expected: Array, found: Array, batch_spread: float) -> str | None:
    """How the outputs differ from those of the source framework, or None where they are the same."""
    import numpy as np

    if expected.shape != found.shape:
        if expected.size != found.size or len(expected) != len(found):
            return f"conversion: output {name!r}: expected the shape {list(expected.shape)}; found {list(found.shape)}"
        expected = expected.reshape(found.shape)
    if found.dtype.kind == "f" and expected.dtype.kind in "fiu":
        wide = expected.astype(np.float64)
        options = publication.options
        allowed = options.conversion_absolute + options.conversion_relative * np.abs(wide)
        allowed = np.maximum(allowed, 10 * batch_spread)
        with np.errstate(invalid="ignore"):
            difference = np.abs(found.astype(np.float64) - wide)
        same = (difference <= allowed) | (np.isnan(wide) & np.isnan(found))
    else:
        same = np.asarray(expected.astype(str) == found.astype(str))
    if same.all():
        return None
    rows = sorted({int(place[0]) for place in np.argwhere(~same)})
    return (
        f"conversion: output {name!r} is not what the source framework computes, in {len(rows)} of {len(same)} "
        f"samples: {'; '.join(_example(row, expected, found, same) for row in rows[:_ROWS_SHOWN])}"
    )


def _example(row: int, expected: Array, found: Array, same: Array) -> str:
    """The first value of a sample that differs."""
    import numpy as np

    at = (row, *(int(index) for index in np.argwhere(~same[row])[0])) if same.ndim > 1 else (row,)
    return f"sample {row}: expected {expected[at]!s}, found {found[at]!s}"


def _like(values: Array, other: Array) -> Array:
    """The source's outputs in the type and the shape of the model's, row by row."""
    import numpy as np

    shaped = values.reshape(other.shape)
    found: Array = shaped.astype(other.dtype) if other.dtype.kind in "fiub" else shaped.astype(str)
    return np.ascontiguousarray(found)


def outputs_shapes(right: Mapping[str, Array]) -> dict[str, list[int]]:
    """The shape of one sample of each output."""
    return {name: list(values.shape[1:]) for name, values in right.items()}
