# Copyright (c) 2026, The edgeml.fleet authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# PRIVATE to the collection edgeml.fleet: no stable interface.

"""The file in which node_exporter finds what a device says of itself: its textfile collector."""

from __future__ import annotations

import os


def replace_textfile(path: str, text: str) -> None:
    """Put the metrics in place, whole or not at all. Raises OSError.

    They are not brought to the disk: they are old a minute later, and flash wears. The collector reads names that end
    with ``.prom``, and so never what is being written.
    """
    part = f"{path}.part"
    with open(part, "w", encoding="utf-8") as file:
        file.write(text)
        os.fchmod(file.fileno(), 0o644)
    os.replace(part, path)
