# Copyright (c) 2026, The edgeml.fleet authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Command line: ``python -m edgeml_server.tools.export LOG --format csv|jsonl``: the prediction log as text.

Opens the log read-only; the server may be running. Rows come oldest first.
"""

from __future__ import annotations

import contextlib
import csv
import json
import os
import sqlite3
import sys
import urllib.parse
from collections.abc import Iterator, Sequence
from typing import Any, TextIO

from edgeml_device._common.arguments import ArgumentParser

from edgeml_server.observe.prediction_log import COLUMNS

_JSON_COLUMNS = ("inputs", "outputs", "prediction", "label")


def main() -> int:
    """Write the rows that are asked for to standard output. Exit code: 0, 1 if the log cannot be read."""
    parser = ArgumentParser(prog="edgeml_server.tools.export", description="Export a prediction log.")
    parser.add_argument("log", metavar="LOG", help="the log's file, such as /var/lib/edgeml-inference/predictions.db")
    parser.add_argument("--format", choices=("csv", "jsonl"), default="jsonl", help="CSV or JSON lines (jsonl)")
    parser.add_argument("--model", help="only this model")
    parser.add_argument("--since", type=float, default=0.0, metavar="TIME", help="only from this Unix time on")
    parser.add_argument("--failures", action="store_true", help="only requests that failed")
    arguments = parser.parse_args()
    try:
        rows = _rows(arguments.log, arguments.model, arguments.since, arguments.failures)
        (_write_csv if arguments.format == "csv" else _write_json_lines)(rows, sys.stdout)
        sys.stdout.flush()
    except BrokenPipeError:
        # The reader has had enough, as `head` does; what Python would still write at its end goes nowhere.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    except (OSError, sqlite3.Error) as error:
        print(f"edgeml_server.tools.export: {arguments.log}: {error}", file=sys.stderr)
        return 1
    return 0


def _rows(path: str, model: str | None, since: float, failures: bool) -> Iterator[Sequence[Any]]:
    uri = f"file:{urllib.parse.quote(os.path.abspath(path))}?mode=ro"
    with contextlib.closing(sqlite3.connect(uri, uri=True)) as connection:
        yield from connection.execute(
            f"SELECT {', '.join(COLUMNS)} FROM predictions WHERE time >= ? AND (? IS NULL OR model = ?)"
            " AND (NOT ? OR error IS NOT NULL) ORDER BY id",
            (since, model, model, failures),
        )


def _write_csv(rows: Iterator[Sequence[Any]], file: TextIO) -> None:
    writer = csv.writer(file, lineterminator="\n")
    writer.writerow(COLUMNS)
    writer.writerows(rows)


def _write_json_lines(rows: Iterator[Sequence[Any]], file: TextIO) -> None:
    for row in rows:
        document = dict(zip(COLUMNS, row))
        for name in _JSON_COLUMNS:
            if document[name] is not None:
                document[name] = json.loads(document[name])
        print(json.dumps(document, ensure_ascii=False), file=file)


if __name__ == "__main__":
    sys.exit(main())
