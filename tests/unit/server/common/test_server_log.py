# Copyright (c) 2026, The edgeml.fleet authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Log lines."""

from __future__ import annotations

import logging
import sys

from edgeml_server.common.log import LineFormatter


def log_line(journald: bool, message: str, **fields: object) -> str:
    try:
        raise ValueError("two\nlines")
    except ValueError:
        exception = sys.exc_info() if fields.pop("exception", False) else None
    record = logging.LogRecord("name", logging.ERROR, "file", 1, message, None, exception)
    record.fields = fields
    return LineFormatter(journald).format(record)


def test_log_lines() -> None:
    assert log_line(False, "it broke", model="a", seconds=1 / 3) == "error it broke model=a seconds=0.333333"
    assert log_line(True, "it broke", reason="a b") == '<3>it broke reason="a b"'
    assert log_line(True, "it\nbroke", a='"', b="x=y", c="") == r'<3>it broke a="\"" b="x=y" c=""'
    assert "\n" not in log_line(True, "it broke", exception=True)
    assert "ValueError: two" in log_line(True, "it broke", exception=True)
