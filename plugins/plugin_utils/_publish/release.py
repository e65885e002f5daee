# Copyright (c) 2026, The edgeml.fleet authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# PRIVATE to the collection edgeml.fleet: no stable interface.

"""From a trained model to a release: convert, prove, measure, publish. ``publish_release`` is the whole of it.

The order: read the inputs, compare them with what is published, run the source, prove the conversion, make and judge
the variants, write golden file and probe set, test each variant as a device does, publish.
"""

from __future__ import annotations

import tempfile
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Iterable, Mapping, Sequence

from ansible_collections.edgeml.fleet.plugins.module_utils._common.words import counted

from .candidate import Candidate
from .conversion import outputs_shapes, right_outputs, run_source
from .deltas import add_deltas
from .device_tests import (
    find_emulated_device,
    reasons_against_devices,
    reasons_of_smoke_tests,
    run_emulated,
)
from .document import make_document
from .holdout import Holdout, make_holdout, reasons_against_source
from .make_variants import formats_of, make_candidates
from .measurements import DAYS_KEPT
from .model import ModelFile, Progress, RefusedError, file_of
from .options import ReleaseOptions
from .publication import Publication, Published
from .published import make_deltas_from_newest, newest_release, note_of_names, published_release
from .runtimes import find_minimum
from .samples import Samples, read_samples, write_inputs
from .source import RECIPE, Source, read_source, run_recipe
from .writer import publish


def publish_release(options: ReleaseOptions, progress: Progress, *, check: bool = False) -> Published:
    """Publish a release, or with ``check`` do all but write it. Raises RefusedError with every reason; EdgemlError."""
    with tempfile.TemporaryDirectory(prefix="edgeml-publish-") as work:
        return _run(Publication.begin(options, progress, work), check=check)


def _run(publication: Publication, *, check: bool) -> Published:
    options, progress = publication.options, publication.progress
    progress.step(f"{options.model} {options.version}: reading {options.samples}")
    given = _given(options)
    existing = published_release(options, given)
    if existing is not None:
        name = f"{existing.model} {existing.version}"
        progress.step(f"{name} is published, from the same source, samples and options: nothing to do")
        return Published(False, existing.document, existing.digest, [], {})
    raw = read_samples(options.samples, missing_values=options.missing_values)
    source = _source(publication, raw, given["source"])
    run = run_source(publication, source, raw)
    holdout = make_holdout(publication, run, right_outputs(publication, source, run))
    reasons = reasons_against_source(holdout, options)
    candidates = list(make_candidates(publication, run, holdout))
    # It may fetch packages for minutes: samples and labels that do not fit are refused before.
    place = find_emulated_device(publication, formats_of(source.model, options.variants))
    run_emulated(publication, candidates, holdout, place)
    passed = _passed(publication, candidates, reasons)
    _refuse_if(reason for candidate in passed for reason in find_minimum(publication, candidate))
    made = make_document(publication, passed, holdout, run, source, given)
    _refuse_if(reasons_against_devices(made.release, options))
    previous = newest_release(options.repository, options.model, other_than=options.version)
    if (note := note_of_names(options, made, previous)) is not None:
        publication.notes.append(note)
    # The smoke tests are processes of their own.
    with ThreadPoolExecutor(1) as pool:
        tested = pool.submit(reasons_of_smoke_tests, publication, made, passed, place)
        progress.step("making deltas")
        deltas = make_deltas_from_newest(publication, made, passed, previous)
    _refuse_if(tested.result())
    changed = True
    if not check:
        progress.step(f"publishing into {options.repository}")
        changed = publish(options.repository, made.document, made.locations)
        add_deltas(options.repository, deltas)
    if publication.desk.taken_over:
        publication.notes.append(
            f"{counted(publication.desk.taken_over, 'measurement')} of the last {DAYS_KEPT} days on this machine taken "
            "over, of the same files and samples with the same tools; measure_again has all measured again"
        )
    table = [candidate.row() for candidate in candidates]
    facts = _facts(publication, holdout, source)
    return Published(changed, made.document, made.release.digest, table, facts, tuple(publication.notes))


def _given(options: ReleaseOptions) -> dict[str, ModelFile | None]:
    """The files that a release is made from, by the names of their options. Raises RefusedError."""
    paths = {"source": options.source, "samples": options.samples, "calibration": options.calibration}
    return {name: _file(path, name) if path else None for name, path in paths.items()}


def _file(path: str, name: str) -> ModelFile:
    try:
        return file_of(path)
    except OSError as error:
        raise RefusedError([f"{name}: {path}: expected a file; {error.strerror}"]) from error


def _source(publication: Publication, raw: Samples, known: ModelFile | None) -> Source:
    options = publication.options
    if not options.source.endswith(RECIPE):
        return read_source(options.source, known)
    publication.progress.step(f"running the recipe {options.source}")
    inputs = publication.path("recipe-inputs.npz")
    write_inputs(inputs, raw.inputs)
    return run_recipe(options.source, publication.path("recipe"), python=options.recipe_python, samples=inputs)


def _passed(publication: Publication, candidates: Sequence[Candidate], reasons: Sequence[str]) -> list[Candidate]:
    """The variants that are published. Raises RefusedError with all reasons and the table where there are reasons,
    where none passes, or where one does not that the release needs."""
    required = set(publication.options.required_variants)
    passed = [candidate for candidate in candidates if candidate.refusal is None]
    refused = list(reasons)
    for candidate in candidates:
        if candidate.refusal is None:
            continue
        if candidate.kind in required or not passed:
            refused.append(f"{candidate.model.name}: {candidate.refusal}")
        else:
            publication.notes.append(f"{candidate.model.name} is left out: {candidate.refusal}")
    if refused or not passed:
        raise RefusedError(refused or ["no variant passed"], [candidate.row() for candidate in candidates])
    return passed


def _refuse_if(reasons: Iterable[str]) -> None:
    """Raise RefusedError with all reasons, if there are any."""
    found = list(reasons)
    if found:
        raise RefusedError(found)


def _facts(publication: Publication, holdout: Holdout, source: Source) -> Mapping[str, Any]:
    """What the report says of the release beside its table."""
    probe = holdout.probe
    return {
        "samples": holdout.samples.rows,
        "task": probe.task.value,
        "metric": probe.metric.value,
        "top": holdout.source.top,
        "output": probe.probe_set.output,
        "source_metric": holdout.metric,
        "outputs": outputs_shapes(holdout.right),
        "materials": [material.entry() for material in source.materials],
        "created": publication.created,
    }
