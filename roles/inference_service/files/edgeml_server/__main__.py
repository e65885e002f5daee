# Copyright (c) 2026, The edgeml.fleet authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""``python -m edgeml_server --config /etc/edgeml/server.json``."""

from __future__ import annotations

import gc


def run() -> None:
    """Run the command line. What is imported stays: a search for what can be freed is for later (``server``)."""
    gc.disable()
    from .command import main

    main()


if __name__ == "__main__":
    run()
