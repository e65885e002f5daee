# Copyright (c) 2026, The edgeml.fleet authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The golden test of a release: does this runtime compute what the exporter computed?"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np
from edgeml_device._release.release import Tolerance

from edgeml_server.common.errors import InvalidRequestError, ModelError
from edgeml_server.common.tensors import DTYPES, Array, TensorSpec, datatype_of, from_json, is_whole

from .backend import Backend
from .inference import parse_inputs
from .shapes import SizeRange, SizeRanges


class Golden(NamedTuple):
    """The content of a golden file: inputs, expected outputs, and the tolerance of each."""

    path: str
    inputs: Mapping[str, Array]
    expected: Mapping[str, Array]
    tolerances: Mapping[str, Tolerance]
    size_ranges: SizeRanges


def read_golden(backend: Backend, path: str, tolerances: Mapping[str, Tolerance]) -> Golden:
    """Read the golden file at ``path``, made for the model in ``backend``. Raises ModelError when it is not.

    ``tolerances`` are those of the variant; they come before the file's.
    """
    try:
        with open(path, "rb") as file:
            document = json.load(file)
        golden = Golden(
            path=path,
            inputs=parse_inputs(backend.inputs, document["inputs"]),
            expected={str(item["name"]): _expected(item) for item in document["outputs"]},
            tolerances={
                **{str(item["name"]): _tolerance(item, document["tolerance"]) for item in document["outputs"]},
                **tolerances,
            },
            size_ranges={
                item["name"]: _size_ranges(item) for item in document["inputs"] if item.get("size_ranges") is not None
            },
        )
    except (OSError, ValueError, KeyError, TypeError, RecursionError, InvalidRequestError) as error:
        raise ModelError(f"{path}: not a golden test for this model: {error!r}") from error
    known, found = {spec.name for spec in backend.outputs}, set(golden.expected)
    if not found or not found <= known:
        raise ModelError(
            f"{path}: outputs: expected names among {', '.join(sorted(known))}; found {sorted(golden.expected)}"
        )
    return golden


def check_golden(backend: Backend, golden: Golden) -> None:
    """Run the golden inputs and compare the outputs.

    Raises ModelError, which names the output, the place, what was expected and what came.
    """
    try:
        actual = dict(zip(golden.expected, backend.run(golden.inputs, list(golden.expected))))
    except Exception as error:
        raise ModelError(f"{golden.path}: golden test: the model fails on the golden inputs: {error}") from error
    for name, wanted in golden.expected.items():
        _compare(name, wanted, actual[name], golden.tolerances[name])


def _tolerance(item: Mapping[str, Any], common: Mapping[str, Any]) -> Tolerance:
    """The tolerance of an output: its own; what that leaves out is from the file's, except ``steps``."""
    own = item.get("tolerance") or {}
    unknown = set(own) - set(Tolerance._fields)
    steps = own.get("steps", 0)
    if unknown or not is_whole(steps) or steps < 0 or (steps and DTYPES[item["datatype"]].kind not in "iu"):
        raise ValueError(
            f"{item['name']}: tolerance: expected absolute and relative, or steps of a whole number; found {own!r}"
        )
    both = {**common, **own}
    return Tolerance(float(both["absolute"]), float(both["relative"]), steps)


def _size_ranges(item: Mapping[str, Any]) -> list[SizeRange]:
    """The sizes that each dimension of the input may have; ``[least, null]`` sets no largest."""
    found = item["size_ranges"]
    ranges = [SizeRange(least, most) for least, most in found]
    numbers = [number for pair in ranges for number in pair if number is not None]
    usable = all(is_whole(number) and number >= 0 for number in numbers) and None not in [each.least for each in ranges]
    if not usable or len(ranges) != len(item["shape"]):
        raise ValueError(
            f"{item['name']}: size_ranges: expected a pair of sizes for each of {len(item['shape'])} dimensions; "
            f"found {found!r}"
        )
    return ranges


def _expected(item: Mapping[str, Any]) -> Array:
    shape = tuple(int(size) for size in item["shape"])
    return from_json(TensorSpec(item["name"], item["datatype"], shape), shape, item["data"])


def _compare(name: str, expected: Array, actual: Array, tolerance: Tolerance) -> None:
    found = (datatype_of(actual), list(actual.shape))
    wanted = (datatype_of(expected), list(expected.shape))
    if found != wanted:
        raise ModelError(f"golden test: output {name!r}: expected {wanted[0]} {wanted[1]}; found {found[0]} {found[1]}")
    if expected.dtype.kind == "f":
        with np.errstate(invalid="ignore", over="ignore"):
            wide = expected.astype(np.float64)
            near = np.abs(actual.astype(np.float64) - wide) <= tolerance.absolute + tolerance.relative * np.abs(wide)
        same = near | (actual == expected) | (np.isnan(actual) & np.isnan(expected))
        allowed = f"{tolerance.absolute:g} absolute + {tolerance.relative:g} relative"
    elif expected.dtype.kind in "iu":
        # The difference of two whole numbers of 64 bits fits only one without a sign.
        larger, smaller = np.maximum(actual, expected), np.minimum(actual, expected)
        same = larger.astype(np.uint64) - smaller.astype(np.uint64) <= tolerance.steps
        allowed = f"{tolerance.steps} steps"
    else:
        same = np.asarray(actual == expected)
        allowed = "none"
    if not same.all():
        first = tuple(int(index) for index in np.argwhere(~same)[0])
        raise ModelError(
            f"golden test: output {name!r} at {list(first)}: expected {_printed(expected[first])}, "
            f"found {_printed(actual[first])} (tolerance {allowed}); "
            f"{int(np.count_nonzero(~same))} of {same.size} values differ"
        )


def _printed(value: Any) -> str:
    """A value for an error, which is UTF-8 whatever a text of the model is."""
    return str(value).encode("utf-8", "backslashreplace").decode("utf-8")
