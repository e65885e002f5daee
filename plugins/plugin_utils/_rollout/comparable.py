# Copyright (c) 2026, The edgeml.fleet authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# PRIVATE to the collection edgeml.fleet: no stable interface.

"""Whether a version can be asked the probe set of another, by what the repository holds of both."""

from __future__ import annotations

from ansible_collections.edgeml.fleet.plugins.module_utils._common.errors import EdgemlError
from ansible_collections.edgeml.fleet.plugins.module_utils._release.probe_set import ProbeSet, ProbeSetError
from ansible_collections.edgeml.fleet.plugins.module_utils._release.probe_set_file import read_outputs, read_probe_set
from ansible_collections.edgeml.fleet.plugins.module_utils._release.release import Part, Release
from ansible_collections.edgeml.fleet.plugins.module_utils._release.repository import Repository


def why_unasked(repository: Repository, version: str, release: Release) -> str:
    """Return why ``version`` of the model cannot be asked the probe set of ``release``; nothing if it can, or where
    the repository does not tell: it may lack the version, or the version its own probe set. Never raises."""
    try:
        before = repository.release(release.model, version)
        for name, part in release.parts.items():
            older = before.parts.get(name)
            if part.probe is not None and older is not None and older.probe is not None:
                own = read_probe_set(repository.blob_path(older.probe.sha256))
                asked = read_probe_set(repository.blob_path(part.probe.sha256))
                return _other_inputs(own, asked) or _other_output(repository, older, asked)
    except EdgemlError:
        # Whoever uses the older release is told what is wrong with it.
        return ""
    return ""


def _other_inputs(own: ProbeSet, asked: ProbeSet) -> str:
    takes, given = (
        {array.name: f"{array.datatype} {list(array.shape[1:])}" for array in probe.inputs} for probe in (own, asked)
    )
    if takes == given:
        return ""
    of_takes, of_given = (
        ", ".join(f"{name} ({form})" for name, form in sorted(found.items()) if other.get(name) != form)
        for found, other in ((takes, given), (given, takes))
    )
    if not of_takes:
        return f"has no input {of_given}, which the probe set has"
    return f"has the input {of_takes}, and the probe set {of_given or 'not'}"


def _other_output(repository: Repository, older: Part, asked: ProbeSet) -> str:
    outputs = read_outputs(repository.blob_path(older.golden.sha256) if older.golden else None)
    if not outputs:
        return ""
    if asked.output not in outputs:
        return f"has the output {', '.join(sorted(outputs))}, and the probe set {asked.output}"
    try:
        asked.resolved(outputs[asked.output])
    except ProbeSetError as error:
        return f"has another output {asked.output}: {error}"
    return ""
