# Copyright (c) 2026, The edgeml.fleet authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The model repository: a release is read whole and right, or refused with path, expected and actual."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from releases import make_release, publish, sha256

from ansible_collections.edgeml.fleet.plugins.module_utils._common.errors import IntegrityError, ManifestError
from ansible_collections.edgeml.fleet.plugins.module_utils._release.repository import Repository

CONTENT = b"0123456789abcdef" * 100_000


GOLDEN = (
    b'{"inputs": [], "outputs": [{"name": "y", "datatype": "FP32", "shape": [1, 2], "data": [0, 1]}], "tolerance": {}}'
)
PROBE = b'{"inputs": [{"name": "x", "datatype": "FP32", "shape": [1], "data": [5]}], "output": "y", "labels": [1]}'


@pytest.fixture
def root(tmp_path: Path) -> Path:
    publish(make_release(files={"model.onnx": CONTENT}, golden=GOLDEN, probe=PROBE), tmp_path)
    return tmp_path


def test_a_release_is_read_and_verified(root: Path) -> None:
    repository = Repository(str(root))
    release = repository.release("digits", "1.0.0")
    assert repository.verify(release) == len(CONTENT) + len(GOLDEN) + len(PROBE)


def test_a_wrong_block_in_the_manifest_is_named(tmp_path: Path) -> None:
    made = make_release(files={"model.onnx": CONTENT})
    made.document["variants"][0]["files"][0]["blocks"][1] = "0" * 64
    publish(made, tmp_path)
    repository = Repository(str(tmp_path))
    with pytest.raises(IntegrityError, match=f"model.onnx: block 2: expected SHA-256 {'0' * 64}; found "):
        repository.verify(repository.release("digits", "1.0.0"))


def test_a_blob_that_several_files_share_is_read_once(tmp_path: Path) -> None:
    publish(make_release(files={"a": CONTENT, "b": CONTENT}), tmp_path)
    repository = Repository(str(tmp_path))
    assert repository.verify(repository.release("digits", "1.0.0")) == len(CONTENT)


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda path: path.write_bytes(CONTENT[:-1]), "expected 1600000 bytes; found 1599999"),
        (lambda path: path.write_bytes(CONTENT + b"x"), "expected 1600000 bytes; found 1600001"),
        (lambda path: path.write_bytes(b""), "expected 1600000 bytes; found 0"),
        (lambda path: path.write_bytes(b"x" + CONTENT[1:]), f"expected SHA-256 {sha256(CONTENT)}; found "),
        (lambda path: path.unlink(), "expected 1600000 bytes; No such file or directory"),
        (lambda path: (path.unlink(), path.mkdir()), "expected 1600000 bytes; Is a directory"),
    ],
    ids=["truncated", "grown", "empty", "changed", "missing", "directory"],
)
def test_a_damaged_blob_is_named(root: Path, damage: Any, message: str) -> None:
    repository = Repository(str(root))
    path = Path(repository.blob_path(sha256(CONTENT)))
    damage(path)
    with pytest.raises(IntegrityError, match=f"^{path}: model.onnx: {message}"):
        repository.verify(repository.release("digits", "1.0.0"))


@pytest.mark.parametrize(("name", "content"), [("golden", GOLDEN), ("probe", PROBE)])
def test_a_damaged_side_file_is_named(root: Path, name: str, content: bytes) -> None:
    repository = Repository(str(root))
    Path(repository.blob_path(sha256(content))).write_bytes(content[::-1])
    with pytest.raises(IntegrityError, match=rf"{name}\.json: expected SHA-256"):
        repository.verify(repository.release("digits", "1.0.0"))


@pytest.mark.parametrize(
    ("golden", "probe", "message"),
    [
        (b"golden", None, "not a golden file: "),
        (GOLDEN.replace(b"[0, 1]", b"[0]"), None, "outputs: 'y': expected 2 values for shape"),
        (None, b"probe", "not a probe set: "),
        (None, PROBE, "task: nothing is known of the output 'y': declare one of class_scores, labels, score, "),
        (GOLDEN, PROBE.replace(b'"y"', b'"z"'), "output: expected one of y; found 'z'"),
        (GOLDEN, PROBE.replace(b"[1]}", b"[7]}"), "labels: expected places from 0 to 1"),
        (GOLDEN.replace(b"[1, 2]", b"[2, 1]"), PROBE, "a score or a prediction: declare score or regression"),
        (
            GOLDEN.replace(b"[1, 2]", b"[2, 1]").replace(b"FP32", b"BYTES"),
            PROBE,
            "labels: expected texts, as the output",
        ),
    ],
)
def test_a_probe_set_that_would_measure_nonsense_is_refused(
    tmp_path: Path, golden: bytes | None, probe: bytes | None, message: str
) -> None:
    publish(make_release(golden=golden, probe=probe), tmp_path)
    repository = Repository(str(tmp_path))
    with pytest.raises(ManifestError, match=f"^digits 1.0.0: .*{message}"):
        repository.verify(repository.release("digits", "1.0.0"))


def test_an_absent_release_is_named(root: Path) -> None:
    path = root / "digits" / "9.9.9" / "manifest.json"
    with pytest.raises(ManifestError) as refused:
        Repository(str(root)).release("digits", "9.9.9")
    said = f"{path}: expected the manifest of digits 9.9.9; No such file or directory. The repository has the "
    assert str(refused.value) == f"{said}versions of digits 1.0.0"


def test_what_there_is_instead_of_an_absent_release_is_named(root: Path, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    for directory, said in (
        (root, ". The repository has the models digits"),
        (tmp_path / "empty", f". {tmp_path}/empty has no release of any model"),
        (tmp_path / "nowhere", f": {tmp_path}/nowhere is no directory"),
    ):
        with pytest.raises(ManifestError) as refused:
            Repository(str(directory)).release("digit", "1.0.0")
        assert str(refused.value).endswith(f"expected the manifest of digit 1.0.0; No such file or directory{said}")


@pytest.mark.parametrize("name", ["../digits", "/etc", "", "..", "x" * 10_240, "-rf", "a\nb"])
def test_a_name_that_is_none_never_becomes_a_path(root: Path, name: str) -> None:
    for model, version in ((name, "1.0.0"), ("digits", name)):
        with pytest.raises(ManifestError, match=r"^(model|version): expected 1 to 64 of the characters"):
            Repository(str(root)).release(model, version)


def test_a_manifest_in_the_wrong_place_is_refused(root: Path) -> None:
    (root / "digits" / "2.0.0").mkdir()
    path = root / "digits" / "2.0.0" / "manifest.json"
    path.write_text((root / "digits" / "1.0.0" / "manifest.json").read_text())
    with pytest.raises(ManifestError, match=f"^{path}: expected digits 2.0.0; found digits 1.0.0"):
        Repository(str(root)).release("digits", "2.0.0")


@pytest.mark.parametrize("text", ["", "{", "[]", json.dumps({"schema": 2}), " " * (2 << 20)])
def test_a_manifest_that_is_none_is_named(root: Path, text: str) -> None:
    path = root / "digits" / "1.0.0" / "manifest.json"
    path.write_text(text)
    with pytest.raises(ManifestError, match=f"^{path}: "):
        Repository(str(root)).release("digits", "1.0.0")


def test_a_huge_manifest_is_not_read_in_full(tmp_path: Path) -> None:
    path = tmp_path / "digits" / "1.0.0" / "manifest.json"
    path.parent.mkdir(parents=True)
    with path.open("wb") as file:
        file.truncate(1 << 40)
    with pytest.raises(ManifestError, match="expected at most 1048576 bytes; found"):
        Repository(str(tmp_path)).release("digits", "1.0.0")


# ---- links that somebody planted ----


@pytest.mark.parametrize("content", [b"x" * len(CONTENT), CONTENT + b"x", b"secret"])
def test_a_link_in_place_of_a_blob_is_judged_by_what_it_leads_to(root: Path, tmp_path: Path, content: bytes) -> None:
    repository = Repository(str(root))
    path = Path(repository.blob_path(sha256(CONTENT)))
    path.unlink()
    target = tmp_path / "elsewhere"
    target.write_bytes(content)
    path.symlink_to(target)
    with pytest.raises(IntegrityError, match=f"^{path}: model.onnx: expected ") as caught:
        repository.verify(repository.release("digits", "1.0.0"))
    assert "secret" not in str(caught.value)
    target.write_bytes(CONTENT)
    assert repository.verify(repository.release("digits", "1.0.0")) > len(CONTENT)


@pytest.mark.parametrize("target", ["nowhere", "loop"])
def test_a_link_that_leads_nowhere_is_named(root: Path, target: str) -> None:
    repository = Repository(str(root))
    path = Path(repository.blob_path(sha256(CONTENT)))
    path.unlink()
    path.symlink_to(path if target == "loop" else root / "nowhere")
    with pytest.raises(IntegrityError, match=f"^{path}: model.onnx: expected 1600000 bytes; "):
        repository.verify(repository.release("digits", "1.0.0"))


def test_a_link_in_place_of_a_manifest_tells_nothing_of_what_it_leads_to(root: Path, tmp_path: Path) -> None:
    path = root / "digits" / "1.0.0" / "manifest.json"
    path.unlink()
    (tmp_path / "shadow").write_text("root:secret:1:2:3:4:::")
    for target in (tmp_path / "shadow", path, tmp_path / "nowhere", tmp_path):
        path.symlink_to(target)
        with pytest.raises(ManifestError, match=f"^{path}: ") as caught:
            Repository(str(root)).release("digits", "1.0.0")
        assert "secret" not in str(caught.value)
        path.unlink()
