# Copyright (c) 2026, The edgeml.fleet authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What a publication makes of what its runs say: no runtime is started, a desk answers as each test has it."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import releases
from publications import Case, answers, digits_holdout, digits_model

from ansible_collections.edgeml.fleet.plugins.module_utils._common.errors import EdgemlError
from ansible_collections.edgeml.fleet.plugins.module_utils._release.manifest import parse_release
from ansible_collections.edgeml.fleet.plugins.module_utils._release.release import WHOLE
from ansible_collections.edgeml.fleet.plugins.module_utils._release.repository import Repository
from ansible_collections.edgeml.fleet.plugins.plugin_utils._publish import (
    emulation,
    holdout,
    judgement,
    publication,
    published,
    report,
    variants,
)
from ansible_collections.edgeml.fleet.plugins.plugin_utils._publish.candidate import Candidate
from ansible_collections.edgeml.fleet.plugins.plugin_utils._publish.deltas import make_deltas
from ansible_collections.edgeml.fleet.plugins.plugin_utils._publish.desk import Desk, Measured, Place, RunFailedError
from ansible_collections.edgeml.fleet.plugins.plugin_utils._publish.judgement import Judgement, Verdict
from ansible_collections.edgeml.fleet.plugins.plugin_utils._publish.measurements import Measurements
from ansible_collections.edgeml.fleet.plugins.plugin_utils._publish.model import (
    Model,
    PublishError,
    RefusedError,
)
from ansible_collections.edgeml.fleet.plugins.plugin_utils._publish.published import newest_release

RIGHT = answers(digits_model(), digits_holdout()[0])
LABELS = digits_holdout()[1]
IMAGE = {"name": "image", "datatype": "FP32", "shape": [-1, 1, 8, 8]}
ELSEWHERE = Place("aarch64", ["python"], "/code", "an emulated device")
PI = {"name": "pi", "architecture": "aarch64", "memory_bytes": 1 << 30}


def measured(output: Any, runtime: str = "onnxruntime 1.20.0", name: str = "probabilities") -> Measured:
    said = {
        "inputs": [IMAGE],
        "batch_spread": {},
        "runtime": runtime,
        "architecture": "x86_64",
        "latency_seconds": 0.001,
        "memory_bytes": 3 << 20,
    }
    return Measured(said, {name: output})


class Answers:
    """What the desk says: of each variant when it is measured, of all as aarch64, and of each smoke test.

    ``emulated`` has an answer for each call. ``smoke`` is by the Python's name, or "here".
    """

    def __init__(self) -> None:
        self.variants: dict[str, Measured | RunFailedError] = {"onnx-fp32": measured(RIGHT)}
        self.emulated: list[list[Measured | RunFailedError]] = []
        self.smoke: dict[str, str | RunFailedError] = {"here": "onnxruntime 1.20.0"}
        # What was measured here, one after the other.
        self.directories: list[str] = []


@pytest.fixture
def said(monkeypatch: pytest.MonkeyPatch) -> Answers:
    found = Answers()

    class Told(Desk):
        def __init__(self, work: str, kept: Measurements | None = None) -> None:
            super().__init__(work, kept=kept)
            self.here = Place("x86_64", ["python"], self.code, "here")

        def measure(self, directory: str, samples: str | None = None, *, reference: str | None = None) -> Measured:
            found.directories.append(directory)
            answer = found.variants[Path(directory).name.removeprefix("draft-")]
            if isinstance(answer, RunFailedError):
                raise answer
            if reference is not None:
                Path(reference).write_text("{}\n")
            return answer

        def measure_all(
            self, directories: Sequence[str], samples: str | None, place: Place, *, reference: str | None = None
        ) -> list[Measured | RunFailedError]:
            assert place is ELSEWHERE
            return found.emulated.pop(0)

        def smoke(self, directory: str, place: Place | None = None) -> Mapping[str, Any]:
            answer = found.smoke[Path((place or self.here).what).name]
            if isinstance(answer, RunFailedError):
                raise answer
            return {"runtime": answer}

        def smoke_all(self, directories: Sequence[str]) -> list[Mapping[str, Any] | RunFailedError]:
            answer = found.smoke["here"]
            return [answer if isinstance(answer, RunFailedError) else {"runtime": answer} for _each in directories]

    monkeypatch.setattr(publication, "Desk", Told)
    return found


@pytest.fixture
def emulated(monkeypatch: pytest.MonkeyPatch) -> None:
    """There is an emulated device."""
    monkeypatch.setattr(emulation, "find", lambda *_arguments: (ELSEWHERE, ""))


def refusal(case: Case) -> list[str]:
    """Why the publication is refused; nothing is written."""
    with pytest.raises(RefusedError) as refused:
        case.publish()
    assert not Path(case.options["repository"]).exists()
    return refused.value.reasons


def test_a_variant_that_runs_as_aarch64_too(tmp_path: Path, said: Answers, emulated: None) -> None:
    off = RIGHT.copy()
    off[:, 0] += np.float32(0.25) * (off[:, 0] < 0.5)
    said.emulated = [[measured(off, "onnxruntime 1.19.2")], [measured(RIGHT)]]
    case = Case(tmp_path)
    case.options.update(latency_seconds_max=0.5, devices=[PI])
    published = case.publish()
    (row,) = published.table
    assert row["aarch64_spread"] == {"probabilities": pytest.approx(0.25)}
    assert (row["runtime"], row["aarch64_runtime"]) == ("onnxruntime 1.20.0", "onnxruntime 1.19.2")
    # Both processors' outputs are within what the golden test allows: twice the larger spread, rounded up.
    (variant,) = published.document["variants"]
    assert variant["tolerances"]["probabilities"]["absolute"] == pytest.approx(0.5, abs=0.11)
    assert variant["tolerances"]["probabilities"]["absolute"] >= 0.5
    assert variant["latency_seconds_max"] == 0.5
    # A quarter more than the 3 MiB that were measured.
    assert variant["memory_bytes"] == 4 << 20
    assert not any("not run as aarch64" in note for note in published.notes)


def test_a_variant_that_does_not_run_as_aarch64(tmp_path: Path, said: Answers, emulated: None) -> None:
    said.emulated = [[RunFailedError("no kernel")]]
    assert refusal(Case(tmp_path)) == ["onnx-fp32: as aarch64: no kernel"]


def test_a_golden_test_that_fails_as_aarch64(tmp_path: Path, said: Answers, emulated: None) -> None:
    said.emulated = [[measured(RIGHT)], [RunFailedError("probabilities: off by 0.5")]]
    assert refusal(Case(tmp_path)) == ["onnx-fp32: as aarch64: probabilities: off by 0.5"]


def test_a_release_for_x86_64_alone_is_not_emulated(tmp_path: Path, said: Answers, emulated: None) -> None:
    case = Case(tmp_path)
    case.options["architectures"] = ["x86_64"]
    published = case.publish(check=True)
    assert published.document["variants"][0]["architectures"] == ["x86_64"]
    assert "aarch64_runtime" not in published.table[0]


def test_a_source_that_does_not_run(tmp_path: Path, said: Answers) -> None:
    said.variants["onnx-fp32"] = RunFailedError("no such operator")
    assert refusal(Case(tmp_path)) == ["the source does not run: no such operator"]


def test_a_smoke_test_that_fails(tmp_path: Path, said: Answers) -> None:
    said.smoke["here"] = RunFailedError("output off by 0.5")
    assert refusal(Case(tmp_path)) == ["onnx-fp32: smoke test: output off by 0.5"]


def with_nan() -> Any:
    output = RIGHT.copy()
    output[[3, 77], 4] = np.nan
    return output


def test_a_source_whose_outputs_are_no_numbers(tmp_path: Path, said: Answers) -> None:
    said.variants["onnx-fp32"] = measured(with_nan())
    (reason,) = refusal(Case(tmp_path))
    assert reason == (
        "output 'probabilities' of the source: expected finite numbers; found others in 2 samples, such as 3, 77. "
        "Have the model give a finite number where it has no answer, leave the output out of the export, or leave out "
        "samples that clients never send"
    )


def test_a_variant_whose_outputs_are_no_numbers_is_left_out(
    tmp_path: Path, said: Answers, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(variants, "float16", lambda source, _directory: Model("onnx-fp16", "onnx", source.files))
    said.variants["onnx-fp16"] = measured(with_nan())
    case = Case(tmp_path)
    case.options["variants"] = ["fp16", "fp32"]
    published = case.publish()
    assert [item["name"] for item in published.document["variants"]] == ["onnx-fp32"]
    assert (
        "onnx-fp16 is left out: output 'probabilities' of onnx-fp16: expected finite numbers; "
        "found others in 2 samples, such as 3, 77"
    ) in published.notes


def test_variants_of_a_source_that_none_are_made_of(tmp_path: Path, said: Answers) -> None:
    said.variants["tflite-fp32"] = measured(RIGHT)
    case = Case(tmp_path)
    case.options.update(source=str(tmp_path / "digits.tflite"), variants=["fp32", "ncnn"])
    assert refusal(case) == ["ncnn: expected a source .onnx to make it from; found model.tflite"]
    said.variants["onnx-fp32"] = measured(RIGHT)
    case.options.update(source=str(tmp_path / "digits.ort"), variants=["int8"])
    assert refusal(case) == ["int8: expected a source .onnx or .tflite to make it from; found model.ort"]


def test_variants_that_agree_on_no_sample(tmp_path: Path, said: Answers, emulated: None) -> None:
    said.variants["onnx-fp32"] = measured(LABELS)
    said.emulated = [[measured(LABELS + 1)]]
    case = Case(tmp_path)
    assert refusal(case) == ["golden file: the variants agree on no sample"]


def test_classes_have_no_tolerance_and_golden_samples_are_those_on_which_all_agree(
    tmp_path: Path, said: Answers, emulated: None
) -> None:
    said.variants["onnx-fp32"] = measured(LABELS)
    elsewhere = LABELS.copy()
    elsewhere[10:] += 1
    said.emulated = [[measured(elsewhere)], [measured(elsewhere)]]
    case = Case(tmp_path)
    case.options["golden_rows"] = 100
    published = case.publish()
    assert published.document["variants"][0]["tolerances"] == {}
    golden = Path(case.options["repository"], "blobs", "sha256", published.document["golden"]["sha256"])
    assert json.loads(golden.read_text())["outputs"][0]["data"] == LABELS[:10].tolist()


@pytest.mark.parametrize(("rows", "expected"), [(-1, 8), (1, 1), (32, 32)])
def test_a_model_that_takes_a_fixed_number_of_samples_has_so_many_golden_ones(
    tmp_path: Path, said: Answers, rows: int, expected: int
) -> None:
    found = measured(LABELS)
    taken = {**IMAGE, "shape": [rows, *IMAGE["shape"][1:]]}
    said.variants["onnx-fp32"] = Measured({**found.said, "inputs": [taken]}, found.outputs)
    case = Case(tmp_path)
    published = case.publish()
    golden = Path(case.options["repository"], "blobs", "sha256", published.document["golden"]["sha256"])
    assert json.loads(golden.read_text())["outputs"][0]["shape"][0] == expected


def test_texts_that_are_not_those_of_the_source_framework(tmp_path: Path, said: Answers) -> None:
    texts = np.array([f"digit {label}" for label in LABELS])
    said.variants["onnx-fp32"] = measured(texts)
    case = Case(tmp_path)
    case.samples.update(labels=texts, reference=texts.copy())
    case.samples["reference"][5] = "a text"
    assert refusal(case) == [
        (
            "conversion: output 'probabilities' is not what the source framework computes, in 1 of 360 samples: "
            f"sample 5: expected a text, found digit {LABELS[5]}"
        )
    ]


def test_reference_outputs_with_another_number_of_axes(tmp_path: Path, said: Answers) -> None:
    case = Case(tmp_path)
    case.samples["reference"] = RIGHT.reshape(360, 10, 1).astype(np.float64)
    published = case.publish(check=True)
    assert published.facts["outputs"] == {"probabilities": [10]}
    assert not any("no reference outputs" in note for note in published.notes)


def test_without_labels_a_note_says_what_a_rollout_will_not_see(tmp_path: Path, said: Answers) -> None:
    case = Case(tmp_path)
    assert not any("no labels" in note for note in case.publish(check=True).notes)
    del case.samples["labels"]
    published = case.publish(check=True)
    assert published.facts["task"] == "reference"
    assert any("not whether it is better or worse than the version before" in note for note in published.notes)


def test_a_manifest_that_cannot_be_is_not_published(tmp_path: Path, said: Answers) -> None:
    case = Case(tmp_path)
    case.options["architectures"] = ["x86_64"] * 65
    with pytest.raises(EdgemlError, match=r"^manifest: .*architectures: expected a list of 1 to 64"):
        case.publish()
    assert not Path(case.options["repository"]).exists()


def test_a_release_of_somebody_else_stays_as_it_is(tmp_path: Path, said: Answers) -> None:
    case = Case(tmp_path)
    manifest = releases.publish(releases.make_release("1.1.0"), Path(case.options["repository"]))
    before = manifest.read_bytes()
    with pytest.raises(RefusedError) as refused:
        case.publish()
    assert refused.value.reasons == [
        "digits 1.1.0 is published, by something else than this command; publish another version"
    ]
    assert manifest.read_bytes() == before


def test_what_a_device_with_the_newest_other_version_fetches(tmp_path: Path, said: Answers) -> None:
    case = Case(tmp_path)
    repository = Path(case.options["repository"])
    for version, created, content in (
        ("1.0.0", "2026-01-02T00:00:00Z", digits_model()),
        ("0.9.0", "2026-01-01T00:00:00Z", b"another model"),
    ):
        releases.publish(releases.make_release(version, files={"model.onnx": content}, created=created), repository)
    damaged = repository / "digits" / "2.0.0"
    damaged.mkdir()
    (damaged / "manifest.json").write_text("{")
    (repository / "digits" / "3.0.0").mkdir()
    newest = newest_release(str(repository), "digits", other_than="1.1.0")
    assert newest is not None
    assert newest.version == "1.0.0"
    other = newest_release(str(repository), "digits", other_than="1.0.0")
    assert other is not None
    assert other.version == "0.9.0"
    assert newest_release(str(repository), "letters", other_than="1.0.0") is None
    published = case.publish()
    release = parse_release(published.document)
    files = [
        release.documents.get(name) or getattr(release.parts[WHOLE], name) for name in ("golden", "probe", "reference")
    ]
    deltas = {file.path: Repository(str(repository)).deltas(file) for file in files}
    # The model is there already; texts come compressed.
    assert published.table[0]["fetched_bytes"] == sum(
        min([file.size, *(delta.size for delta in deltas[file.path])]) for file in files
    )


def test_an_accuracy_among_the_best_classes_says_so_wherever_it_is_read(tmp_path: Path, said: Answers) -> None:
    case = Case(tmp_path)
    case.samples["probe"] = np.array(json.dumps({"top": 3}))
    published = case.publish()
    result = {"model": "digits", "version": "1.1.0", "table": published.table, "facts": published.facts}
    view = report.view_of({**result, "reasons": [], "notes": []})
    assert view["rows"][0]["cells"][3].startswith("top-3 accuracy 0.9944 (")
    assert "top-3 accuracy of the source" in dict(view["figures"])
    assert view["chart"]["metric"] == "top-3 accuracy"
    documents = parse_release(published.document).documents
    bill = Repository(case.options["repository"]).read_blob(documents["bom"])
    assert b'"type":"top-3 accuracy"' in bill.replace(b": ", b":")
    # What is refused says it, too.
    case.options.update(version="1.2.0", accuracy_min=0.999)
    with pytest.raises(RefusedError) as refused:
        case.publish()
    assert refused.value.reasons == ["accuracy_min: expected top-3 accuracy 0.999; found 0.994444"]


def note_of(published: Any) -> list[str]:
    """What is noted of the names of the version before."""
    return [note for note in published.notes if "the version before," in note]


def test_names_that_the_version_before_had_are_missed_when_publishing(tmp_path: Path, said: Answers) -> None:
    case = Case(tmp_path)
    first = measured(RIGHT)
    said.variants["onnx-fp32"] = Measured(first.said, {**first.outputs, "embedding": RIGHT[:, :4] * 2})
    case.options["output"] = "probabilities"
    assert note_of(case.publish()) == []
    case.options["version"] = "1.2.0"
    assert note_of(case.publish(check=True)) == []
    said.variants["onnx-fp32"] = first
    (note,) = note_of(case.publish(check=True))
    assert note == (
        "1.1.0, the version before, has the output embedding, and this version not: clients that ask for it are "
        "refused. Where only names differ, export the model with the names of before"
    )
    said.variants["onnx-fp32"] = measured(RIGHT, name="scores")
    case.options["output"] = "scores"
    (note,) = note_of(case.publish(check=True))
    assert note.startswith(
        "1.1.0, the version before, has the output embedding, probabilities, and the probe set scores: "
        "a rollout cannot compare the answers of both; it has the output probabilities, embedding, and this version "
        "not: clients"
    )


def test_an_input_with_another_name_is_noted_when_publishing(tmp_path: Path, said: Answers) -> None:
    case = Case(tmp_path)
    case.publish()
    case.options["version"] = "1.2.0"
    case.samples["pixels"] = case.samples.pop("image")
    found = measured(RIGHT)
    said.variants["onnx-fp32"] = Measured({**found.said, "inputs": [{**IMAGE, "name": "pixels"}]}, found.outputs)
    (note,) = note_of(case.publish(check=True))
    assert note == (
        "1.1.0, the version before, has the input image (FP32 [1, 8, 8]), and the probe set pixels (FP32 [1, 8, 8]): a "
        "rollout cannot compare the answers of both. Where only names differ, export the model with the names of before"
    )


def runtimes(monkeypatch: pytest.MonkeyPatch, directory: Path, **known: str) -> list[str]:
    """Pythons of these names; one that does not load the model has this version of the runtime."""

    def version(python: str, runtime: str) -> str:
        assert runtime == "onnxruntime"
        name = Path(python).name
        if name not in known:
            raise PublishError(f"{name}: no {runtime}")
        return known[name]

    monkeypatch.setattr(emulation, "runtime_version", version)
    return [str(directory / name) for name in ("old", "older", "new")]


def test_an_older_runtime_that_loads_the_model_is_the_minimum(
    tmp_path: Path, said: Answers, monkeypatch: pytest.MonkeyPatch
) -> None:
    case = Case(tmp_path)
    case.options["runtime_pythons"] = runtimes(monkeypatch, tmp_path)
    said.smoke.update(old="onnxruntime 1.14.1", older="onnxruntime 1.13.1", new="onnxruntime 1.20.0")
    published = case.publish(check=True)
    assert published.document["variants"][0]["runtime"] == {"name": "onnxruntime", "minimum": "1.13.1"}


def test_a_runtime_that_does_not_load_the_model_is_below_the_minimum(
    tmp_path: Path, said: Answers, monkeypatch: pytest.MonkeyPatch
) -> None:
    case = Case(tmp_path)
    case.options["runtime_pythons"] = runtimes(monkeypatch, tmp_path, old="1.18.0")
    said.smoke.update(old=RunFailedError("no kernel"), older="onnxruntime 1.13.1", new="onnxruntime 1.20.0")
    assert case.publish(check=True).table[0]["runtime_minimum"] == "1.20.0"
    case.options["runtime_minimum"] = "1.19.0"
    assert refusal(case) == [
        (
            "onnx-fp32: needs onnxruntime 1.20.0 (1.18.0 was tried and does not load it); expected 1.19.0 or earlier. "
            "Export it with an older opset and IR version"
        )
    ]


def test_a_python_without_the_runtime(tmp_path: Path, said: Answers, monkeypatch: pytest.MonkeyPatch) -> None:
    case = Case(tmp_path)
    case.options["runtime_pythons"] = runtimes(monkeypatch, tmp_path)
    said.smoke.update(old=RunFailedError("no module"), older="onnxruntime 1.19.0", new="onnxruntime 1.20.0")
    assert refusal(case) == ["runtime_pythons: old: no onnxruntime"]


class Quantiser:
    """Makes int8 models without making any: each is named for the layers that it has in float."""

    layers = ("first", "second", "third", "fourth")

    def __init__(self, source: Model, _directory: str) -> None:
        self.source = source
        self.made: list[list[str]] = []

    def calibrate(self, *_arguments: Any) -> Any:
        return SimpleNamespace(largest_cut_off=("", 0.0))

    def worst_layers(self, *_arguments: Any) -> list[str]:
        return list(reversed(self.layers))

    def quantise(self, layers: Sequence[str]) -> Model:
        self.made.append(list(layers))
        return Model("onnx-int8", "onnx", self.source.files, (f"in float: {', '.join(layers) or 'none'}",))


@pytest.mark.parametrize(
    ("layers", "worse", "verdict", "expected"),
    [
        # What is proven worse is tried with twice as many layers in float each time, but never with all of them.
        (4, 5, Verdict.FAIL, ["none", "fourth", "fourth, third", "fourth, third, second"]),
        (4, 5, Verdict.TOO_SMALL, ["none", "fourth", "fourth, third", "fourth, third, second"]),
        # No layer in float makes a holdout larger.
        (4, 0, Verdict.TOO_SMALL, ["none"]),
        (1, 5, Verdict.FAIL, ["none"]),
    ],
)
def test_how_many_layers_go_back_to_float(
    tmp_path: Path,
    said: Answers,
    monkeypatch: pytest.MonkeyPatch,
    layers: int,
    worse: int,
    verdict: Verdict,
    expected: list[str],
) -> None:
    monkeypatch.setattr(Quantiser, "layers", Quantiser.layers[:layers])
    monkeypatch.setattr(variants, "StaticQuantiser", Quantiser)
    made: list[str] = []
    judge = judgement.judge

    def told(source: Any, variant: Any, **limits: float) -> Judgement:
        if not said.variants.get("onnx-int8"):
            return judge(source, variant, **limits)
        return Judgement(verdict, "accuracy", 0.9, 0.8, 0.1, 0.2, 0.01, 360, worse=worse, better=0)

    class Noted(Quantiser):
        def quantise(self, layers: Sequence[str]) -> Model:
            made.append(", ".join(layers) or "none")
            # From here on, each judgement is of an int8 variant.
            said.variants["onnx-int8"] = measured(RIGHT)
            return super().quantise(layers)

    monkeypatch.setattr(variants, "StaticQuantiser", Noted)
    monkeypatch.setattr(holdout, "judge", told)
    case = Case(tmp_path)
    case.options["variants"] = ["fp32", "int8"]
    published = case.publish(check=True)
    assert made == expected
    row = published.table[1]
    assert (row["published"], row["verdict"]) == (False, verdict.value)
    assert sum("layers in float: " in note for note in row["notes"]) == len(expected) - 1


def test_what_was_not_measured_is_not_known() -> None:
    made = Candidate("fp16", Model("onnx-fp16", "onnx", ()))
    with pytest.raises(ValueError, match=r"^fp16: nothing was measured yet$"):
        _ = made.known
    assert made.memory_bytes == 1 << 20


@pytest.mark.parametrize(("given", "runs"), [(np.float32, 1), (np.float64, 2)])
def test_the_source_is_run_once_unless_the_samples_have_another_datatype(
    tmp_path: Path, said: Answers, given: Any, runs: int
) -> None:
    case = Case(tmp_path)
    case.samples["image"] = case.samples["image"].astype(given)
    assert case.publish().changed is True
    assert len(said.directories) == runs


def test_what_did_not_change_is_not_done_again(tmp_path: Path, said: Answers, monkeypatch: pytest.MonkeyPatch) -> None:
    """The same release: nothing is run. A version with the same files: none is written, and no delta made of it."""
    said.variants["onnx-fp32"] = measured(RIGHT)
    case = Case(tmp_path)
    case.publish()
    blobs = Path(case.options["repository"], "blobs", "sha256")
    model = blobs / releases.sha256(case.model)
    written = model.stat()
    runs = list(said.directories)
    assert case.publish().changed is False
    assert said.directories == runs
    deltas: list[str] = []

    def making(*arguments: Any) -> Any:
        made = make_deltas(*arguments)
        deltas.extend(item.file.path for item in made)
        return made

    monkeypatch.setattr(published, "make_deltas", making)
    case.options["version"] = "1.2.0"
    assert case.publish().changed is True
    assert model.stat().st_ino == written.st_ino
    assert model.stat().st_mtime_ns == written.st_mtime_ns
    assert "model.onnx" not in deltas
