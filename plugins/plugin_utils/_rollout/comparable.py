# Copyright (c) 2026, The edgeml.fleet authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# PRIVATE to the collection edgeml.fleet: no stable interface.

"""Whether a version can be asked the probe set of another, and which outputs clients lose, by the files of both."""

from __future__ import annotations

import functools
from typing import Callable

from ansible_collections.edgeml.fleet.plugins.module_utils._common.errors import EdgemlError
from ansible_collections.edgeml.fleet.plugins.module_utils._release.arrays import Array
from ansible_collections.edgeml.fleet.plugins.module_utils._release.onnx_file import read_onnx
from ansible_collections.edgeml.fleet.plugins.module_utils._release.probe_set import ProbeSet, ProbeSetError
from ansible_collections.edgeml.fleet.plugins.module_utils._release.probe_set_file import read_outputs, read_probe_set
from ansible_collections.edgeml.fleet.plugins.module_utils._release.release import File, Part, Release

Locate = Callable[[File], str]
"""Returns where a file of either release is."""


def why_unasked(before: Release, release: Release, locate: Locate) -> str:
    """Return why ``before`` cannot be asked the probe set of ``release``; nothing if it can, or where nobody knows: it
    may have no probe set of its own. Never raises."""
    try:
        for name, part in release.parts.items():
            older = before.parts.get(name)
            if part.probe is not None and older is not None and older.probe is not None:
                own, asked = (read_probe_set(locate(probe)) for probe in (older.probe, part.probe))
                other = _other_inputs(own, asked, functools.partial(_takes, locate, before, name))
                return other or _other_output(older, asked, locate)
    except EdgemlError:
        # Whoever uses the older release is told what is wrong with it.
        return ""
    return ""


def missing_outputs(before: Release, release: Release, locate: Locate) -> list[str]:
    """Return the outputs that ``before`` has and ``release`` has not, by their golden files. Never raises."""
    missing = []
    for name, older in before.parts.items():
        newer = release.parts.get(name)
        if newer is None or newer.golden is None or older.golden is None:
            continue
        try:
            had, has = (read_outputs(locate(golden)) for golden in (older.golden, newer.golden))
        except EdgemlError:
            continue
        missing += [f"{name}/{output}" if name else output for output in had if output not in has]
    return missing


def _other_inputs(own: ProbeSet, asked: ProbeSet, takes: Callable[[Array], bool]) -> str:
    """What differs; a version may take inputs of other sizes than its ``own`` probe set has."""
    needed, given = ({array.name: array for array in probe.inputs} for probe in (own, asked))
    same = {
        name
        for name in needed.keys() & given.keys()
        if _form(needed[name]) == _form(given[name])
        or (needed[name].datatype == given[name].datatype and takes(given[name]))
    }
    of_needed, of_given = (
        ", ".join(f"{name} ({_form(array)})" for name, array in sorted(found.items()) if name not in same)
        for found in (needed, given)
    )
    if of_needed and of_given:
        return f"has the input {of_needed}, and the probe set {of_given}"
    if of_needed:
        return f"has the input {of_needed}, which the probe set lacks"
    return f"has no input {of_given}, which the probe set has" if of_given else ""


def _form(array: Array) -> str:
    return f"{array.datatype} {list(array.shape[1:])}"


def _takes(locate: Locate, release: Release, part: str, array: Array) -> bool:
    """Whether a model's file says that an input may have these sizes. Of the formats only ONNX is read."""
    for variant in release.variants:
        entry = variant.entries.get(part)
        if entry is None or variant.format != "onnx":
            continue
        name, files = entry.inputs.get(array.name, array.name), {file.path: file for file in variant.files}
        try:
            found = read_onnx(locate(files[entry.entrypoint]))
        except (OSError, ValueError):
            continue
        given, sizes = array.shape[1:], found.sizes.get(name, ())
        # The first axis may be that of the samples.
        is_like = len(sizes) - len(given) in (0, 1)
        if is_like and all(size in (-1, own) for size, own in zip(sizes[len(sizes) - len(given) :], given)):
            return True
        if name in found.inputs_of_any_rank:
            return True
    return False


def _other_output(older: Part, asked: ProbeSet, locate: Locate) -> str:
    outputs = read_outputs(locate(older.golden) if older.golden else None)
    if not outputs:
        return ""
    if asked.output not in outputs:
        return f"has the output {', '.join(sorted(outputs))}, and the probe set {asked.output}"
    try:
        asked.resolved(outputs[asked.output])
    except ProbeSetError as error:
        return f"has another output {asked.output}: {error}"
    return ""
