# Copyright (c) 2026, The edgeml.fleet authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# PRIVATE to the collection edgeml.fleet: no stable interface.

"""The oldest runtime that can run a model: by what its file declares, and by trying those that are there."""

from __future__ import annotations

import re
from typing import Mapping

from ansible_collections.edgeml.fleet.plugins.module_utils._release.onnx_check import (
    IR_VERSIONS,
    OPSETS,
    first_runtime,
)
from ansible_collections.edgeml.fleet.plugins.module_utils._release.onnx_file import read_onnx

from . import emulation
from .candidate import Candidate, draft
from .desk import RunFailedError
from .model import RUNTIMES, Model, PublishError
from .publication import Publication

LITERT_MINIMUM = "1.2.0"
NCNN_MINIMUM = "1.0.20230223"


def find_minimum(publication: Publication, candidate: Candidate) -> list[str]:
    """Note the oldest runtime of a variant: by its file, and by each runtime that can be tried.

    Return why the variant is refused: its runtime is newer than devices have, or a Python has no runtime.
    """
    candidate.minimum, candidate.minimum_why = declared_minimum(candidate.model)
    if candidate.kind == "ncnn":
        return []  # What the options say is of the source's runtime.
    tried, reasons = _tried(publication, candidate)
    for version in sorted(tried, key=version_key, reverse=True):
        if not tried[version]:
            later = [other for other in tried if version_key(other) > version_key(version)]
            if version_key(candidate.minimum) <= version_key(version) and later:
                candidate.minimum = min(later, key=version_key)
                candidate.minimum_why = f"{version} was tried and does not load it"
            break
        if version_key(version) < version_key(candidate.minimum):
            candidate.minimum, candidate.minimum_why = version, "tried"
    oldest = publication.options.runtime_minimum
    if candidate.minimum.startswith("above") or (
        oldest is not None and version_key(candidate.minimum) > version_key(oldest)
    ):
        reasons.append(
            f"{candidate.model.name}: needs {RUNTIMES[candidate.model.format]} {candidate.minimum} "
            f"({candidate.minimum_why}); expected {oldest or 'a version that is known'} or earlier. "
            "Export it with an older opset and IR version"
        )
    return reasons


def _tried(publication: Publication, candidate: Candidate) -> tuple[Mapping[str, bool], list[str]]:
    """Whether each runtime loads the variant, by its version; and which Pythons have no runtime."""
    directory = draft(publication, candidate)
    tried: dict[str, bool] = {}
    reasons: list[str] = []
    for python in publication.options.runtime_pythons:
        try:
            said = publication.desk.smoke(directory, publication.desk.elsewhere(python))
            tried[str(said["runtime"]).split()[-1]] = True
        except RunFailedError:
            try:
                tried[emulation.runtime_version(python, RUNTIMES[candidate.model.format])] = False
            except PublishError as unknown:
                reasons.append(f"runtime_pythons: {unknown}")
    return tried, reasons


def declared_minimum(model: Model) -> tuple[str, str]:
    """The oldest runtime by the model's file, and why: ``("1.17.0", "opset 20")``."""
    if model.format == "tflite":
        return LITERT_MINIMUM, "the oldest that is tested"
    if model.format == "ncnn":
        return NCNN_MINIMUM, "the oldest that was tried"
    if model.entrypoint.path.endswith(".ort"):
        return min(IR_VERSIONS.values(), key=version_key), "an .ort file says nothing of it"
    # The weights are not read.
    try:
        found = read_onnx(model.entrypoint.location)
    except ValueError as error:
        raise PublishError(f"{model.name}: {model.entrypoint.path}: {error}") from error
    opset = found.opsets.get("", 1)
    by_ir, by_opset = _first(IR_VERSIONS, found.ir_version), _first(OPSETS, opset)
    if version_key(by_ir) >= version_key(by_opset):
        return by_ir, f"IR version {found.ir_version}"
    return by_opset, f"opset {opset}"


def _first(table: dict[int, str], number: int) -> str:
    return first_runtime(table, number) or f"above {max(table.values(), key=version_key)}"


def version_key(version: str) -> tuple[int, ...]:
    """What versions are ordered by."""
    numbers = [int(number) for number in re.findall(r"[0-9]+", version)[:4]]
    key = numbers + [0] * (4 - len(numbers))
    return (*key, 1 if version.startswith("above") else 0)
