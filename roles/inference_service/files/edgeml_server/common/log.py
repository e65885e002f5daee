# Copyright (c) 2026, The edgeml.fleet authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""One line per event on standard error: a text, then ``key=value`` pairs. Journald reads the level from a prefix."""

from __future__ import annotations

import json
import logging
import os
import sys
import traceback

_SYSLOG_LEVELS = {"DEBUG": 7, "INFO": 6, "WARNING": 4, "ERROR": 3, "CRITICAL": 2}


class LineFormatter(logging.Formatter):
    """Formats a record as one line, tracebacks included."""

    def __init__(self, journald: bool) -> None:
        super().__init__()
        self._journald = journald

    def format(self, record: logging.LogRecord) -> str:
        """Return the record as one line, without its end."""
        prefix = f"<{_SYSLOG_LEVELS.get(record.levelname, 6)}>" if self._journald else f"{record.levelname.lower()} "
        parts = [" ".join(record.getMessage().splitlines())]
        fields = dict(getattr(record, "fields", {}))
        if record.exc_info:
            fields["traceback"] = "".join(traceback.format_exception(*record.exc_info))
        parts += [f"{key}={_field(value)}" for key, value in fields.items()]
        return prefix + " ".join(parts)


class Log:
    """A logger whose keyword arguments become the line's ``key=value`` pairs."""

    def __init__(self, name: str) -> None:
        self._logger = logging.getLogger(name)

    def info(self, message: str, **fields: object) -> None:
        """Log an event."""
        self._logger.info(message, extra={"fields": fields})

    def warning(self, message: str, **fields: object) -> None:
        """Log a problem that does not stop the server."""
        self._logger.warning(message, extra={"fields": fields})

    def error(self, message: str, traceback: bool = False, **fields: object) -> None:
        """Log a failure. ``traceback`` adds the exception that is being handled."""
        self._logger.error(message, exc_info=traceback, extra={"fields": fields})


def configure(level: str) -> None:
    """Send every log line of this process at ``level`` (``info`` …) or above to standard error."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(LineFormatter(journald="JOURNAL_STREAM" in os.environ))
    logging.basicConfig(handlers=[handler], level=level.upper(), force=True)


def _field(value: object) -> str:
    text = f"{value:.6g}" if isinstance(value, float) else str(value)
    return text if text and not set(text) & set(' "=\\\n\r\t') else json.dumps(text, ensure_ascii=False)
