# Copyright (c) 2026, The edgeml.fleet authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# PRIVATE to the collection edgeml.fleet: no stable interface.

"""Profiles of device classes as they are kept: what a model was measured to cost on a class, signed.

They are in ``profiles/<class>/<model>.json`` of a model repository, as DSSE envelopes of an in-toto statement.
"""

from __future__ import annotations

import json
import posixpath
from dataclasses import dataclass
from typing import Any, Mapping
from urllib.parse import quote

from ansible_collections.edgeml.fleet.plugins.module_utils._common.errors import ArgumentError
from ansible_collections.edgeml.fleet.plugins.module_utils._common.records import is_number
from ansible_collections.edgeml.fleet.plugins.plugin_utils._trust.in_toto import verified_payload

DIRECTORY = "profiles"
PREDICATE_TYPE = "https://github.com/edgeml/fleet/profile/v1"


@dataclass(frozen=True)
class Profile:
    """What a model was measured to cost on a device class: what a rollout reads of it.

    ``memory_bytes`` is the least of the class's devices, ``runtimes`` their oldest versions. ``p95_seconds`` is that of
    requests without a pause, ``resident_bytes`` the server's memory. ``emulated``: the figures are none of a board.
    """

    device_class: str
    emulated: bool
    devices: int
    architecture: str
    memory_bytes: int
    runtimes: Mapping[str, str]
    model: str
    version: str
    variant: str
    measured_at: str
    p95_seconds: float
    resident_bytes: float

    @classmethod
    def from_dict(cls, document: Mapping[str, Any]) -> Profile:
        """Read what a profile's statement says. Raises ArgumentError, which names the field."""
        found: dict[str, Any] = {}
        for name, kind in _FIELDS.items():
            part, _dot, field = name.rpartition(".")
            inside = document.get(part) if part else document
            value: Any = inside.get(field) if isinstance(inside, Mapping) else None
            numeric = kind in (int, float)
            if not (is_number(value) and value > 0 if numeric else isinstance(value, kind)):
                raise ArgumentError(f"{name}: expected {_WORDS[kind]}; found {value!r}")
            found[field] = value
        return cls(**found)

    def facts(self) -> dict[str, Any]:
        """What the least device of the class says of itself, as a variant is chosen by it."""
        return {
            "architecture": self.architecture,
            "memory_bytes": self.memory_bytes,
            "runtimes": dict(self.runtimes),
        }


_FIELDS: Mapping[str, type] = {
    "device_class": str,
    "emulated": bool,
    "devices": int,
    "architecture": str,
    "memory_bytes": int,
    "runtimes": dict,
    "model": str,
    "version": str,
    "variant": str,
    "measured_at": str,
    "sustained.p95_seconds": float,
    "resident_bytes": float,
}
_WORDS: Mapping[type, str] = {
    str: "a text",
    bool: "true or false",
    int: "a number above 0",
    float: "a number above 0",
    dict: "a mapping",
}


def profile_name(device_class: str, model: str) -> str:
    """Where a profile is kept below the model repository."""
    return posixpath.join(DIRECTORY, quote(device_class, safe=""), f"{quote(model, safe='')}.json")


def verified_profile(content: str | bytes, public_key: str, origin: str) -> dict[str, Any]:
    """The profile in a file's ``content`` that the key in the file ``public_key`` signed.

    Raises ArgumentError for any other; ``origin`` is what it calls the file.
    """
    try:
        with open(public_key, "rb") as file:
            document = json.loads(verified_payload(json.loads(content), file.read()))
        if document["predicateType"] != PREDICATE_TYPE:
            raise ValueError(f"expected a statement {PREDICATE_TYPE}")
        profile: dict[str, Any] = document["predicate"]
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise ArgumentError(f"{origin}: expected a profile signed by the key in {public_key}; {error}") from error
    return profile
