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
from typing import Any, Callable, Mapping, NamedTuple

from .._common.errors import IncompatibleError, ManifestError
from .._common.hashing import BLOCK_BYTES
from .._common.records import is_number, is_whole

SCHEMA = 1
MANIFEST_BYTES_MAX = 1 << 20
FILE_BYTES_MAX = 1 << 40
BLOCKS_MAX = FILE_BYTES_MAX // BLOCK_BYTES
VARIANTS_MAX = 64
FILES_MAX = 1024
CLASSES_MAX = 65536
DOCUMENTS_MAX = 64
PARTS_MAX = 32
TENSORS_MAX = 1024
SEQUENCES_MAX = 4096
SECONDS_MAX = 3600
# The part of a release that is one model, and so has no parts.
WHOLE = ""
# They would be other URLs of the inference server.
RESERVED_PARTS = frozenset({"versions", "infer", "ready", "feedback"})
# Written by the store beside the release's own files.
RESERVED_NAMES = frozenset({"version.json", "tested.json"})

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._+-]{0,63}\Z")
_FILE_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9._+-]{0,127}\Z")
_SHA256 = re.compile(r"[0-9a-f]{64}\Z")
_LOCALE = re.compile(r"[A-Za-z][A-Za-z0-9_.@-]{0,63}\Z")
_PART_FIELDS = ("golden", "probe", "reference", "classes", "sequences")
_ENTRY_FIELDS = ("signature", "tensors", "tolerances")
# JSON can spell half a character, which UTF-8 cannot.
_SURROGATE = re.compile("[\ud800-\udfff]")


class File(NamedTuple):
    """One file of a release: its name, its size in bytes and its SHA-256 in lower-case hexadecimal.

    ``blocks`` are the SHA-256 of each of its blocks of 1 MiB, where the manifest has them; the last may be smaller.
    """

    path: str
    size: int
    sha256: str
    blocks: tuple[str, ...] = ()

    @property
    def entry(self) -> dict[str, Any]:
        """What names the file in a result and in the store's records: without its blocks."""
        return {"path": self.path, "size": self.size, "sha256": self.sha256}


class Tolerance(NamedTuple):
    """How far an output may be from the golden one: numbers with fractions by absolute + relative, whole numbers by
    ``steps``."""

    absolute: float
    relative: float
    steps: int = 0


class Entry(NamedTuple):
    """How a runtime opens one model of a variant: the file, and the signature in it (None: its only one).

    ``inputs`` and ``outputs`` have the file's own name of a tensor by its public one, where they differ; ``tolerances``
    those of outputs for which the variant allows another one than the golden file.
    """

    entrypoint: str
    signature: str | None = None
    inputs: Mapping[str, str] = {}
    outputs: Mapping[str, str] = {}
    tolerances: Mapping[str, Tolerance] = {}


class Variant(NamedTuple):
    """A release for one kind of device.

    ``memory_bytes`` is what serving it needs, beside the server itself. ``entries`` are its models by part,
    ``libraries`` the files with custom operators, ``locales`` what must be installed on the device;
    ``latency_seconds_max`` is what one run of its golden inputs may take there, if the release says.
    """

    name: str
    format: str
    architectures: tuple[str, ...]
    runtime: str
    runtime_minimum: str
    memory_bytes: int
    entries: Mapping[str, Entry]
    files: tuple[File, ...]
    libraries: tuple[str, ...] = ()
    locales: tuple[str, ...] = ()
    latency_seconds_max: float | None = None


class Sequences(NamedTuple):
    """A model that keeps state serves at most ``most`` sequences at once; one without a request for ``idle_seconds``
    ends."""

    most: int
    idle_seconds: float


class Part(NamedTuple):
    """What belongs to one model of a release, whatever the variant. ``classes`` are the names of each output's classes,
    in the order of its scores."""

    golden: File | None
    probe: File | None
    reference: File | None
    classes: Mapping[str, tuple[str, ...]]
    sequences: Sequences | None

    @property
    def files(self) -> tuple[File, ...]:
        """Golden file, probe set and reference, those that there are."""
        return tuple(file for file in (self.golden, self.probe, self.reference) if file is not None)


class Release(NamedTuple):
    """One version of one model, or of several that belong together. ``digest`` identifies the manifest's content,
    whatever its formatting; ``parts`` are the models by name, of a release of one model ``WHOLE`` alone; ``documents``
    are files about the release, by name, which devices do not fetch."""

    model: str
    version: str
    variants: tuple[Variant, ...]
    parts: Mapping[str, Part]
    digest: str
    document: Mapping[str, Any]
    documents: Mapping[str, File] = {}

    @property
    def is_pipeline(self) -> bool:
        """Whether the release has several models, each with a name of its own."""
        return WHOLE not in self.parts

    @property
    def probed(self) -> str | None:
        """The part that has the release's probe set; None without one."""
        return next((name for name, part in self.parts.items() if part.probe is not None), None)

    def files(self, variant: Variant) -> tuple[File, ...]:
        """All files that a device holds for ``variant``: the model's, then golden, probe set and reference."""
        return variant.files + tuple(file for part in self.parts.values() for file in part.files)

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
        optional=("created", "description", "parts", "documents", *_PART_FIELDS),
    )
    if isinstance(top["schema"], bool) or top["schema"] != SCHEMA or not isinstance(top["schema"], int):
        raise ManifestError(f"schema: expected {SCHEMA}; found {_shown(top['schema'])}")
    for field in ("created", "description"):
        _text(top.get(field, ""), field)
    parts = _parts(top)
    variants = tuple(
        _variant(item, f"variants[{index}]", parts)
        for index, item in enumerate(_list(top["variants"], "variants", VARIANTS_MAX))
    )
    _unique((variant.name for variant in variants), "variants: name")
    release = Release(
        model=check_name(top["model"], "model"),
        version=check_name(top["version"], "version"),
        variants=variants,
        parts=parts,
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


def choose_variant(
    release: Release,
    device: Mapping[str, Any],
    headroom_percent: int = 0,
    has_locale: Callable[[str], bool] = lambda _name: True,
) -> Variant:
    """Return the first variant, in the release's order of preference, that the device can run.

    ``device`` is what ``facts.device_facts()`` returns; ``headroom_percent`` the percentage of its memory that a
    model must leave; ``has_locale`` says whether it has a locale. A runtime that is not installed (yet) is no reason
    against a variant; one that is older than the variant's minimum is.
    Raises IncompatibleError with the reason against each variant.
    """
    reasons = []
    for variant in release.variants:
        reason = _reason_against(variant, device, headroom_percent, has_locale)
        if reason is None:
            return variant
        reasons.append(f"variant {variant.name}: {reason}")
    raise IncompatibleError(
        f"no variant of {release.model} {release.version} runs on this device: {'; '.join(reasons)}"
    )


def _reason_against(
    variant: Variant, device: Mapping[str, Any], headroom_percent: int, has_locale: Callable[[str], bool]
) -> str | None:
    architecture = device["architecture"]
    if architecture not in variant.architectures:
        return f"built for {', '.join(variant.architectures)}; the device is {architecture}"
    if variant.memory_bytes > device["memory_bytes"] * (100 - headroom_percent) // 100:
        spare = f", of which {headroom_percent}% are to stay free" if headroom_percent else ""
        return f"needs {variant.memory_bytes} bytes of memory; the device has {device['memory_bytes']}{spare}"
    installed = device.get("runtimes", {}).get(variant.runtime)
    if installed is not None and _version_key(installed) < _version_key(variant.runtime_minimum):
        return f"needs {variant.runtime} >= {variant.runtime_minimum}; the device has {installed}"
    missing = next((name for name in variant.locales if not has_locale(name)), None)
    if missing is not None:
        return f"needs the locale {missing}; the device does not have it (Debian: the package locales, and locale-gen)"
    return None


def _version_key(version: str) -> tuple[int, ...]:
    numbers = [int(number) for number in re.findall(r"[0-9]+", version)[:4]]
    return tuple(numbers + [0] * (4 - len(numbers)))


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    _unique((name for name, _value in pairs), "field")
    return dict(pairs)


def _parts(top: Mapping[str, Any]) -> Mapping[str, Part]:
    """The models of the release, sorted by name; without ``parts`` the release is one model."""
    if top.get("parts") is None:
        return {WHOLE: _part(top, "")}
    stray = [name for name in _PART_FIELDS if top.get(name) is not None]
    if stray:
        raise ManifestError(f"{stray[0]}: expected it in one of the parts, as parts.<name>.{stray[0]}")
    parts = {}
    for name, value in sorted(_named(top["parts"], "parts", PARTS_MAX).items()):
        if check_name(name, "parts") in RESERVED_PARTS:
            raise ManifestError(f"parts: expected other names than {', '.join(sorted(RESERVED_PARTS))}; found {name}")
        parts[name] = _part(_fields(value, f"parts.{name}", required=(), optional=_PART_FIELDS), f"parts.{name}.")
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


def _sequences(value: Any, field: str) -> Sequences | None:
    if value is None:
        return None
    item = _fields(value, field, required=("most", "idle_seconds"))
    most, seconds = _count(item["most"], f"{field}.most"), _seconds(item["idle_seconds"], f"{field}.idle_seconds")
    if not 1 <= most <= SEQUENCES_MAX:
        raise ManifestError(f"{field}.most: expected 1 to {SEQUENCES_MAX}; found {most}")
    if seconds is None:
        raise ManifestError(f"{field}.idle_seconds: expected seconds; found none")
    return Sequences(most, seconds)


def _variant(value: Any, field: str, parts: Mapping[str, Part]) -> Variant:
    is_pipeline = WHOLE not in parts
    item = _fields(
        value,
        field,
        required=(
            *("name", "format", "architectures", "runtime", "memory_bytes", "files"),
            "parts" if is_pipeline else "entrypoint",
        ),
        optional=("latency_seconds_max", "libraries", "locales", *(() if is_pipeline else _ENTRY_FIELDS)),
    )
    runtime = _fields(item["runtime"], f"{field}.runtime", required=("name", "minimum"))
    files = tuple(
        _file(entry, f"{field}.files[{index}]")
        for index, entry in enumerate(_list(item["files"], f"{field}.files", FILES_MAX))
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
            for entry in _list(item["architectures"], f"{field}.architectures", VARIANTS_MAX)
        ),
        runtime=check_name(runtime["name"], f"{field}.runtime.name"),
        runtime_minimum=check_name(runtime["minimum"], f"{field}.runtime.minimum"),
        memory_bytes=_count(item["memory_bytes"], f"{field}.memory_bytes"),
        entries=entries,
        files=files,
        libraries=tuple(_member(path, f"{field}.libraries", paths) for path in _optional(item, "libraries", field)),
        locales=tuple(_locale(name, f"{field}.locales") for name in _optional(item, "locales", field)),
        latency_seconds_max=_seconds(item.get("latency_seconds_max"), f"{field}.latency_seconds_max"),
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


def _entries(value: Any, field: str, parts: Mapping[str, Part], paths: set[str]) -> Mapping[str, Entry]:
    """The models of a variant of a pipeline: all of its parts."""
    items = _named(value, field, PARTS_MAX)
    if set(items) != set(parts):
        raise ManifestError(f"{field}: expected {', '.join(sorted(parts))}; found {_shown(sorted(items))}")
    return {
        name: _entry(
            _fields(items[name], f"{field}.{name}", required=("entrypoint",), optional=_ENTRY_FIELDS),
            f"{field}.{name}",
            paths,
        )
        for name in parts
    }


def _entry(item: Mapping[str, Any], field: str, paths: set[str]) -> Entry:
    signature = item.get("signature")
    if signature is not None:
        _text(signature, f"{field}.signature")
    tensors = item.get("tensors")
    names: Mapping[str, Any] = {}
    if tensors is not None:
        names = _fields(tensors, f"{field}.tensors", required=(), optional=("inputs", "outputs"))
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
    names = _named(value, field, TENSORS_MAX)
    for public, own in names.items():
        _text(public, field)
        _text(own, f"{field}.{public}")
    _unique(names.values(), field)
    return dict(names)


def _member(path: Any, field: str, paths: set[str]) -> str:
    if not isinstance(path, str) or path not in paths:
        raise ManifestError(f"{field}: expected the path of one of the variant's files; found {_shown(path)}")
    return path


def _locale(value: Any, field: str) -> str:
    if not isinstance(value, str) or not _LOCALE.match(value):
        raise ManifestError(f"{field}: expected the name of a locale, such as en_US.UTF-8; found {_shown(value)}")
    return value


def _optional(item: Mapping[str, Any], name: str, field: str) -> list[Any]:
    return _list(item[name], f"{field}.{name}", FILES_MAX) if item.get(name) is not None else []


def _named(value: Any, field: str, most: int) -> Mapping[str, Any]:
    if not isinstance(value, Mapping) or not 1 <= len(value) <= most:
        found = f"{len(value)} entries" if isinstance(value, Mapping) else _shown(value)
        raise ManifestError(f"{field}: expected an object with 1 to {most} entries; found {found}")
    return value


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
    item = _fields(value, field, required=("path", "size", "sha256"), optional=("blocks",))
    path = item["path"]
    if not is_file_name(path) or path in RESERVED_NAMES:
        raise ManifestError(
            f"{field}.path: expected a plain file name (no directory, no leading dot or dash, "
            f"not {', '.join(sorted(RESERVED_NAMES))}); found {_shown(path)}"
        )
    sha256 = _sha256(item["sha256"], f"{field}.sha256")
    size = _count(item["size"], f"{field}.size")
    if size == 0:
        raise ManifestError(f"{field}.size: expected at least 1 byte; found 0")
    return File(path, size, sha256, _blocks(item.get("blocks"), f"{field}.blocks", size))


def _blocks(value: Any, field: str, size: int) -> tuple[str, ...]:
    """The digests of a file's blocks."""
    if value is None:
        return ()
    count = -(-size // BLOCK_BYTES)
    if not isinstance(value, list) or len(value) != count or count == 1:
        found = f"{len(value)} entries" if isinstance(value, list) else _shown(value)
        expected = f"{count} entries, one for each {BLOCK_BYTES} bytes" if count > 1 else "none for a file of one block"
        raise ManifestError(f"{field}: expected {expected}; found {found}")
    return tuple(_sha256(digest, f"{field}[{index}]") for index, digest in enumerate(value))


def _sha256(value: Any, field: str) -> str:
    if not isinstance(value, str) or not _SHA256.match(value):
        raise ManifestError(f"{field}: expected 64 lower-case hexadecimal digits; found {_shown(value)}")
    return value


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
