#!/usr/bin/env python3
# Copyright (c) 2026, The edgeml.fleet authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Write the manifest's JSON Schema and its reference page: docs/manifest.schema.json and docs/manifest.md.

The limits are the parser's own. A test compares both files with what is written here, and the schema with the parser.

usage: PYTHONPATH=.cache/python tools/manifest_schema.py
"""

from __future__ import annotations

from typing import Any

from json_schema import (
    COUNT,
    DIALECT,
    NAME,
    TEXT,
    about,
    list_of,
    map_of,
    object_of,
    or_null,
    pattern,
    ref,
    sections,
    table,
    write,
)

from ansible_collections.edgeml.fleet.plugins.module_utils._release import manifest
from ansible_collections.edgeml.fleet.plugins.module_utils._release.fields import SECONDS_MAX
from ansible_collections.edgeml.fleet.plugins.module_utils._release.names import RESERVED_MODELS
from ansible_collections.edgeml.fleet.plugins.module_utils._release.release import KINDS, MCU_IMAGES

ID = "https://github.com/edgeml/fleet/blob/main/docs/manifest.schema.json"


SECONDS = {"type": "number", "exclusiveMinimum": 0, "maximum": SECONDS_MAX}


def schema() -> dict[str, Any]:
    """The schema."""
    digest = {"type": "string", "pattern": pattern("[0-9a-f]{64}")}
    file = object_of(
        {
            "path": about(
                {
                    "type": "string",
                    "pattern": pattern("[A-Za-z0-9_][A-Za-z0-9._+-]{0,127}"),
                    "not": {"enum": sorted(manifest.RESERVED_NAMES)},
                },
                "its name in the version's directory",
            ),
            "size": about({**COUNT, "minimum": 1}, "bytes"),
            "sha256": about(digest, "names the blob"),
            "blocks": about(
                or_null({"type": "array", "items": digest, "minItems": 2, "maxItems": manifest.BLOCKS_MAX}),
                "of a file above 1 MiB: the SHA-256 of each 1 MiB, the last may be smaller",
            ),
        },
        ["path", "size", "sha256"],
    )
    tolerance = object_of(
        {
            "absolute": about({"type": "number", "minimum": 0}, "how far an output may be off"),
            "relative": about({"type": "number", "minimum": 0}, "and that, times the expected value"),
            "steps": about(COUNT, "of whole numbers: by how many"),
        },
        ["absolute", "relative"],
    )
    part = {
        "golden": about(or_null(ref("file")), "inputs, and the outputs that the source computed from them"),
        "probe": about(or_null(ref("file")), "the probe set, by which devices measure how good the model is"),
        "reference": about(or_null(ref("file")), "how typical inputs and outputs are distributed, for drift"),
        "classes": about(
            or_null(map_of(list_of(TEXT, manifest.CLASSES_MAX))),
            "the names of an output's classes, in the order of its scores",
        ),
        "sequences": about(or_null(ref("sequences")), "of a model that keeps state"),
    }
    sequences = object_of(
        {
            "most": about({"type": "integer", "minimum": 1, "maximum": manifest.SEQUENCES_MAX}, "how many at once"),
            "idle_seconds": about(SECONDS, "one without a request for so long ends"),
        },
        ["most", "idle_seconds"],
    )
    names = or_null(map_of(TEXT, least=1, most=manifest.TENSORS_MAX))
    entry = {
        "entrypoint": about({"type": "string"}, "the path of the file that the runtime opens"),
        "signature": about(or_null(TEXT), "the signature in it, where it has several"),
        "tensors": about(
            or_null(object_of({"inputs": names, "outputs": names}, [])),
            "the file's own names of tensors by the public ones",
        ),
        "tolerances": about(or_null(map_of(ref("tolerance"))), "of outputs; they come before the golden file's"),
    }
    variant = {
        "name": about(NAME, "names it in results and messages"),
        "format": about(
            NAME,
            "what the server reads: onnx, tflite, ncnn; of an image oci, of packages deb; of a microcontroller "
            "mcu-image or mcu-model",
        ),
        "architectures": about(
            list_of(NAME, manifest.VARIANTS_MAX), "as uname -m says; of a microcontroller its class"
        ),
        "runtime": about(
            object_of({"name": NAME, "minimum": about(NAME, "the oldest version")}, ["name", "minimum"]),
            "what runs it",
        ),
        "memory_bytes": about(COUNT, "what serving it needs, beside the server"),
        "files": about(list_of(ref("file"), manifest.FILES_MAX), "its files"),
        "latency_seconds_max": about(or_null(SECONDS), "what one run of the golden inputs may take on the device"),
        "libraries": about(or_null(list_of({"type": "string"}, manifest.FILES_MAX)), "files with custom operators"),
        "locales": about(
            or_null(
                list_of({"type": "string", "pattern": pattern("[A-Za-z][A-Za-z0-9_.@-]{0,63}")}, manifest.FILES_MAX)
            ),
            "what must be installed on the device",
        ),
    }
    boot = object_of(
        {
            "hash": about(digest, "that its signer gave it, by which the bootloader knows it"),
            "version": about(
                {"type": "string", "pattern": pattern(manifest.BOOT_VERSION)}, "of the image, as imgtool spells it"
            ),
            "security_counter": about(
                {**COUNT, "maximum": manifest.SECURITY_COUNTER_MAX}, "one below the device's is not run"
            ),
            "operators": about(
                or_null(list_of({"type": "string", "pattern": pattern(manifest.OPERATOR)}, manifest.OPERATORS_MAX)),
                "that a model needs of the firmware",
            ),
        },
        ["hash", "version", "security_counter"],
    )
    required = ["name", "format", "architectures", "runtime", "memory_bytes", "files"]
    mcu_format = {"properties": {"format": {"enum": list(MCU_IMAGES)}}, "required": ["format"]}
    part_names = {"propertyNames": {**NAME, "not": {"enum": sorted(manifest.RESERVED_PARTS)}}}
    parts = map_of(object_of(part, []), least=1, most=manifest.PARTS_MAX, **part_names)
    entries = map_of(object_of(entry, ["entrypoint"]), least=1, most=manifest.PARTS_MAX, propertyNames=NAME)
    none = {name: {"type": "null"} for name in part}
    top = {
        "schema": about({"const": manifest.SCHEMA, "type": "integer"}, "the version of this form"),
        "kind": about(
            or_null({"type": "string", "enum": list(KINDS)}),
            "what the release is: model, unless it says otherwise, image, or packages",
        ),
        "model": about({**NAME, "not": {"enum": sorted(RESERVED_MODELS)}}, "the model's name"),
        "version": about(NAME, "the release's version"),
        "created": about(TEXT, "when it was published"),
        "description": about(TEXT, "for people"),
        "variants": about(
            {"type": "array", "minItems": 1, "maxItems": manifest.VARIANTS_MAX}, "in order of preference"
        ),
        **part,
        "parts": about(or_null(parts), "instead of the five above: several models, by name"),
        "documents": about(
            or_null(map_of(ref("file"), most=manifest.DOCUMENTS_MAX, propertyNames=NAME)),
            "files about the release, by name; no device fetches them",
        ),
    }
    return {
        "$schema": DIALECT,
        "$id": ID,
        "title": "Manifest of a release",
        **object_of(top, ["schema", "model", "version", "variants"]),
        "if": {"required": ["parts"], "properties": {"parts": {"type": "object"}}},
        "then": {"properties": {"variants": {"items": ref("variantOfParts")}, **none}},
        "else": {"properties": {"variants": {"items": ref("variant")}}},
        "$defs": {
            "file": about(file, "one file of a release"),
            "tolerance": about(tolerance, "how far an output may be from the golden one"),
            "sequences": about(sequences, "how many clients a model keeps state for"),
            "variant": about(
                {
                    **object_of(
                        {
                            **variant,
                            **entry,
                            "boot": about(
                                or_null(ref("boot")),
                                "of a microcontroller: what its bootloader has to know of the file",
                            ),
                        },
                        [*required, "entrypoint"],
                    ),
                    "if": mcu_format,
                    "then": {
                        "properties": {"boot": {"type": "object"}, "files": {"maxItems": 1}},
                        "required": ["boot"],
                    },
                    "else": {"properties": {"boot": {"type": "null"}}},
                },
                "a release for one kind of device",
            ),
            "variantOfParts": about(
                {
                    **object_of(
                        {**variant, "parts": about(entries, "the models, by the names of the parts")},
                        [*required, "parts"],
                    ),
                    "not": mcu_format,
                },
                "the same, of a release with parts",
            ),
            "boot": about(boot, "what the bootloader of a microcontroller has to know of a signed image"),
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
        *table(document),
    ]
    lines += sections(document)
    return "\n".join(lines) + "\n"


def main() -> None:
    """Write both files."""
    document = schema()
    write("manifest", document, page(document))


if __name__ == "__main__":
    main()
