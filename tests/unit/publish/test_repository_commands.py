# Copyright (c) 2026, The edgeml.fleet authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What a repository holds is listed, promoted, compared and collected, and what somebody needs stays."""

from __future__ import annotations

import base64
import fcntl
import json
import os
import shlex
import shutil
import subprocess
import sys
import threading
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from kills import killed_before_write
from links import REPOSITORY
from publications import DIGITS
from releases import make_release, publish, sha256
from rollouts import wanted_by

from ansible_collections.edgeml.fleet.plugins.module_utils._common.errors import ManifestError
from ansible_collections.edgeml.fleet.plugins.module_utils._release.repository import Repository
from ansible_collections.edgeml.fleet.plugins.plugin_utils._publish import writer
from ansible_collections.edgeml.fleet.plugins.plugin_utils._publish.cli import main
from ansible_collections.edgeml.fleet.plugins.plugin_utils._publish.garbage_collection import collect
from ansible_collections.edgeml.fleet.plugins.plugin_utils._publish.model import PublishError
from ansible_collections.edgeml.fleet.plugins.plugin_utils._publish.promotion import promote
from ansible_collections.edgeml.fleet.plugins.plugin_utils._publish.repository_lock import writing
from ansible_collections.edgeml.fleet.plugins.plugin_utils._rollout import ledger
from ansible_collections.edgeml.fleet.plugins.plugin_utils._trust import keys

VERSIONS = ("1.0.0", "1.1.0", "1.2.0", "1.3.0")


@pytest.fixture
def repository(tmp_path: Path) -> Path:
    """Four releases of the digits, one a day; the first two share a file."""
    root = tmp_path / "repository"
    for day, version in enumerate(VERSIONS, 1):
        files = {"model.onnx": b"m" * 100 + version.encode(), "weights.bin": b"w" if day < 3 else version.encode()}
        publish(make_release(version, files=files, created=f"2026-11-0{day}T00:00:00Z"), root)
    return root


def versions(root: Path, model: str = "digits") -> list[str]:
    return Repository(str(root)).versions(model)


def blobs(root: Path) -> set[str]:
    return set(os.listdir(root / "blobs" / "sha256"))


def needed_blobs(root: Path) -> set[str]:
    found = Repository(str(root))
    return {file.sha256 for name in versions(root) for file in found.release("digits", name).all_files()}


def run(capsys: pytest.CaptureFixture[str], *arguments: object) -> tuple[int, Any]:
    code = main([*map(str, arguments), "--json"])
    return code, json.loads(capsys.readouterr().out)


def withdraw(root: Path, version: str) -> None:
    (root / "digits" / version / "withdrawn.json").write_text(json.dumps({"reason": "it was bad"}))


# ---- list ----


def test_releases_are_listed_newest_first_with_their_channels(
    repository: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    promote(str(repository), "digits", "production", version="1.1.0", source=None)
    withdraw(repository, "1.3.0")
    code, found = run(capsys, "list", "--repository", repository)
    assert code == 0
    assert [item["version"] for item in found["releases"]] == ["1.3.0", "1.2.0", "1.1.0", "1.0.0"]
    assert [item["channels"] for item in found["releases"]] == [[], [], ["production"], []]
    assert [item["withdrawn"] for item in found["releases"]] == ["it was bad", None, None, None]
    assert found["releases"][2]["bytes"] == 106
    assert main(["list", "--repository", str(repository), "--model", "digits"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].split() == ["model", "version", "created", "variants", "size", "channels", "state"]
    assert lines[1].endswith("withdrawn: it was bad")
    assert main(["list", "--repository", str(repository), "--model", "letters"]) == 0
    assert capsys.readouterr().out == "no releases\n"


def test_a_damaged_release_ends_the_list(repository: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (repository / "digits" / "1.1.0" / "manifest.json").write_text("{")
    code, found = run(capsys, "list", "--repository", repository)
    assert code == 2
    assert "digits/1.1.0/manifest.json: expected JSON" in found["reasons"][0]
    assert main(["list", "--repository", str(repository / "none")]) == 2
    assert "expected a model repository; No such file" in capsys.readouterr().err


# ---- promote ----


def test_a_channel_stands_for_the_version_that_another_one_has_tested(
    repository: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    promoting = ("promote", "--repository", repository, "--model", "digits")
    assert run(capsys, *promoting, "--version", "1.1.0", "--to", "staging")[1]["changed"]
    before = (repository / "digits" / "channels.json").read_text()
    code, said = run(capsys, *promoting, "--from", "staging", "--to", "production", "--check")
    assert (code, said["changed"], said["before"], said["version"]) == (0, True, None, "1.1.0")
    assert (repository / "digits" / "channels.json").read_text() == said["text_before"] == before
    said = run(capsys, *promoting, "--from", "staging", "--to", "production")[1]
    assert said["text_after"] == (repository / "digits" / "channels.json").read_text()
    assert Repository(str(repository)).channels("digits") == {"production": "1.1.0", "staging": "1.1.0"}
    assert not run(capsys, *promoting, "--from", "staging", "--to", "production")[1]["changed"]
    assert run(capsys, *promoting, "--version", "1.0.0", "--to", "production")[1]["before"] == "1.1.0"
    assert Repository(str(repository)).version_of("digits", "channel:production") == "1.0.0"
    assert Repository(str(repository)).version_of("digits", "1.3.0") == "1.3.0"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--to", "production"], "expected --version, or --from"),
        (["--version", "9", "--to", "production"], "expected the manifest of digits 9"),
        (["--version", "1.3.0", "--to", "production"], "1.3.0 is withdrawn: it was bad"),
        (["--version", "1.1.0", "--to", "a/b"], "channel: expected 1 to 64"),
        (["--from", "staging", "--to", "production"], "digits has no channel staging; it has beta"),
        (
            ["--from", "staging", "--to", "production"],
            "with: edgeml-publish promote --repository DIRECTORY --model",
        ),
        (["--from", "1.1.0", "--to", "production"], "1.1.0 is one of its versions: give it as the version, not as a"),
        (["--from", "beta", "--version", "1.1.0", "--to", "production"], "expected 1.1.0 on the channel beta; found"),
    ],
)
def test_what_cannot_be_promoted(
    repository: Path, capsys: pytest.CaptureFixture[str], arguments: list[str], message: str
) -> None:
    promote(str(repository), "digits", "beta", version="1.0.0", source=None)
    withdraw(repository, "1.3.0")
    before = (repository / "digits" / "channels.json").read_text()
    code, said = run(capsys, "promote", "--repository", repository, "--model", "digits", *arguments)
    assert code == 2
    assert message in said["reasons"][0]
    assert (repository / "digits" / "channels.json").read_text() == before


@pytest.mark.parametrize(
    "text",
    ["{", "[]", '{"channels": []}', '{"channels": {"a b": "1"}}', '{"channels": {"a": 1}}', '{"channels": {}, "b": 1}'],
)
def test_channels_that_cannot_be_read(repository: Path, text: str) -> None:
    (repository / "digits" / "channels.json").write_text(text)
    with pytest.raises(ManifestError, match=r"digits/channels\.json: "):
        Repository(str(repository)).channels("digits")
    with pytest.raises(ManifestError, match=r"digits/channels\.json: "):
        collect(str(repository), blob_age_seconds=0)
    assert versions(repository) == list(VERSIONS)


def test_who_withdraws_what_a_channel_stands_for_is_told_the_command_that_promotes_another(
    repository: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    promote(str(repository), "digits", "production", version="1.1.0", source=None)
    withdrawing = ("withdraw", "--repository", str(repository), "--model", "digits", "--version", "1.1.0")
    assert main([*withdrawing, "--reason", "bad labels"]) == 0
    _said, _with, command = capsys.readouterr().out.strip().rpartition("with: edgeml-publish ")
    assert main(shlex.split(command.replace("VERSION", "1.2.0"))) == 0
    assert Repository(str(repository)).channels("digits") == {"production": "1.2.0"}


# ---- diff ----


def test_two_releases_of_the_digits_are_compared(capsys: pytest.CaptureFixture[str]) -> None:
    diff = ("diff", "--repository", DIGITS, "--model", "digits", "--from", "1.0.0", "--to", "1.1.0")
    _code, found = run(capsys, *diff)
    variants = {variant["name"]: variant for variant in found["variants"]}
    assert list(variants) == ["onnx-fp32", "onnx-fp16", "onnx-int8"]
    fp32 = variants["onnx-fp32"]
    assert fp32["before"]["metric"] < fp32["before"]["interval"][1] < fp32["after"]["metric"]
    assert (fp32["tensors"]["same"], len(fp32["tensors"]["changed"])) == (0, 8)
    assert fp32["after"]["size"] < fp32["fetched_bytes"]
    assert "golden" in found["fields"]
    assert main([*map(str, diff)]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == "digits: 1.0.0 -> 1.1.0"
    assert any(line.startswith("onnx-fp32: 8 of 8 tensors changed (0.layers.0.bias, ") for line in lines)
    # Nothing differs from itself, and nothing has to be fetched.
    _code, same = run(capsys, *diff[:-3], "1.1.0", *diff[-2:])
    assert same["fields"] == []
    assert all(variant["fetched_bytes"] == 0 for variant in same["variants"])
    assert all(variant["tensors"]["changed"] == [] for variant in same["variants"])


def test_what_was_not_measured_and_a_variant_that_is_new(repository: Path, capsys: pytest.CaptureFixture[str]) -> None:
    made = make_release("2.0.0", files={"model.tflite": b"t"})
    made.document["variants"][0].update(name="tflite-fp32", format="tflite")
    publish(made, repository)
    _code, found = run(
        capsys, "diff", "--repository", repository, "--model", "digits", "--from", "1.3.0", "--to", "2.0.0"
    )
    new, gone = found["variants"]
    assert (new["name"], new["before"], new["tensors"], new["fetched_bytes"]) == ("tflite-fp32", None, None, 1)
    assert (gone["name"], gone["after"], gone["fetched_bytes"]) == ("onnx-fp32", None, None)
    assert gone["before"]["size"] == 110


# ---- gc ----


def test_the_newest_and_those_on_a_channel_stay(repository: Path, capsys: pytest.CaptureFixture[str]) -> None:
    promote(str(repository), "digits", "production", version="1.1.0", source=None)
    before = blobs(repository)
    garbage = ("gc", "--repository", repository, "--keep-last", 1, "--blob-hours", 0)
    _code, would = run(capsys, *garbage, "--check")
    assert (versions(repository), blobs(repository)) == (list(VERSIONS), before)
    _code, did = run(capsys, *garbage)
    assert {**did, "check": True} == would
    assert did["releases"] == ["digits 1.2.0", "digits 1.0.0"]
    assert did["kept"] == {"digits 1.3.0": ["one of the last 1"], "digits 1.1.0": ["channel production"]}
    assert versions(repository) == ["1.1.0", "1.3.0"]
    # The file that 1.0.0 had together with 1.1.0 is still there.
    assert blobs(repository) == needed_blobs(repository) < before
    assert not run(capsys, *garbage)[1]["changed"]


def test_what_the_ledger_needs_stays(repository: Path, tmp_path: Path) -> None:
    directory = tmp_path / "ledger"
    for number, each in enumerate((("1.0.0", "passed", 2), ("1.1.0", "passed", 2), ("1.2.0", "failed", 1))):
        rollout = wanted_by(*each, began=f"2026-11-2{number}T00:00:00Z")
        ledger.write(ledger.path_of(str(directory), rollout.id), rollout)
    collected = collect(str(repository), keep_last=1, ledger=str(directory), blob_age_seconds=0)
    # 1.2.0 was stopped: nobody comes to it.
    assert collected.releases == [("digits", "1.2.0")]
    assert collected.kept["digits", "1.0.0"] == ["a rollout of the ledger"]
    (directory / "digits-1.0.0-1.json").write_text("{")
    with pytest.raises(PublishError, match=r"digits-1\.0\.0-1\.json: cannot be read"):
        collect(str(repository), keep_last=1, ledger=str(directory), blob_age_seconds=0)
    with pytest.raises(PublishError, match="expected the directory of a ledger"):
        collect(str(repository), keep_last=1, ledger=str(tmp_path / "none"), blob_age_seconds=0)
    with pytest.raises(PublishError, match="keep_last: expected at least 1; found 0"):
        collect(str(repository), keep_last=0)
    assert versions(repository) == ["1.0.0", "1.1.0", "1.3.0"]


def test_a_withdrawn_release_takes_no_place_and_stays_for_its_channel(repository: Path) -> None:
    promote(str(repository), "digits", "production", version="1.2.0", source=None)
    withdraw(repository, "1.2.0")
    withdraw(repository, "1.3.0")
    collected = collect(str(repository), keep_last=1, blob_age_seconds=0)
    assert collected.releases == [("digits", "1.3.0"), ("digits", "1.0.0")]
    assert versions(repository) == ["1.1.0", "1.2.0"]
    # What is gone stays withdrawn.
    assert Repository(str(repository)).withdrawn("digits", "1.3.0") == "it was bad"


def test_young_blobs_of_no_release_stay(repository: Path) -> None:
    directory = repository / "blobs" / "sha256"
    (directory / ("a" * 64)).write_bytes(b"copied a moment ago")
    (directory / ("b" * 64)).write_bytes(b"left over")
    os.utime(directory / ("b" * 64), (0, 0))
    assert collect(str(repository)).blobs == ["b" * 64]
    assert "a" * 64 in blobs(repository)


def test_a_version_that_was_removed_never_comes_back_with_other_content(repository: Path, tmp_path: Path) -> None:
    before = Repository(str(repository)).release("digits", "1.0.0").digest
    collect(str(repository), keep_last=1, blob_age_seconds=0)
    with pytest.raises(PublishError, match=rf"removed\.json: another release .* expected {before}\. Devices may"):
        writer.publish(str(repository), make_release("1.0.0").document, {})
    (repository / "digits" / "1.0.0" / "removed.json").write_text("{}")
    with pytest.raises(PublishError, match=r'removed\.json: expected {"digest": "…"}'):
        writer.publish(str(repository), make_release("1.0.0").document, {})
    # The same release may.
    again = tmp_path / "again"
    made = make_release(
        "1.1.0", files={"model.onnx": b"m" * 100 + b"1.1.0", "weights.bin": b"w"}, created="2026-11-02T00:00:00Z"
    )
    again.mkdir()
    for digest, content in made.blobs.items():
        (again / digest).write_bytes(content)
    assert writer.publish(str(repository), made.document, {digest: str(again / digest) for digest in made.blobs})


def test_killed_before_any_write_what_is_needed_is_whole(repository: Path, tmp_path: Path) -> None:
    promote(str(repository), "digits", "production", version="1.1.0", source=None)
    write, left = 0, set()
    killed = True
    while killed:
        write += 1
        root = tmp_path / "killed"
        shutil.rmtree(root, ignore_errors=True)
        shutil.copytree(repository, root)
        killed = killed_before_write(write, partial(collect, str(root), keep_last=1, blob_age_seconds=0))
        found = Repository(str(root))
        assert {"1.1.0", "1.3.0"} <= set(found.versions("digits"))
        # Whatever is seen has all of its files.
        assert needed_blobs(root) <= blobs(root)
        left.add(len(found.versions("digits")))
        collect(str(root), keep_last=1, blob_age_seconds=0)
        assert found.versions("digits") == ["1.1.0", "1.3.0"]
        assert blobs(root) == needed_blobs(root)
    assert left == {4, 3, 2}
    # Two releases leave a note each, and six files go.
    assert write > 8


def test_gc_waits_for_a_publication_and_a_publication_for_gc(repository: Path) -> None:
    (repository / "blobs" / "sha256" / ("a" * 64)).write_bytes(b"of a release that is being published")
    program = (
        "import sys\n"
        "from ansible_collections.edgeml.fleet.plugins.plugin_utils._publish.garbage_collection import collect\n"
        "print(collect(sys.argv[1], keep_last=4, blob_age_seconds=0).blobs)"
    )
    with writing(str(repository)):
        collector = subprocess.Popen(
            [sys.executable, "-c", program, str(repository)],
            env={**os.environ, "PYTHONPATH": str(REPOSITORY / ".cache" / "python")},
            stdout=subprocess.PIPE,
            text=True,
        )
        wait_for_lock(collector.pid)
        assert "a" * 64 in blobs(repository)
        # Two publications do not wait for each other.
        with writing(str(repository)):
            pass
    said, _ = collector.communicate(timeout=60)
    assert said.strip() == str(["a" * 64])

    descriptor = os.open(repository / "blobs", os.O_RDONLY)
    fcntl.flock(descriptor, fcntl.LOCK_EX)
    made = make_release("3.0.0")
    done = threading.Event()
    files = repository.parent / "new"
    files.mkdir()
    for digest, content in made.blobs.items():
        (files / digest).write_bytes(content)

    def publishing() -> None:
        writer.publish(str(repository), made.document, {digest: str(files / digest) for digest in made.blobs})
        done.set()

    thread = threading.Thread(target=publishing)
    thread.start()
    wait_for_lock(os.getpid())
    assert not done.is_set()
    assert "3.0.0" not in versions(repository)
    os.close(descriptor)
    thread.join(60)
    assert "3.0.0" in versions(repository)


def wait_for_lock(process: int) -> None:
    """Wait until the kernel lists a process among those that wait for a lock."""
    for _attempt in range(6000):
        waiting = [line.split() for line in Path("/proc/locks").read_text().splitlines() if "->" in line]
        if any(str(process) in fields for fields in waiting):
            return
        threading.Event().wait(0.01)
    raise AssertionError(f"process {process} does not wait for a lock")


# ---- export ----


def test_an_export_has_every_file_and_a_signature_over_them(
    repository: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    key = keys.generate("ann")
    keys.write(key, str(tmp_path), None)
    promote(str(repository), "digits", "production", version="1.1.0", source=None)
    target = tmp_path / "exported"
    export = ["export", "--repository", str(repository), "--model", "digits", "--key", str(tmp_path / "ann.pem")]
    assert main([*export, "--version", "channel:production", "--oms", str(target)]) == 0
    assert "digits 1.1.0, 3 files, signed by ann" in capsys.readouterr().out
    bundle = json.loads((target / "model.sig").read_text())
    envelope = bundle["dsseEnvelope"]
    payload = base64.b64decode(envelope["payload"])
    kind = envelope["payloadType"].encode()
    # Raises where the signature is another's, or of something else.
    key.private.public_key().verify(
        base64.b64decode(envelope["signatures"][0]["sig"]),
        b"DSSEv1 %d %s %d %s" % (len(kind), kind, len(payload), payload),
        ec.ECDSA(hashes.SHA256()),
    )
    listed = {item["name"]: item["digest"] for item in json.loads(payload)["predicate"]["resources"]}
    assert listed == {
        name: sha256((target / name).read_bytes())
        for name in ("manifest.json", "variants/onnx-fp32/model.onnx", "variants/onnx-fp32/weights.bin")
    }
    assert main([*export, "--version", "1.1.0", "--oms", str(target)]) == 2
    assert "expected a new directory; File exists" in capsys.readouterr().err
    withdraw(repository, "1.2.0")
    assert main([*export, "--version", "1.2.0", "--oms", str(tmp_path / "other")]) == 2
    assert "digits 1.2.0 is withdrawn: it was bad" in capsys.readouterr().err
    assert not (tmp_path / "other").exists()
