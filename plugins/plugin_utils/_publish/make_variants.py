# Copyright (c) 2026, The edgeml.fleet authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# PRIVATE to the collection edgeml.fleet: no stable interface.

"""The variants that a release was asked for, each made, run on the holdout and judged."""

from __future__ import annotations

import os
from typing import Any, Iterator, Sequence

from . import ncnn_variant, tflite_variants, variants
from .candidate import Candidate, draft
from .conversion import SourceRun
from .desk import RunFailedError
from .golden import datatype_of
from .holdout import Holdout, judge_candidate
from .judgement import Verdict
from .memory import trim_heap
from .model import Model, RefusedError
from .publication import Publication
from .samples import fitted, read_samples
from .source import FORMATS

# How often layers go back to float, twice as many each time.
RESCUES_MAX = 5
# The modules that make smaller variants of a format.
_TOOLS: dict[str, Any] = {"onnx": variants, "tflite": tflite_variants}
_SMALLER = (".onnx", ".tflite")
_MADE_FROM = {
    "fp32": tuple(FORMATS), "fp16": _SMALLER, "int8": _SMALLER, "int8-dynamic": _SMALLER, "ncnn": (".onnx",),
}  # fmt: skip


def make_candidates(publication: Publication, run: SourceRun, holdout: Holdout) -> Iterator[Candidate]:
    """Make each variant in the order that was asked for, and judge it.

    Raises RefusedError for a variant that cannot be made of such a source.
    """
    directory = publication.path("variants")
    os.mkdir(directory)
    source = run.candidate.model
    suffix = os.path.splitext(source.entrypoint.path)[1]
    impossible = {kind: _MADE_FROM[kind] for kind in publication.options.variants if suffix not in _MADE_FROM[kind]}
    if impossible:
        raise RefusedError(
            [
                f"{kind}: expected a source {' or '.join(suffixes)} to make it from; found {source.entrypoint.path}"
                for kind, suffixes in impossible.items()
            ]
        )
    for kind in publication.options.variants:
        if kind == "fp32":
            judge_candidate(run.candidate, holdout, publication.options)
            yield run.candidate
            continue
        try:
            if kind == "int8":
                yield _static_int8(publication, source, directory, holdout)
            else:
                yield _of_weights(publication, kind, source, directory, holdout)
        except (variants.NothingToDoError, RunFailedError) as error:
            yield Candidate(kind, Model(_name_of(kind, source), source.format, ()), refusal=str(error))


def formats_of(source: Model, kinds: Sequence[str]) -> set[str]:
    """The formats of the variants that are asked for."""
    return {source.format} | ({"ncnn"} & set(kinds))


def _name_of(kind: str, source: Model) -> str:
    return ncnn_variant.NAME if kind == "ncnn" else f"{source.format}-{kind}"


def _of_weights(publication: Publication, kind: str, source: Model, directory: str, holdout: Holdout) -> Candidate:
    """A variant that takes no samples to make."""
    publication.progress.step(f"making {kind}")
    tools = _TOOLS[source.format]
    make = {"fp16": tools.float16, "int8-dynamic": tools.int8_dynamic, "ncnn": ncnn_variant.convert}[kind]
    candidate = Candidate(kind, make(source, directory))
    _measure_and_judge(publication, candidate, holdout)
    return candidate


def _static_int8(publication: Publication, source: Model, directory: str, holdout: Holdout) -> Candidate:
    """Make int8 with as few layers in float as it takes."""
    options = publication.options
    quantiser = _TOOLS[source.format].StaticQuantiser(source, directory)
    calibrating = holdout.samples.inputs
    if options.calibration:
        raw = read_samples(options.calibration, missing_values=options.missing_values)
        specs = [
            {"name": name, "datatype": datatype_of(values), "shape": [-1, *values.shape[1:]]}
            for name, values in holdout.samples.inputs.items()
        ]
        calibrating = fitted(raw, specs).inputs
    count = min(options.calibration_samples, len(next(iter(calibrating.values()))))
    publication.progress.step(f"calibrating int8 by {count} samples")
    calibration = quantiser.calibrate(calibrating, count, holdout.samples.inputs)
    tensor, share = calibration.largest_cut_off
    cut_off = f"{share:.2%} of the holdout's values are cut off in {tensor}" if share else "nothing is cut off"
    left = 0
    layers: list[str] = []
    tried: list[str] = []
    while True:
        publication.progress.step(f"making int8{f', {left} layers in float' if left else ''}")
        candidate = Candidate("int8", quantiser.quantise(layers[:left]))
        candidate.notes = [*candidate.model.notes, cut_off, *tried]
        _measure_and_judge(publication, candidate, holdout)
        if candidate.refusal is None or left >= len(quantiser.layers) - 1 or len(tried) >= RESCUES_MAX:
            return candidate
        judgement = candidate.judgement
        if judgement is not None and judgement.verdict is Verdict.TOO_SMALL and not judgement.worse:
            return candidate  # No layer in float changes what the holdout cannot tell.
        tried.append(f"with {left or 'no'} layers in float: {candidate.refusal}")
        layers = layers or quantiser.worst_layers(candidate.model, calibrating)
        left = min(max(1, 2 * left), len(layers) - 1)
        if left < 1:
            return candidate


def _measure_and_judge(publication: Publication, candidate: Candidate, holdout: Holdout) -> None:
    trim_heap()
    candidate.measured = publication.desk.measure(draft(publication, candidate), holdout.samples_path)
    judge_candidate(candidate, holdout, publication.options)
