# Copyright (c) 2026, The edgeml.fleet authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# PRIVATE to the collection edgeml.fleet: no stable interface.

"""The command ``edgeml metrics``: what a device says of itself beside what its server says, for Prometheus."""

from __future__ import annotations

import sys
from typing import Sequence

from .._common.arguments import ArgumentParser
from .._common.errors import EdgemlError
from .._device.request import STORE
from .._device.store import Store
from .collect import PULL_STATE, collect
from .metrics import exposition
from .textfile import replace_textfile


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command. Exit code: 0 when it is done, 1 when it failed, 2 for a wrong call."""
    parser = ArgumentParser(prog="edgeml metrics", description="The metrics of this device, for Prometheus.")
    parser.add_argument("--textfile", metavar="FILE", help="write them for node_exporter's textfile collector")
    parser.add_argument("--store", default=STORE, metavar="PATH", help=f"the device's store (default: {STORE})")
    parser.add_argument("--pull-state", default=PULL_STATE, metavar="PATH", help="the directory of pull mode")
    options = parser.parse_args(arguments)
    try:
        text = exposition(collect(Store(options.store), options.pull_state))
        if options.textfile is None:
            sys.stdout.write(text)
        else:
            replace_textfile(options.textfile, text)
    except (EdgemlError, OSError) as error:
        sys.stderr.write(f"edgeml metrics: {error}\n")
        return 1
    return 0
