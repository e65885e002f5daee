# Copyright (c) 2026, The edgeml.fleet authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# PRIVATE to the collection edgeml.fleet: no stable interface.

"""The datatypes of the Open Inference Protocol. Pure."""

from __future__ import annotations

from typing import Mapping

# The protocol's datatypes, with NumPy's and struct's letters for one element.
NUMBERS: Mapping[str, tuple[str, str]] = {
    "BOOL": ("b1", "?"),
    "UINT8": ("u1", "B"),
    "UINT16": ("u2", "H"),
    "UINT32": ("u4", "I"),
    "UINT64": ("u8", "Q"),
    "INT8": ("i1", "b"),
    "INT16": ("i2", "h"),
    "INT32": ("i4", "i"),
    "INT64": ("i8", "q"),
    "FP16": ("f2", "e"),
    "FP32": ("f4", "f"),
    "FP64": ("f8", "d"),
}
TEXT = "BYTES"
