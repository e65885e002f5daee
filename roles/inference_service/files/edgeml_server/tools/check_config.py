# Copyright (c) 2026, The edgeml.fleet authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Command line: ``python -m edgeml_server.tools.check_config < server.json``: would the server take it?"""

from __future__ import annotations

import json
import sys

from edgeml_server.config import ConfigError, parse_config


def main() -> int:
    """Check what is on the standard input. Exit code: 0 if the server takes it, 2 if not; the reason is printed."""
    try:
        parse_config(json.load(sys.stdin))
    except (ConfigError, ValueError) as error:
        print(error, file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
