# Copyright (c) 2026, The edgeml.fleet authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# PRIVATE to the collection edgeml.fleet: no stable interface.

"""A pipeline release made of published ones: their files are in the repository, and each model was judged."""

from __future__ import annotations

import argparse
import json
import os
from typing import Any, Iterator, Mapping

from ansible_collections.edgeml.fleet.plugins.module_utils._release.release import WHOLE, Release
from ansible_collections.edgeml.fleet.plugins.module_utils._release.repository import Repository

from .model import PublishError
from .runtimes import version_key
from .signature_due import say_what_is_next
from .writer import publish

_FILES = ("golden", "probe", "reference")


def register(commands: Any) -> None:
    """Add the command ``pipeline``."""
    parser = commands.add_parser("pipeline", help="make one release of several published ones, switched at once")
    parser.add_argument("--model", required=True, metavar="TEXT", help="name of the pipeline")
    parser.add_argument("--version", required=True, metavar="TEXT", help="its version")
    parser.add_argument("--repository", required=True, metavar="PATH", help="the model repository")
    parser.add_argument(
        "--part",
        action="append",
        required=True,
        metavar="NAME=MODEL@VERSION",
        help="a part, and the release that it is; once for each part",
    )
    parser.add_argument("--probed", metavar="NAME", help="the part whose probe set measures the pipeline")
    parser.add_argument("--json", action="store_true", help="print the result as JSON on standard output")
    parser.set_defaults(run=_run)


def _run(parsed: argparse.Namespace) -> int:
    repository = Repository(parsed.repository)
    parts = {name: repository.release(model, version) for name, model, version in map(_parsed, parsed.part)}
    if len(parts) < len(parsed.part):
        raise PublishError("--part: expected each name once")
    document = combined(parsed.model, parsed.version, parts, parsed.probed)
    changed = publish(parsed.repository, document, _Locations(repository))
    if parsed.json:
        print(json.dumps({"changed": changed, "manifest": document}))
    else:
        name = f"{parsed.model} {parsed.version}"
        print(f"{name} is published in {parsed.repository}" if changed else f"{name} is published already")
        say_what_is_next(parsed.repository, changed=changed, check=False)
    return 0


def combined(model: str, version: str, parts: Mapping[str, Release], probed: str | None) -> dict[str, Any]:
    """Return the manifest of a pipeline of these releases. ``probed``: the part whose probe set is taken along.

    Its variants are those that all releases have by name, for the architectures that all have. Raises PublishError.
    """
    if probed is not None and (probed not in parts or parts[probed].parts[WHOLE].probe is None):
        raise PublishError(f"--probed: expected a part whose release has a probe set; found {probed}")
    for name, release in parts.items():
        if release.is_pipeline:
            raise PublishError(f"--part {name}: expected a release of one model; {release.model} is a pipeline")
    first, *others = parts.values()
    shared = [
        variant.name
        for variant in first.variants
        if all(variant.name in {other.name for other in release.variants} for release in others)
    ]
    variants = [made for name in shared if (made := _variant(name, parts)) is not None]
    if not variants:
        listed = "; ".join(f"{name}: {', '.join(item.name for item in each.variants)}" for name, each in parts.items())
        raise PublishError(f"expected a variant that all parts have, for an architecture that all have; found {listed}")
    return {
        "schema": first.document["schema"],
        "model": model,
        "version": version,
        "parts": {name: dict(_side_files(name, release, name == probed)) for name, release in parts.items()},
        "variants": variants,
    }


def _side_files(part: str, release: Release, with_probe: bool) -> Iterator[tuple[str, Any]]:
    """What belongs to a part, with names of its own for its files."""
    for field in (*_FILES, "classes", "sequences"):
        value = release.document.get(field)
        if value is None or (field == "probe" and not with_probe):
            continue
        yield field, _renamed(value, part) if field in _FILES else value


def _variant(name: str, parts: Mapping[str, Release]) -> dict[str, Any] | None:
    """The variant of that name of all parts together; None where no architecture has all."""
    found = {
        part: next(item for item in release.document["variants"] if item["name"] == name)
        for part, release in parts.items()
    }
    items = list(found.values())
    for field in ("format", "runtime"):
        values = {item[field] if field == "format" else item["runtime"]["name"] for item in items}
        if len(values) > 1:
            raise PublishError(
                f"variant {name}: {field}: expected one for all parts; found {', '.join(sorted(values))}"
            )
    architectures = [each for each in items[0]["architectures"] if all(each in item["architectures"] for item in items)]
    if not architectures:
        return None
    files: dict[str, Any] = {}
    for part, item in found.items():
        for file in item["files"]:
            # A model's own further files, such as weights, are known to it by their names.
            entry = _renamed(file, part) if file["path"] == item["entrypoint"] else file
            if files.setdefault(entry["path"], entry) != entry:
                raise PublishError(f"variant {name}: {entry['path']}: expected it in one part; found other ones in two")
    budgets = [item.get("latency_seconds_max") for item in items]
    minimum = max((item["runtime"]["minimum"] for item in items), key=version_key)
    made = {
        "name": name,
        "format": items[0]["format"],
        "architectures": architectures,
        "runtime": {"name": items[0]["runtime"]["name"], "minimum": minimum},
        "memory_bytes": sum(item["memory_bytes"] for item in items),
        "parts": {
            part: {
                "entrypoint": f"{part}-{item['entrypoint']}",
                **{field: item[field] for field in ("signature", "tensors", "tolerances") if item.get(field)},
            }
            for part, item in found.items()
        },
        "files": list(files.values()),
    }
    if None not in budgets:
        made["latency_seconds_max"] = sum(budgets)
    for field in ("libraries", "locales"):
        named = sorted({value for item in items for value in item.get(field) or ()})
        if named:
            made[field] = named
    return made


def _renamed(file: Mapping[str, Any], part: str) -> dict[str, Any]:
    return {**file, "path": f"{part}-{file['path']}"}


def _parsed(text: str) -> tuple[str, str, str]:
    name, _equals, release = text.partition("=")
    model, _at, version = release.partition("@")
    if not (name and model and version):
        raise PublishError(f"--part: expected NAME=MODEL@VERSION; found {text!r}")
    return name, model, version


class _Locations(dict[str, str]):
    """The repository's own blobs."""

    def __init__(self, repository: Repository) -> None:
        super().__init__()
        self._repository = repository

    def __missing__(self, sha256: str) -> str:
        return os.fspath(self._repository.blob_path(sha256))
