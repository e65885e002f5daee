# Copyright (c) 2026, The edgeml.fleet authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""From files of devices to a dataset: what is chosen, in which order, and that NumPy and publishing read it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from ansible_collections.edgeml.fleet.plugins.module_utils._release.collected_input import (
    CollectedInput,
    CollectedInputError,
    Tensor,
    pack,
)
from ansible_collections.edgeml.fleet.plugins.plugin_utils._collected.dataset import (
    counts,
    dataset_directory,
    make_dataset,
    models,
    write_dataset,
)
from ansible_collections.edgeml.fleet.plugins.plugin_utils._collected.inbox import Inbox, InboxError
from ansible_collections.edgeml.fleet.plugins.plugin_utils._publish.samples import read_samples


def item(*values: float, label: Any = None, time: float = 1.0, words: str | None = None) -> CollectedInput:
    data = np.array(values, "<f4")
    tensors = [Tensor("image", "FP32", (len(values),), data.tobytes())]
    if words is not None:
        text = words.encode("utf-8", "surrogateescape")
        tensors.append(Tensor("word", "BYTES", (), len(text).to_bytes(4, "little") + text))
    return CollectedInput("digits", "1.0.0", time, ("disagreeing",), tuple(tensors), 3, label)


def store(directory: Path, device: str, *items: CollectedInput) -> None:
    inbox = Inbox(str(directory), device)
    with inbox.hold():
        for each in items:
            inbox.store(each.model, each.digest, pack(each))


def make(directory: Path, **options: Any) -> tuple[Path, dict[str, Any]]:
    """Write the dataset, twice; return where it is, and its description."""
    options = {"missing_values": False, **options}
    assert write_dataset(str(directory), make_dataset(str(directory), "digits", **options)) is not None
    assert write_dataset(str(directory), make_dataset(str(directory), "digits", **options)) is None
    place = Path(dataset_directory(str(directory), "digits"))
    return place, json.loads((place / "dataset.json").read_text())


def test_publishing_reads_what_is_written(tmp_path: Path) -> None:
    store(tmp_path, "edge-1", item(1, 2, label=4), item(3, 4, label=5), item(5, 6))
    place, document = make(tmp_path)
    labelled, unlabelled = (read_samples(str(place / f"{name}.npz")) for name in ("labelled", "unlabelled"))
    assert labelled.labels is not None
    found = {
        tuple(row): int(label) for row, label in zip(labelled.inputs["image"].tolist(), labelled.labels, strict=True)
    }
    assert found == {(1, 2): 4, (3, 4): 5}
    assert labelled.inputs["image"].dtype == np.float32
    assert labelled.labels.dtype == np.int64
    assert (unlabelled.inputs["image"].tolist(), unlabelled.labels) == ([[5, 6]], None)
    assert [entry["label"] for entry in document["labelled"]] == labelled.labels.tolist()
    assert document["unlabelled"][0] == {
        "sha256": item(5, 6).digest,
        "device": "edge-1",
        "version": "1.0.0",
        "time": 1.0,
        "reasons": ["disagreeing"],
        "predicted": 3,
        "label": None,
    }
    assert (place / "labelled.npz").stat().st_mode & 0o777 == 0o600


def test_the_same_inputs_are_the_same_bytes_however_they_came(tmp_path: Path) -> None:
    items = [item(number, -number, label=number) for number in range(9)]
    store(tmp_path / "a", "edge-1", *items)
    for each in reversed(items):
        store(tmp_path / "b", "edge-1", each)
    first, second = (make(tmp_path / name)[0] for name in "ab")
    for name in ("labelled.npz", "dataset.json"):
        assert (first / name).read_bytes() == (second / name).read_bytes()


def test_one_input_of_two_devices_is_one_row_the_labelled_one(tmp_path: Path) -> None:
    store(tmp_path, "edge-1", item(1, 2, time=9))
    store(tmp_path, "edge-2", item(1, 2, label=7, time=2))
    store(tmp_path, "edge-3", item(1, 2, label=8, time=3))
    _place, document = make(tmp_path)
    assert [(row["device"], row["label"]) for row in document["labelled"]] == [("edge-3", 8)]
    assert counts(document) == {"labelled": 1, "unlabelled": 0, "left_out": {"the same input again": 2}}


def test_what_no_array_can_have_is_left_out_and_counted(tmp_path: Path) -> None:
    store(
        tmp_path,
        "edge-1",
        *(item(number, 0, label=1) for number in range(3)),
        item(1, 2, 3, label=1),
        item(9, 0, label="nine"),
        item(float("inf"), 0, label=1),
        item(float("nan"), 0, label=1),
    )
    damaged = next(tmp_path.glob("inbox/edge-1/digits/*.input"))
    place, document = make(tmp_path)
    assert counts(document)["labelled"] == 3
    assert document["left_out"] == {
        "another kind of label than most": 1,
        "infinite values": 1,
        "missing values (NaN)": 1,
        "other inputs or shapes than most": 1,
    }
    assert len(make(tmp_path, missing_values=True)[1]["labelled"]) == 4
    assert read_samples(str(place / "labelled.npz"), missing_values=True).rows == 4
    damaged.write_bytes(damaged.read_bytes()[:-1])
    assert make(tmp_path)[1]["left_out"]["damaged"] == 1


def test_texts(tmp_path: Path) -> None:
    store(tmp_path, "edge-1", item(1, words="Zürich", label="a"), item(2, words="", label="bb"))
    store(tmp_path, "edge-2", item(3, words="\udcff", label="c"), item(4, words="x" * 70_000, label="d"))
    place, document = make(tmp_path)
    samples = read_samples(str(place / "labelled.npz"))
    assert samples.labels is not None
    found = dict(zip(samples.inputs["word"].tolist(), samples.labels.tolist(), strict=True))
    assert found == {"Zürich": "a", "": "bb"}
    assert document["left_out"] == {"texts of more than 65536 characters": 1, "texts that are not UTF-8": 1}


def test_what_is_removed_of_a_device_leaves_the_dataset(tmp_path: Path) -> None:
    store(tmp_path, "edge-1", item(1, 2, label=4))
    place, _document = make(tmp_path)
    (path,) = tmp_path.glob("inbox/edge-1/digits/*.input")
    path.unlink()
    assert models(str(tmp_path)) == ["digits"]
    assert make(tmp_path)[1]["labelled"] == []
    assert not (place / "labelled.npz").exists()


def test_a_dataset_that_somebody_changed_is_made_again(tmp_path: Path) -> None:
    store(tmp_path, "edge-1", item(1, 2, label=4))
    path = make(tmp_path)[0] / "labelled.npz"
    whole = path.read_bytes()
    path.write_bytes(whole[:-1])
    dataset = make_dataset(str(tmp_path), "digits", missing_values=False)
    assert write_dataset(str(tmp_path), dataset, check=True) is not None
    assert path.read_bytes() == whole[:-1]
    make(tmp_path)
    assert path.read_bytes() == whole


def test_the_inbox_takes_only_what_is_as_it_is_called(tmp_path: Path) -> None:
    inbox = Inbox(str(tmp_path), "../edge 1")
    with inbox.hold():
        with pytest.raises(CollectedInputError, match="expected other"):
            inbox.store("other", item(1).digest, pack(item(1)))
        with pytest.raises(CollectedInputError, match="expected digits 0000"):
            inbox.store("digits", "0" * 64, pack(item(1)))
        with pytest.raises(InboxError, match="another run collects"), Inbox(str(tmp_path), "../edge 1").hold():
            pass
        inbox.store("digits", item(1).digest, pack(item(1)))
        assert inbox.has("digits", item(1).digest)
    (path,) = [path for path in tmp_path.rglob("*") if path.is_file()]
    assert path.relative_to(tmp_path).parts[:2] == ("inbox", "..%2Fedge%201")
    path.write_bytes(b"")
    assert not inbox.has("digits", item(1).digest)
