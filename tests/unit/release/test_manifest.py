# Copyright (c) 2026, The edgeml.fleet authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The release manifest: every wrong one is refused in words, and each device gets the variant that it can run."""

from __future__ import annotations

import copy
import json
import re
from typing import Any

import pytest
from documents import Place, places, replaced
from hypothesis import given
from hypothesis import strategies as st
from releases import file_entry, make_pipeline, make_release, variant_entry

from ansible_collections.edgeml.fleet.plugins.module_utils._common.errors import IncompatibleError, ManifestError
from ansible_collections.edgeml.fleet.plugins.module_utils._common.hashing import BLOCK_BYTES
from ansible_collections.edgeml.fleet.plugins.module_utils._release.fields import FILE_BYTES_MAX, SECONDS_MAX
from ansible_collections.edgeml.fleet.plugins.module_utils._release.manifest import (
    FILES_MAX,
    MANIFEST_BYTES_MAX,
    RESERVED_NAMES,
    VARIANTS_MAX,
    document_digest,
    parse_release,
    parse_release_json,
)
from ansible_collections.edgeml.fleet.plugins.module_utils._release.names import check_name
from ansible_collections.edgeml.fleet.plugins.module_utils._release.release import (
    WHOLE,
    BootImage,
    Entry,
    Release,
    SequenceLimits,
)
from ansible_collections.edgeml.fleet.plugins.module_utils._release.variant_choice import choose_variant

MODEL = {"model.onnx": b"model"}
GOOD = make_release(
    golden=b"golden",
    probe=b"probe",
    reference=b"reference",
    created="2026-11-01T00:00:00Z",
    description="for tests",
    classes={"probabilities": ["zero", "one"]},
).document
PIPELINE = make_pipeline(
    "1.0.0",
    "reader",
    {"detector": b"finds", "recogniser": b"reads"},
    golden={"detector": b"found", "recogniser": b"read"},
    probe={"recogniser": b"questions"},
).document
OPTIONAL = ("golden", "probe", "reference", "created", "description", "classes")

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=10,
)
# What JSON text can say and Python can read, but UTF-8 cannot carry.
LONE_SURROGATE = "\ud800"


def changed(place: Place, value: Any) -> Any:
    """The good manifest with one value replaced."""
    return replaced(GOOD, place, value)


def without(place: tuple[Any, ...]) -> dict[str, Any]:
    """The good manifest with one field left out."""
    document = copy.deepcopy(GOOD)
    inner: Any = document
    for key in place[:-1]:
        inner = inner[key]
    del inner[place[-1]]
    return document


def device(**facts: Any) -> dict[str, Any]:
    return {"architecture": "aarch64", "memory_bytes": 1 << 30, "runtimes": {"onnxruntime": "1.27.0"}, **facts}


# ---- what a good manifest gives ----


def test_a_good_manifest_is_read_in_full() -> None:
    release = parse_release(GOOD)
    assert (release.model, release.version) == ("digits", "1.0.0")
    (variant,) = release.variants
    assert (variant.name, variant.format, variant.runtime, variant.runtime_minimum) == (
        "onnx-fp32",
        "onnx",
        "onnxruntime",
        "1.17.0",
    )
    assert [file.path for file in release.files(variant)] == [
        "model.onnx",
        "golden.json",
        "probe.json",
        "reference.json",
    ]


@pytest.mark.parametrize("field", OPTIONAL)
def test_optional_fields_may_be_left_out(field: str) -> None:
    document = {key: value for key, value in GOOD.items() if key != field}
    assert field not in parse_release(document).document


@pytest.mark.parametrize("field", ["golden", "probe", "reference"])
def test_null_is_as_good_as_leaving_a_file_out(field: str) -> None:
    assert getattr(parse_release({**GOOD, field: None}).parts[WHOLE], field) is None


def test_a_variant_may_have_other_names_of_tensors_a_signature_libraries_and_locales() -> None:
    tensors = {"inputs": {"image": "serving_default_x:0"}, "outputs": {"scores": "StatefulPartitionedCall:0"}}
    changes: dict[str, Any] = {"tensors": tensors, "signature": "serve", "libraries": ["ops.so"], "locales": ["de_DE"]}
    files = {**MODEL, "ops.so": b"code"}
    (variant,) = parse_release({**GOOD, "variants": [variant_entry(files, **changes)]}).variants
    assert variant.entries == {
        WHOLE: Entry("model.onnx", "serve", tensors["inputs"], tensors["outputs"]),
    }
    assert (variant.libraries, variant.locales) == (("ops.so",), ("de_DE",))


def test_a_model_with_state_says_how_many_sequences_it_serves() -> None:
    release = parse_release({**GOOD, "sequences": {"most": 8, "idle_seconds": 30}})
    assert release.parts[WHOLE].sequences == SequenceLimits(8, 30.0)
    assert parse_release(GOOD).parts[WHOLE].sequences is None


def test_a_pipeline_has_several_models_in_one_release() -> None:
    release = parse_release(PIPELINE)
    (variant,) = release.variants
    assert release.is_pipeline
    assert not parse_release(GOOD).is_pipeline
    assert {name: entry.entrypoint for name, entry in variant.entries.items()} == {
        "detector": "detector.onnx",
        "recogniser": "recogniser.onnx",
    }
    assert release.probed == "recogniser"
    assert [file.path for file in release.files(variant)] == [
        *("detector.onnx", "recogniser.onnx"),
        *("golden-detector.json", "golden-recogniser.json", "probe-recogniser.json"),
    ]


def test_parts_may_share_a_file_by_its_signatures() -> None:
    document = copy.deepcopy(PIPELINE)
    shared = {name: {"entrypoint": "detector.onnx", "signature": name} for name in document["parts"]}
    document["variants"][0]["parts"] = shared
    entries = parse_release(document).variants[0].entries
    assert [(entry.entrypoint, entry.signature) for entry in entries.values()] == [
        ("detector.onnx", "detector"),
        ("detector.onnx", "recogniser"),
    ]


PIPELINE_WRONG: list[tuple[tuple[Any, ...], Any, str]] = [
    (("parts",), {}, "parts: expected an object with 1 to 32 entries; found 0 entries"),
    (("parts",), ["detector"], "parts: expected an object with 1 to 32 entries; found ['detector']"),
    (("parts", "a/b"), {}, "parts: expected 1 to 64 of the characters"),
    (("parts", "infer"), {}, "parts: expected other names than feedback, infer, ready, versions; found infer"),
    (
        ("parts", "third"),
        {},
        "variants[0].parts: expected detector, recogniser, third; found ['detector', 'recogniser']",
    ),
    (("parts", "detector", "probes"), {}, "parts.detector: unknown 'probes'"),
    (("parts", "detector", "golden"), "a", "parts.detector.golden: expected an object"),
    (
        ("parts", "detector", "probe"),
        file_entry("probe.json", b"x"),
        "parts: expected one probe set, that of the part whose answers count; found detector, recogniser",
    ),
    (("parts", "detector", "golden", "path"), "golden-recogniser.json", "expected each once"),
    (("golden",), file_entry("golden.json", b"x"), "golden: expected it in one of the parts, as parts.<name>.golden"),
    ((*("variants", 0), "entrypoint"), "detector.onnx", "variants[0]: unknown 'entrypoint'"),
    ((*("variants", 0), "parts"), {}, "variants[0].parts: expected an object with 1 to 32 entries"),
    ((*("variants", 0), "parts", "detector", "entrypoint"), "x", "parts.detector.entrypoint: expected the path of one"),
    ((*("variants", 0), "parts", "detector"), {}, "variants[0].parts.detector: missing entrypoint"),
]


@pytest.mark.parametrize(("place", "value", "message"), PIPELINE_WRONG, ids=[text[:60] for *_, text in PIPELINE_WRONG])
def test_a_wrong_value_of_a_pipeline_is_named(place: tuple[Any, ...], value: Any, message: str) -> None:
    with pytest.raises(ManifestError, match=re.escape(message)):
        parse_release(replaced(PIPELINE, place, value))


def test_a_release_of_one_model_has_no_parts_in_its_variants() -> None:
    with pytest.raises(ManifestError, match=re.escape("variants[0]: unknown 'parts'")):
        parse_release(changed(("variants", 0, "parts"), {"detector": {"entrypoint": "model.onnx"}}))


def test_all_files_names_a_shared_blob_once() -> None:
    document = {**GOOD, "variants": [variant_entry(MODEL), variant_entry({"copy.onnx": b"model"}, name="second")]}
    assert len(parse_release(document).all_files()) == 4


def test_the_largest_permitted_manifest_is_read() -> None:
    document = changed(("variants", 0, "files"), [file_entry(f"f{index}", b"x") for index in range(FILES_MAX)])
    document["variants"][0]["entrypoint"] = "f0"
    assert len(parse_release(document).variants[0].files) == FILES_MAX


# ---- the digest ----


def reversed_keys(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: reversed_keys(value[key]) for key in reversed(value)}
    return [reversed_keys(item) for item in value] if isinstance(value, list) else value


@given(JSON.filter(lambda value: value == value))
def test_the_digest_depends_on_content_not_on_key_order(document: Any) -> None:
    try:
        expected = document_digest(document)
    except ValueError:
        return
    assert document_digest(reversed_keys(document)) == expected


def test_the_digest_does_not_depend_on_formatting() -> None:
    pretty = json.dumps(reversed_keys(GOOD), indent=4).encode()
    compact = json.dumps(GOOD, separators=(",", ":"), ensure_ascii=False).encode()
    assert parse_release_json(pretty, "a").digest == parse_release_json(compact, "b").digest


@pytest.mark.parametrize("place", [place for place in places(GOOD) if place[-1:] == ("sha256",)])
def test_the_digest_changes_with_each_file(place: tuple[Any, ...]) -> None:
    assert parse_release(changed(place, "0" * 64)).digest != parse_release(GOOD).digest


# ---- what is wrong is named, with what was expected and what was found ----

FILE = ("variants", 0, "files", 0)
VARIANT = ("variants", 0)

WRONG: list[tuple[tuple[Any, ...], Any, str]] = [
    ((), [], "manifest: expected an object; found []"),
    ((), None, "manifest: expected an object; found None"),
    (("model",), "deltas", "model: expected another name than blobs, deltas, fleet, metadata; found deltas"),
    ((), "x" * 10_000, "(10002 characters)"),
    (("schema",), 1, "schema: expected 2; found 1: its repository was written before the first release of this collec"),
    (("schema",), 3, "schema: expected 2; found 3: it was written by a newer version of this collection. Update"),
    (("schema",), "1", "schema: expected 2; found '1'"),
    (("schema",), True, "schema: expected 2; found True"),
    (("schema",), 1.0, "schema: expected 2; found 1.0"),
    (("schema",), None, "schema: expected 2; found None"),
    (("model",), 7, "model: expected 1 to 64 of the characters"),
    (("version",), "../1.0.0", "version: expected 1 to 64 of the characters"),
    (("created",), 20261101, "created: expected a text"),
    (("description",), "x" * 5000, "description: expected a text of at most 4096 Unicode characters"),
    (
        ("description",),
        LONE_SURROGATE,
        r"description: expected a text of at most 4096 Unicode characters; found '\ud800'",
    ),
    (("classes",), ["zero"], "classes: expected an object; found ['zero']"),
    (
        ("classes", "probabilities"),
        "zero",
        "classes.probabilities: expected a list of 1 to 65536 entries; found 'zero'",
    ),
    (("classes", "probabilities"), [], "classes.probabilities: expected a list"),
    (("classes", "probabilities"), ["zero", 1], "classes.probabilities[1]: expected a text"),
    (("variants",), {}, "variants: expected a list of 1 to 64 entries; found {}"),
    (("variants",), [], "variants: expected a list of 1 to 64 entries; found 0 entries"),
    (("variants",), [0] * (VARIANTS_MAX + 1), "found 65 entries"),
    (VARIANT, "onnx", "variants[0]: expected an object; found 'onnx'"),
    ((*VARIANT, "name"), "", "variants[0].name: expected 1 to 64"),
    ((*VARIANT, "format"), None, "variants[0].format: expected 1 to 64"),
    ((*VARIANT, "architectures"), "aarch64", "variants[0].architectures: expected a list"),
    ((*VARIANT, "architectures"), [], "variants[0].architectures: expected a list of 1 to 64"),
    ((*VARIANT, "architectures"), [""], "variants[0].architectures: expected"),
    ((*VARIANT, "architectures"), [None], "variants[0].architectures: expected"),
    ((*VARIANT, "architectures"), [LONE_SURROGATE], "variants[0].architectures: expected"),
    ((*VARIANT, "runtime"), "onnxruntime", "variants[0].runtime: expected an object"),
    ((*VARIANT, "runtime", "name"), 1, "variants[0].runtime.name: expected"),
    ((*VARIANT, "runtime", "minimum"), 1.17, "variants[0].runtime.minimum: expected"),
    ((*VARIANT, "memory_bytes"), -1, "variants[0].memory_bytes: expected a whole number"),
    ((*VARIANT, "memory_bytes"), 1.5, "variants[0].memory_bytes: expected a whole number"),
    ((*VARIANT, "memory_bytes"), "16M", "variants[0].memory_bytes: expected a whole number"),
    ((*VARIANT, "memory_bytes"), True, "variants[0].memory_bytes: expected a whole number"),
    ((*VARIANT, "entrypoint"), "other.onnx", "entrypoint: expected the path of one of the variant's files"),
    ((*VARIANT, "entrypoint"), "golden.json", "entrypoint: expected the path of one of the variant's files"),
    ((*VARIANT, "entrypoint"), ["model.onnx"], "entrypoint: expected the path of one of the variant's files"),
    ((*VARIANT, "files"), [], "variants[0].files: expected a list of 1 to 1024 entries; found 0 entries"),
    ((*VARIANT, "files"), [0] * 1_000_000, "found 1000000 entries"),
    ((*FILE, "size"), 2**63, "variants[0].files[0].size: expected a whole number"),
    ((*FILE, "size"), FILE_BYTES_MAX + 1, f"from 0 to {FILE_BYTES_MAX}; found {FILE_BYTES_MAX + 1}"),
    ((*FILE, "size"), True, "variants[0].files[0].size: expected a whole number"),
    ((*FILE, "size"), 0, "variants[0].files[0].size: expected at least 1 byte; found 0"),
    ((*FILE, "size"), float("nan"), "variants[0].files[0].size: expected a whole number"),
    ((*FILE, "sha256"), "A" * 64, "sha256: expected 64 lower-case hexadecimal digits"),
    ((*FILE, "sha256"), "a" * 63, "sha256: expected 64 lower-case hexadecimal digits"),
    ((*FILE, "sha256"), "a" * 64 + "\n", "sha256: expected 64 lower-case hexadecimal digits"),
    ((*FILE, "sha256"), None, "sha256: expected 64 lower-case hexadecimal digits"),
    ((*FILE, "path"), "version.json", "path: expected a plain file name"),
    ((*FILE, "path"), "tested.json", "path: expected a plain file name"),
    (("golden", "path"), "model.onnx", "variant onnx-fp32: file path: expected each once; found 'model.onnx' twice"),
    (("probe", "path"), "golden.json", "variant onnx-fp32: file path: expected each once; found 'golden.json' twice"),
    ((*VARIANT, "libraries"), ["ops.so"], "variants[0].libraries: expected the path of one of the variant's files"),
    ((*VARIANT, "libraries"), "ops.so", "variants[0].libraries: expected a list"),
    ((*VARIANT, "locales"), ["de DE"], "variants[0].locales: expected the name of a locale"),
    ((*VARIANT, "signature"), 1, "variants[0].signature: expected a text"),
    ((*VARIANT, "tensors"), [], "variants[0].tensors: expected an object"),
    ((*VARIANT, "tensors"), {"input": {}}, "variants[0].tensors: unknown 'input'"),
    ((*VARIANT, "tensors"), {"inputs": {"x": 1}}, "variants[0].tensors.inputs.x: expected a text"),
    ((*VARIANT, "tensors"), {"inputs": {"x": "a", "y": "a"}}, "tensors.inputs: expected each once; found 'a' twice"),
    (("sequences",), {"most": 0, "idle_seconds": 1}, "sequences.most: expected 1 to 4096; found 0"),
    (("sequences",), {"most": 1, "idle_seconds": 0}, "sequences.idle_seconds: expected seconds above 0"),
    (("sequences",), {"most": 1}, "sequences: missing idle_seconds"),
    (("golden",), "golden.json", "golden: expected an object; found 'golden.json'"),
    (("probe",), [], "probe: expected an object; found []"),
    ((*VARIANT, "boot"), {}, "variants[0].boot: expected none with the format 'onnx'; found one"),
    ((*VARIANT, "format"), "mcu-image", "variants[0].boot: expected an object with the format 'mcu-image'; found none"),
]
BOOT: dict[str, Any] = {"hash": "a" * 64, "version": "1.1.0+0", "security_counter": 3, "operators": ["CONV_2D"]}
BOOT_WRONG: list[tuple[str, Any, str]] = [
    ("hash", "a" * 63, "boot.hash: expected a SHA-256"),
    ("version", "1.1.0", "boot.version: expected a version such as 1.2.0+0; found '1.1.0'"),
    ("version", "1.1.0+0\n", "boot.version: expected a version"),
    ("security_counter", -1, "boot.security_counter: expected a whole number from 0 to 4294967295; found -1"),
    ("security_counter", 1 << 32, "boot.security_counter: expected a whole number"),
    ("security_counter", True, "boot.security_counter: expected a whole number"),
    ("operators", [], "boot.operators: expected a list of 1 to 256 entries; found 0 entries"),
    ("operators", ["conv 2d"], "boot.operators: expected an operator such as CONV_2D; found 'conv 2d'"),
    ("key", "a", "boot: unknown 'key'"),
]


def microcontroller_entry(boot: Any, **changes: Any) -> dict[str, Any]:
    """A variant for a microcontroller."""
    return variant_entry({"model.bin": b"image"}, format="mcu-model", boot=boot, **changes)


def test_a_variant_of_a_microcontroller_says_what_its_bootloader_has_to_know() -> None:
    (variant,) = parse_release({**GOOD, "variants": [microcontroller_entry(BOOT)]}).variants
    assert variant.boot == BootImage("a" * 64, "1.1.0+0", 3, ("CONV_2D",))
    assert parse_release(GOOD).variants[0].boot is None


@pytest.mark.parametrize(("field", "value", "message"), BOOT_WRONG, ids=[text for *_, text in BOOT_WRONG])
def test_a_wrong_value_for_a_bootloader_is_named(field: str, value: Any, message: str) -> None:
    with pytest.raises(ManifestError, match=re.escape(message)):
        parse_release({**GOOD, "variants": [microcontroller_entry({**BOOT, field: value})]})


def test_a_microcontroller_takes_one_file_which_is_one_model() -> None:
    two = variant_entry({"model.bin": b"image", "other.bin": b"more"}, format="mcu-model", boot=BOOT)
    with pytest.raises(ManifestError, match=re.escape("variants[0].files: expected one with the format mcu-model")):
        parse_release({**GOOD, "variants": [two]})
    with pytest.raises(
        ManifestError, match=re.escape("variants[0].format: expected another one in a release with parts")
    ):
        parse_release(replaced(PIPELINE, ("variants", 0, "format"), "mcu-model"))


@pytest.mark.parametrize(("place", "value", "message"), WRONG, ids=[message[:60] for *_, message in WRONG])
def test_a_wrong_value_is_named(place: tuple[Any, ...], value: Any, message: str) -> None:
    with pytest.raises(ManifestError, match=re.escape(message)) as caught:
        parse_release(changed(place, value))
    assert len(str(caught.value)) < 400


REQUIRED = [
    place
    for place in places(GOOD)
    if place and isinstance(place[-1], str) and place[0] != "classes" and place not in [(field,) for field in OPTIONAL]
]


@pytest.mark.parametrize("place", REQUIRED, ids=str)
def test_a_missing_field_is_named(place: tuple[Any, ...]) -> None:
    with pytest.raises(ManifestError, match=f"missing {place[-1]}$"):
        parse_release(without(place))


@pytest.mark.parametrize("place", [(), VARIANT, (*VARIANT, "runtime"), FILE, ("golden",)], ids=str)
def test_an_unknown_field_is_named(place: tuple[Any, ...]) -> None:
    with pytest.raises(ManifestError, match="unknown 'urls'; expected "):
        parse_release(changed((*place, "urls"), []))


def test_the_name_of_an_unknown_field_is_cut_short() -> None:
    with pytest.raises(ManifestError) as caught:
        parse_release({**GOOD, **{f"{index}" * 10_000: 1 for index in range(100)}})
    assert len(str(caught.value)) < 1000


@pytest.mark.parametrize(
    ("size", "blocks", "message"),
    [
        (BLOCK_BYTES, ["0" * 64], "expected none for a file of one block; found 1 entries"),
        (BLOCK_BYTES + 1, ["0" * 64], "expected 2 entries, one for each 1048576 bytes; found 1 entries"),
        (2 * BLOCK_BYTES, ["0" * 64] * 3, "expected 2 entries, one for each 1048576 bytes; found 3 entries"),
        (2 * BLOCK_BYTES, "0" * 128, "expected 2 entries"),
        (2 * BLOCK_BYTES, ["0" * 64, "0" * 63], "expected 64 lower-case hexadecimal digits"),
    ],
)
def test_a_list_of_blocks_has_one_digest_for_each_block(size: int, blocks: Any, message: str) -> None:
    document = copy.deepcopy(GOOD)
    document["variants"][0]["files"][0].update(size=size, blocks=blocks)
    with pytest.raises(ManifestError, match=rf"^variants\[0\]\.files\[0\]\.blocks.*{re.escape(message)}"):
        parse_release(document)


def test_a_file_above_one_block_may_have_no_list() -> None:
    document = copy.deepcopy(GOOD)
    document["variants"][0]["files"][0].update(size=2 * BLOCK_BYTES)
    assert parse_release(document).variants[0].files[0].blocks == ()
    document["variants"][0]["files"][0].update(blocks=["1" * 64, "2" * 64])
    assert parse_release(document).variants[0].files[0].blocks == ("1" * 64, "2" * 64)


def test_variants_have_different_names() -> None:
    twice = [variant_entry(MODEL), variant_entry({"other.onnx": b"other"})]
    with pytest.raises(ManifestError, match="variants: name: expected each once; found 'onnx-fp32' twice"):
        parse_release({**GOOD, "variants": twice})


def test_a_digest_has_one_size() -> None:
    # A device would take the bytes for one of the two and refuse the other after the transfer.
    entry = file_entry("again.onnx", b"model")
    files = [file_entry("model.onnx", b"model"), {**entry, "size": entry["size"] + 1}]
    with pytest.raises(ManifestError, match=r"^again.onnx: expected the size 5 that 9372c\w+ has; found 6$"):
        parse_release(changed((*VARIANT, "files"), files))


# ---- the latency budget ----

LATENCY = (*VARIANT, "latency_seconds_max")


@pytest.mark.parametrize("value", [1, 0.001, 1e-300, SECONDS_MAX, float(SECONDS_MAX)])
def test_a_latency_budget_is_seconds(value: float) -> None:
    (variant,) = parse_release(changed(LATENCY, value)).variants
    assert variant.latency_seconds_max == value
    assert isinstance(variant.latency_seconds_max, float)


@pytest.mark.parametrize(
    "value",
    [0, -1, -0.0, 3600.001, 2**63, 10**400, float("nan"), float("inf"), float("-inf"), True, False, "1", [1], {}],
    ids=lambda value: repr(value)[:20],
)
def test_a_latency_budget_that_is_none_is_named(value: Any) -> None:
    expected = f"variants[0].latency_seconds_max: expected seconds above 0, at most {SECONDS_MAX}; found "
    with pytest.raises(ManifestError, match=re.escape(expected)):
        parse_release(changed(LATENCY, value))


@pytest.mark.parametrize("value", [None, "left out"])
def test_without_a_budget_no_latency_is_too_long(value: str | None) -> None:
    document = changed(LATENCY, None) if value is None else GOOD
    (variant,) = parse_release(document).variants
    assert variant.latency_seconds_max is None


@given(st.one_of(st.floats(), st.integers(), st.booleans(), st.text(), st.none()))
def test_any_latency_budget_is_finite_seconds_or_a_manifest_error(value: Any) -> None:
    try:
        (variant,) = parse_release(changed(LATENCY, value)).variants
    except ManifestError:
        return
    budget = variant.latency_seconds_max
    assert budget is None or 0 < budget <= SECONDS_MAX


@pytest.mark.parametrize("number", ["NaN", "Infinity", "-Infinity", "1e400", "-1e400", "9" * 5000])
@pytest.mark.parametrize(
    "place", [("schema",), (*VARIANT, "memory_bytes"), (*FILE, "size"), LATENCY], ids=lambda place: place[-1]
)
def test_a_number_that_json_can_spell_and_nobody_can_mean(place: tuple[Any, ...], number: str) -> None:
    text = json.dumps(changed(place, "NUMBER")).replace('"NUMBER"', number).encode()
    with pytest.raises(ManifestError, match=r"^here: "):
        parse_release_json(text, "here")


# ---- names and paths ----

BAD_NAMES = [
    "",
    ".",
    "..",
    "../x",
    "a/b",
    "/etc",
    "-rf",
    "a b",
    "a\n",
    "\n",
    "a\0",
    "é",
    "x" * 65,
    "x" * 10_240,
    "~root",
    "$(id)",
    "\u0661",
]
BAD_PATHS = [*BAD_NAMES, "dir/model.onnx", "/etc/passwd", "..\\x", ".hidden", *sorted(RESERVED_NAMES), "x" * 129]


@pytest.mark.parametrize("name", BAD_NAMES, ids=lambda name: repr(name)[:20])
def test_a_bad_name_is_refused(name: str) -> None:
    with pytest.raises(ManifestError, match=r"^version: expected 1 to 64 of the characters"):
        check_name(name, "version")


@pytest.mark.parametrize("path", [path for path in BAD_PATHS if path != "x" * 65], ids=lambda path: repr(path)[:20])
@pytest.mark.parametrize(
    "place", [(*FILE, "path"), ("golden", "path"), ("probe", "path"), ("reference", "path")], ids=str
)
def test_a_bad_path_is_refused(place: tuple[Any, ...], path: str) -> None:
    with pytest.raises(ManifestError, match=r"path: expected a plain file name"):
        parse_release(changed(place, path))


@given(st.text(max_size=80))
def test_a_name_is_one_component_of_a_path(name: str) -> None:
    try:
        check_name(name, "model")
    except ManifestError:
        return
    assert name.isascii()
    assert name.isprintable()
    assert not set(name) & set("/\\ \0")
    assert name not in (".", "..")
    assert not name.startswith(("-", "."))
    assert len(name) <= 64


@given(st.text(alphabet="aZ09._+-/\\\n\0 é", max_size=140))
def test_a_path_is_one_component_of_a_path(path: str) -> None:
    document = changed((*FILE, "path"), path)
    document["variants"][0]["entrypoint"] = path
    try:
        (variant,) = parse_release(document).variants
    except ManifestError:
        return
    assert variant.entries[WHOLE].entrypoint == path
    assert not set(path) & set("/\\ \0\n")
    assert path[0] not in ".-"


# ---- never another error ----


@given(JSON)
def test_any_json_is_a_release_or_a_manifest_error(document: Any) -> None:
    with pytest.raises(ManifestError):
        parse_release(document)


@given(st.sampled_from(places(GOOD)), JSON)
def test_a_manifest_with_any_value_anywhere_is_a_release_or_a_manifest_error(place: Any, value: Any) -> None:
    try:
        release = parse_release(changed(place, value))
    except ManifestError:
        return
    assert isinstance(release, Release)


@given(st.binary(max_size=200))
def test_any_bytes_are_a_manifest_error_that_names_their_origin(text: bytes) -> None:
    with pytest.raises(ManifestError, match=r"^https://models/manifest\.json: "):
        parse_release_json(text, "https://models/manifest.json")


@given(st.integers(min_value=0, max_value=len(json.dumps(GOOD)) - 1))
def test_a_truncated_manifest_is_refused(length: int) -> None:
    with pytest.raises(ManifestError, match=r"^here: expected JSON in UTF-8; "):
        parse_release_json(json.dumps(GOOD).encode()[:length], "here")


def test_another_form_is_refused_before_its_fields_are_read() -> None:
    with pytest.raises(ManifestError, match=r"^schema: expected 2; found 3: it was written by a newer version"):
        parse_release({"schema": 3, "what_may_come": {}})
    with pytest.raises(ManifestError, match=r"^schema: .* Publish the model again with edgeml-publish$"):
        parse_release({"schema": 1, "name": "digits"})


@pytest.mark.parametrize("text", [b"\xff{}", b"\xef\xbb\xbf{}", b"9" * 5000, b'{"schema": 2, "schema": 2}', b"NaN"])
def test_odd_json_is_refused(text: bytes) -> None:
    with pytest.raises(ManifestError, match=r"^here: "):
        parse_release_json(text, "here")


def test_a_field_that_is_there_twice_is_refused() -> None:
    text = json.dumps(GOOD).replace('"model":', '"model": "other", "model":', 1)
    with pytest.raises(ManifestError, match="'model' twice"):
        parse_release_json(text.encode(), "here")


@pytest.mark.parametrize("place", [("schema",), ("golden",), (*VARIANT, "runtime", "name")], ids=str)
def test_a_deeply_nested_manifest_is_refused(place: tuple[Any, ...]) -> None:
    for depth in (*range(800, 1000), 100_000):
        text = json.dumps(changed(place, "HERE")).replace('"HERE"', "[" * depth + "]" * depth)
        with pytest.raises(ManifestError, match=r"^here: "):
            parse_release_json(text.encode(), "here")


def test_a_manifest_may_have_a_mebibyte_and_no_more() -> None:
    text = json.dumps(GOOD).encode()
    assert parse_release_json(text.ljust(MANIFEST_BYTES_MAX), "here").version == "1.0.0"
    with pytest.raises(ManifestError, match=f"here: expected at most {MANIFEST_BYTES_MAX} bytes; found"):
        parse_release_json(text.ljust(MANIFEST_BYTES_MAX + 1), "here")


# ---- the variant for a device ----


def variants(*entries: dict[str, Any]) -> Release:
    return parse_release({**GOOD, "variants": list(entries)})


def test_the_first_variant_that_runs_is_chosen() -> None:
    release = variants(
        variant_entry(MODEL, name="armv7l", architectures=["armv7l"]),
        variant_entry(MODEL, name="huge", memory_bytes=1 << 34),
        variant_entry(MODEL, name="new", runtime={"name": "onnxruntime", "minimum": "1.28.0"}),
        variant_entry(MODEL, name="fits"),
        variant_entry(MODEL, name="fits-too"),
    )
    assert choose_variant(release, device()).name == "fits"


def test_the_reason_against_each_variant_is_told() -> None:
    release = variants(
        variant_entry(MODEL, name="a", architectures=["armv7l", "x86_64"]),
        variant_entry(MODEL, name="b", memory_bytes=(1 << 30) + 1),
        variant_entry(MODEL, name="c", runtime={"name": "onnxruntime", "minimum": "1.28.0"}),
    )
    with pytest.raises(IncompatibleError) as caught:
        choose_variant(release, device())
    assert str(caught.value) == (
        "no variant of digits 1.0.0 runs on this device: "
        "variant a: built for armv7l, x86_64; the device is aarch64; "
        "variant b: needs 1073741825 bytes of memory; the device has 1073741824; "
        "variant c: needs onnxruntime >= 1.28.0; the device has 1.27.0"
    )


def test_memory_that_is_just_enough_is_enough() -> None:
    assert choose_variant(variants(variant_entry(MODEL, memory_bytes=1 << 30)), device()).name == "onnx-fp32"


@pytest.mark.parametrize(
    ("installed", "minimum", "runs"),
    [
        ("1.27.0", "1.27.0", True),
        ("1.27", "1.27.0", True),
        ("1.27.0", "1.27", True),
        ("1.27.0", "1.27.1", False),
        ("1.9.0", "1.10.0", False),
        ("1.10.0", "1.9.0", True),
        ("2.0", "1.99.99", True),
        ("1.26.9", "1.27.0", False),
    ],
)
def test_runtime_versions_are_compared_as_numbers(installed: str, minimum: str, runs: bool) -> None:
    release = variants(variant_entry(MODEL, runtime={"name": "onnxruntime", "minimum": minimum}))
    facts = device(runtimes={"onnxruntime": installed})
    if runs:
        assert choose_variant(release, facts).name == "onnx-fp32"
    else:
        with pytest.raises(IncompatibleError, match=f"needs onnxruntime >= {minimum}; the device has {installed}"):
            choose_variant(release, facts)


@pytest.mark.parametrize("runtimes", [{}, {"ai-edge-litert": "0.1"}])
def test_a_runtime_that_is_not_installed_yet_is_no_obstacle(runtimes: dict[str, str]) -> None:
    assert choose_variant(variants(variant_entry(MODEL)), device(runtimes=runtimes)).name == "onnx-fp32"
