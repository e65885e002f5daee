# Copyright (c) 2026, The edgeml.fleet authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Measurements that are taken over from publications before, and what has them made anew."""

from __future__ import annotations

import os
import time
from importlib import metadata
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from publications import Case

from ansible_collections.edgeml.fleet.plugins.plugin_utils._publish import measurements
from ansible_collections.edgeml.fleet.plugins.plugin_utils._publish.desk import Desk, Measured, RunFailedError
from ansible_collections.edgeml.fleet.plugins.plugin_utils._publish.measurements import Measurements
from ansible_collections.edgeml.fleet.plugins.plugin_utils._publish.model import Model, file_of


class Bench:
    """A desk at which one version after another is measured; its Python counts."""

    def __init__(self, directory: Path, script: str) -> None:
        self.directory = directory
        self.python = directory / "python"
        self.python.write_text(f'#!/bin/sh\necho "$*" >>{directory}/runs\n{script}\n')
        self.python.chmod(0o755)
        self.weights = directory / "model.onnx"
        self.weights.write_text("weights")
        self.cache = directory / "cache"

    def measure(self, number: int, document: dict[str, Any]) -> Measured | RunFailedError:
        """Measure a version of this document in a publication of its own."""
        work = self.directory / f"work-{number}"
        work.mkdir()
        desk = Desk(str(work), str(self.python), Measurements(str(self.cache)))
        model = Model("onnx-fp32", "onnx", (file_of(str(self.weights)),))
        directory = desk.version("draft", document, "onnx-fp32", model)
        (found,) = desk.measure_all([directory], None, desk.here)
        return found

    @property
    def runs(self) -> int:
        """How often the tool was started."""
        return len((self.directory / "runs").read_text().splitlines())


def document(**changes: Any) -> dict[str, Any]:
    entry = {"name": "onnx-fp32", "memory_bytes": 1, "files": ["abc"]}
    return {"schema": 2, "model": "digits", "version": "1", "variants": [{**entry, **changes}]}


SAYS = "echo '{\"latency_seconds\": 0.5}'"


def test_the_same_is_measured_once_whatever_its_release_is_called(tmp_path: Path) -> None:
    bench = Bench(tmp_path, SAYS)
    first = bench.measure(1, document())
    named = {**document(memory_bytes=2), "version": "2", "description": "the same"}
    named["variants"].append({"name": "onnx-int8"})
    assert bench.measure(2, named) == first == Measured({"latency_seconds": 0.5})
    assert bench.runs == 1


def test_other_files_and_another_runtime_are_measured(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    bench = Bench(tmp_path, SAYS)
    bench.measure(1, document())
    bench.measure(2, document(files=["abd"]))
    assert bench.runs == 2
    monkeypatch.setattr(metadata, "version", lambda name: "99")
    bench.measure(3, document())
    assert bench.runs == 3


def test_a_failure_is_tried_again(tmp_path: Path) -> None:
    bench = Bench(tmp_path, 'echo \'{"error": "too new"}\'')
    for number in (1, 2):
        assert isinstance(bench.measure(number, document()), RunFailedError)
    assert bench.runs == 2


@pytest.mark.parametrize("days", [-1, measurements.DAYS_KEPT + 1])
def test_an_old_measurement_and_one_of_the_future_do_not_count(tmp_path: Path, days: float) -> None:
    bench = Bench(tmp_path, SAYS)
    bench.measure(1, document())
    (said,) = bench.cache.glob(f"*/{measurements.SAID}")
    moment = time.time() - days * 86400
    os.utime(said, (moment, moment))
    bench.measure(2, document())
    assert bench.runs == 2
    bench.measure(3, document())
    assert bench.runs == 2, "it was kept anew"


def test_the_oldest_make_room(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    kept = Measurements(str(tmp_path / "cache"))
    outputs = {"y": np.zeros(1000, np.float32)}
    for number, key in enumerate(("a", "b", "c")):
        kept.put(key, {"number": number}, outputs, None)
        moment = time.time() - 100 + number
        os.utime(tmp_path / "cache" / key / measurements.SAID, (moment, moment))
    monkeypatch.setattr(measurements, "BYTES_MAX", 10_000)
    kept.put("d", {"number": 3}, outputs, None)
    assert [key for key in "abcd" if kept.get(key)] == ["c", "d"]
    path = kept.get("d")
    assert path is not None
    said, found = measurements.read_measurement(path)
    assert said == {"number": 3}
    assert (found["y"] == outputs["y"]).all()
    assert sorted(os.listdir(tmp_path / "cache")) == ["c", "d"]


def test_a_cache_that_cannot_be_written_is_none(tmp_path: Path) -> None:
    (tmp_path / "cache").write_text("a file")
    kept = Measurements(str(tmp_path / "cache"))
    kept.put("a", {}, {}, None)
    assert kept.get("a") is None


def test_publishing_after_a_check_runs_the_model_no_second_time(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    case = Case(tmp_path)
    case.options.update(measure_again=False, variants=["fp32", "fp16"], runtime_minimum="1.20.0")
    checked = case.publish(check=True)
    assert not any("taken over" in note for note in checked.notes)
    measured = [row["latency_seconds"] for row in checked.table]
    case.options["description"] = "another text"
    published = case.publish()
    assert any(note.startswith("2 measurements of the last 7 days") for note in published.notes), published.notes
    assert [row["latency_seconds"] for row in published.table] == measured
    reference = published.document["reference"]["sha256"]
    assert (tmp_path / "repository" / "blobs" / "sha256" / reference).is_file(), "the drift reference is taken over"
    case.options["version"] = "1.2.0"
    case.samples = {name: values[:300] for name, values in case.samples.items()}
    assert not any("taken over" in note for note in case.publish(check=True).notes), "other samples"
