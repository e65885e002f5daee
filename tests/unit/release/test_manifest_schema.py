# Copyright (c) 2026, The edgeml.fleet authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The manifest's JSON Schema, its reference page and its parser say the same."""

from __future__ import annotations

import copy
import json
import re
from collections.abc import Callable
from typing import Any

import jsonschema
import pytest
from documents import places
from hypothesis import given, settings
from hypothesis import strategies as st
from links import REPOSITORY
from schema_tools import schema_tool

from ansible_collections.edgeml.fleet.plugins.module_utils._common.errors import ManifestError
from ansible_collections.edgeml.fleet.plugins.module_utils._release.manifest import parse_release

manifest_schema = schema_tool("manifest_schema")
SCHEMA = json.loads((REPOSITORY / "docs" / "manifest.schema.json").read_text())
VALIDATOR = jsonschema.Draft202012Validator(SCHEMA)
DIGEST = "0123456789abcdef" * 4
# What the parser says of fields that do not fit each other: a schema compares no two fields.
BETWEEN_FIELDS = re.compile(
    "entries, one for each|none for a file of one block"
    "|expected each once|expected the path of one of the variant's files|expected the size|expected one probe set"
    r"|variants\[\d\]\.parts: expected|variants\[\d\]\.format: expected|entrypoint: expected (manifest|packages).json"
    "|expected none in a release of the kind (image|packages)"
)


def file(path: str, digest: str = DIGEST) -> dict[str, Any]:
    return {"path": path, "size": 10, "sha256": digest}


def large_file(path: str) -> dict[str, Any]:
    return {"path": path, "size": (1 << 20) + 1, "sha256": "f" * 64, "blocks": [DIGEST, DIGEST]}


ONE_MODEL: dict[str, Any] = {
    "schema": 2,
    "model": "digits",
    "version": "1.0.0",
    "created": "2026-11-01T00:00:00Z",
    "description": "",
    "golden": file("golden.json"),
    "probe": file("probe.npz"),
    "reference": None,
    "classes": {"probabilities": ["cat", "dog"]},
    "documents": {"provenance": file("provenance.json")},
    "sequences": {"most": 4, "idle_seconds": 60},
    "variants": [
        {
            "name": "onnx-fp32",
            "format": "onnx",
            "architectures": ["aarch64", "x86_64"],
            "runtime": {"name": "onnxruntime", "minimum": "1.17.0"},
            "memory_bytes": 1,
            "latency_seconds_max": 0.05,
            "entrypoint": "model.onnx",
            "files": [file("model.onnx"), file("custom.so")],
            "tolerances": {"probabilities": {"absolute": 0.01, "relative": 0, "steps": 1}},
            "tensors": {"inputs": {"image": "x"}, "outputs": {"probabilities": "y"}},
            "signature": "serving",
            "libraries": ["custom.so"],
            "locales": ["en_US.UTF-8"],
        }
    ],
}
PARTS: dict[str, Any] = {
    "schema": 2,
    "model": "reader",
    "version": "2",
    "parts": {"finder": {"golden": file("finder.json")}, "recogniser": {"probe": file("probe.json"), "classes": None}},
    "variants": [
        {
            "name": "onnx",
            "format": "onnx",
            "architectures": ["aarch64"],
            "runtime": {"name": "onnxruntime", "minimum": "1"},
            "memory_bytes": 0,
            "files": [file("finder.onnx"), large_file("recogniser.onnx")],
            "parts": {
                "finder": {"entrypoint": "finder.onnx"},
                "recogniser": {"entrypoint": "recogniser.onnx", "tolerances": None},
            },
        }
    ],
}
IMAGE: dict[str, Any] = {
    "schema": 2,
    "kind": "image",
    "model": "edgeml-inference",
    "version": "2",
    "variants": [
        {
            "name": "linux-arm64",
            "format": "oci",
            "architectures": ["aarch64"],
            "runtime": {"name": "oci", "minimum": "1.0.0"},
            "memory_bytes": 0,
            "entrypoint": "manifest.json",
            "files": [file("manifest.json"), large_file("layer-01-libc6.tar")],
        }
    ],
}
PACKAGES: dict[str, Any] = {
    "schema": 2,
    "kind": "packages",
    "model": "debian-bookworm",
    "version": "2026.11",
    "variants": [
        {
            "name": "bookworm-arm64",
            "format": "deb",
            "architectures": ["aarch64"],
            "runtime": {"name": "dpkg", "minimum": "1.0.0"},
            "memory_bytes": 0,
            "entrypoint": "packages.json",
            "files": [file("packages.json"), file("Packages"), large_file("libc6_arm64_0123456789abcdef.deb")],
        }
    ],
}
MICROCONTROLLER: dict[str, Any] = {
    "schema": 2,
    "model": "digits",
    "version": "1.1.0",
    "golden": file("golden.json"),
    "variants": [
        {
            "name": "mcu",
            "format": "mcu-model",
            "architectures": ["mps2-an385"],
            "runtime": {"name": "mcu-firmware", "minimum": "1.2.0"},
            "memory_bytes": 20000,
            "entrypoint": "model.bin",
            "files": [file("model.bin")],
            "boot": {"hash": DIGEST, "version": "1.1.0+0", "security_counter": 3, "operators": ["CONV_2D", "SOFTMAX"]},
        }
    ],
}
VALUES = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-2, 3),
    st.sampled_from([1 << 40, (1 << 40) + 1, 3600, 3601, 4096, 4097, 0.5, -0.5, 1e300]),
    st.sampled_from(["mcu-model", "mcu-image", "1.2.0+0", 1 << 32]),
    st.sampled_from(["", "a", "-a", "a/b", "a\n", ".a", "_a", "x" * 64, "x" * 65, "x" * 4097, "version.json", DIGEST]),
    st.sampled_from([[], {}, ["a"], {"a": "b"}, {"infer": {}}, [file("a.bin")], file("b.bin"), {"a": ["b"]}]),
)


def parent(document: Any, place: tuple[Any, ...]) -> Any:
    for key in place[:-1]:
        document = document[key]
    return document


@st.composite
def documents(draw: Callable[[st.SearchStrategy[Any]], Any]) -> Any:
    """A manifest with up to three changes, most of them wrong."""
    document = copy.deepcopy(draw(st.sampled_from([ONE_MODEL, PARTS, IMAGE, PACKAGES, MICROCONTROLLER])))
    for _change in range(draw(st.integers(0, 3))):
        known = places(document)[1:]
        if not known:
            break
        place = draw(st.sampled_from(known))
        holder, key = parent(document, place), place[-1]
        action = draw(st.sampled_from(["replace", "delete", "add", "double"]))
        if action == "replace":
            holder[key] = copy.deepcopy(draw(VALUES))
        elif action == "delete":
            del holder[key]
        elif action == "add" and isinstance(holder, dict):
            names = ["parts", "golden", "entrypoint", "classes", "unknown", "a b", "tensors", "infer", "steps", "boot"]
            holder[draw(st.sampled_from(names))] = copy.deepcopy(draw(VALUES))
        elif isinstance(holder, list):
            holder.append(copy.deepcopy(holder[key]))
    return document


@settings(max_examples=500)
@given(documents())
def test_schema_and_parser_agree(document: Any) -> None:
    error = next(VALIDATOR.iter_errors(document), None)
    refusal = refusal_of(document)
    if error is not None:
        assert refusal is not None, f"only the schema refuses: {error}"
    elif refusal is not None:
        assert BETWEEN_FIELDS.search(refusal), f"only the parser refuses: {refusal}"


def refusal_of(document: Any) -> str | None:
    """What the parser says against a document."""
    try:
        parse_release(document)
    except ManifestError as error:
        return str(error)
    return None


@pytest.mark.parametrize(
    "document",
    [ONE_MODEL, PARTS, IMAGE, PACKAGES, MICROCONTROLLER],
    ids=["one model", "parts", "image", "packages", "microcontroller"],
)
def test_what_the_property_begins_with_is_right(document: Any) -> None:
    VALIDATOR.validate(document)
    parse_release(document)


def test_the_committed_releases_fit() -> None:
    manifests = sorted((REPOSITORY / "examples/digits/repository/digits").glob("*/manifest.json"))
    assert manifests
    for path in manifests:
        VALIDATOR.validate(json.loads(path.read_text()))


def test_schema_and_page_are_those_of_the_parser() -> None:
    jsonschema.Draft202012Validator.check_schema(SCHEMA)
    assert manifest_schema.schema() == SCHEMA, "run tools/manifest_schema.py"
    assert manifest_schema.page(SCHEMA) == (REPOSITORY / "docs" / "manifest.md").read_text()
