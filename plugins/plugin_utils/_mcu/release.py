# Copyright (c) 2026, The edgeml.fleet authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# PRIVATE to the collection edgeml.fleet: no stable interface.

"""From a signed image to a release for microcontrollers: what would fail there is refused here.

The image is read as a bootloader reads it. A model is run by TensorFlow Lite Micro's interpreter with the golden
inputs, and its arena and its operators are compared with those of the class.
"""

from __future__ import annotations

import hashlib
import json
import os
import struct
import subprocess
import tempfile
from dataclasses import dataclass, field
from typing import Any, Mapping, NamedTuple, Sequence

from ansible_collections.edgeml.fleet.plugins.module_utils._common.errors import ManifestError
from ansible_collections.edgeml.fleet.plugins.module_utils._common.files import fsync_directory
from ansible_collections.edgeml.fleet.plugins.module_utils._release.manifest import parse_release
from ansible_collections.edgeml.fleet.plugins.module_utils._release.mcu_image import (
    McuImage,
    McuImageError,
    parse_image,
    parse_version,
)
from ansible_collections.edgeml.fleet.plugins.module_utils._release.probe_set import ProbeSetError
from ansible_collections.edgeml.fleet.plugins.module_utils._release.probe_set_file import read_outputs, read_probe_set
from ansible_collections.edgeml.fleet.plugins.module_utils._release.release import MCU_IMAGES
from ansible_collections.edgeml.fleet.plugins.plugin_utils._publish.model import RefusedError
from ansible_collections.edgeml.fleet.plugins.plugin_utils._publish.writer import publish
from ansible_collections.edgeml.fleet.plugins.plugin_utils._rollout.gate.power import detectable_by
from ansible_collections.edgeml.fleet.plugins.plugin_utils._rollout.report.words import quantity_of

MODEL, FIRMWARE = "mcu-model", "mcu-image"
JUDGE_SECONDS = 600
# Of an arena: what a device leaves free, as model_swap's headroom_percent.
MARGIN_PERCENT = 20
_JUDGE = os.path.join(os.path.dirname(os.path.abspath(__file__)), "judge.py")


@dataclass(frozen=True)
class McuClass:
    """What a class of microcontrollers has: the bytes of a slot that an image may take, those of the arena, the
    operators of its firmware, and the highest security counter that one of them may have seen."""

    name: str
    slot_bytes: int
    arena_bytes: int = 0
    operators: frozenset[str] = frozenset()
    security_counter: int = 0


@dataclass(frozen=True)
class McuRelease:
    """What is published: the signed image, and of a model the golden file, the probe set, and a Python that has the
    package tflite-micro (empty: the model is not run here).

    A firmware may have a model of its own, as code. Then ``program`` is the same code as a program of this machine,
    which reads inputs and writes outputs, and ``holdout`` has inputs with what the source of that code answers.
    """

    model: str
    version: str
    format: str
    image: str
    golden: str = ""
    probe: str = ""
    judge_python: str = ""
    program: str = ""
    holdout: str = ""
    latency_seconds_max: float | None = None
    description: str = ""


@dataclass(frozen=True)
class McuPublished:
    """What became of it: whether it is new, its manifest, and what a person has to know."""

    changed: bool
    document: Mapping[str, Any]
    facts: Mapping[str, Any]
    notes: Sequence[str] = field(default_factory=tuple)


def publish_mcu(repository: str, given: McuRelease, device_class: McuClass, *, check: bool = False) -> McuPublished:
    """Publish a release for a class of microcontrollers, or with ``check`` do all but write it.

    Raises RefusedError with every reason; EdgemlError, OSError.
    """
    with open(given.image, "rb") as file:
        content = file.read()
    try:
        image = parse_image(content)
    except McuImageError as error:
        raise RefusedError([f"image: {given.image}: {error}"]) from error
    reasons = _reasons_against(image, content, given, device_class)
    facts: dict[str, Any] = {
        "image_bytes": len(content),
        "slot_bytes": device_class.slot_bytes,
        "flash_percent": round(100 * len(content) / device_class.slot_bytes, 1),
    }
    notes: list[str] = []
    operators: list[str] = []
    if given.format == MODEL:
        payload = content[image.payload_start : image.payload_start + image.payload_size]
        operators = operators_of(payload)
        missing = sorted(set(operators) - device_class.operators)
        if missing:
            reasons.append(
                f"image: needs operators that the firmware of {device_class.name} lacks: {', '.join(missing)}"
            )
        reasons += _judged(payload, given, device_class, facts, notes)
    elif given.golden or given.program or given.holdout:
        reasons += _compared(given, facts)
    reasons += _probed(given, notes)
    if reasons:
        raise RefusedError(reasons)
    document, locations = _document(given, image, device_class, facts, operators)
    try:
        parse_release(document)
    except ManifestError as error:
        raise RefusedError([str(error)]) from error
    changed = True if check else publish(repository, document, locations)
    if not check:
        fsync_directory(repository)
    return McuPublished(changed, document, facts, tuple(notes))


def operators_of(model: bytes) -> list[str]:
    """The operators that a model in TensorFlow Lite's format needs, sorted. Raises RefusedError for another file."""
    from ai_edge_litert import schema_py_generated as schema

    names = {value: name for name, value in vars(schema.BuiltinOperator).items() if not name.startswith("_")}
    if model[4:8] != b"TFL3":
        raise RefusedError([f"image: expected a model in TensorFlow Lite's format; found {model[4:8]!r}"])
    try:
        found = schema.ModelT.InitFromObj(schema.Model.GetRootAs(model, 0))
        codes = {names[max(code.builtinCode, code.deprecatedBuiltinCode)] for code in found.operatorCodes or []}
        custom = {code.customCode for code in found.operatorCodes or [] if code.customCode}
    except (ValueError, TypeError, KeyError, IndexError, AttributeError, OverflowError) as error:
        raise RefusedError([f"image: a damaged model: {error!r}"]) from error
    if custom or "CUSTOM" in codes:
        raise RefusedError([f"image: expected no custom operators; found {', '.join(map(str, sorted(custom)))}"])
    return sorted(codes)


# ---- the parts ----


def _reasons_against(image: McuImage, content: bytes, given: McuRelease, device_class: McuClass) -> list[str]:
    """What a bootloader of the class would say against an image."""
    reasons = []
    if len(content) > device_class.slot_bytes:
        reasons.append(
            f"image: has {len(content)} bytes; a slot of {device_class.name} takes {device_class.slot_bytes}"
        )
    if not image.is_signed:
        reasons.append("image: expected a signature of P-256 and the hash of its key; found none: imgtool sign --key")
    if image.security_counter is None:
        reasons.append("image: expected a security counter; found none: imgtool sign --security-counter")
    elif image.security_counter < device_class.security_counter:
        reasons.append(
            f"image: has the security counter {image.security_counter}; microcontrollers of the class have seen "
            f"{device_class.security_counter}, and refuse a lower one"
        )
    try:
        wanted = parse_version(given.version)
        if image.version[:3] != wanted[:3]:
            reasons.append(f"image: expected the version {given.version}; found {image.version}")
    except McuImageError as error:
        reasons.append(str(error))
    if given.format == MODEL and [each.image for each in image.dependencies] != [MCU_IMAGES[FIRMWARE]]:
        reasons.append('image: expected the firmware that the model needs: imgtool sign --dependencies "(0, 1.0.0)"')
    return reasons


def _judged(
    payload: bytes, given: McuRelease, device_class: McuClass, facts: dict[str, Any], notes: list[str]
) -> list[str]:
    """Run a model with its golden inputs. Returns the reasons against it."""
    if not given.golden:
        return ["golden: expected the golden inputs and outputs of the model; found none"]
    try:
        golden = _read_samples(given.golden, "golden")
    except RefusedError as error:
        return list(error.reasons)
    if not given.judge_python:
        notes.append("the model was not run here: judge_python names a Python that has the package tflite-micro")
        facts["arena_bytes"] = device_class.arena_bytes * (100 - MARGIN_PERCENT) // 100
        return []
    said = _run_judge(payload, given, device_class, golden.inputs if golden.are_whole else [])
    if "error" in said:
        return [f"TensorFlow Lite Micro: {said['error']}"]
    facts["arena_bytes"] = said["arena"]
    allowed = device_class.arena_bytes * (100 - MARGIN_PERCENT) // 100
    reasons = []
    if said["arena"] > allowed:
        reasons.append(
            f"TensorFlow Lite Micro: the model works in {said['arena']} bytes; {device_class.name} has an arena of "
            f"{device_class.arena_bytes}, of which {MARGIN_PERCENT}% stay free"
        )
    if not golden.are_whole:
        notes.append(
            "the golden inputs are real numbers: the microcontroller answers them, and not the interpreter here"
        )
    for row, (found, wanted) in enumerate(zip(said["outputs"], golden.outputs)):
        if _is_off(found, wanted, golden.steps):
            reasons.append(
                f"TensorFlow Lite Micro: golden input {row}: expected {wanted}; found {found} (tolerance "
                f"{golden.steps} steps)"
            )
            break
    return reasons


class _Samples(NamedTuple):
    """Inputs and outputs, one row for each sample. ``steps`` is how far an output may be off; ``labels`` is what the
    samples are, where that is known."""

    inputs: list[list[float]]
    outputs: list[list[float]]
    steps: int
    are_whole: bool
    labels: Sequence[int]


def _read_samples(path: str, name: str) -> _Samples:
    """Read a golden file. Raises RefusedError for one that has not one input and one output."""
    try:
        with open(path, encoding="utf-8") as file:
            document = json.load(file)
        (source,), (output,) = document["inputs"], document["outputs"]
        count = int(source["shape"][0])
        return _Samples(
            _rows(source["data"], count),
            _rows(output["data"], count),
            int({**document["tolerance"], **(output.get("tolerance") or {})}.get("steps", 0)),
            all(item["datatype"].startswith(("INT", "UINT")) for item in (source, output)),
            [int(label) for label in document.get("labels") or ()],
        )
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise RefusedError([f"{name}: {path}: expected one input and one output; found another: {error!r}"]) from error


def _is_off(found: Sequence[float], wanted: Sequence[float], steps: int) -> bool:
    return len(found) != len(wanted) or any(abs(one - other) > steps for one, other in zip(found, wanted))


def _compared(given: McuRelease, facts: dict[str, Any]) -> list[str]:
    """Compare a firmware's own model with its source, on this machine. Returns the reasons against it."""
    missing = [name for name in ("golden", "program", "holdout") if not getattr(given, name)]
    if missing:
        return [f"{name}: expected it of a firmware with a model of its own; found none" for name in missing]
    reasons: list[str] = []
    for name in ("golden", "holdout"):
        try:
            samples = _read_samples(getattr(given, name), name)
            found = _run_program(given.program, samples)
        except RefusedError as error:
            reasons += error.reasons
            continue
        off = [row for row, pair in enumerate(zip(found, samples.outputs)) if _is_off(*pair, samples.steps)]
        accuracies = [_accuracy(rows, samples.labels) for rows in (found, samples.outputs)]
        if off:
            row = off[0]
            told = f"; accuracy {accuracies[0]:.3f}, and {accuracies[1]:.3f} of the source" if samples.labels else ""
            reasons.append(
                f"{name}: {len(off)} of {len(found)} samples are answered otherwise than by the source{told}. Sample "
                f"{row}: expected {samples.outputs[row]}; found {found[row]} (tolerance {samples.steps} steps)"
            )
        elif samples.labels:
            facts["compared_samples"], facts["accuracy"] = len(found), round(accuracies[0], 4)
    return reasons


def _run_program(program: str, samples: _Samples) -> list[list[float]]:
    """What a program answers, whose inputs and outputs are int8. Raises RefusedError."""
    try:
        given = b"".join(struct.pack(f"{len(row)}b", *map(int, row)) for row in samples.inputs)
        run = subprocess.run([program], input=given, capture_output=True, timeout=JUDGE_SECONDS, check=False)
    except (OSError, subprocess.TimeoutExpired, struct.error) as error:
        raise RefusedError([f"program: {program}: {error}"]) from error
    wanted = sum(map(len, samples.outputs))
    if run.returncode != 0 or len(run.stdout) != wanted:
        said = run.stderr.decode("utf-8", "replace").strip()[-300:] or "nothing"
        why = f"found {len(run.stdout)}, code {run.returncode}, and it said: {said}"
        raise RefusedError([f"program: {program}: expected {wanted} bytes for {len(samples.inputs)} samples; {why}"])
    return _rows(struct.unpack(f"{wanted}b", run.stdout), len(samples.inputs))


def _accuracy(rows: Sequence[Sequence[float]], labels: Sequence[int]) -> float:
    """The share of the samples whose greatest output, the first of equals, is at the place that their label says."""
    right = sum(row.index(max(row)) == label for row, label in zip(map(list, rows), labels))
    return right / len(labels) if labels else 0.0


def _probed(given: McuRelease, notes: list[str]) -> list[str]:
    """Read the probe set, and note where it has too few samples for a gate. Returns the reasons against it."""
    if not given.probe:
        return []
    try:
        found = read_probe_set(given.probe)
        _task, metric = found.resolved(read_outputs(given.golden or None).get(found.output))
    except ProbeSetError as error:
        return [f"probe: {error}"]
    sight = detectable_by(metric, found.samples)
    if sight.suffices or sight.wanted is None:
        return []
    show = quantity_of(sight.unit).text
    least = "no loss" if sight.smallest is None else f"a loss from {show(sight.smallest)} on"
    takes = f"takes {sight.needed[1]:.0f} samples" if sight.needed else "takes many more samples"
    notes.append(
        f"probe: its {found.samples} samples tell a gate with the default limits of {least}; {show(sight.wanted)}, "
        f"which must not slip through, {takes} or more. A release that answers fewer rightly may be inconclusive"
    )
    return []


def _run_judge(
    payload: bytes, given: McuRelease, device_class: McuClass, samples: Sequence[Sequence[float]]
) -> dict[str, Any]:
    with tempfile.NamedTemporaryFile(suffix=".tflite") as model:
        model.write(payload)
        model.flush()
        command = [given.judge_python, "-B", _JUDGE, model.name, str(device_class.arena_bytes)]
        try:
            run = subprocess.run(
                command, input=json.dumps(samples), capture_output=True, text=True, timeout=JUDGE_SECONDS, check=False
            )
        except (OSError, subprocess.TimeoutExpired) as error:
            return {"error": f"{given.judge_python}: {error}"}
    try:
        answer: dict[str, Any] = json.loads(run.stdout.strip().splitlines()[-1])
        return answer
    except (ValueError, IndexError):
        last = run.stderr.strip().splitlines()[-1:] or ["nothing"]
        return {"error": f"{given.judge_python}: ended with code {run.returncode} and said: {last[0][:300]}"}


def _rows(values: Sequence[float], count: int) -> list[list[float]]:
    size = len(values) // count
    return [list(values[row * size : (row + 1) * size]) for row in range(count)]


def _document(
    given: McuRelease, image: McuImage, device_class: McuClass, facts: Mapping[str, Any], operators: Sequence[str]
) -> tuple[dict[str, Any], dict[str, str]]:
    """The manifest, and where its files are."""
    locations: dict[str, str] = {}

    def entry(name: str, path: str) -> dict[str, Any]:
        with open(path, "rb") as file:
            content = file.read()
        digest = hashlib.sha256(content).hexdigest()
        locations[digest] = path
        return {"path": name, "size": len(content), "sha256": digest}

    is_model = given.format == MODEL
    boot: dict[str, Any] = {
        "hash": image.hash.hex(),
        "version": str(image.version),
        "security_counter": image.security_counter,
    }
    if operators:
        boot["operators"] = list(operators)
    needed = ".".join(str(part) for part in image.dependencies[0].minimum[:3]) if is_model else "0"
    variant: dict[str, Any] = {
        "name": f"{given.format}-{device_class.name}",
        "format": given.format,
        "architectures": [device_class.name],
        "runtime": {"name": "mcu-firmware" if is_model else "mcuboot", "minimum": needed},
        "memory_bytes": int(facts.get("arena_bytes", 0)),
        "entrypoint": "image.bin",
        "files": [entry("image.bin", given.image)],
        "boot": boot,
    }
    if given.latency_seconds_max is not None:
        variant["latency_seconds_max"] = given.latency_seconds_max
    document: dict[str, Any] = {"schema": 2, "model": given.model, "version": given.version, "variants": [variant]}
    if given.description:
        document["description"] = given.description
    for name, path in (("golden", given.golden), ("probe", given.probe)):
        if path:
            document[name] = entry(f"{name}.json", path)
    return document, locations
