# Copyright (c) 2026, The edgeml.fleet authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Giving memory back to the system."""

from __future__ import annotations

import ctypes

_libc = ctypes.CDLL(None)


def trim_heap() -> None:
    """Return the C library's free memory to the system, after a model was freed (glibc; elsewhere nothing)."""
    if hasattr(_libc, "malloc_trim"):
        _libc.malloc_trim(0)
