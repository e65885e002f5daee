# Copyright (c) 2026, The edgeml.fleet authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# PRIVATE to the collection edgeml.fleet: no stable interface.

"""What the parts of a publication share: a model with its files, and how refusals and progress are said."""

from __future__ import annotations

import os
import sys
import time
from dataclasses import dataclass, field
from typing import Any, TextIO

from ansible_collections.edgeml.fleet.plugins.module_utils._common.errors import EdgemlError
from ansible_collections.edgeml.fleet.plugins.module_utils._common.hashing import BlockDigests, read_hashed
from ansible_collections.edgeml.fleet.plugins.module_utils._release.onnx_file import Operator, read_onnx

# The directory of the collection: plugins/plugin_utils/_publish/ is three levels below it.
COLLECTION = os.path.dirname(os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__)))))
RUNTIMES = {"ncnn": "ncnn", "onnx": "onnxruntime", "tflite": "ai-edge-litert"}


class RefusedError(EdgemlError):
    """The release is not published. ``reasons`` has every reason, ``table`` what was measured of the variants."""

    def __init__(self, reasons: list[str], table: list[dict[str, Any]] | None = None) -> None:
        super().__init__("\n".join(reasons))
        self.reasons = reasons
        self.table = table or []


class PublishError(EdgemlError):
    """A step of a publication failed; the text says which, and why."""


@dataclass(frozen=True)
class ModelFile:
    """One file of a model: where it is, and what the manifest says of it."""

    location: str
    path: str
    size: int
    sha256: str
    blocks: tuple[str, ...] = ()

    def entry(self) -> dict[str, Any]:
        """The file's entry in the manifest."""
        blocks = {"blocks": list(self.blocks)} if self.blocks else {}
        return {"path": self.path, "size": self.size, "sha256": self.sha256, **blocks}


@dataclass(frozen=True)
class Model:
    """A model in one format; the first of ``files`` is the one that the runtime opens.

    ``notes`` say how it was made. ``details`` are figures of that, for the report. ``couples_rows``: a row's answer
    depends on the others that run with it, so that devices never run those of several requests together.
    """

    name: str
    format: str
    files: tuple[ModelFile, ...]
    notes: tuple[str, ...] = ()
    details: dict[str, Any] = field(default_factory=dict)
    couples_rows: bool = False

    @property
    def size(self) -> int:
        """The bytes of all files."""
        return sum(file.size for file in self.files)

    @property
    def entrypoint(self) -> ModelFile:
        """The file that the runtime opens."""
        return self.files[0]


def couples_rows(path: str) -> bool:
    """Whether the rows of a batch depend on each other in the ONNX model at ``path``; no for what is none."""
    try:
        return read_onnx(path).couples_rows
    except ValueError:
        return False


def random_operators(model: Model) -> list[Operator]:
    """The operators of an ONNX model that draw random numbers; none of what is no ONNX file."""
    try:
        return read_onnx(model.entrypoint.location).random_operators
    except ValueError:
        return []


def file_of(location: str, path: str | None = None) -> ModelFile:
    """Describe the file at ``location``, read once; ``path`` is its name in the release. Raises OSError."""
    blocks = BlockDigests()
    with open(location, "rb") as source:
        size = os.fstat(source.fileno()).st_size
        digest = read_hashed(source, size, location, blocks)
    return ModelFile(location, path or os.path.basename(location), size, digest, blocks.found())


def first_line(error: BaseException) -> str:
    """What an error says, shortened; of one that says nothing its kind."""
    return (str(error).strip().splitlines() or [type(error).__name__])[0][:300]


class Progress:
    """Says each step when it begins, with the time since the start."""

    def __init__(self, stream: TextIO | None = None) -> None:
        self._stream = stream if stream is not None else sys.stderr
        self._began = time.monotonic()

    def step(self, text: str) -> None:
        """Say that a step begins."""
        # In one write: steps may begin side by side.
        self._stream.write(f"[{time.monotonic() - self._began:6.1f} s] {text}\n")
        self._stream.flush()
