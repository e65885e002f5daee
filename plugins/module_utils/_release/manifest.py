# Copyright (c) 2026, The edgeml.fleet authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# PRIVATE to the collection edgeml.fleet: no stable interface.

"""The release manifest: parsed, checked in full, and matched with a device. Pure: touches no device state."""

from __future__ import annotations

import hashlib
import json
import math
import re
from typing import Any, Mapping, NamedTuple

from .._common.errors import IncompatibleError, ManifestError
from .._common.records import is_number, is_whole

SCHEMA = 1
MANIFEST_BYTES_MAX = 1 << 20
FILE_BYTES_MAX = 1 << 40
VARIANTS_MAX = 64
FILES_MAX = 1024
CLASSES_MAX = 65536
DOCUMENTS_MAX = 64
SECONDS_MAX = 3600
# Written by the store beside the release's own files.
RESERVED_NAMES = frozenset({"version.json", "tested.json"})

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._+-]{0,63}\Z")
_FILE_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9._+-]{0,127}\Z")
_SHA256 = re.compile(r"[0-9a-f]{64}\Z")
# JSON can spell half a character, which UTF-8 cannot.
_SURROGATE = re.compile("[\ud800-\udfff]")


class File(NamedTuple):
    """One file of a release: its name, its size in bytes and its SHA-256 in lower-case hexadecimal."""

    path: str
    size: int
    sha256: str


class Tolerance(NamedTuple):
    """How far an output may be from the golden one: numbers with fractions by absolute + relative, whole numbers by
    ``steps``."""

    absolute: float
    relative: float
    steps: int = 0


class Variant(NamedTuple):
    """A release for one kind of device. ``memory_bytes`` is what serving it needs, beside the server itself;
    ``latency_seconds_max`` what one run of its golden inputs may take there, if the release says; ``tolerances`` has
    those of outputs for which the variant allows another one than the golden file."""

    name: str
    format: str
    architectures: tuple[str, ...]
    runtime: str
    runtime_minimum: str
    memory_bytes: int
    entrypoint: str
    files: tuple[File, ...]
    latency_seconds_max: float | None = None
    tolerances: Mapping[str, Tolerance] = {}


class Release(NamedTuple):
    """One version of one model. ``digest`` identifies the manifest's content, whatever its formatting;
    ``classes`` are the names of each output's classes, in the order of its scores; ``documents`` are files about the
    release, by name, which devices do not fetch."""

    model: str
    version: str
    variants: tuple[Variant, ...]
    golden: File | None
    probe: File | None
    reference: File | None
    classes: Mapping[str, tuple[str, ...]]
    digest: str
    document: Mapping[str, Any]
    documents: Mapping[str, File] = {}

    def files(self, variant: Variant) -> tuple[File, ...]:
        """All files that a device holds for ``variant``: the model's, then golden, probe set and reference."""
        extra = tuple(file for file in (self.golden, self.probe, self.reference) if file is not None)
        return variant.files + extra

    def all_files(self) -> tuple[File, ...]:
        """Every file of every variant and every document, each blob once."""
        by_digest = {file.sha256: file for variant in self.variants for file in self.files(variant)}
        by_digest.update({file.sha256: file for file in self.documents.values()})
        return tuple(by_digest.values())


def check_name(value: Any, field: str) -> str:
    """Return ``value`` if it can name a model or a version (and so a directory), or raise ManifestError."""
    if not is_name(value):
        raise ManifestError(
            f"{field}: expected 1 to 64 of the characters A-Z a-z 0-9 . _ + -, "
            f"the first a letter or digit; found {_shown(value)}"
        )
    name: str = value
    return name


def is_name(value: Any) -> bool:
    """Whether ``value`` can name a model or a version."""
    return isinstance(value, str) and _NAME.match(value) is not None


def is_file_name(value: Any) -> bool:
    """Whether ``value`` can name a file: no directory, no leading dot or dash."""
    return isinstance(value, str) and _FILE_NAME.match(value) is not None


def parse_release(document: Any) -> Release:
    """Check a manifest's parsed JSON in full and return it as a Release.

    Raises ManifestError, which names the first field that is wrong, what was expected and what was found.
    """
    top = _fields(
        document,
        "manifest",
        required=("schema", "model", "version", "variants"),
        optional=("created", "description", "golden", "probe", "reference", "classes", "documents"),
    )
    if isinstance(top["schema"], bool) or top["schema"] != SCHEMA or not isinstance(top["schema"], int):
        raise ManifestError(f"schema: expected {SCHEMA}; found {_shown(top['schema'])}")
    for field in ("created", "description"):
        _text(top.get(field, ""), field)
    golden = _file(top["golden"], "golden") if top.get("golden") is not None else None
    probe = _file(top["probe"], "probe") if top.get("probe") is not None else None
    reference = _file(top["reference"], "reference") if top.get("reference") is not None else None
    variants = tuple(
        _variant(item, f"variants[{index}]")
        for index, item in enumerate(_list(top["variants"], "variants", VARIANTS_MAX))
    )
    _unique((variant.name for variant in variants), "variants: name")
    release = Release(
        model=check_name(top["model"], "model"),
        version=check_name(top["version"], "version"),
        variants=variants,
        golden=golden,
        probe=probe,
        reference=reference,
        classes=_classes(top.get("classes"), "classes"),
        digest=document_digest(document),
        document=document,
        documents=_documents(top.get("documents"), "documents"),
    )
    sizes: dict[str, int] = {}
    for variant in variants:
        _unique((file.path for file in release.files(variant)), f"variant {variant.name}: file path")
        for file in release.files(variant):
            size = sizes.setdefault(file.sha256, file.size)
            if file.size != size:
                raise ManifestError(f"{file.path}: expected the size {size} that {file.sha256} has; found {file.size}")
    return release


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


def choose_variant(release: Release, device: Mapping[str, Any], headroom_percent: int = 0) -> Variant:
    """Return the first variant, in the release's order of preference, that the device can run.

    ``device`` is what ``facts.device_facts()`` returns; ``headroom_percent`` the percentage of its memory that a
    model must leave. A runtime that is not installed (yet) is no reason
    against a variant; one that is older than the variant's minimum is.
    Raises IncompatibleError with the reason against each variant.
    """
    reasons = []
    for variant in release.variants:
        reason = _reason_against(variant, device, headroom_percent)
        if reason is None:
            return variant
        reasons.append(f"variant {variant.name}: {reason}")
    raise IncompatibleError(
        f"no variant of {release.model} {release.version} runs on this device: {'; '.join(reasons)}"
    )


def _reason_against(variant: Variant, device: Mapping[str, Any], headroom_percent: int) -> str | None:
    architecture = device["architecture"]
    if architecture not in variant.architectures:
        return f"built for {', '.join(variant.architectures)}; the device is {architecture}"
    if variant.memory_bytes > device["memory_bytes"] * (100 - headroom_percent) // 100:
        spare = f", of which {headroom_percent}% are to stay free" if headroom_percent else ""
        return f"needs {variant.memory_bytes} bytes of memory; the device has {device['memory_bytes']}{spare}"
    installed = device.get("runtimes", {}).get(variant.runtime)
    if installed is not None and _version_key(installed) < _version_key(variant.runtime_minimum):
        return f"needs {variant.runtime} >= {variant.runtime_minimum}; the device has {installed}"
    return None


def _version_key(version: str) -> tuple[int, ...]:
    numbers = [int(number) for number in re.findall(r"[0-9]+", version)[:4]]
    return tuple(numbers + [0] * (4 - len(numbers)))


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    _unique((name for name, _value in pairs), "field")
    return dict(pairs)


def _variant(value: Any, field: str) -> Variant:
    item = _fields(
        value,
        field,
        required=("name", "format", "architectures", "runtime", "memory_bytes", "entrypoint", "files"),
        optional=("latency_seconds_max", "tolerances"),
    )
    runtime = _fields(item["runtime"], f"{field}.runtime", required=("name", "minimum"))
    files = tuple(
        _file(entry, f"{field}.files[{index}]")
        for index, entry in enumerate(_list(item["files"], f"{field}.files", FILES_MAX))
    )
    if item["entrypoint"] not in [file.path for file in files]:
        raise ManifestError(
            f"{field}.entrypoint: expected the path of one of the variant's files; found {_shown(item['entrypoint'])}"
        )
    return Variant(
        name=check_name(item["name"], f"{field}.name"),
        format=check_name(item["format"], f"{field}.format"),
        architectures=tuple(
            check_name(entry, f"{field}.architectures")
            for entry in _list(item["architectures"], f"{field}.architectures", VARIANTS_MAX)
        ),
        runtime=check_name(runtime["name"], f"{field}.runtime.name"),
        runtime_minimum=check_name(runtime["minimum"], f"{field}.runtime.minimum"),
        memory_bytes=_count(item["memory_bytes"], f"{field}.memory_bytes"),
        entrypoint=item["entrypoint"],
        files=files,
        latency_seconds_max=_seconds(item.get("latency_seconds_max"), f"{field}.latency_seconds_max"),
        tolerances=_tolerances(item.get("tolerances"), f"{field}.tolerances"),
    )


def _tolerances(value: Any, field: str) -> Mapping[str, Tolerance]:
    """The tolerance of each output that the variant names."""
    if value is None:
        return {}
    if not isinstance(value, Mapping):
        raise ManifestError(f"{field}: expected an object; found {_shown(value)}")
    found = {}
    for output, item in value.items():
        name = f"{field}.{output}"
        both = _fields(item, name, required=("absolute", "relative"), optional=("steps",))
        for part in ("absolute", "relative"):
            number = both[part]
            if isinstance(number, bool) or not isinstance(number, (int, float)) or not 0 <= number < math.inf:
                raise ManifestError(f"{name}.{part}: expected a number from 0; found {_shown(number)}")
        steps = _count(both.get("steps", 0), f"{name}.steps")
        found[output] = Tolerance(float(both["absolute"]), float(both["relative"]), steps)
    return found


def _documents(value: Any, field: str) -> Mapping[str, File]:
    """The files about the release by their names."""
    if value is None:
        return {}
    if not isinstance(value, Mapping) or len(value) > DOCUMENTS_MAX:
        raise ManifestError(f"{field}: expected an object of at most {DOCUMENTS_MAX} files; found {_shown(value)}")
    return {check_name(name, field): _file(item, f"{field}.{name}") for name, item in value.items()}


def _classes(value: Any, field: str) -> Mapping[str, tuple[str, ...]]:
    """The names of each output's classes."""
    if value is None:
        return {}
    if not isinstance(value, Mapping):
        raise ManifestError(f"{field}: expected an object; found {_shown(value)}")
    found = {}
    for output, names in value.items():
        for index, name in enumerate(_list(names, f"{field}.{output}", CLASSES_MAX)):
            _text(name, f"{field}.{output}[{index}]")
        found[output] = tuple(names)
    return found


def _file(value: Any, field: str) -> File:
    item = _fields(value, field, required=("path", "size", "sha256"))
    path = item["path"]
    if not is_file_name(path) or path in RESERVED_NAMES:
        raise ManifestError(
            f"{field}.path: expected a plain file name (no directory, no leading dot or dash, "
            f"not {', '.join(sorted(RESERVED_NAMES))}); found {_shown(path)}"
        )
    sha256 = item["sha256"]
    if not isinstance(sha256, str) or not _SHA256.match(sha256):
        raise ManifestError(f"{field}.sha256: expected 64 lower-case hexadecimal digits; found {_shown(sha256)}")
    size = _count(item["size"], f"{field}.size")
    if size == 0:
        raise ManifestError(f"{field}.size: expected at least 1 byte; found 0")
    return File(path=path, size=size, sha256=sha256)


def _fields(value: Any, field: str, required: tuple[str, ...], optional: tuple[str, ...] = ()) -> Mapping[str, Any]:
    if not isinstance(value, Mapping):
        raise ManifestError(f"{field}: expected an object; found {_shown(value)}")
    missing = [name for name in required if name not in value]
    if missing:
        raise ManifestError(f"{field}: missing {', '.join(missing)}")
    unknown = [_shown(name) for name in value if name not in required and name not in optional]
    if unknown:
        raise ManifestError(f"{field}: unknown {', '.join(unknown[:5])}; expected {', '.join(required + optional)}")
    return value


def _list(value: Any, field: str, most: int) -> list[Any]:
    if not isinstance(value, list) or not 1 <= len(value) <= most:
        found = f"{len(value)} entries" if isinstance(value, list) else _shown(value)
        raise ManifestError(f"{field}: expected a list of 1 to {most} entries; found {found}")
    return value


def _text(value: Any, field: str) -> None:
    if not isinstance(value, str) or len(value) > 4096 or _SURROGATE.search(value):
        raise ManifestError(f"{field}: expected a text of at most 4096 Unicode characters; found {_shown(value)}")


def _count(value: Any, field: str) -> int:
    if not is_whole(value) or not 0 <= value <= FILE_BYTES_MAX:
        raise ManifestError(f"{field}: expected a whole number from 0 to {FILE_BYTES_MAX}; found {_shown(value)}")
    return int(value)


def _seconds(value: Any, field: str) -> float | None:
    if value is None:
        return None
    if not is_number(value) or not 0 < value <= SECONDS_MAX:
        raise ManifestError(f"{field}: expected seconds above 0, at most {SECONDS_MAX}; found {_shown(value)}")
    return float(value)


def _unique(values: Any, field: str) -> None:
    seen = set()
    for value in values:
        if value in seen:
            raise ManifestError(f"{field}: expected each once; found {_shown(value)} twice")
        seen.add(value)


def _shown(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 80 else f"{text[:77]}... ({len(text)} characters)"
