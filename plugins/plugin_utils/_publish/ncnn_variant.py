# Copyright (c) 2026, The edgeml.fleet authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# PRIVATE to the collection edgeml.fleet: no stable interface.

"""The ncnn variant of an ONNX model, made by pnnx, ncnn's own converter."""

from __future__ import annotations

import importlib.util
import os
import shutil
import tempfile
from typing import Any, Mapping, Sequence

from ansible_collections.edgeml.fleet.plugins.module_utils._common.process import (
    CommandError,
    TookTooLongError,
    run_command,
)
from ansible_collections.edgeml.fleet.plugins.module_utils._release.ncnn_file import (
    SUFFIX,
    WEIGHTS_SUFFIX,
    NcnnFile,
    read_ncnn,
)

from .model import Model, PublishError, file_of
from .structure import read_structure
from .variants import NothingToDoError

PACKAGE = "pnnx==20261020"
NAME = "ncnn-fp32"
_SECONDS_MAX = 1800
_LINES_SHOWN = 3
# pnnx finds out which sizes vary by converting for two: the rows do, and ncnn runs them one by one.
_ROWS = (2, 3)


def convert(source: Model, directory: str) -> Model:
    """The model in ncnn's form, with 32-bit weights and with the names of the ONNX file's inputs and outputs.

    Raises NothingToDoError for a model that ncnn cannot serve, PublishError without the converter.
    """
    program = _program()
    shapes, outputs = _interface(source.entrypoint.location)
    with tempfile.TemporaryDirectory(dir=directory) as work:
        for file in source.files:
            shutil.copyfile(file.location, os.path.join(work, file.path))
        graph = _converted(program, work, source.entrypoint.path, shapes)
        names = {f"in{number}": name for number, name in enumerate(shapes)}
        names.update({f"out{number}": name for number, name in enumerate(outputs)})
        paths = [os.path.join(directory, NAME + suffix) for suffix in (SUFFIX, WEIGHTS_SUFFIX)]
        with open(paths[0], "w", encoding="utf-8") as target:
            target.write(str(graph.renamed(names).with_inputs(shapes)))
        weights = os.path.join(work, "made" + WEIGHTS_SUFFIX)
        if not os.path.getsize(weights):
            # No file of a release is empty; ncnn reads no more than its layers have.
            with open(weights, "wb") as empty:
                empty.write(bytes(4))
        shutil.move(weights, paths[1])
    files = tuple(file_of(path, os.path.basename(path)) for path in paths)
    return Model(NAME, "ncnn", files, ("float32 weights, by pnnx",))


def _converted(program: str, work: str, entrypoint: str, shapes: Mapping[str, Sequence[int]]) -> NcnnFile:
    """Run the converter. Raises NothingToDoError with what it said."""
    made = os.path.join(work, "made")
    others = [
        f"{name}={os.path.join(work, 'other')}" for name in ("pnnxparam", "pnnxbin", "pnnxpy", "pnnxonnx", "ncnnpy")
    ]
    sizes = [
        f"inputshape{'' if rows == _ROWS[0] else '2'}="
        + ",".join(f"[{','.join(map(str, (rows, *shape)))}]f32" for shape in shapes.values())
        for rows in _ROWS
    ]
    command = [
        program, os.path.join(work, entrypoint), *sizes, "fp16=0",
        f"ncnnparam={made}{SUFFIX}", f"ncnnbin={made}{WEIGHTS_SUFFIX}", *others,
    ]  # fmt: skip
    try:
        ended = run_command(command, _SECONDS_MAX, shown="pnnx", cwd=work)
    except TookTooLongError as error:
        raise NothingToDoError(str(error)) from error
    except CommandError as error:
        raise NothingToDoError(f"{program}: expected the program pnnx; {error}") from error
    try:
        return read_ncnn(made + SUFFIX)
    except (OSError, ValueError) as error:
        said = (ended.stdout + ended.stderr).strip().splitlines()[-_LINES_SHOWN:]
        raise NothingToDoError(f"pnnx makes no ncnn model of it, code {ended.code}: {' '.join(said)}") from error


def _interface(path: str) -> tuple[dict[str, tuple[int, ...]], list[str]]:
    """The shapes of one sample of the inputs, and the names of the outputs. Raises NothingToDoError."""
    import onnx

    graph: Any = read_structure(path).graph
    constants = {item.name for item in graph.initializer}
    shapes: dict[str, tuple[int, ...]] = {}
    for item in graph.input:
        if item.name in constants:
            continue
        tensor = item.type.tensor_type
        sizes = tuple(size.dim_value for size in tensor.shape.dim)
        if tensor.elem_type != onnx.TensorProto.FLOAT or not 2 <= len(sizes) <= 5 or 0 in sizes[1:] or sizes[0] > 1:
            raise NothingToDoError(
                f"ncnn takes float32 inputs of a fixed size, with any number of rows; found {item.name!r}, "
                f"{onnx.helper.tensor_dtype_to_string(tensor.elem_type)} {list(sizes)} (0: any size)"
            )
        shapes[item.name] = sizes[1:]
    return shapes, [item.name for item in graph.output]


def _program() -> str:
    """The converter, which its package brings along; that is not imported, because it wants PyTorch then."""
    found = importlib.util.find_spec("pnnx")
    if found is None or not found.origin:
        raise PublishError(f"ncnn: its converter is not installed: pip install --no-deps {PACKAGE}")
    return os.path.join(os.path.dirname(found.origin), "pnnx")
