# Copyright (c) 2026, The edgeml.fleet authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The digits are published, in four variants, and every promise of the release is looked at."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from publications import Case, answers, digits_holdout, digits_model

from ansible_collections.edgeml.fleet.plugins.module_utils._release.manifest import parse_release
from ansible_collections.edgeml.fleet.plugins.module_utils._release.release import WHOLE, Release
from ansible_collections.edgeml.fleet.plugins.module_utils._release.repository import Repository
from ansible_collections.edgeml.fleet.plugins.plugin_utils._publish.model import RefusedError
from ansible_collections.edgeml.fleet.plugins.plugin_utils._publish.options import read_options
from ansible_collections.edgeml.fleet.plugins.plugin_utils._publish.publication import Published

VARIANTS = ["int8", "fp16", "fp32", "int8-dynamic"]


class Digits(Case):
    """A publication with the outputs of the framework that trained the model."""

    def __init__(self, directory: Path) -> None:
        super().__init__(directory)
        self.samples["reference"] = answers(self.model, self.samples["image"])
        self.options["variants"] = VARIANTS


@pytest.fixture(scope="module")
def digits(tmp_path_factory: pytest.TempPathFactory) -> tuple[Digits, Published]:
    case = Digits(tmp_path_factory.mktemp("digits"))
    return case, case.publish()


@pytest.fixture
def release(digits: tuple[Digits, Published]) -> Release:
    repository = Repository(digits[0].options["repository"])
    release = repository.release("digits", "1.1.0")
    assert repository.verify(release) > 0
    return release


def document(case: Case, release: Release, name: str) -> Any:
    return json.loads(Repository(case.options["repository"]).read_blob(release.documents[name]))


def test_the_variants_are_in_the_order_that_was_asked_for(release: Release) -> None:
    assert [variant.name for variant in release.variants] == [
        "onnx-int8", "onnx-fp16", "onnx-fp32", "onnx-int8-dynamic",
    ]  # fmt: skip
    sizes = {variant.name: variant.files[0].size for variant in release.variants}
    assert sizes["onnx-int8"] < sizes["onnx-fp16"] < sizes["onnx-fp32"] == len(digits_model())


def test_the_table_has_what_was_measured(digits: tuple[Digits, Published]) -> None:
    case, published = digits
    assert published.changed
    for row in published.table:
        assert row["published"]
        assert row["verdict"] == "pass"
        assert 0.97 < row["metric"] <= 1
        assert row["interval"][0] < row["metric"] < row["interval"][1]
        assert row["judgement"]["loss_upper"] <= 0.01
        assert 0 < row["latency_seconds"] < 1
        assert 0 < row["memory_measured"] <= row["memory_bytes"]
        assert row["runtime_minimum"] == "1.15.1"
        assert row["fetched_bytes"] == _compressed(case, published, row["variant"])
        dynamic = row["variant"] == "onnx-int8-dynamic"
        assert any(note.startswith("devices never batch it") for note in row["notes"]) == dynamic


def _compressed(case: Digits, published: Published, variant: str) -> int:
    """What a device that holds nothing fetches: of each file the smallest form that was published."""
    repository, release = Repository(case.options["repository"]), parse_release(published.document)
    files = next(release.files(found) for found in release.variants if found.name == variant)
    forms = {file.path: [delta for delta in repository.deltas(file) if not delta.bases] for file in files}
    assert len(forms["golden.json"]) == 1, "texts are smaller when they are compressed"
    for file in files:
        for delta in forms[file.path]:
            assert len(Path(repository.delta_path(file, delta)).read_bytes()) == delta.size < file.size
    return sum(min([file.size, *(delta.size for delta in forms[file.path])]) for file in files)


def test_golden_outputs_are_the_sources_and_each_variant_has_its_own_tolerance(
    digits: tuple[Digits, Published], release: Release
) -> None:
    case, _published = digits
    part = release.parts[WHOLE]
    assert part.golden is not None
    golden = json.loads(Repository(case.options["repository"]).read_blob(part.golden))
    images = np.array(golden["inputs"][0]["data"], np.float32).reshape(golden["inputs"][0]["shape"])
    outputs = np.array(golden["outputs"][0]["data"], np.float32).reshape(golden["outputs"][0]["shape"])
    np.testing.assert_array_equal(outputs, answers(case.model, digits_holdout()[0])[_rows(images)])
    allowed = {
        variant.name: variant.entries[WHOLE].tolerances["probabilities"].absolute for variant in release.variants
    }
    assert allowed["onnx-fp32"] < allowed["onnx-fp16"] < allowed["onnx-int8"] < 0.5
    # The loudest and the faintest samples are among them.
    means = digits_holdout()[0].mean(axis=(1, 2, 3))
    assert {int(means.argmax()), int(means.argmin())} <= set(_rows(images))


def _rows(images: Any) -> list[int]:
    holdout = digits_holdout()[0]
    return [next(row for row, image in enumerate(holdout) if (image == wanted).all()) for wanted in images]


def test_the_documents_name_what_the_release_was_made_of(digits: tuple[Digits, Published], release: Release) -> None:
    case, _published = digits
    provenance = document(case, release, "provenance")
    subjects = {item["digest"]["sha256"] for item in provenance["subject"]}
    assert subjects == {file.sha256 for variant in release.variants for file in variant.files}
    definition = provenance["predicate"]["buildDefinition"]
    assert {item["name"] for item in definition["resolvedDependencies"]} == {"source", "samples"}
    assert definition["externalParameters"]["variants"] == VARIANTS
    assert "onnxruntime" in provenance["predicate"]["runDetails"]["builder"]["version"]
    bom = document(case, release, "bom")
    assert bom["metadata"]["component"]["type"] == "machine-learning-model"
    assert {item["hashes"][0]["content"] for item in bom["components"] if item["type"] == "file"} == subjects
    assert len(document(case, release, "measurements")["variants"]) == len(VARIANTS)


def test_a_device_gets_no_document(release: Release) -> None:
    assert release.documents
    for variant in release.variants:
        assert not {file.sha256 for file in release.documents.values()} & {
            file.sha256 for file in release.files(variant)
        }


def test_published_again_nothing_changes(digits: tuple[Digits, Published]) -> None:
    case, published = digits
    again = case.publish()
    assert (again.changed, again.digest, again.table) == (False, published.digest, [])


def test_a_release_never_changes_and_every_difference_is_named(
    digits: tuple[Digits, Published], tmp_path: Path
) -> None:
    case, _published = digits
    other = Digits(tmp_path)
    other.model = digits_model("1.0.0")
    other.samples["labels"] = other.samples["labels"][::-1]
    other.options.update(repository=case.options["repository"], description="Another one")
    with pytest.raises(RefusedError) as refused:
        other.publish()
    reasons = refused.value.reasons
    assert "never changes" in reasons[0]
    assert [reason.split(":")[0] for reason in reasons[1:]] == ["source", "samples", "description"]


def test_check_mode_writes_nothing(tmp_path: Path) -> None:
    case = Case(tmp_path)
    published = case.publish(check=True)
    assert published.changed
    assert published.document["version"] == "1.1.0"
    assert not Path(case.options["repository"]).exists()


def test_weights_in_a_file_beside_the_model_belong_to_the_release(tmp_path: Path) -> None:
    import onnx

    case = Case(tmp_path)
    case.write()
    model = onnx.load(case.options["source"])
    onnx.save(model, case.options["source"], save_as_external_data=True, location="weights.bin", size_threshold=0)
    case.model = Path(case.options["source"]).read_bytes()
    case.options["variants"] = ["fp32", "int8"]
    published = case.publish()
    first, second = published.document["variants"]
    assert [file["path"] for file in first["files"]] == ["model.onnx", "weights.bin"]
    assert [file["path"] for file in second["files"]] == ["onnx-int8.onnx"]


def test_the_command_prints_the_table_and_needs_no_installed_collection(tmp_path: Path) -> None:
    case = Case(tmp_path)
    case.write()
    arguments = [f"--{name.replace('_', '-')}={value}" for name, value in case.options.items()]
    report = tmp_path / "report.html"
    command = [sys.executable, "-I", "plugins/plugin_utils/_publish", "release", *arguments, f"--report={report}"]
    done = subprocess.run(command, capture_output=True, text=True, cwd=Path(__file__).parents[3])
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[0].split()[:3] == ["variant", "verdict", "size"]
    assert "digits 1.1.0 is published" in done.stdout
    assert "smoke test of onnx-fp32" in done.stderr
    page = report.read_text()
    assert "Published" in page
    assert "onnx-fp32" in page
    assert "http" not in page.replace("https://jfly.uni-koeln.de/color/", "").replace("http-equiv", "")
    again = subprocess.run(command, capture_output=True, text=True, cwd=Path(__file__).parents[3])
    assert (again.returncode, again.stdout.splitlines()[-1]) == (
        0,
        "digits 1.1.0 is published already; nothing changed",
    )


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        ({"model": ""}, "model: required"),
        ({"version": 1.10}, "version: expected a text"),
        ({"version": "../1"}, "version: expected 1 to 64"),
        ({"variants": ["fp64"]}, "variants: expected some of"),
        ({"variants": []}, "variants: expected at least one"),
        ({"required_variants": ["int8"]}, "required_variants: int8"),
        ({"golden_rows": 0}, "golden_rows: expected a whole number from 1"),
        ({"accuracy_drop_max": "much"}, "accuracy_drop_max: expected a number"),
        ({"accuracy_drop_max": 1}, "accuracy_drop_max: expected a number from 0 and below 1; found 1"),
        ({"architectures": "arm64"}, "architectures: expected some of aarch64, armv7l, x86_64; found 'arm64'"),
        ({"task": "scores"}, "task: expected one of class_scores, labels, .*; found 'scores'"),
        ({"metric": "f1"}, "metric: expected one of accuracy, .*; found 'f1'"),
        ({"created": "yesterday"}, "created: expected a time in UTC, such as 2026-11-01T00:00:00Z; found 'yesterday'"),
        ({"runtime_minimum": "latest"}, r"runtime_minimum: expected a version, such as 1\.17\.0; found 'latest'"),
        ({"missing_values": "perhaps"}, "missing_values: expected true or false"),
        ({"devices": [{"name": "pi"}]}, r"devices\[0\]: expected name, architecture, memory_bytes"),
        ({"devices": "[{"}, "devices: expected a list as JSON"),
        ({"devices": 3}, "devices: expected a list"),
        ({"devices": [{"name": 1, "architecture": "x86_64", "memory_bytes": 1}]}, r"devices\[0\].name: expected str"),
        ({"colour": "red"}, "colour: no such option"),
    ],
)
def test_options_out_of_range_are_named(tmp_path: Path, change: dict[str, Any], expected: str) -> None:
    with pytest.raises(Exception, match=expected):
        read_options({**Case(tmp_path).options, **change})
