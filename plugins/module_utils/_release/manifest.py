# Copyright (c) 2026, The edgeml.fleet authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# PRIVATE to the collection edgeml.fleet: no stable interface.

"""The release manifest: parsed and checked in full. Pure."""

from __future__ import annotations

import hashlib
import json
import math
import re
from typing import Any, Mapping

from .._common.errors import ManifestError
from .._common.hashing import BLOCK_BYTES, is_sha256
from .._common.records import is_whole
from .fields import (
    FILE_BYTES_MAX,
    check_count,
    check_entries,
    check_fields,
    check_list,
    check_seconds,
    check_text,
    check_unique,
    shown,
)
from .names import check_model_name, check_name, is_file_name
from .release import (
    ENTRYPOINTS,
    FORMATS,
    KINDS,
    MCU_IMAGES,
    MODEL,
    WHOLE,
    BootImage,
    Entry,
    File,
    Part,
    Release,
    SequenceLimits,
    Tolerance,
    Variant,
)

SCHEMA = 2
MANIFEST_BYTES_MAX = 1 << 20
BLOCKS_MAX = FILE_BYTES_MAX // BLOCK_BYTES
VARIANTS_MAX = 64
FILES_MAX = 1024
CLASSES_MAX = 65536
DOCUMENTS_MAX = 64
PARTS_MAX = 32
TENSORS_MAX = 1024
SEQUENCES_MAX = 4096
OPERATORS_MAX = 256
SECURITY_COUNTER_MAX = (1 << 32) - 1
# They would be other URLs of the inference server.
RESERVED_PARTS = frozenset({"versions", "infer", "ready", "feedback"})
# Written by the store beside the release's own files.
RESERVED_NAMES = frozenset({"version.json", "tested.json"})

_LOCALE = re.compile(r"[A-Za-z][A-Za-z0-9_.@-]{0,63}\Z")
BOOT_VERSION = r"[0-9]{1,3}\.[0-9]{1,3}\.[0-9]{1,5}\+[0-9]{1,10}"
OPERATOR = r"[A-Z][A-Z0-9_]{0,63}"
_PART_FIELDS = ("golden", "probe", "reference", "classes", "sequences")
_ENTRY_FIELDS = ("signature", "tensors", "tolerances")


def parse_release(document: Any) -> Release:
    """Check a manifest's parsed JSON in full and return it as a Release.

    Raises ManifestError, which names the first field that is wrong, what was expected and what was found.
    """
    _check_schema(document)
    top = check_fields(
        document,
        "manifest",
        required=("schema", "model", "version", "variants"),
        optional=("kind", "created", "description", "parts", "documents", *_PART_FIELDS),
    )
    for field in ("created", "description"):
        check_text(top.get(field, ""), field)
    parts = _parts(top)
    variants = tuple(
        _variant(item, f"variants[{index}]", parts)
        for index, item in enumerate(check_list(top["variants"], "variants", VARIANTS_MAX))
    )
    check_unique((variant.name for variant in variants), "variants: name")
    kind = _kind(top, variants)
    release = Release(
        model=check_model_name(top["model"], "model"),
        version=check_name(top["version"], "version"),
        variants=variants,
        parts=parts,
        digest=document_digest(document),
        document=document,
        documents=_documents(top.get("documents"), "documents"),
        kind=kind,
    )
    sizes: dict[str, int] = {}
    for variant in variants:
        check_unique((file.path for file in release.files(variant)), f"variant {variant.name}: file path")
        for file in release.files(variant):
            size = sizes.setdefault(file.sha256, file.size)
            if file.size != size:
                raise ManifestError(f"{file.path}: expected the size {size} that {file.sha256} has; found {file.size}")
    return release


def _kind(top: Mapping[str, Any], variants: tuple[Variant, ...]) -> str:
    """What the release is: a model, unless it says otherwise. What is none has nothing that only a model has."""
    kind = top.get("kind")
    if kind is None:
        kind = MODEL
    if kind not in KINDS:
        raise ManifestError(f"kind: expected {', '.join(KINDS[:-1])} or {KINDS[-1]}; found {shown(kind)}")
    for index, variant in enumerate(variants):
        is_right = variant.format == FORMATS[kind] if kind in FORMATS else variant.format not in FORMATS.values()
        if not is_right:
            expected = FORMATS.get(kind, "a model's format")
            raise ManifestError(f"variants[{index}].format: expected {expected}; found {variant.format}")
    if kind != MODEL:
        stray = [name for name in ("parts", *_PART_FIELDS) if top.get(name) is not None]
        if stray:
            raise ManifestError(f"{stray[0]}: expected none in a release of the kind {kind}; found one")
        for index, variant in enumerate(variants):
            entrypoint = variant.entries[WHOLE].entrypoint
            if entrypoint != ENTRYPOINTS[kind]:
                raise ManifestError(f"variants[{index}].entrypoint: expected {ENTRYPOINTS[kind]}; found {entrypoint}")
    return str(kind)


def _check_schema(document: Any) -> None:
    """Refuse another form before its fields are looked at: they may mean something else."""
    if not isinstance(document, Mapping) or "schema" not in document:
        return  # What is missing is said with what else is.
    schema = document["schema"]
    if is_whole(schema) and schema == SCHEMA:
        return
    remedy = ""
    if is_whole(schema) and schema < SCHEMA:
        remedy = (
            ": its repository was written before the first release of this collection. Publish the model again with "
            "edgeml-publish"
        )
    elif is_whole(schema):
        remedy = ": it was written by a newer version of this collection. Update this one"
    raise ManifestError(f"schema: expected {SCHEMA}; found {shown(schema)}{remedy}")


def parse_release_json(text: bytes, origin: str) -> Release:
    """Parse the bytes of a manifest.json. ``origin`` (a path or URL) is named in each error."""
    if len(text) > MANIFEST_BYTES_MAX:
        raise ManifestError(f"{origin}: expected at most {MANIFEST_BYTES_MAX} bytes; found {len(text)}")
    try:
        return parse_release(json.loads(text.decode("utf-8"), object_pairs_hook=_object))
    except (ValueError, RecursionError) as error:
        raise ManifestError(f"{origin}: expected JSON in UTF-8; {error}") from error
    except ManifestError as error:
        raise ManifestError(f"{origin}: {error}") from error


def document_digest(document: Any) -> str:
    """SHA-256 (hexadecimal) of a manifest's canonical JSON: sorted keys, no white space, UTF-8."""
    return hashlib.sha256(canonical_json(document)).hexdigest()


def canonical_json(document: Any) -> bytes:
    """One spelling for one document: sorted keys, no white space, UTF-8."""
    return json.dumps(document, sort_keys=True, separators=(",", ":"), ensure_ascii=False).encode("utf-8")


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    check_unique((name for name, _value in pairs), "field")
    return dict(pairs)


def _parts(top: Mapping[str, Any]) -> Mapping[str, Part]:
    """The models of the release, sorted by name; without ``parts`` the release is one model."""
    if top.get("parts") is None:
        return {WHOLE: _part(top, "")}
    stray = [name for name in _PART_FIELDS if top.get(name) is not None]
    if stray:
        raise ManifestError(f"{stray[0]}: expected it in one of the parts, as parts.<name>.{stray[0]}")
    parts = {}
    for name, value in sorted(check_entries(top["parts"], "parts", PARTS_MAX).items()):
        if check_name(name, "parts") in RESERVED_PARTS:
            raise ManifestError(f"parts: expected other names than {', '.join(sorted(RESERVED_PARTS))}; found {name}")
        parts[name] = _part(check_fields(value, f"parts.{name}", required=(), optional=_PART_FIELDS), f"parts.{name}.")
    probed = [name for name, part in parts.items() if part.probe is not None]
    if len(probed) > 1:
        raise ManifestError(
            f"parts: expected one probe set, that of the part whose answers count; found {', '.join(probed)}"
        )
    return parts


def _part(item: Mapping[str, Any], prefix: str) -> Part:
    def file(name: str) -> File | None:
        return _file(item[name], f"{prefix}{name}") if item.get(name) is not None else None

    return Part(
        golden=file("golden"),
        probe=file("probe"),
        reference=file("reference"),
        classes=_classes(item.get("classes"), f"{prefix}classes"),
        sequences=_sequences(item.get("sequences"), f"{prefix}sequences"),
    )


def _sequences(value: Any, field: str) -> SequenceLimits | None:
    if value is None:
        return None
    item = check_fields(value, field, required=("most", "idle_seconds"))
    most, seconds = (
        check_count(item["most"], f"{field}.most"),
        check_seconds(item["idle_seconds"], f"{field}.idle_seconds"),
    )
    if not 1 <= most <= SEQUENCES_MAX:
        raise ManifestError(f"{field}.most: expected 1 to {SEQUENCES_MAX}; found {most}")
    if seconds is None:
        raise ManifestError(f"{field}.idle_seconds: expected seconds; found none")
    return SequenceLimits(most, seconds)


def _variant(value: Any, field: str, parts: Mapping[str, Part]) -> Variant:
    is_pipeline = WHOLE not in parts
    item = check_fields(
        value,
        field,
        required=(
            *("name", "format", "architectures", "runtime", "memory_bytes", "files"),
            "parts" if is_pipeline else "entrypoint",
        ),
        optional=("latency_seconds_max", "libraries", "locales", *(() if is_pipeline else ("boot", *_ENTRY_FIELDS))),
    )
    runtime = check_fields(item["runtime"], f"{field}.runtime", required=("name", "minimum"))
    files = tuple(
        _file(entry, f"{field}.files[{index}]")
        for index, entry in enumerate(check_list(item["files"], f"{field}.files", FILES_MAX))
    )
    paths = {file.path for file in files}
    if is_pipeline:
        entries = _entries(item["parts"], f"{field}.parts", parts, paths)
    else:
        entries = {WHOLE: _entry(item, field, paths)}
    return Variant(
        name=check_name(item["name"], f"{field}.name"),
        format=check_name(item["format"], f"{field}.format"),
        architectures=tuple(
            check_name(entry, f"{field}.architectures")
            for entry in check_list(item["architectures"], f"{field}.architectures", VARIANTS_MAX)
        ),
        runtime=check_name(runtime["name"], f"{field}.runtime.name"),
        runtime_minimum=check_name(runtime["minimum"], f"{field}.runtime.minimum"),
        memory_bytes=check_count(item["memory_bytes"], f"{field}.memory_bytes"),
        entries=entries,
        files=files,
        libraries=tuple(_member(path, f"{field}.libraries", paths) for path in _optional(item, "libraries", field)),
        locales=tuple(_locale(name, f"{field}.locales") for name in _optional(item, "locales", field)),
        latency_seconds_max=check_seconds(item.get("latency_seconds_max"), f"{field}.latency_seconds_max"),
        boot=_boot(item, field, is_pipeline),
    )


def _boot(item: Mapping[str, Any], field: str, is_pipeline: bool) -> BootImage | None:
    """What a bootloader has to know, of the formats that have one. Such a variant is one file, which is one model."""
    value, expected = item.get("boot"), item["format"] in MCU_IMAGES
    if expected and is_pipeline:
        raise ManifestError(f"{field}.format: expected another one in a release with parts; found {item['format']}")
    if (value is not None) != expected:
        raise ManifestError(
            f"{field}.boot: expected {'an object' if expected else 'none'} with the format {shown(item['format'])}; "
            f"found {'one' if value is not None else 'none'}"
        )
    if value is None:
        return None
    if len(item["files"]) != 1:
        raise ManifestError(f"{field}.files: expected one with the format {item['format']}; found {len(item['files'])}")
    found = check_fields(
        value, f"{field}.boot", required=("hash", "version", "security_counter"), optional=("operators",)
    )
    counter = found["security_counter"]
    if not is_whole(counter) or not 0 <= counter <= SECURITY_COUNTER_MAX:
        raise ManifestError(
            f"{field}.boot.security_counter: expected a whole number from 0 to {SECURITY_COUNTER_MAX}; "
            f"found {shown(counter)}"
        )
    if not is_sha256(found["hash"]):
        raise ManifestError(f"{field}.boot.hash: expected a SHA-256; found {shown(found['hash'])}")
    operators = found.get("operators")
    names = check_list(operators, f"{field}.boot.operators", OPERATORS_MAX) if operators is not None else []
    return BootImage(
        hash=found["hash"],
        version=_matching(found["version"], BOOT_VERSION, f"{field}.boot.version", "a version such as 1.2.0+0"),
        security_counter=counter,
        operators=tuple(
            _matching(name, OPERATOR, f"{field}.boot.operators", "an operator such as CONV_2D") for name in names
        ),
    )


def _matching(value: Any, pattern: str, field: str, what: str) -> str:
    if not isinstance(value, str) or not re.fullmatch(pattern, value):
        raise ManifestError(f"{field}: expected {what}; found {shown(value)}")
    return value


def _tolerances(value: Any, field: str) -> Mapping[str, Tolerance]:
    """The tolerance of each output that the variant names."""
    if value is None:
        return {}
    if not isinstance(value, Mapping):
        raise ManifestError(f"{field}: expected an object; found {shown(value)}")
    found = {}
    for output, item in value.items():
        name = f"{field}.{output}"
        both = check_fields(item, name, required=("absolute", "relative"), optional=("steps",))
        for part in ("absolute", "relative"):
            number = both[part]
            if isinstance(number, bool) or not isinstance(number, (int, float)) or not 0 <= number < math.inf:
                raise ManifestError(f"{name}.{part}: expected a number from 0; found {shown(number)}")
        steps = check_count(both.get("steps", 0), f"{name}.steps")
        found[output] = Tolerance(float(both["absolute"]), float(both["relative"]), steps)
    return found


def _documents(value: Any, field: str) -> Mapping[str, File]:
    """The files about the release by their names."""
    if value is None:
        return {}
    if not isinstance(value, Mapping) or len(value) > DOCUMENTS_MAX:
        raise ManifestError(f"{field}: expected an object of at most {DOCUMENTS_MAX} files; found {shown(value)}")
    return {check_name(name, field): _file(item, f"{field}.{name}") for name, item in value.items()}


def _entries(value: Any, field: str, parts: Mapping[str, Part], paths: set[str]) -> Mapping[str, Entry]:
    """The models of a variant of a pipeline: all of its parts."""
    items = check_entries(value, field, PARTS_MAX)
    if set(items) != set(parts):
        raise ManifestError(f"{field}: expected {', '.join(sorted(parts))}; found {shown(sorted(items))}")
    return {
        name: _entry(
            check_fields(items[name], f"{field}.{name}", required=("entrypoint",), optional=_ENTRY_FIELDS),
            f"{field}.{name}",
            paths,
        )
        for name in parts
    }


def _entry(item: Mapping[str, Any], field: str, paths: set[str]) -> Entry:
    signature = item.get("signature")
    if signature is not None:
        check_text(signature, f"{field}.signature")
    tensors = item.get("tensors")
    names: Mapping[str, Any] = {}
    if tensors is not None:
        names = check_fields(tensors, f"{field}.tensors", required=(), optional=("inputs", "outputs"))
    return Entry(
        entrypoint=_member(item["entrypoint"], f"{field}.entrypoint", paths),
        signature=signature,
        inputs=_tensor_names(names.get("inputs"), f"{field}.tensors.inputs"),
        outputs=_tensor_names(names.get("outputs"), f"{field}.tensors.outputs"),
        tolerances=_tolerances(item.get("tolerances"), f"{field}.tolerances"),
    )


def _tensor_names(value: Any, field: str) -> Mapping[str, str]:
    """The file's own names of tensors by the public ones."""
    if value is None:
        return {}
    names = check_entries(value, field, TENSORS_MAX)
    for public, own in names.items():
        check_text(public, field)
        check_text(own, f"{field}.{public}")
    check_unique(names.values(), field)
    return dict(names)


def _member(path: Any, field: str, paths: set[str]) -> str:
    if not isinstance(path, str) or path not in paths:
        raise ManifestError(f"{field}: expected the path of one of the variant's files; found {shown(path)}")
    return path


def _locale(value: Any, field: str) -> str:
    if not isinstance(value, str) or not _LOCALE.match(value):
        raise ManifestError(f"{field}: expected the name of a locale, such as en_US.UTF-8; found {shown(value)}")
    return value


def _optional(item: Mapping[str, Any], name: str, field: str) -> list[Any]:
    return check_list(item[name], f"{field}.{name}", FILES_MAX) if item.get(name) is not None else []


def _classes(value: Any, field: str) -> Mapping[str, tuple[str, ...]]:
    """The names of each output's classes."""
    if value is None:
        return {}
    if not isinstance(value, Mapping):
        raise ManifestError(f"{field}: expected an object; found {shown(value)}")
    found = {}
    for output, names in value.items():
        for index, name in enumerate(check_list(names, f"{field}.{output}", CLASSES_MAX)):
            check_text(name, f"{field}.{output}[{index}]")
        found[output] = tuple(names)
    return found


def _file(value: Any, field: str) -> File:
    item = check_fields(value, field, required=("path", "size", "sha256"), optional=("blocks",))
    path = item["path"]
    if not is_file_name(path) or path in RESERVED_NAMES:
        raise ManifestError(
            f"{field}.path: expected a plain file name (no directory, no leading dot or dash, "
            f"not {', '.join(sorted(RESERVED_NAMES))}); found {shown(path)}"
        )
    sha256 = _sha256(item["sha256"], f"{field}.sha256")
    size = check_count(item["size"], f"{field}.size")
    if size == 0:
        raise ManifestError(f"{field}.size: expected at least 1 byte; found 0")
    return File(path, size, sha256, _blocks(item.get("blocks"), f"{field}.blocks", size))


def _blocks(value: Any, field: str, size: int) -> tuple[str, ...]:
    """The digests of a file's blocks."""
    if value is None:
        return ()
    count = -(-size // BLOCK_BYTES)
    if not isinstance(value, list) or len(value) != count or count == 1:
        found = f"{len(value)} entries" if isinstance(value, list) else shown(value)
        expected = f"{count} entries, one for each {BLOCK_BYTES} bytes" if count > 1 else "none for a file of one block"
        raise ManifestError(f"{field}: expected {expected}; found {found}")
    return tuple(_sha256(digest, f"{field}[{index}]") for index, digest in enumerate(value))


def _sha256(value: Any, field: str) -> str:
    if not is_sha256(value):
        raise ManifestError(f"{field}: expected 64 lower-case hexadecimal digits; found {shown(value)}")
    digest: str = value
    return digest
