# Copyright (c) 2026, The edgeml.fleet authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Published releases become the parts of one: ``edgeml-publish pipeline``."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from releases import make_release, publish, variant_entry

from ansible_collections.edgeml.fleet.plugins.module_utils._release.repository import Repository
from ansible_collections.edgeml.fleet.plugins.plugin_utils._publish.cli import main

GOLDEN = (
    b'{"inputs": [], "outputs": [{"name": "y", "datatype": "FP32", "shape": [1, 2], "data": [0, 1]}], "tolerance": {}}'
)
PROBE = b'{"inputs": [{"name": "x", "datatype": "FP32", "shape": [1], "data": [5]}], "output": "y", "labels": [1]}'


def release(root: Path, model: str, **changes: Any) -> None:
    """Publish a release of one model, of two variants."""
    files = {"model.onnx": f"the model of {model}".encode()}
    variants = [
        variant_entry(files, "onnx-fp32", **{"latency_seconds_max": 0.25, **changes}),
        variant_entry(files, f"only-{model}"),
    ]
    publish(make_release("1.0.0", model, files, GOLDEN, PROBE, variants=variants), root)


@pytest.fixture
def root(tmp_path: Path) -> Path:
    release(tmp_path, "finder", tensors={"inputs": {"image": "x"}}, memory_bytes=100)
    release(tmp_path, "reader", runtime={"name": "onnxruntime", "minimum": "1.20"}, architectures=["aarch64"])
    return tmp_path


def run(root: Path, *more: str) -> int:
    parts = ("--part", "detector=finder@1.0.0", "--part", "recogniser=reader@1.0.0")
    return main(["pipeline", "--model", "ocr", "--version", "2.0.0", "--repository", str(root), *parts, *more])


def test_a_pipeline_of_published_releases_is_a_release(root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    before = sorted(path.name for path in (root / "blobs" / "sha256").iterdir())
    assert run(root, "--probed", "recogniser", "--json") == 0
    assert json.loads(capsys.readouterr().out)["changed"]
    assert sorted(path.name for path in (root / "blobs" / "sha256").iterdir()) == before, "nothing is copied"
    repository = Repository(str(root))
    made = repository.release("ocr", "2.0.0")
    assert repository.verify(made) > 0
    assert (list(made.parts), made.probed) == (["detector", "recogniser"], "recogniser")
    (variant,) = made.variants
    assert (variant.name, variant.architectures) == ("onnx-fp32", ("aarch64",))
    assert (variant.runtime_minimum, variant.latency_seconds_max) == ("1.20", 0.5)
    assert variant.memory_bytes == 100 + (1 << 20)
    assert variant.entries["detector"].inputs == {"image": "x"}
    assert [file.path for file in made.files(variant)] == [
        *("detector-model.onnx", "recogniser-model.onnx"),
        *("detector-golden.json", "recogniser-golden.json", "recogniser-probe.json"),
    ]


def test_published_again_nothing_changes(root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert (run(root), run(root)) == (0, 0)
    assert capsys.readouterr().out.splitlines() == [
        f"ocr 2.0.0 is published in {root}",
        "ocr 2.0.0 is published already",
    ]


def test_a_signed_repository_has_to_be_signed_again(root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (root / "metadata").mkdir()
    assert (run(root), run(root)) == (0, 0)
    assert capsys.readouterr().out.count("next: edgeml-publish sign") == 1


@pytest.mark.parametrize(
    ("more", "message"),
    [
        (["--part", "third=finder"], "--part: expected NAME=MODEL@VERSION; found 'third=finder'"),
        (["--part", "detector=finder@1.0.0"], "--part: expected each name once"),
        (["--part", "third=finder@9"], "expected the manifest of finder 9"),
        (["--probed", "third"], "--probed: expected a part whose release has a probe set; found third"),
        (["--part", "third=pipe@1.0.0"], "--part third: expected a release of one model; pipe is a pipeline"),
        (["--part", "third=lite@1.0.0"], "variant onnx-fp32: format: expected one for all parts; found onnx, tflite"),
        (["--part", "third=other@1.0.0"], "expected a variant that all parts have, for an architecture that all have"),
    ],
)
def test_what_is_no_pipeline_is_refused(
    root: Path, capsys: pytest.CaptureFixture[str], more: list[str], message: str
) -> None:
    main(["pipeline", "--model=pipe", "--version=1.0.0", f"--repository={root}", "--part=a=finder@1.0.0"])
    release(root, "lite", format="tflite")
    release(root, "other", architectures=["armv7l"])
    assert run(root, *more) == 2
    assert message in capsys.readouterr().err
    assert not (root / "ocr").exists()
