# Copyright (c) 2026, The edgeml.fleet authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# PRIVATE to the collection edgeml.fleet: no stable interface.

"""Where a release comes from: a model's file, or a recipe that makes one."""

from __future__ import annotations

import json
import os
import sys
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, Mapping

from ansible_collections.edgeml.fleet.plugins.module_utils._common.process import ProcessGroup

from .memory import trim_heap
from .model import Model, ModelFile, PublishError, couples_rows, file_of, first_line
from .structure import read_structure

if TYPE_CHECKING:
    import numpy as np

    Array = np.ndarray[Any, Any]

FORMATS = {".onnx": "onnx", ".ort": "onnx", ".tflite": "tflite"}
RECIPE = ".py"
_RUNNER = os.path.join(os.path.dirname(os.path.abspath(__file__)), "recipe_runner.py")
_LINES_SHOWN = 12


@dataclass(frozen=True)
class Source:
    """The model as it was trained. ``reference`` has the outputs of the source framework, where a recipe gives them.

    ``materials`` are the files that it was made of; ``packages`` the versions of a recipe's environment.
    """

    model: Model
    materials: tuple[ModelFile, ...]
    reference: Mapping[str, Array] = field(default_factory=dict)
    packages: Mapping[str, str] = field(default_factory=dict)


def read_source(path: str, known: ModelFile | None = None) -> Source:
    """Read a model's file, and find the files that it names. ``known``: the file, where it was read already.

    Raises PublishError.
    """
    suffix = os.path.splitext(path)[1]
    if suffix not in FORMATS:
        raise PublishError(f"{path}: expected a source {', '.join(FORMATS)} or a recipe {RECIPE}")
    try:
        entrypoint = replace(known or file_of(path), path=f"model{suffix}")
        if not entrypoint.size:
            raise PublishError(f"{path}: expected a model; found an empty file")
        files = [entrypoint, *(_external_files(path) if suffix == ".onnx" else [])]
    except OSError as error:
        raise PublishError(f"{path}: expected a model; {error.strerror}") from error
    coupled = suffix == ".onnx" and couples_rows(path)
    model = Model(f"{FORMATS[suffix]}-source", FORMATS[suffix], tuple(files), couples_rows=coupled)
    return Source(model, tuple(files))


def run_recipe(path: str, directory: str, *, python: str | None, samples: str) -> Source:
    """Run a recipe in a process of its own, with ``python``, and read what it exported into ``directory``.

    ``samples`` is a ``.npz`` file, from which the recipe's ``reference(inputs)`` computes the outputs of the source
    framework, if it has that function. Raises PublishError, with the last lines that the recipe printed.
    """
    import numpy as np

    recipe = file_of(path)
    outputs, about = (os.path.join(directory, name) for name in ("reference.npz", "about.json"))
    exported = os.path.join(directory, "export")
    os.makedirs(exported)
    command = [python or sys.executable, "-B", _RUNNER, os.path.abspath(path), exported, samples, outputs, about]
    environment = {name: value for name, value in os.environ.items() if not name.startswith("PYTHON")}
    try:
        with ProcessGroup(command, env=environment, cwd=os.path.dirname(os.path.abspath(path))) as process:
            code, stdout, stderr = process.outcome(None)
    except OSError as error:
        raise PublishError(f"{path}: {command[0]}: cannot be started: {error}") from error
    if code != 0:
        lines = (stdout + stderr).strip().splitlines()[-_LINES_SHOWN:]
        raise PublishError(f"{path}: the recipe failed with code {code}:\n" + "\n".join(lines))
    models = [name for name in sorted(os.listdir(exported)) if os.path.splitext(name)[1] in FORMATS]
    if len(models) != 1:
        raise PublishError(
            f"{path}: expected export(directory) to write one model ({', '.join(FORMATS)}) there; "
            f"found {', '.join(models) or 'none'}"
        )
    made = read_source(os.path.join(exported, models[0]))
    reference: dict[str, Array] = {}
    if os.path.exists(outputs):
        with np.load(outputs, allow_pickle=False) as archive:
            reference = {name: archive[name] for name in archive.files}
    with open(about, encoding="utf-8") as file:
        packages = json.load(file)["packages"]
    return Source(made.model, (recipe, *made.materials), reference, packages)


def _external_files(path: str) -> list[ModelFile]:
    """The files beside an ONNX model that have its weights. Raises PublishError for one that cannot be in a release."""
    from onnx.external_data_helper import ExternalDataInfo, _get_all_tensors, uses_external_data

    try:
        tensors = [tensor for tensor in _get_all_tensors(read_structure(path)) if uses_external_data(tensor)]
        names = sorted({ExternalDataInfo(tensor).location for tensor in tensors})
        trim_heap()
    except Exception as error:
        raise PublishError(f"{path}: not an ONNX model that can be published: {first_line(error)}") from error
    stray = [name for name in names if os.path.basename(name) != name or name.startswith((".", "-"))]
    if stray:
        raise PublishError(
            f"{path}: expected its weights in files beside it; found {stray[0]!r}. Save it again: "
            'onnx.save(model, path, save_as_external_data=True, location="weights.bin")'
        )
    return [file_of(os.path.join(os.path.dirname(path), name), name) for name in names]
