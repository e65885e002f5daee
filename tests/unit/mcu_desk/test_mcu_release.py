# Copyright (c) 2026, The edgeml.fleet authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Publishing for microcontrollers: the desk refuses what would fail on one, with every reason."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import flatbuffers
import pytest
from ai_edge_litert import schema_py_generated as schema
from hypothesis import given
from hypothesis import strategies as st
from smp_peer import DEVICE_CLASS, hash_of, signed_image

from ansible_collections.edgeml.fleet.plugins.module_utils._release.manifest import parse_release_json
from ansible_collections.edgeml.fleet.plugins.module_utils._release.mcu_image import (
    McuImageError,
    McuVersion,
    parse_image,
    parse_version,
)
from ansible_collections.edgeml.fleet.plugins.module_utils._release.release import BootImage
from ansible_collections.edgeml.fleet.plugins.plugin_utils._mcu.release import (
    FIRMWARE,
    MODEL,
    McuClass,
    McuRelease,
    operators_of,
    publish_mcu,
)
from ansible_collections.edgeml.fleet.plugins.plugin_utils._publish.cli import main
from ansible_collections.edgeml.fleet.plugins.plugin_utils._publish.model import RefusedError

KIND = McuClass(DEVICE_CLASS, 4096, 4000, frozenset({"FULLY_CONNECTED", "SOFTMAX"}), 1)
GOLDEN = {
    "inputs": [{"name": "x", "datatype": "INT8", "shape": [1, 4], "data": [1, 2, 3, 4]}],
    "outputs": [{"name": "y", "datatype": "INT8", "shape": [1, 2], "data": [1, 2]}],
    "tolerance": {"absolute": 0, "relative": 0},
}


def tflite(*operators: int) -> bytes:
    """A file in TensorFlow Lite's format that declares operators."""
    model = schema.ModelT()
    model.version = 3
    model.operatorCodes = []
    for code in operators:
        entry = schema.OperatorCodeT()
        entry.builtinCode = entry.deprecatedBuiltinCode = code
        model.operatorCodes.append(entry)
    builder = flatbuffers.Builder(256)
    builder.Finish(model.Pack(builder), file_identifier=b"TFL3")
    return bytes(builder.Output())


FULLY_CONNECTED = tflite(schema.BuiltinOperator.FULLY_CONNECTED)
IMAGE = signed_image(FULLY_CONNECTED, (1, 1, 0), counter=2, needs=(1, 2, 0))


def given_release(directory: Path, image: bytes = IMAGE, **changes: Any) -> McuRelease:
    (directory / "image.bin").write_bytes(image)
    (directory / "golden.json").write_text(json.dumps(GOLDEN))
    made = McuRelease("digits", "1.1.0", MODEL, str(directory / "image.bin"), golden=str(directory / "golden.json"))
    return replace(made, **changes)


def refused(directory: Path, device_class: McuClass = KIND, image: bytes = IMAGE, **changes: Any) -> list[str]:
    with pytest.raises(RefusedError) as caught:
        publish_mcu(str(directory / "repository"), given_release(directory, image, **changes), device_class)
    assert not (directory / "repository").exists()
    return list(caught.value.reasons)


def test_a_model_becomes_a_release_that_says_what_it_needs(tmp_path: Path) -> None:
    repository = tmp_path / "repository"
    published = publish_mcu(str(repository), given_release(tmp_path), KIND)
    path = repository / "digits" / "1.1.0" / "manifest.json"
    release = parse_release_json(path.read_bytes(), str(path))
    (variant,) = release.variants
    assert (variant.format, variant.architectures, variant.runtime_minimum) == (MODEL, (DEVICE_CLASS,), "1.2.0")
    assert variant.boot == BootImage(hash_of(IMAGE).hex(), "1.1.0+0", 2, ("FULLY_CONNECTED",))
    assert published.changed
    assert published.facts["image_bytes"] == len(IMAGE)
    assert "was not run here" in published.notes[0]
    assert not publish_mcu(str(repository), given_release(tmp_path), KIND).changed


def probe_set(directory: Path, samples: int, **changes: Any) -> str:
    source = {"name": "x", "datatype": "INT8", "shape": [samples, 4], "data": [0] * 4 * samples}
    document = {"inputs": [source], "output": "y", "task": "class_scores", "labels": [0, 1] * (samples // 2)}
    (directory / "probe.json").write_text(json.dumps({**document, **changes}))
    return str(directory / "probe.json")


def test_a_probe_set_that_is_too_small_for_a_gate_is_noted(tmp_path: Path) -> None:
    given = given_release(tmp_path, probe=probe_set(tmp_path, 40))
    (note,) = [note for note in publish_mcu(str(tmp_path), given, KIND, check=True).notes if note.startswith("probe: ")]
    (needed,) = re.findall(r"4 pp, which must not slip through, takes (\d+) samples or more", note)
    assert "its 40 samples tell a gate with the default limits of a loss from 33.37 pp on" in note
    enough = given_release(tmp_path, probe=probe_set(tmp_path, int(needed) + int(needed) % 2))
    assert "probe" not in " ".join(publish_mcu(str(tmp_path), enough, KIND, check=True).notes)


def test_a_probe_set_that_no_device_could_use_is_refused(tmp_path: Path) -> None:
    (reason,) = refused(tmp_path, probe=probe_set(tmp_path, 40, labels=[0, 2] * 20))
    assert re.search(r"^probe: labels: expected places from 0 to 1 .*found 0 to 2", reason)


def test_a_firmware_becomes_a_release(tmp_path: Path) -> None:
    image = signed_image(b"firmware" * 30, (1, 3, 0), counter=2)
    given_firmware = given_release(tmp_path, image, model="meter-firmware", version="1.3.0", format=FIRMWARE, golden="")
    published = publish_mcu(str(tmp_path / "repository"), given_firmware, KIND, check=True)
    assert published.document["variants"][0]["runtime"] == {"name": "mcuboot", "minimum": "0"}
    assert not (tmp_path / "repository").exists()


@pytest.mark.parametrize(
    ("device_class", "reason"),
    [
        (replace(KIND, slot_bytes=100), f"image: has {len(IMAGE)} bytes; a slot of {DEVICE_CLASS} takes 100"),
        (replace(KIND, security_counter=3), "have seen 3, and refuse a lower one"),
        (replace(KIND, operators=frozenset()), f"that the firmware of {DEVICE_CLASS} lacks: FULLY_CONNECTED"),
    ],
)
def test_what_the_class_cannot_take_is_refused(tmp_path: Path, device_class: McuClass, reason: str) -> None:
    assert [found for found in refused(tmp_path, device_class) if reason in found]


@pytest.mark.parametrize(
    ("image", "reason"),
    [
        (IMAGE[:-3], "the image is cut off, or damaged"),
        (IMAGE[:40] + b"\xff" + IMAGE[41:], "the image is damaged"),
        (IMAGE + b"\xff" * 8, "sign it without --pad"),
        (b"\0" * 100, "expected an image that imgtool signed"),
        (signed_image(FULLY_CONNECTED, (1, 0, 0), needs=(1, 0, 0)), "expected the version 1.1.0; found 1.0.0+0"),
        (signed_image(FULLY_CONNECTED, (1, 1, 0)), "expected the firmware that the model needs"),
        (signed_image(b"no model at all", (1, 1, 0), needs=(1, 0, 0)), "in TensorFlow Lite's format"),
    ],
)
def test_what_a_bootloader_would_refuse_is_refused(tmp_path: Path, image: bytes, reason: str) -> None:
    assert [found for found in refused(tmp_path, image=image) if reason in found]


def test_every_reason_is_said_at_once(tmp_path: Path) -> None:
    assert len(refused(tmp_path, replace(KIND, slot_bytes=100, security_counter=9), golden="")) == 3


def test_a_judge_that_cannot_run_is_no_verdict_in_favour(tmp_path: Path) -> None:
    (reason,) = refused(tmp_path, judge_python=sys.executable)
    assert "ended with code 1 and said: ModuleNotFoundError: No module named 'tflite_micro'" in reason
    assert refused(tmp_path, judge_python="/nowhere/python")[0].startswith("TensorFlow Lite Micro: /nowhere/python: ")


def test_the_command_publishes_and_refuses(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    made = given_release(tmp_path)
    arguments = ["mcu", "--repository", str(tmp_path / "repository"), "--model", "digits", "--version", "1.1.0"]
    arguments += ["--format", MODEL, "--image", made.image, "--golden", made.golden, "--device-class", DEVICE_CLASS]
    arguments += ["--arena-bytes", "4000", "--operators", "SOFTMAX, FULLY_CONNECTED"]
    assert main([*arguments, "--slot-bytes", "100"]) == 2
    assert "refused: image: has" in capsys.readouterr().err
    assert main([*arguments, "--slot-bytes", "4096", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["changed"] is True
    assert main([*arguments, "--slot-bytes", "4096"]) == 0
    assert "is published already; nothing changed" in capsys.readouterr().out
    # Where this is, people sign.
    signed = tmp_path / "signed"
    (signed / "metadata").mkdir(parents=True)
    for says in (1, 0):
        assert main([*arguments, "--slot-bytes", "4096", "--repository", str(signed)]) == 0
        assert capsys.readouterr().out.count("next: edgeml-publish sign") == says


def test_operators_are_read_from_the_file() -> None:
    codes = schema.BuiltinOperator
    assert operators_of(tflite(codes.SOFTMAX, codes.CONV_2D, codes.SOFTMAX)) == ["CONV_2D", "SOFTMAX"]
    with pytest.raises(RefusedError, match="expected no custom operators"):
        operators_of(tflite(codes.CUSTOM))


# ---- what imgtool writes ----


def test_an_image_is_read_as_imgtool_wrote_it(tmp_path: Path) -> None:
    (tmp_path / "firmware").write_bytes(bytes(range(256)) * 8)
    imgtool = [sys.executable, "-m", "imgtool.main"]
    subprocess.run([*imgtool, "keygen", "--key", tmp_path / "key.pem", "--type", "ecdsa-p256"], check=True)
    options = ["--align", "4", "--header-size", "32", "--pad-header", "--slot-size", "0x1f000", "--version", "1.2.3+4"]
    files = [str(tmp_path / "firmware"), str(tmp_path / "signed")]
    more = ["--security-counter", "7", "--dependencies", "(0, 1.1.0)", *files]
    subprocess.run([*imgtool, "sign", "--key", tmp_path / "key.pem", *options, *more], check=True)
    image = parse_image((tmp_path / "signed").read_bytes())
    assert (image.version, image.security_counter, image.is_signed) == (McuVersion(1, 2, 3, 4), 7, True)
    assert [(each.image, str(each.minimum)) for each in image.dependencies] == [(0, "1.1.0+0")]
    assert (image.payload_start, image.payload_size) == (32, 2048)


@given(st.integers(0, len(IMAGE) - 1), st.binary(min_size=1, max_size=8))
def test_a_changed_image_is_refused_or_the_same(place: int, noise: bytes) -> None:
    changed = IMAGE[:place] + noise + IMAGE[place + len(noise) :]
    try:
        found = parse_image(changed)
    except McuImageError:
        return
    # Behind the hash are the key's hash and the signature: for the bootloader.
    assert found.hash == hash_of(IMAGE)


@pytest.mark.parametrize("text", ["1", "1.2", "256.0.0", "1.0.65536", "1.0.0-rc1", "1.0.0\n"])
def test_a_version_that_imgtool_does_not_have_is_named(text: str) -> None:
    with pytest.raises(McuImageError, match="version: expected one such as"):
        parse_version(text)


# ---- a firmware with a model of its own ----

FIRMWARE_IMAGE = signed_image(b"firmware" * 20, (1, 1, 0), counter=2)


def own_model(directory: Path, script: str, **changes: Any) -> McuRelease:
    """A firmware whose model is a shell script here."""
    program = directory / "program"
    program.write_text(f"#!/bin/sh\n{script}\n")
    program.chmod(0o755)
    holdout = {**GOLDEN, "labels": [1]}
    (directory / "holdout.json").write_text(json.dumps(holdout))
    made = given_release(directory, FIRMWARE_IMAGE, format=FIRMWARE, program=str(program))
    return replace(made, **{"holdout": str(directory / "holdout.json"), **changes})


def publish_own_model(directory: Path, given: McuRelease) -> Any:
    return publish_mcu(str(directory / "repository"), given, KIND)


def test_a_firmware_with_a_model_of_its_own_answers_as_its_source(tmp_path: Path) -> None:
    published = publish_own_model(tmp_path, own_model(tmp_path, r"printf '\001\002'"))
    assert (published.facts["compared_samples"], published.facts["accuracy"]) == (1, 1.0)
    assert published.document["golden"]["path"] == "golden.json"


@pytest.mark.parametrize(
    ("script", "reason"),
    [
        (r"printf '\003\002'", "holdout: 1 of 1 samples are answered otherwise than by the source; accuracy 0.000"),
        (r"printf '\003'", "expected 2 bytes for 1 samples; found 1, code 0, and it said: nothing"),
        ("echo no model >&2; exit 3", "found 0, code 3, and it said: no model"),
    ],
)  # fmt: skip
def test_a_firmware_whose_model_answers_otherwise_is_refused(tmp_path: Path, script: str, reason: str) -> None:
    with pytest.raises(RefusedError) as caught:
        publish_own_model(tmp_path, own_model(tmp_path, script))
    assert any(reason in text for text in caught.value.reasons)
    assert not (tmp_path / "repository").exists()


@pytest.mark.parametrize("name", ["golden", "program", "holdout"])
def test_a_firmware_with_a_model_of_its_own_names_its_source(tmp_path: Path, name: str) -> None:
    with pytest.raises(RefusedError, match=f"{name}: expected"):
        publish_own_model(tmp_path, own_model(tmp_path, "exit 1", **{name: ""}))


def test_a_program_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(RefusedError, match="program: /nowhere: "):
        publish_own_model(tmp_path, own_model(tmp_path, "", program="/nowhere"))
