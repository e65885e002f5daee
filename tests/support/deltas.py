# Copyright (c) 2026, The edgeml.fleet authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Deltas made for a test, of files whose form is not known."""

from __future__ import annotations

import numpy as np
from releases import sha256

from ansible_collections.edgeml.fleet.plugins.plugin_utils._publish.alignment import Source
from ansible_collections.edgeml.fleet.plugins.plugin_utils._publish.delta_file import write_delta


def delta_between(new: bytes, *old: bytes) -> bytes:
    """The delta that makes ``new`` of ``old`` files."""
    bases = [(sha256(content), Source(np.frombuffer(content, np.uint8))) for content in old]
    return b"".join(write_delta(Source(np.frombuffer(new, np.uint8)), bases))
