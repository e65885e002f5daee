# Copyright (c) 2026, The edgeml.fleet authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# PRIVATE to the collection edgeml.fleet: no stable interface.

"""What a publication does about its memory: large models are in it one after the other."""

from __future__ import annotations

import ctypes
import gc

_libc = ctypes.CDLL(None)


def trim_heap() -> None:
    """Return to the system what a model has left behind, cycles of objects included (glibc; elsewhere only those)."""
    gc.collect()
    if hasattr(_libc, "malloc_trim"):
        _libc.malloc_trim(0)
