# Copyright (c) 2026, The edgeml.fleet authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# PRIVATE to the collection edgeml.fleet: no stable interface.

"""The document of a release, the manifest, with its golden tolerances and the files that it names."""

from __future__ import annotations

import math
import os
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Mapping, Sequence

from ansible_collections.edgeml.fleet.plugins.module_utils._common.errors import ManifestError
from ansible_collections.edgeml.fleet.plugins.module_utils._release.manifest import SCHEMA, parse_release
from ansible_collections.edgeml.fleet.plugins.module_utils._release.release import Release

from . import provenance
from .candidate import Candidate, manifest_entry
from .commit import commit_of
from .conversion import SourceRun
from .golden import Spread, compact, golden_file, golden_rows, spreads
from .holdout import Holdout
from .model import ModelFile, PublishError, RefusedError, file_of
from .publication import Publication, utc_now
from .source import Source
from .varying import Varying, like

if TYPE_CHECKING:
    import numpy as np

    Array = np.ndarray[Any, Any]

# A golden tolerance is this many times the spread that was measured, and at least this part of the largest output.
SPREAD_FACTOR = 2.0
LEAST_TOLERANCE = {"fp32": 1e-5, "fp16": 1e-3, "int8": 1e-2, "int8-dynamic": 1e-2, "ncnn": 1e-3}


@dataclass(frozen=True)
class ReleaseDocument:
    """The manifest, as JSON and read, and where each file is that it names, by its SHA-256."""

    document: Mapping[str, Any]
    release: Release
    locations: Mapping[str, str]


@dataclass
class _Files:
    """Files that are written for the release."""

    publication: Publication
    locations: dict[str, str] = field(default_factory=dict)

    def add(self, path: str, content: bytes) -> dict[str, Any]:
        """Write a file, and return its entry in the manifest."""
        place = self.publication.path(f"blob-{len(self.locations)}")
        with open(place, "wb") as file:
            file.write(content)
        return self.add_file(file_of(place, path))

    def add_file(self, file: ModelFile) -> dict[str, Any]:
        """Add a file that is there, and return its entry in the manifest."""
        self.locations[file.sha256] = file.location
        return file.entry()


def make_document(
    publication: Publication,
    passed: Sequence[Candidate],
    holdout: Holdout,
    run: SourceRun,
    source: Source,
    given: Mapping[str, ModelFile | None],
) -> ReleaseDocument:
    """Write the manifest of the variants that passed. Raises RefusedError where no sample can be golden."""
    options = publication.options
    varying = run.candidate.known.varying
    agreed = _rows_all_agree_on(passed, holdout, varying)
    if varying:
        rows = _row_with_most(agreed, varying)
    else:
        rows = golden_rows(holdout.samples.inputs, agreed, _fixed_rows(passed) or options.golden_rows)
    if not rows:
        raise RefusedError(["golden file: the variants agree on no sample"])
    files = _Files(publication)
    entries = []
    for candidate in passed:
        for file in candidate.model.files:
            files.add_file(file)
        tolerances = _tolerances(publication, candidate, holdout.right, rows)
        entries.append({**manifest_entry(publication, candidate), "tolerances": tolerances})
    golden = golden_file(
        holdout.samples.inputs,
        holdout.right,
        rows,
        absolute=options.conversion_absolute,
        relative=options.conversion_relative,
        exact={name: found.sample(holdout.right[name], rows[0]) for name, found in varying.items()},
    )
    document: dict[str, Any] = {
        "schema": SCHEMA,
        "model": options.model,
        "version": options.version,
        "created": publication.created,
        "description": options.description,
        "variants": entries,
        "golden": files.add("golden.json", golden),
        "probe": files.add(holdout.probe.path, holdout.probe.content),
    }
    if options.drift_reference and not os.path.exists(run.reference_path):
        publication.notes.append("no drift reference: neither an input nor an output has numbers")
    elif options.drift_reference:
        document["reference"] = files.add_file(file_of(run.reference_path, "reference.json"))
    subjects = [file for candidate in passed for file in candidate.model.files]
    statement = provenance.statement(
        options.to_dict(),
        given,
        source,
        subjects,
        started=publication.started,
        finished=utc_now(),
        commit=commit_of(options.source),
    )
    table = [candidate.row() for candidate in passed]
    document["documents"] = {
        "provenance": files.add("provenance.json", compact(statement)),
        "measurements": files.add("measurements.json", compact({"schema": 1, "variants": table})),
        "bom": files.add("bom.cdx.json", compact(provenance.bill_of_materials(document, source, table))),
    }
    try:
        release = parse_release(document)
    except ManifestError as error:
        raise PublishError(f"manifest: {error}") from error
    return ReleaseDocument(document, release, files.locations)


def _fixed_rows(passed: Sequence[Candidate]) -> int | None:
    """The number of rows that a variant takes, where it takes no other: the golden test is one request."""
    for candidate in passed:
        sizes = {spec["shape"][0] for spec in candidate.known.said["inputs"] if spec["shape"]}
        if len(sizes) == 1 and min(sizes) > 0:
            return int(min(sizes))
    return None


def _row_with_most(rows: Sequence[int], varying: Mapping[str, Varying]) -> list[int]:
    """The sample with the most values, such as those of boxes: an answer without any would prove little."""
    if not rows:
        return []
    sizes = [found.sizes() for found in varying.values()]
    return [max(rows, key=lambda row: sum(int(each[row]) for each in sizes))]


def _rows_all_agree_on(passed: Sequence[Candidate], holdout: Holdout, varying: Mapping[str, Varying]) -> list[int]:
    """The samples whose outputs without a tolerance, such as classes, all variants answer alike on all processors. So
    they do the sizes of what varies."""
    import numpy as np

    agreed = np.ones(holdout.samples.rows, bool)
    for candidate in passed:
        for measured in filter(None, (candidate.measured, candidate.emulated)):
            for name, values in holdout.right.items():
                if name in varying:
                    wanted, found = varying[name], measured.varying.get(name)
                    shapes = [list(shape) for shape in found.shapes] if found else []
                    agreed &= [list(shape) in shapes[row : row + 1] for row, shape in enumerate(wanted.shapes)]
                    if wanted.is_exact:
                        near = like(measured.outputs[name], values)
                        same = (near == values) | (np.isnan(near) & np.isnan(values))
                        agreed &= same.reshape(len(same), -1).all(axis=1)
                elif values.dtype.kind != "f":
                    same = np.asarray(values.astype(str) == measured.outputs[name].astype(str))
                    agreed &= same.reshape(len(same), -1).all(axis=1)
    return [int(row) for row in np.flatnonzero(agreed)]


def _tolerances(
    publication: Publication, candidate: Candidate, right: Mapping[str, Array], rows: Sequence[int]
) -> dict[str, dict[str, Any]]:
    """What the golden test allows each output: by the spread that was measured on the golden samples."""
    found: dict[str, dict[str, Any]] = {}
    relative = publication.options.conversion_relative if candidate.kind == "fp32" else 0
    for measured in filter(None, (candidate.measured, candidate.emulated)):
        for name, spread in spreads(measured.outputs, right, rows).items():
            if right[name].dtype.kind in "iu" or (name in measured.varying and measured.varying[name].is_exact):
                continue
            absolute = _absolute_tolerance(candidate.kind, spread)
            if name not in found or absolute > found[name]["absolute"]:
                found[name] = {"absolute": absolute, "relative": relative}
    return found


def _absolute_tolerance(kind: str, spread: Spread) -> float:
    return _rounded_up(max(SPREAD_FACTOR * spread.absolute, LEAST_TOLERANCE[kind] * (spread.scale or 1.0)))


def _rounded_up(value: float) -> float:
    """The value with one significant digit, not below it."""
    if value <= 0:
        return 0.0
    step = 10.0 ** math.floor(math.log10(value))
    return float(f"{math.ceil(value / step - 1e-9) * step:.0e}")
