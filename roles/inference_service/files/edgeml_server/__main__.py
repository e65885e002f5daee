# Copyright (c) 2026, The edgeml.fleet authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Command line: ``python -m edgeml_server --config /etc/edgeml/server.json``."""

from __future__ import annotations

import argparse
import faulthandler
import sys

from . import __version__
from .common import log
from .config import ConfigError, read_config
from .http.sockets import ListenError
from .server import InferenceServer, StartError, end_process
from .systemd import Notifier


def main() -> int:
    """Run the server. Exit code: 0 after a complete drain, 1 if requests were abandoned, 2 if it could not start.

    Returns only the last.
    """
    parser = argparse.ArgumentParser(prog="edgeml_server", description="Inference server for devices.")
    parser.add_argument("--config", required=True, metavar="FILE", help="the server's configuration, JSON")
    parser.add_argument("--version", action="version", version=__version__)
    arguments = parser.parse_args()
    faulthandler.enable()
    try:
        config = read_config(arguments.config)
    except ConfigError as error:
        print(f"edgeml_server: {error}", file=sys.stderr)
        return 2
    log.configure(config.log_level)
    try:
        drained = InferenceServer(config, Notifier()).run()
    except (ListenError, StartError) as error:
        print(f"edgeml_server: {error}", file=sys.stderr)
        return 2
    end_process(0 if drained else 1)


if __name__ == "__main__":
    sys.exit(main())
