# Copyright (c) 2026, The edgeml.fleet authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# PRIVATE to the collection edgeml.fleet: no stable interface.

"""Where a release came from, and what is in it: an in-toto statement with SLSA's provenance, and a CycloneDX BOM."""

from __future__ import annotations

import json
import platform
from importlib import metadata
from typing import Any, Mapping, Sequence

from ansible_collections.edgeml.fleet.plugins.plugin_utils._trust import in_toto

from .bom import bill, file_component, library
from .commit import Commit
from .model import ModelFile, PublishError
from .source import Source
from .words import judged_metric

PREDICATE = "https://slsa.dev/provenance/v1"
BUILD_TYPE = "https://github.com/edgeml/fleet/blob/main/docs/publishing.md#provenance"
BUILDER = "https://github.com/edgeml/fleet/blob/main/docs/publishing.md"
_TOOLS = ("numpy", "onnx", "onnxruntime", "ai-edge-litert", "ai-edge-quantizer", "ncnn", "pnnx")


def statement(
    options: Mapping[str, Any],
    given: Mapping[str, ModelFile | None],
    source: Source,
    subjects: Sequence[ModelFile],
    *,
    started: str,
    finished: str,
    commit: Commit | None = None,
) -> dict[str, Any]:
    """The provenance: the files that were made, of what, with which options and tools.

    ``commit``: the one that the source's file is of, where Git keeps it.
    """
    dependencies = [_dependency(name, file) for name, file in given.items() if file is not None]
    known = {item["digest"]["sha256"] for item in dependencies}
    dependencies += [
        _dependency(f"material:{file.path}", file) for file in source.materials if file.sha256 not in known
    ]
    dependencies += [
        {"name": f"pkg:pypi/{name.lower()}@{version}", "uri": f"pkg:pypi/{name.lower()}@{version}"}
        for name, version in sorted(source.packages.items())
    ]
    if commit is not None:
        dependencies.append(commit.dependency())
    predicate = {
        "buildDefinition": {
            "buildType": BUILD_TYPE,
            "externalParameters": dict(options),
            "internalParameters": {},
            "resolvedDependencies": dependencies,
        },
        "runDetails": {
            "builder": {"id": BUILDER, "version": tool_versions()},
            "metadata": {"startedOn": started, "finishedOn": finished},
        },
    }
    return in_toto.statement(((file.path, file.sha256) for file in subjects), PREDICATE, predicate)


def _dependency(name: str, file: ModelFile) -> dict[str, Any]:
    return {"name": name, "digest": {"sha256": file.sha256}, "annotations": {"file": file.path, "size": file.size}}


def differences(
    published: bytes, options: Mapping[str, Any], defaults: Mapping[str, Any], given: Mapping[str, ModelFile | None]
) -> list[str]:
    """What differs between a published release's provenance and what is given now. Raises PublishError.

    ``defaults`` stand for options that are newer than the release.
    """
    try:
        definition = json.loads(published)["predicate"]["buildDefinition"]
        before = dict(definition["externalParameters"])
        digests = {
            item["name"]: item["digest"]["sha256"]
            for item in definition["resolvedDependencies"]
            if "sha256" in item.get("digest", {})
        }
    except (ValueError, KeyError, TypeError) as error:
        raise PublishError(f"provenance of the published release: expected an in-toto statement: {error!r}") from error
    found = []
    for name, file in given.items():
        was, now = digests.get(name), file.sha256 if file is not None else None
        if was != now:
            found.append(f"{name}: expected SHA-256 {was or 'none'}; found {now or 'none'}")
    now_options = json.loads(json.dumps(options))
    was_options = {**json.loads(json.dumps(defaults)), **before}
    for name in now_options:
        if was_options.get(name) != now_options[name]:
            found.append(f"{name}: expected {was_options.get(name)!r}; found {now_options[name]!r}")
    return found


def tool_versions() -> dict[str, str]:
    """The versions of what made the release."""
    found = {"python": platform.python_version()}
    for name in _TOOLS:
        try:
            found[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
    return found


def bill_of_materials(
    document: Mapping[str, Any], source: Source, measured: Sequence[Mapping[str, Any]]
) -> dict[str, Any]:
    """A CycloneDX 1.6 ML-BOM of the release: its files, what they were made with, and what was measured."""
    identity = f"{document['model']}@{document['version']}"
    model_ref = f"model:{identity}"
    files = [
        file_component(file["path"], file["sha256"])
        for file in {entry["sha256"]: entry for variant in document["variants"] for entry in variant["files"]}.values()
    ]
    libraries = [
        library(f"pkg:pypi/{name.lower()}@{version}", name, version)
        for name, version in sorted({**tool_versions(), **source.packages}.items())
        if name != "python"
    ]
    metrics = [
        {"type": judged_metric(row["judgement"]), "value": f"{row['metric']:.6g}", "slice": row["variant"]}
        for row in measured
        if row.get("metric") is not None and row.get("judgement")
    ]
    card: dict[str, Any] = {"quantitativeAnalysis": {"performanceMetrics": metrics}} if metrics else {}
    subject = {
        "type": "machine-learning-model",
        "bom-ref": model_ref,
        "name": document["model"],
        "version": document["version"],
        "description": document.get("description", ""),
        "modelCard": card,
    }
    return bill(
        subject,
        [*files, *libraries],
        [file["bom-ref"] for file in files],
        identity=[identity, files],
        created=document["created"],
    )
