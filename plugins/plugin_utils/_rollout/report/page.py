# Copyright (c) 2026, The edgeml.fleet authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# PRIVATE to the collection edgeml.fleet: no stable interface.

"""What the pages of this collection share. Each is one HTML file that needs nothing else: no script, font or server."""

from __future__ import annotations

import os
from typing import Any, Mapping

import jinja2

_HERE = os.path.dirname(os.path.abspath(__file__))


def render_page(template: str, view: Mapping[str, Any], directory: str = _HERE) -> str:
    """Return the page of a template in ``directory``, in the frame beside this file.

    Whatever ``view`` says is text, and never markup.
    """
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader([directory, _HERE]),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    return environment.get_template(template).render(printable(view))


def printable(value: Any) -> Any:
    """Return a copy without letters that HTML forbids, which devices and files may have."""
    if isinstance(value, Mapping):
        return {printable(name): printable(item) for name, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [printable(item) for item in value]
    if isinstance(value, str) and not value.isprintable():
        return "".join(
            letter if letter.isprintable() or letter in "\n\t" else "\N{REPLACEMENT CHARACTER}" for letter in value
        )
    return value
