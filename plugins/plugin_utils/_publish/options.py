# Copyright (c) 2026, The edgeml.fleet authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# PRIVATE to the collection edgeml.fleet: no stable interface.

"""The options of a release: each is declared once, for the command line and for Ansible. Pure."""

from __future__ import annotations

import dataclasses
import datetime
import json
import math
import os
import re
from dataclasses import dataclass, field
from typing import Any, Mapping, Sequence

from ansible_collections.edgeml.fleet.plugins.module_utils._common.errors import ArgumentError, ManifestError
from ansible_collections.edgeml.fleet.plugins.module_utils._release.names import check_model_name, check_name
from ansible_collections.edgeml.fleet.plugins.module_utils._release.probe_set import Metric, Task

VARIANTS = ("fp32", "fp16", "int8", "int8-dynamic", "ncnn")
ARCHITECTURES = ("aarch64", "x86_64")
# As `uname -m` says: no device would take a release for "arm64" or "amd64".
KNOWN_ARCHITECTURES = ("aarch64", "armv7l", "x86_64")
_TIME = "%Y-%m-%dT%H:%M:%SZ"


def _is(
    kind: str, text: str, *, least: float = 0, below: float = math.inf, choices: Sequence[str] = (), **more: Any
) -> dict[str, Any]:
    """Declare an option: its type in Ansible, and what it is for. ``more``: required, elements."""
    return {"kind": kind, "help": text, "least": least, "below": below, "choices": tuple(choices), **more}


@dataclass(frozen=True)
class ReleaseOptions:
    """What is published, from what, and what it has to satisfy."""

    model: str = field(default="", metadata=_is("str", "name of the model", required=True))
    version: str = field(default="", metadata=_is("str", "version of the release", required=True))
    source: str = field(
        default="", metadata=_is("path", "the trained model: a file .onnx or .tflite, or a recipe .py", required=True)
    )
    samples: str = field(
        default="",
        metadata=_is("path", "the holdout: a .npz file with inputs, labels and reference outputs", required=True),
    )
    repository: str = field(default="", metadata=_is("path", "directory of the model repository", required=True))
    description: str = field(default="", metadata=_is("str", "a text for people"))
    created: str | None = field(
        default=None, metadata=_is("str", "time of publication, UTC (now, or that of SOURCE_DATE_EPOCH)")
    )
    variants: list[str] = field(
        default_factory=lambda: ["fp32"],
        metadata=_is(
            "list",
            "variants in the order in which devices prefer them; those that do not pass are left out",
            choices=VARIANTS,
            elements="str",
        ),
    )
    required_variants: list[str] = field(
        default_factory=list,
        metadata=_is("list", "variants that have to pass, or nothing is published", choices=VARIANTS, elements="str"),
    )
    architectures: list[str] = field(
        default_factory=lambda: list(ARCHITECTURES),
        metadata=_is("list", "what the release is for, as uname -m says", choices=KNOWN_ARCHITECTURES, elements="str"),
    )
    output: str | None = field(
        default=None, metadata=_is("str", "the output that the labels belong to, where a model has several")
    )
    task: str | None = field(
        default=None,
        metadata=_is(
            "str",
            "what the model answers, where the samples leave it open; see docs/release.md",
            choices=[task.value for task in Task],
        ),
    )
    metric: str | None = field(
        default=None,
        metadata=_is(
            "str",
            "how answers are judged, where the task has several metrics",
            choices=[metric.value for metric in Metric],
        ),
    )
    accuracy_drop_max: float = field(
        default=0.01,
        metadata=_is("float", "what a variant may lose against the source, in points (0.01 is one)", below=1),
    )
    error_increase_max: float = field(
        default=0.05, metadata=_is("float", "by what part a variant's mean error may be larger")
    )
    accuracy_min: float | None = field(
        default=None, metadata=_is("float", "what the source itself must reach on the holdout (for errors, at most)")
    )
    conversion_absolute: float = field(
        default=1e-4, metadata=_is("float", "how far a converted output may be off, absolute")
    )
    conversion_relative: float = field(
        default=1e-3, metadata=_is("float", "how far a converted output may be off, relative")
    )
    missing_values: bool = field(
        default=False, metadata=_is("bool", "whether samples may have NaN, as values that are missing")
    )
    calibration: str | None = field(
        default=None, metadata=_is("path", ".npz with the inputs that int8 is calibrated by (else the holdout's)")
    )
    calibration_samples: int = field(
        default=512, metadata=_is("int", "how many samples calibrate int8, at most", least=1)
    )
    drift_reference: bool = field(
        default=True,
        metadata=_is("bool", "whether devices compare their requests with the holdout, and report drift"),
    )
    golden_rows: int = field(
        default=8,
        metadata=_is("int", "how many samples the golden file has; a model that takes a fixed number gets it", least=1),
    )
    runtime_minimum: str | None = field(
        default=None, metadata=_is("str", "the oldest runtime that devices have; a newer model is refused")
    )
    runtime_pythons: list[str] = field(
        default_factory=list,
        metadata=_is(
            "list", "Pythons with other versions of the runtime: each variant is tried in them", elements="path"
        ),
    )
    latency_seconds_max: float | None = field(
        default=None, metadata=_is("float", "what one run of the golden samples may take on a device")
    )
    devices: list[Any] = field(
        default_factory=list,
        metadata=_is(
            "list",
            "device classes: name, architecture, memory_bytes, runtimes; each variant must fit one",
            elements="dict",
        ),
    )
    device_image: str | None = field(
        default=None,
        metadata=_is("str", "Docker image of an aarch64 device, in which each variant runs too; none: no emulation"),
    )
    recipe_python: str | None = field(
        default=None, metadata=_is("path", "the Python that a recipe runs with (this one)")
    )
    measure_again: bool = field(
        default=False,
        metadata=_is("bool", "whether to measure again what a publication of the last 7 days measured on this machine"),
    )
    report: str | None = field(default=None, metadata=_is("path", "where the HTML report is written"))

    def to_dict(self) -> dict[str, Any]:
        """The options that decide what is released, for comparison: without those of the desk alone."""
        return {name: value for name, value in dataclasses.asdict(self).items() if name not in _OF_THE_DESK}


_OF_THE_DESK = (
    "repository",
    "report",
    "created",
    "source",
    "samples",
    "calibration",
    "recipe_python",
    "runtime_pythons",
    "device_image",
    "measure_again",
)


def argument_spec() -> dict[str, dict[str, Any]]:
    """The options as Ansible's argument spec."""
    spec: dict[str, dict[str, Any]] = {}
    for item in dataclasses.fields(ReleaseOptions):
        about = item.metadata
        entry: dict[str, Any] = {"type": about["kind"]}
        for name in ("required", "elements"):
            if about.get(name):
                entry[name] = about[name]
        if about["choices"]:
            entry["choices"] = list(about["choices"])
        if item.default_factory is not dataclasses.MISSING:
            entry["default"] = item.default_factory()
        elif item.default is not None and not about.get("required"):
            entry["default"] = item.default
        spec[item.name] = entry
    return spec


def read_options(values: Mapping[str, Any]) -> ReleaseOptions:
    """The options of ``values``, checked. Raises ArgumentError."""
    fields = {item.name: item for item in dataclasses.fields(ReleaseOptions)}
    unknown = sorted(set(values) - set(fields))
    if unknown:
        raise ArgumentError(f"{unknown[0]}: no such option; expected {', '.join(fields)}")
    found: dict[str, Any] = {}
    for name, item in fields.items():
        value = values.get(name)
        if value is None or value == "":
            if item.metadata.get("required"):
                raise ArgumentError(f"{name}: required")
            continue
        found[name] = _converted(name, item.metadata, value)
    options = ReleaseOptions(**found)
    try:
        check_model_name(options.model, "model")
        check_name(options.version, "version")
    except ManifestError as error:
        raise ArgumentError(str(error)) from error
    _check_time(options.created)
    _check_runtime(options.runtime_minimum)
    if not options.variants:
        raise ArgumentError(f"variants: expected at least one of {', '.join(VARIANTS)}")
    stray = sorted(set(options.required_variants) - set(options.variants))
    if stray:
        raise ArgumentError(f"required_variants: {stray[0]}: expected one of variants: {', '.join(options.variants)}")
    return options


def _converted(name: str, about: Mapping[str, Any], value: Any) -> Any:
    if about["kind"] == "list":
        items = _items(name, value)
        for index, item in enumerate(items):
            if about["choices"] and item not in about["choices"]:
                raise ArgumentError(f"{name}: expected some of {', '.join(about['choices'])}; found {item!r}")
            if about.get("elements") == "dict":
                _check_device(f"{name}[{index}]", item)
        return [_path(str(item)) if about["elements"] == "path" else item for item in items]
    if about["kind"] in ("int", "float"):
        return _number(name, about, value)
    if about["kind"] == "bool":
        if value in ("true", "false"):
            return value == "true"
        if not isinstance(value, bool):
            raise ArgumentError(f"{name}: expected true or false; found {value!r}")
        return value
    if about["choices"] and value not in about["choices"]:
        raise ArgumentError(f"{name}: expected one of {', '.join(about['choices'])}; found {value!r}")
    if not isinstance(value, str):
        raise ArgumentError(f'{name}: expected a text; found {value!r}. Quote it: {name}: "{value}"')
    return _path(value) if about["kind"] == "path" else value


def _path(value: str) -> str:
    """A path that holds in another directory, too; a program's bare name is looked for as a shell does."""
    value = os.path.expanduser(value)
    return os.path.abspath(value) if os.sep in value else value


def _items(name: str, value: Any) -> list[Any]:
    if isinstance(value, str) and value.lstrip().startswith("["):
        try:
            value = json.loads(value)
        except ValueError as error:
            raise ArgumentError(f"{name}: expected a list as JSON: {error}") from error
    if isinstance(value, str):
        return [part.strip() for part in value.split(",") if part.strip()]
    if not isinstance(value, (list, tuple)):
        raise ArgumentError(f"{name}: expected a list; found {value!r}")
    return list(value)


def _number(name: str, about: Mapping[str, Any], value: Any) -> float | int:
    try:
        number = float(value) if not isinstance(value, bool) else math.nan
    except (TypeError, ValueError):
        number = math.nan
    least, below = about["least"], about["below"]
    whole = about["kind"] == "int"
    if not math.isfinite(number) or not least <= number < below or (whole and number != int(number)):
        limit = f" and below {below:g}" if below < math.inf else ""
        raise ArgumentError(
            f"{name}: expected a{' whole' if whole else ''} number from {least:g}{limit}; found {value!r}"
        )
    return int(number) if whole else number


def _check_time(value: str | None) -> None:
    """Raise ArgumentError unless it is a time as manifests have it, by which releases are ordered."""
    try:
        if value is not None:
            datetime.datetime.strptime(value, _TIME).replace(tzinfo=datetime.timezone.utc)
    except ValueError as error:
        raise ArgumentError(
            f"created: expected a time in UTC, such as 2026-11-01T00:00:00Z; found {value!r}"
        ) from error


def _check_runtime(value: str | None) -> None:
    """Raise ArgumentError unless it begins as the version of a runtime does."""
    if value is not None and not re.match(r"[0-9]+(\.[0-9]+)*", value):
        raise ArgumentError(f"runtime_minimum: expected a version, such as 1.17.0; found {value!r}")


def _check_device(name: str, value: Any) -> None:
    """Raise ArgumentError unless ``value`` describes a class of devices as ``choose_variant`` reads it."""
    kinds = {"name": str, "architecture": str, "memory_bytes": int, "runtimes": Mapping}
    if not isinstance(value, Mapping) or not {"name", "architecture", "memory_bytes"} <= set(value) <= set(kinds):
        raise ArgumentError(
            f"{name}: expected name, architecture, memory_bytes and, if known, runtimes; found {value!r}"
        )
    for key, item in value.items():
        if not isinstance(item, kinds[key]) or isinstance(item, bool):
            raise ArgumentError(f"{name}.{key}: expected {kinds[key].__name__}; found {item!r}")
