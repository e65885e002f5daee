# Copyright (c) 2026, The edgeml.fleet authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# PRIVATE to the collection edgeml.fleet: no stable interface.
"""The command ``edgeml forward``: record the metrics of this minute, and send what the receiver does not have yet."""

from __future__ import annotations

import os
import sys
from typing import Sequence

from .._common.errors import EdgemlError
from .config import CONFIG, read_config
from .forwarder import Forwarder

# Its starts of the unit are told from those of people, who want to know now.
TIMER = "edgeml-forward.timer"
USAGE = f"""usage: edgeml forward [--config FILE] [--again]
  --config FILE  (default: {CONFIG})
  --again        send also what was set aside
"""


def main(arguments: Sequence[str]) -> int:
    """Run the command. Exit code: 0 also where nobody is reached; 1 where something is wrong; 2 for a wrong call."""
    path, again, left = CONFIG, False, list(arguments)
    while left:
        argument = left.pop(0)
        if argument == "--config" and left:
            path = left.pop(0)
        elif argument == "--again":
            again = True
        else:
            sys.stderr.write(USAGE)
            return 0 if argument in ("-h", "--help") else 2
    try:
        forwarder = Forwarder(read_config(path))
        code = forwarder.run(by_timer=os.environ.get("TRIGGER_UNIT") == TIMER, take_back=again)
    except (EdgemlError, OSError) as error:
        sys.stderr.write(f"edgeml forward: {error}\n")
        return 1
    for line in forwarder.lines:
        sys.stderr.write(f"edgeml forward: {line}\n")
    return code
