# Copyright (c) 2026, The edgeml.fleet authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""From a model file to something that answers: loaded, tested against its golden file, warmed up."""

from __future__ import annotations

import functools
import os
import time
from collections.abc import Mapping
from dataclasses import dataclass, replace
from types import MappingProxyType
from typing import NamedTuple

from edgeml_device._device.prepared import PreparedModel
from edgeml_device._release.release import File, Release, SequenceLimits, Tolerance, Variant

from edgeml_server.common.errors import ModelError
from edgeml_server.common.log import Log
from edgeml_server.common.memory import trim_heap
from edgeml_server.common.tensors import Array
from edgeml_server.observe.answers import AnswerForm
from edgeml_server.observe.reference import Series, read_reference

from .backend import Backend, BackendOptions, backend_for
from .classes import ClassNames, class_names
from .golden import check_golden, read_golden
from .quick_calls import QuickCalls
from .renamed import RenamedBackend
from .sequences import Sequences
from .shapes import ShapeCheckedBackend, SizeRanges

_log = Log(__name__)


@dataclass(frozen=True)
class LoadedModel:
    """A model that passed its test, its golden inputs (None: there are none), and the time that this took.

    ``reference`` is what live tensors are compared with, empty without a reference file; ``classes`` are the names of
    each output's classes; ``prepared``: it was loaded in its prepared form; ``sequences``: those of a model whose
    release asks for them; ``form``: what the release says of its answers, where that was asked for.
    """

    backend: Backend
    inputs: Mapping[str, Array] | None
    reference: tuple[Series, ...]
    classes: ClassNames
    seconds: float
    prepared: bool = False
    sequences: Sequences | None = None
    form: AnswerForm | None = None

    @functools.cached_property
    def calls(self) -> QuickCalls:
        """How long its calls take."""
        return QuickCalls(self.backend.bounded and self.sequences is None)


class ModelFiles(NamedTuple):
    """Where the files of one model of a version are: the model itself, and, if there are, golden test, drift
    reference and probe set.

    The rest is what the manifest declares: the names of classes, the libraries with custom operators, the signature,
    the file's own names of tensors by their public ones, what the variant allows its outputs, and how many sequences a
    model that keeps state serves.
    """

    format: str
    model: str
    golden: str | None = None
    reference: str | None = None
    probe: str | None = None
    classes: ClassNames = MappingProxyType({})
    libraries: tuple[str, ...] = ()
    signature: str | None = None
    inputs: Mapping[str, str] = MappingProxyType({})
    outputs: Mapping[str, str] = MappingProxyType({})
    tolerances: Mapping[str, Tolerance] = MappingProxyType({})
    sequences: SequenceLimits | None = None


def model_files(directory: str, release: Release, variant: Variant) -> dict[str, ModelFiles]:
    """The files in the directory of a version, by part."""

    def path(file: File | None) -> str | None:
        return None if file is None else os.path.join(directory, file.path)

    found = {}
    for name, part in release.parts.items():
        entry = variant.entries[name]
        found[name] = ModelFiles(
            format=variant.format,
            model=os.path.join(directory, entry.entrypoint),
            golden=path(part.golden),
            reference=path(part.reference),
            probe=path(part.probe),
            classes=part.classes,
            libraries=tuple(os.path.join(directory, library) for library in variant.libraries),
            signature=entry.signature,
            inputs=entry.inputs,
            outputs=entry.outputs,
            tolerances=entry.tolerances,
            sequences=part.sequences,
        )
    return found


def load_parts(
    files: Mapping[str, ModelFiles], options: BackendOptions, directory: str = "", prepared: PreparedModel | None = None
) -> dict[str, LoadedModel]:
    """Load all models of the version in ``directory``, by part, in their prepared form where there is one.

    Raises ModelError, which names the part, and then keeps none.
    """
    loaded: dict[str, LoadedModel] = {}
    try:
        for name, part in files.items():
            loaded[name] = load_best(directory, part, options, prepared.part(name) if prepared else None)
    except Exception as error:
        for other in loaded.values():
            other.backend.close()
        if name and isinstance(error, ModelError):
            raise ModelError(f"part {name!r}: {error}") from error
        raise
    return loaded


def load_best(
    directory: str, files: ModelFiles, options: BackendOptions, prepared: PreparedModel | None
) -> LoadedModel:
    """As ``load``, in the prepared form if there is one for this runtime and it passes the golden test.

    ``directory`` is the version's. Raises ModelError.
    """
    if prepared is not None and prepared.runtime == backend_for(files.format).runtime_with(options):
        path = os.path.join(directory, prepared.entrypoint) if prepared.entrypoint else files.model
        try:
            loaded = load(files._replace(model=path), options._replace(settings=prepared.settings))
            return replace(loaded, prepared=True)
        except ModelError as error:
            _log.warning("prepared model not used, the release's own files are", path=path, error=error)
    return load(files, options)


def options_for(files: ModelFiles, options: BackendOptions) -> BackendOptions:
    """The options with what the manifest says of the model."""
    return options._replace(libraries=files.libraries, signature=files.signature)


def load(files: ModelFiles, options: BackendOptions) -> LoadedModel:
    """Load a model and run it on its golden inputs, so that no client waits for its first run, which is slow.

    Without golden inputs it does not run: made-up ones do not fit every model, and harm some. Raises ModelError.
    """
    runtime = backend_for(files.format)
    started = time.monotonic()
    backend = runtime(files.model, options_for(files, options))
    try:
        if files.inputs or files.outputs:
            backend = RenamedBackend(backend, files.inputs, files.outputs)
        if files.sequences is not None:
            backend.with_own_state().close()
        reference: tuple[Series, ...] = ()
        if files.reference is not None:
            reference = read_reference(files.reference, [*backend.inputs, *backend.outputs])
        classes = class_names(files.classes, backend.classes, backend.metadata, backend.outputs)
        inputs: Mapping[str, Array] | None = None
        size_ranges: SizeRanges = {}
        if files.golden is not None:
            golden = read_golden(backend, files.golden, files.tolerances)
            check_golden(backend, golden)
            inputs, size_ranges = golden.inputs, golden.size_ranges
    except Exception:
        backend.close()
        trim_heap()
        raise
    checked = ShapeCheckedBackend(backend, inputs, size_ranges)
    sequences = Sequences(checked.with_own_state, files.sequences) if files.sequences is not None else None
    return LoadedModel(checked, inputs, reference, classes, time.monotonic() - started, sequences=sequences)
