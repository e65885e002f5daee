# Copyright (c) 2026, The edgeml.fleet authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# PRIVATE to the collection edgeml.fleet: no stable interface.

"""Debian's versions, ordered as dpkg orders them (deb-version(7)). Pure."""

from __future__ import annotations

import re
from typing import Tuple

# A part without digits, as the order of its characters, and the number after it.
_Part = Tuple[Tuple[int, ...], int]
_Key = Tuple[int, Tuple[_Part, ...], Tuple[_Part, ...]]

_PARTS = re.compile(r"([^0-9]*)([0-9]*)")
_VERSION = re.compile(r"(?:([0-9]+):)?([0-9][A-Za-z0-9.+:~-]*)\Z", re.ASCII)
# What ends is before every character but the tilde.
_END = 0
_ENDED: _Part = ((_END,), 0)


def is_version(text: str) -> bool:
    """Whether ``text`` is a version that dpkg takes."""
    match = _VERSION.match(text)
    return match is not None and (match[1] is not None or ":" not in text) and not text.endswith("-")


def version_key(version: str) -> _Key:
    """What versions are sorted by: that of an older version is lower, and those of equal ones (1.0, 1.00) are equal."""
    epoch, colon, rest = version.partition(":")
    if not colon:
        epoch, rest = "0", version
    upstream, hyphen, revision = rest.rpartition("-")
    if not hyphen:
        upstream, revision = rest, ""
    return int(epoch), _parts(upstream), _parts(revision)


def _parts(text: str) -> tuple[_Part, ...]:
    """The parts, and the end, which is after a tilde and before all else: 1.0~rc1 is before 1.0, 1.0a after it."""
    found = [(_order(letters), int(digits or 0)) for letters, digits in _PARTS.findall(text) if letters or digits]
    return (*(found or [_ENDED]), _ENDED)


def _order(letters: str) -> tuple[int, ...]:
    """Tilde, end, letters, everything else."""
    return (*(_character(letter) for letter in letters), _END)


def _character(letter: str) -> int:
    if letter == "~":
        return -1
    return ord(letter) if letter.isalpha() else ord(letter) + 256
