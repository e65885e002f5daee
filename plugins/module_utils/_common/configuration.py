# Copyright (c) 2026, The edgeml.fleet authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# PRIVATE to the collection edgeml.fleet: no stable interface.

"""The JSON configurations of a device's commands, which roles write."""

from __future__ import annotations

import json
from typing import Any, Callable, TypeVar

from .errors import ArgumentError
from .records import build

CONFIG_BYTES_MAX = 256 << 10

Config = TypeVar("Config")


def parse_record(kind: Callable[..., Config], document: Any, check: Callable[[Config], None], origin: str) -> Config:
    """Make a record of JSON values. ``check`` raises TypeError for what does not fit together.

    Raises ArgumentError, which begins with ``origin``.
    """
    try:
        if not isinstance(document, dict):
            raise TypeError(f"expected an object; found {document!r:.80}")
        config: Config = build(kind, document)
        check(config)
    except TypeError as error:
        raise ArgumentError(f"{origin}: {error}") from error
    return config


def read_json(path: str, command: str) -> Any:
    """The JSON of a configuration's file. Raises ArgumentError, which names it and the ``command`` that it is of."""
    try:
        with open(path, "rb") as file:
            content = file.read(CONFIG_BYTES_MAX + 1)
        return json.loads(content.decode("utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        reason = getattr(error, "strerror", None) or error
        raise ArgumentError(f"{path}: expected the configuration of {command}; {reason}") from error
