# Copyright (c) 2026, The edgeml.fleet authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# PRIVATE to the collection edgeml.fleet: no stable interface.

"""The command lines of programs on a device, whose start is short."""

from __future__ import annotations

import argparse
import os
from typing import Any

_COLUMNS = 80
_MARGIN = 2


class ArgumentParser(argparse.ArgumentParser):
    """As ``argparse.ArgumentParser``, and its commands' parsers as well.

    That one asks ``shutil`` for the width of the terminal with every option, and the modules of compression that
    ``shutil`` brings take as long to be imported as a whole command line to be parsed.
    """

    def __init__(self, **options: Any) -> None:
        super().__init__(**{"formatter_class": _Formatter, **options})


class _Formatter(argparse.HelpFormatter):
    def __init__(self, prog: str, **options: Any) -> None:
        super().__init__(prog, **{"width": _columns() - _MARGIN, **options})


def _columns() -> int:
    try:
        # 0: a terminal that does not know it.
        return os.get_terminal_size().columns or _COLUMNS
    except (OSError, ValueError, AttributeError):
        return _COLUMNS
