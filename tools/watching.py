#!/usr/bin/env python3
# Copyright (c) 2026, The edgeml.fleet authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Write the dashboards into docs/watching/dashboards/, and the tables of docs/metrics.md. A test compares both.

usage: PYTHONPATH=.cache/python tools/watching.py
"""

from __future__ import annotations

import json
from pathlib import Path

from ansible_collections.edgeml.fleet.plugins.plugin_utils._watch.dashboards import DASHBOARDS, dashboard
from ansible_collections.edgeml.fleet.plugins.plugin_utils._watch.metrics import markdown_table

DOCS = Path(__file__).parents[1] / "docs"
SECTIONS = {"server": "Of the inference server", "device": "Of the device", "controller": "Of the controller"}


def files() -> dict[Path, str]:
    """Return what is written, by its path."""
    found = {
        DOCS / "watching" / "dashboards" / f"{name}.json": json.dumps(dashboard(name), indent=1) + "\n"
        for name in DASHBOARDS
    }
    page = (DOCS / "metrics.md").read_text()
    for source, title in SECTIONS.items():
        start = page.index("| metric |", page.index(f"## {title}\n"))
        end = page.find("\n\n", start) + 1 or len(page)
        page = page[:start] + markdown_table(source) + page[end:]
    return {**found, DOCS / "metrics.md": page}


def main() -> None:
    """Write the files."""
    for path, text in files().items():
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)


if __name__ == "__main__":
    main()
