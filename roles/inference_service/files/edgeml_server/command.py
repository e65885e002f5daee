# Copyright (c) 2026, The edgeml.fleet authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The command line of ``python -m edgeml_server``.

A successor of a server that runs is started by ``edgeml_server.tools.reload`` (``--take-over``).
"""

from __future__ import annotations

import faulthandler
import os
import sys
from typing import NoReturn

from edgeml_device._common.arguments import ArgumentParser

from . import __version__
from .common import log
from .config import ConfigError, read_config
from .handover.channel import HandoverError, definition_digest
from .handover.successor import Successor, SuccessorNotifier
from .http.sockets import ListenError
from .server import InferenceServer, StartError, end_process
from .systemd import Notifier


def main() -> NoReturn:
    """Run the server. Exit code: 0 after a complete drain, 1 if requests were abandoned, 2 if it could not start."""
    parser = ArgumentParser(prog="edgeml_server", description="Inference server for devices.")
    parser.add_argument("--config", required=True, metavar="FILE", help="the server's configuration, JSON")
    parser.add_argument("--version", action="version", version=__version__)
    parser.add_argument(
        "--definition",
        action="append",
        default=[],
        metavar="FILE",
        help="a further file that says how the server is started, such as its unit; a changed one needs a new process",
    )
    parser.add_argument(
        "--take-over",
        type=int,
        metavar="DESCRIPTOR",
        help="take the sockets of the server that runs; DESCRIPTOR is the socket to the program that starts this one",
    )
    parser.add_argument(
        "--join",
        action="store_true",
        help="take the sockets of the server that runs, if one does: the next container of a service",
    )
    arguments = parser.parse_args()
    faulthandler.enable()
    try:
        definition = definition_digest([arguments.config, *arguments.definition])
        config = read_config(arguments.config)
        log.configure(config.log_level)
        notifier, successor = Notifier(), None
        if arguments.take_over is not None:
            successor = Successor.connect(config.socket, arguments.take_over)
            notifier = SuccessorNotifier(successor, os.environ)
        elif arguments.join:
            # What it tells the service manager goes there directly: it is started by that, or by nobody who listens.
            successor = Successor.join(config.socket)
        drained = InferenceServer(config, notifier, definition, successor).run()
    except (ConfigError, HandoverError, ListenError, OSError, StartError) as error:
        print(f"edgeml_server: {error}", file=sys.stderr)
        end_process(2)
    end_process(0 if drained else 1)
