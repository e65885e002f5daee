# Copyright (c) 2026, The edgeml.fleet authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# PRIVATE to the collection edgeml.fleet: no stable interface.

"""What a release is: its variants, their models, and the files of both. Pure."""

from __future__ import annotations

from typing import Any, Mapping, NamedTuple

# The part of a release that is one model, and so has no parts.
WHOLE = ""
# What a release is.
MODEL = "model"
IMAGE = "image"
PACKAGES = "packages"
KINDS = (MODEL, IMAGE, PACKAGES)
# Of each kind that is no model: the format of its variants, and the file that says what it is.
IMAGE_FORMAT = "oci"
# The formats of microcontrollers: their firmware, and a model alone; and which of a bootloader's images each is.
MCU_IMAGES = {"mcu-image": 0, "mcu-model": 1}
IMAGE_ENTRYPOINT = "manifest.json"
PACKAGES_FORMAT = "deb"
PACKAGES_ENTRYPOINT = "packages.json"
FORMATS = {IMAGE: IMAGE_FORMAT, PACKAGES: PACKAGES_FORMAT}
ENTRYPOINTS = {IMAGE: IMAGE_ENTRYPOINT, PACKAGES: PACKAGES_ENTRYPOINT}


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


class BootImage(NamedTuple):
    """What the bootloader of a microcontroller has to know of a variant's file: its ``hash`` (the SHA-256, in lower
    case hexadecimal, that its signer gave it), its ``version`` as imgtool spells it, and its ``security_counter``: one
    that is lower than the device's is not run. ``operators`` are those that a model needs of the firmware."""

    hash: str
    version: str
    security_counter: int
    operators: tuple[str, ...] = ()


class Variant(NamedTuple):
    """A release for one kind of device.

    ``memory_bytes`` is what serving it needs, beside the server itself. ``entries`` are its models by part,
    ``libraries`` the files with custom operators, ``locales`` what must be installed on the device;
    ``latency_seconds_max`` is what one run of its golden inputs may take there, if the release says. ``boot`` is there
    in the formats of MCU_IMAGES.
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
    boot: BootImage | None = None


class SequenceLimits(NamedTuple):
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
    sequences: SequenceLimits | None

    @property
    def files(self) -> tuple[File, ...]:
        """Golden file, probe set and reference, those that there are."""
        return tuple(file for file in (self.golden, self.probe, self.reference) if file is not None)


class Release(NamedTuple):
    """One version of one model, or of several that belong together. ``digest`` identifies the manifest's content,
    whatever its formatting; ``parts`` are the models by name, of a release of one model ``WHOLE`` alone; ``documents``
    are files about the release, by name, which devices do not fetch. ``kind`` is one of KINDS; the ``model`` of what is
    no model is the name that all of its versions have."""

    model: str
    version: str
    variants: tuple[Variant, ...]
    parts: Mapping[str, Part]
    digest: str
    document: Mapping[str, Any]
    documents: Mapping[str, File] = {}
    kind: str = MODEL

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
