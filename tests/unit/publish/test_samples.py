# Copyright (c) 2026, The edgeml.fleet authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Samples as arrays of other types than the model's inputs."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from ansible_collections.edgeml.fleet.plugins.module_utils._release.arrays import all_values, read_npz
from ansible_collections.edgeml.fleet.plugins.plugin_utils._publish.samples import (
    Samples,
    SamplesError,
    fitted,
    read_samples,
    write_inputs,
)

TEXT = [{"name": "text", "datatype": "BYTES", "shape": [-1]}]


def texts(*values: str | bytes) -> Samples:
    return Samples("samples.npz", {"text": np.array(values)}, None, {}, {})


def test_texts_may_be_arrays_of_bytes() -> None:
    words = ["caf\u00e9", "t\u00fcr", ""]
    fit = fitted(texts(*[word.encode("utf-8") for word in words]), TEXT).inputs["text"]
    assert fit.dtype.kind == "U"
    assert fit.tolist() == fitted(texts(*words), TEXT).inputs["text"].tolist() == words


def test_bytes_that_are_no_text_are_refused() -> None:
    with pytest.raises(SamplesError, match=r"samples\.npz: text: expected texts in UTF-8: .*0xff"):
        fitted(texts(b"\xff\xd8"), TEXT)


@pytest.mark.parametrize("shape", [[4], []])
def test_a_model_without_an_axis_for_samples_is_told_how_to_get_one(shape: list[int]) -> None:
    samples = Samples("samples.npz", {"x": np.zeros((400, *shape), np.float32)})
    with pytest.raises(SamplesError, match=r"expected the shape \[4?\] .*; found \[400.*\]\. The model has no axis"):
        fitted(samples, [{"name": "x", "datatype": "FP32", "shape": shape}])


@pytest.mark.parametrize(
    "labels",
    [
        np.asfortranarray(np.arange(6.0).reshape(3, 2)),
        np.arange(3.0).astype(">f8"),
        np.arange(3).astype(">i2"),
        np.arange(3.0).astype(np.longdouble),
        np.array(["a", "bc", "d"]).astype(">U2"),
        np.array([b"a", b"bc", b"d"]),
    ],
    ids=["Fortran order", "big-endian numbers", "big-endian whole numbers", "more than 64 bits", "texts", "bytes"],
)
def test_labels_are_as_devices_read_them(tmp_path: Path, labels: Any) -> None:
    path = str(tmp_path / "samples.npz")
    np.savez(path, x=np.zeros(3), labels=labels)
    found = read_samples(path).labels
    assert found is not None
    device = str(tmp_path / "probe.npz")
    np.savez(device, labels=found)
    wanted = labels.astype(str) if labels.dtype.kind == "S" else labels
    assert all_values(read_npz(device)["labels"]) == wanted.reshape(-1).tolist()


@pytest.mark.parametrize(
    ("found", "shape", "remedy"),
    [
        ([5], [-1, 1], ". Give it the missing axis: x.reshape(-1, 1)"),
        ([5, 8, 8], [-1, 1, 8, 8], ". Give it the missing axis: x.reshape(-1, 1, 8, 8)"),
        ([5, 8], [-1, 8, 8], ""),
        ([5], [-1, 1, 1], ""),
        ([5, 8], [-1, 1, -1], ""),
    ],
)
def test_samples_that_lack_an_axis_are_refused_with_how_to_give_it(
    found: list[int], shape: list[int], remedy: str
) -> None:
    """Such as the columns of a data frame, and images without their one channel."""
    samples = Samples("samples.npz", {"x": np.zeros(found, np.float32)})
    with pytest.raises(SamplesError) as refused:
        fitted(samples, [{"name": "x", "datatype": "FP32", "shape": shape}])
    assert str(refused.value) == f"samples.npz: x: expected the shape {shape} (-1: any size); found {found}{remedy}"


@pytest.mark.parametrize("written", ["input:0", "input:input:0"])
def test_tensorflows_name_of_an_input_begins_as_the_prefix_does(tmp_path: Path, written: str) -> None:
    path = tmp_path / "holdout.npz"
    arrays: dict[str, Any] = {written: np.zeros((3, 2), np.float32), "input:size": np.ones(3, np.float32)}
    np.savez(path, **arrays)
    specs = [
        {"name": "input:0", "datatype": "FP32", "shape": [-1, 2]},
        {"name": "size", "datatype": "FP32", "shape": [-1]},
    ]
    found = fitted(read_samples(str(path)), specs).inputs
    assert {name: values.shape for name, values in found.items()} == {"input:0": (3, 2), "size": (3,)}


def test_inputs_may_have_any_names(tmp_path: Path) -> None:
    path = str(tmp_path / "inputs.npz")
    names = ("file", "allow_pickle", "arr_0", "serving/default:0")
    inputs = {name: np.full(2, place, np.float32) for place, name in enumerate(names)}
    write_inputs(path, inputs)
    with np.load(path, allow_pickle=False) as archive:
        assert {name: archive[name].tolist() for name in archive.files} == {
            name: values.tolist() for name, values in inputs.items()
        }


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        ({"labels": np.array(["2020-01-01"] * 3, "datetime64[D]")}, "labels: expected numbers, .*; found datetime64"),
        ({"x": np.zeros((3, 4), "c8")}, "x: expected numbers, booleans or texts; found complex64"),
        ({"gain": np.float32(2)}, r"expected as many rows in each array, one for each sample; found .*gain \[\]"),
        ({"x": np.zeros((0, 4)), "labels": np.zeros(0)}, "expected arrays with a row for each sample; found no row"),
    ],
)
def test_arrays_that_are_no_samples(tmp_path: Path, change: dict[str, Any], expected: str) -> None:
    path = tmp_path / "samples.npz"
    arrays: dict[str, Any] = {"x": np.zeros((3, 4)), "labels": np.array([0, 1, 2]), **change}
    np.savez(path, **arrays)
    with pytest.raises(SamplesError, match=expected):
        read_samples(str(path))


def test_labels_may_be_arrays_of_bytes(tmp_path: Path) -> None:
    np.savez(tmp_path / "samples.npz", x=np.zeros(2), labels=np.array(["caf\u00e9".encode(), b"tea"]))
    labels = read_samples(str(tmp_path / "samples.npz")).labels
    assert labels is not None
    assert labels.tolist() == ["caf\u00e9", "tea"]
