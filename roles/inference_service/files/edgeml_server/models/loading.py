# Copyright (c) 2026, The edgeml.fleet authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""From a model file to something that answers: loaded, tested against its golden file, warmed up."""

from __future__ import annotations

import os
import time
from collections.abc import Mapping
from dataclasses import dataclass, field, replace

from edgeml_device._device.prepared import PreparedModel
from edgeml_device._release.manifest import File, Release, Tolerance, Variant

from edgeml_server.common.errors import ModelError
from edgeml_server.common.log import Log
from edgeml_server.common.memory import trim_heap
from edgeml_server.common.tensors import Array
from edgeml_server.observe.reference import Series, read_reference

from .backend import Backend, BackendOptions, backend_for
from .classes import ClassNames, class_names
from .golden import check_golden, read_golden
from .shapes import ShapeCheckedBackend, SizeRanges

_log = Log(__name__)


@dataclass(frozen=True)
class LoadedModel:
    """A model that passed its test, its golden inputs (None: there are none), and the time that this took.

    ``reference`` is what live tensors are compared with, empty without a reference file; ``classes`` are the names of
    each output's classes; ``prepared``: it was loaded in its prepared form.
    """

    backend: Backend
    inputs: Mapping[str, Array] | None
    reference: tuple[Series, ...]
    classes: ClassNames
    seconds: float
    prepared: bool = False


@dataclass(frozen=True)
class ModelFiles:
    """Where a version's files are: the model itself, and, if the release has them, golden test and reference.

    ``classes`` are the names of classes that its manifest declares, ``tolerances`` what its variant allows its outputs.
    """

    format: str
    model: str
    golden: str | None
    reference: str | None
    classes: ClassNames
    tolerances: Mapping[str, Tolerance] = field(default_factory=dict)


def model_files(directory: str, release: Release, variant: Variant) -> ModelFiles:
    """The files in the directory of a version."""

    def path(file: File | None) -> str | None:
        return None if file is None else os.path.join(directory, file.path)

    model = os.path.join(directory, variant.entrypoint)
    return ModelFiles(
        variant.format, model, path(release.golden), path(release.reference), release.classes, variant.tolerances
    )


def load_best(
    directory: str, files: ModelFiles, options: BackendOptions, prepared: PreparedModel | None
) -> LoadedModel:
    """As ``load``, in the prepared form if there is one for this runtime and it passes the golden test.

    ``directory`` is the version's. Raises ModelError.
    """
    if prepared is not None and prepared.runtime == backend_for(files.format).runtime:
        path = os.path.join(directory, prepared.entrypoint) if prepared.entrypoint else files.model
        try:
            loaded = load(replace(files, model=path), replace(options, settings=prepared.settings))
            return replace(loaded, prepared=True)
        except ModelError as error:
            _log.warning("prepared model not used, the release's own files are", path=path, error=error)
    return load(files, options)


def load(files: ModelFiles, options: BackendOptions) -> LoadedModel:
    """Load a model and run it on its golden inputs, so that no client waits for its first run, which is slow.

    Without golden inputs it does not run: made-up ones do not fit every model, and harm some. Raises ModelError.
    """
    runtime = backend_for(files.format)
    started = time.monotonic()
    backend = runtime(files.model, options)
    try:
        reference: tuple[Series, ...] = ()
        if files.reference is not None:
            reference = read_reference(files.reference, [*backend.inputs, *backend.outputs])
        classes = class_names(files.classes, backend.metadata, backend.outputs)
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
    return LoadedModel(checked, inputs, reference, classes, time.monotonic() - started)
