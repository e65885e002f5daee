# Copyright (c) 2026, The edgeml.fleet authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""A gateway's process, which a test can kill: it answers one request for a swap, which standard input has as JSON, and
writes the result to standard output."""

from __future__ import annotations

import json
import sys

from ansible_collections.edgeml.fleet.plugins.module_utils._device.perform import answer_swap
from ansible_collections.edgeml.fleet.plugins.module_utils._device.request import SwapRequest

if __name__ == "__main__":
    print(json.dumps(answer_swap(SwapRequest(**json.load(sys.stdin)), check_mode=False)))
