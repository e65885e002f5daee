#!/usr/bin/env python3
# Copyright (c) 2026, The edgeml.fleet authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Write the manifest's JSON Schema and its reference page: docs/manifest.schema.json and docs/manifest.md.

The limits are the parser's own. A test compares both files with what is written here, and the schema with the parser.

usage: PYTHONPATH=.cache/python tools/manifest_schema.py
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from ansible_collections.edgeml.fleet.plugins.module_utils._release import manifest
from ansible_collections.edgeml.fleet.plugins.module_utils._release.fields import FILE_BYTES_MAX, SECONDS_MAX
from ansible_collections.edgeml.fleet.plugins.module_utils._release.names import RESERVED_MODELS
from ansible_collections.edgeml.fleet.plugins.module_utils._release.release import KINDS

ROOT = Path(__file__).resolve().parents[1]
ID = "https://github.com/edgeml/fleet/blob/main/docs/manifest.schema.json"
SCHEMA_FILE = ROOT / "docs" / "manifest.schema.json"
PAGE = ROOT / "docs" / "manifest.md"


def _pattern(text: str) -> str:
    """A pattern of the parser for every dialect: $ alone would let a line's end through in some."""
    return f"^{text}$(?!\\n)"


NAME = {"type": "string", "pattern": _pattern("[A-Za-z0-9][A-Za-z0-9._+-]{0,63}")}
TEXT = {"type": "string", "maxLength": 4096}
COUNT = {"type": "integer", "minimum": 0, "maximum": FILE_BYTES_MAX}
SECONDS = {"type": "number", "exclusiveMinimum": 0, "maximum": SECONDS_MAX}


def _ref(name: str) -> dict[str, Any]:
    return {"$ref": f"#/$defs/{name}"}


def _or_null(schema: dict[str, Any]) -> dict[str, Any]:
    return {"anyOf": [schema, {"type": "null"}]}


def _list(items: dict[str, Any], most: int) -> dict[str, Any]:
    return {"type": "array", "items": items, "minItems": 1, "maxItems": most}


def _object(properties: dict[str, Any], required: list[str]) -> dict[str, Any]:
    return {"type": "object", "properties": properties, "required": required, "additionalProperties": False}


def _map(values: dict[str, Any], *, least: int = 0, most: int | None = None, **more: Any) -> dict[str, Any]:
    sizes = {name: size for name, size in (("minProperties", least or None), ("maxProperties", most)) if size}
    return {"type": "object", "additionalProperties": values, **sizes, **more}


def _about(schema: dict[str, Any], description: str) -> dict[str, Any]:
    return {"description": description, **schema}


def schema() -> dict[str, Any]:
    """The schema."""
    digest = {"type": "string", "pattern": _pattern("[0-9a-f]{64}")}
    file = _object(
        {
            "path": _about(
                {
                    "type": "string",
                    "pattern": _pattern("[A-Za-z0-9_][A-Za-z0-9._+-]{0,127}"),
                    "not": {"enum": sorted(manifest.RESERVED_NAMES)},
                },
                "its name in the version's directory",
            ),
            "size": _about({**COUNT, "minimum": 1}, "bytes"),
            "sha256": _about(digest, "names the blob"),
            "blocks": _about(
                _or_null({"type": "array", "items": digest, "minItems": 2, "maxItems": manifest.BLOCKS_MAX}),
                "of a file above 1 MiB: the SHA-256 of each 1 MiB, the last may be smaller",
            ),
        },
        ["path", "size", "sha256"],
    )
    tolerance = _object(
        {
            "absolute": _about({"type": "number", "minimum": 0}, "how far an output may be off"),
            "relative": _about({"type": "number", "minimum": 0}, "and that, times the expected value"),
            "steps": _about(COUNT, "of whole numbers: by how many"),
        },
        ["absolute", "relative"],
    )
    part = {
        "golden": _about(_or_null(_ref("file")), "inputs, and the outputs that the source computed from them"),
        "probe": _about(_or_null(_ref("file")), "the probe set, by which devices measure how good the model is"),
        "reference": _about(_or_null(_ref("file")), "how typical inputs and outputs are distributed, for drift"),
        "classes": _about(
            _or_null(_map(_list(TEXT, manifest.CLASSES_MAX))),
            "the names of an output's classes, in the order of its scores",
        ),
        "sequences": _about(_or_null(_ref("sequences")), "of a model that keeps state"),
    }
    sequences = _object(
        {
            "most": _about({"type": "integer", "minimum": 1, "maximum": manifest.SEQUENCES_MAX}, "how many at once"),
            "idle_seconds": _about(SECONDS, "one without a request for so long ends"),
        },
        ["most", "idle_seconds"],
    )
    names = _or_null(_map(TEXT, least=1, most=manifest.TENSORS_MAX))
    entry = {
        "entrypoint": _about({"type": "string"}, "the path of the file that the runtime opens"),
        "signature": _about(_or_null(TEXT), "the signature in it, where it has several"),
        "tensors": _about(
            _or_null(_object({"inputs": names, "outputs": names}, [])),
            "the file's own names of tensors by the public ones",
        ),
        "tolerances": _about(_or_null(_map(_ref("tolerance"))), "of outputs; they come before the golden file's"),
    }
    variant = {
        "name": _about(NAME, "names it in results and messages"),
        "format": _about(NAME, "what the server reads: onnx, tflite, ncnn; of an image oci"),
        "architectures": _about(_list(NAME, manifest.VARIANTS_MAX), "as uname -m says"),
        "runtime": _about(
            _object({"name": NAME, "minimum": _about(NAME, "the oldest version")}, ["name", "minimum"]),
            "what runs it",
        ),
        "memory_bytes": _about(COUNT, "what serving it needs, beside the server"),
        "files": _about(_list(_ref("file"), manifest.FILES_MAX), "its files"),
        "latency_seconds_max": _about(_or_null(SECONDS), "what one run of the golden inputs may take on the device"),
        "libraries": _about(_or_null(_list({"type": "string"}, manifest.FILES_MAX)), "files with custom operators"),
        "locales": _about(
            _or_null(
                _list({"type": "string", "pattern": _pattern("[A-Za-z][A-Za-z0-9_.@-]{0,63}")}, manifest.FILES_MAX)
            ),
            "what must be installed on the device",
        ),
    }
    required = ["name", "format", "architectures", "runtime", "memory_bytes", "files"]
    part_names = {"propertyNames": {**NAME, "not": {"enum": sorted(manifest.RESERVED_PARTS)}}}
    parts = _map(_object(part, []), least=1, most=manifest.PARTS_MAX, **part_names)
    entries = _map(_object(entry, ["entrypoint"]), least=1, most=manifest.PARTS_MAX, propertyNames=NAME)
    none = {name: {"type": "null"} for name in part}
    top = {
        "schema": _about({"const": manifest.SCHEMA, "type": "integer"}, "the version of this form"),
        "kind": _about(
            _or_null({"type": "string", "enum": list(KINDS)}),
            "what the release is: model, unless it says otherwise, or image",
        ),
        "model": _about({**NAME, "not": {"enum": sorted(RESERVED_MODELS)}}, "the model's name"),
        "version": _about(NAME, "the release's version"),
        "created": _about(TEXT, "when it was published"),
        "description": _about(TEXT, "for people"),
        "variants": _about(
            {"type": "array", "minItems": 1, "maxItems": manifest.VARIANTS_MAX}, "in order of preference"
        ),
        **part,
        "parts": _about(_or_null(parts), "instead of the five above: several models, by name"),
        "documents": _about(
            _or_null(_map(_ref("file"), most=manifest.DOCUMENTS_MAX, propertyNames=NAME)),
            "files about the release, by name; no device fetches them",
        ),
    }
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "$id": ID,
        "title": "Manifest of a release",
        **_object(top, ["schema", "model", "version", "variants"]),
        "if": {"required": ["parts"], "properties": {"parts": {"type": "object"}}},
        "then": {"properties": {"variants": {"items": _ref("variantOfParts")}, **none}},
        "else": {"properties": {"variants": {"items": _ref("variant")}}},
        "$defs": {
            "file": _about(file, "one file of a release"),
            "tolerance": _about(tolerance, "how far an output may be from the golden one"),
            "sequences": _about(sequences, "how many clients a model keeps state for"),
            "variant": _about(
                _object({**variant, **entry}, [*required, "entrypoint"]), "a release for one kind of device"
            ),
            "variantOfParts": _about(
                _object(
                    {**variant, "parts": _about(entries, "the models, by the names of the parts")}, [*required, "parts"]
                ),
                "the same, of a release with parts",
            ),
        },
    }


def page(document: dict[str, Any]) -> str:
    """The reference page of the schema."""
    lines = [
        "# Reference of the manifest",
        "",
        "Made from [manifest.schema.json](manifest.schema.json), a JSON Schema (2020-12). [What a release is made",
        "of](release.md) says what the fields are for. The parser also compares fields with each other: names and",
        "paths are there once, an `entrypoint` is one of the variant's files, a blob has one size.",
        "",
        "## The manifest",
        "",
        *_table(document),
    ]
    for name, definition in document["$defs"].items():
        lines += ["", f"## {name}", "", definition["description"][0].upper() + definition["description"][1:] + ".", ""]
        lines += _table(definition)
    return "\n".join(lines) + "\n"


def _table(definition: dict[str, Any]) -> Iterator[str]:
    yield "| field | | type | meaning |"
    yield "|---|---|---|---|"
    for name, item in definition["properties"].items():
        needed = "required" if name in definition["required"] else ""
        yield f"| `{name}` | {needed} | {_type(item)} | {item.get('description', '')} |"


def _type(item: dict[str, Any]) -> str:
    if "anyOf" in item:
        return _type(item["anyOf"][0])
    if "$ref" in item:
        name = item["$ref"].rsplit("/", 1)[-1]
        return f"[{name}](#{name.lower()})"
    if "const" in item:
        return f"`{item['const']}`"
    if item["type"] == "array":
        return f"list of 1 to {item['maxItems']}" + (f", each {_type(item['items'])}" if "items" in item else "")
    if item["type"] == "object":
        if isinstance(item.get("additionalProperties"), dict):
            return f"object by name, of {_type(item['additionalProperties'])}"
        return "object with " + ", ".join(f"`{name}`" for name in item["properties"])
    if item["type"] in ("integer", "number"):
        kind = "whole number" if item["type"] == "integer" else "number"
        least = f" above {item['exclusiveMinimum']}" if "exclusiveMinimum" in item else f" from {item['minimum']}"
        return kind + least + (f" to {item['maximum']}" if "maximum" in item else "")
    return "name" if item.get("pattern") == NAME["pattern"] else "text"


def main() -> None:
    """Write both files."""
    document = schema()
    SCHEMA_FILE.write_text(json.dumps(document, indent=2) + "\n", encoding="utf-8")
    PAGE.write_text(page(document), encoding="utf-8")


if __name__ == "__main__":
    main()
