#!/usr/bin/env python3
# Copyright (c) 2026, The edgeml.fleet authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Write the JSON Schema of a fleet's desired state and its page: docs/desired.schema.json and docs/desired.md.

The limits are the parser's own. A test compares both files with what is written here, and the schema with the parser.

usage: PYTHONPATH=.cache/python tools/desired_schema.py
"""

from __future__ import annotations

from typing import Any

from json_schema import (
    COUNT,
    DIALECT,
    NAME,
    TEXT,
    about,
    list_of,
    map_of,
    object_of,
    or_null,
    pattern,
    ref,
    sections,
    table,
    write,
)

from ansible_collections.edgeml.fleet.plugins.module_utils._release import desired

ID = "https://github.com/edgeml/fleet/blob/main/docs/desired.schema.json"
SECONDS = {"type": "number", "minimum": 0, "exclusiveMaximum": desired.SECONDS_MAX}
FLAG = {"type": "boolean"}


def _texts() -> dict[str, Any]:
    return list_of(TEXT, desired.ENTRIES_MAX, 0)


def _all(properties: dict[str, Any], description: str) -> dict[str, Any]:
    """An object that has all of these fields."""
    return about(object_of(properties, list(properties)), description)


def _definitions() -> dict[str, Any]:
    wave = {
        "name": about({"type": "string"}, "its name, for people"),
        "group": about(or_null({"type": "string"}), "of a wave that takes the members of a group only: the group"),
        "below": about(
            map_of({"type": "number", "minimum": 0, "maximum": 1}),
            "by device class: the position below which a device belongs to this wave, or to one before it",
        ),
    }
    boundaries = {
        "salt": about(
            {"type": "string"}, "what a device's position is drawn by: SHA-256 of salt, a zero byte and its name"
        ),
        "waves": about(list_of(ref("wave"), desired.ENTRIES_MAX), "the waves, in their order"),
    }
    settings = {
        "min_ready_seconds": about(SECONDS, "how long the new version has to be ready before the swap is done"),
        "trial_seconds": about(SECONDS, "how long its trial is; 0: none"),
        "trial_limits": about({"type": "object"}, "at what the device ends the trial, as model_swap has it"),
        "keep": about(COUNT, "how many versions are kept beside the active and the previous one"),
        "accept_no_way_back": about(FLAG, "whether to swap also where the device could not return to what it serves"),
    }
    by_name = map_of(ref("settings"), most=desired.ENTRIES_MAX)
    rollout = {
        "id": about(TEXT, "names the rollout in reports and in the ledger"),
        "version": about(NAME, "the release's version"),
        "digest": about({"type": "string", "pattern": pattern("(sha256:)?[0-9a-f]{64}")}, "the digest of its manifest"),
        "stopped": about(FLAG, "whether devices leave it"),
        "reached": about(COUNT, "the number of the last wave that is open; devices of later ones are not concerned"),
        "boundaries": about(ref("boundaries"), "who belongs to which wave"),
        "groups": about(map_of(_texts(), most=desired.ENTRIES_MAX), "the members of each group that a wave names"),
        "only": about(or_null(_texts()), "the devices that take part; null: all"),
        "left_out": about(_texts(), "devices that take no part"),
        "retry": about(FLAG, "whether devices try it again where it failed before"),
        "reason": about(TEXT, "why, for the devices' journals"),
        "window": about(_texts(), "when a device may swap to it; none: always"),
        "settings": about(ref("settings"), "how most devices swap"),
        "class_settings": about(by_name, "how those of a device class do instead"),
        "device_settings": about(by_name, "how a single device does instead"),
    }
    ask = {
        "number": about(COUNT, "counts up with each question; a device answers each once"),
        "purpose": about(
            {"type": "string", "enum": list(desired.PURPOSES)},
            "read: report what is measured; swap: report the swap; revert: leave the version, and report that",
        ),
        "rollout_id": about(TEXT, "the rollout that it is about"),
        "version": about(TEXT, "of revert: the version to leave"),
        "reason": about(TEXT, "of revert: why"),
        "waves": about(list_of(COUNT, desired.ENTRIES_MAX, 0), "the waves of the rollout that are asked"),
        "devices": about(_texts(), "controls, which are read without the probe set"),
        "everybody": about(FLAG, "whether all devices are asked"),
        "probe": about(FLAG, "whether they measure the accuracy on the probe set"),
    }
    model = {
        "rollouts": about(
            list_of(ref("rollout"), desired.ENTRIES_MAX, 0),
            "newest first: a device belongs on the newest one that has reached it and is not stopped",
        ),
        "ask": about(ref("ask"), "what the controller waits for"),
    }
    return {
        "model": _all(model, "what is wanted of one model"),
        "rollout": _all(rollout, "one rollout of a release"),
        "boundaries": _all(boundaries, "the waves of a plan; each device finds its own by them"),
        "wave": _all(wave, "one wave"),
        "settings": _all(settings, "options of model_swap"),
        "ask": _all(ask, "a question of the controller; number 0: none was asked"),
    }


def schema() -> dict[str, Any]:
    """The schema."""
    top = {
        "schema": about({"const": desired.SCHEMA, "type": "integer"}, "the version of this form"),
        "fleet": about({"type": "string", "pattern": pattern("[A-Za-z0-9][A-Za-z0-9_-]{0,63}")}, "the fleet's name"),
        "version": about(COUNT, "counts up with each publication; the signed metadata says the same number"),
        "controller": about(TEXT, "who published it, for people"),
        "time": about(TEXT, "when, for people"),
        "models": about(map_of(ref("model"), most=desired.ENTRIES_MAX, propertyNames=NAME), "by the models' names"),
    }
    return {
        "$schema": DIALECT,
        "$id": ID,
        "title": "Desired state of a fleet",
        **object_of(top, list(top)),
        "$defs": _definitions(),
    }


def page(document: dict[str, Any]) -> str:
    """The reference page of the schema."""
    lines = [
        "# Reference of the desired state",
        "",
        "What a fleet in [pull mode](pull.md) follows: the signed target `fleet/<fleet>/desired.json` of the model",
        "repository. Made from [desired.schema.json](desired.schema.json), a JSON Schema (2020-12). All fields are",
        f"required, and others are errors. The document has at most {desired.DESIRED_BYTES_MAX:,} bytes, and is",
        "written in canonical JSON: sorted, without spaces, so that equal states have equal bytes.",
        "",
        "## The document",
        "",
        *table(document),
    ]
    lines += sections(document)
    return "\n".join(lines) + "\n"


def main() -> None:
    """Write both files."""
    document = schema()
    write("desired", document, page(document))


if __name__ == "__main__":
    main()
