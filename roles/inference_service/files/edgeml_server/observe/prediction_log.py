# Copyright (c) 2026, The edgeml.fleet authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The prediction log: what was asked and answered, in a SQLite file that never outgrows its bounds.

Rows are written in batches, each one transaction: after a crash or a power cut the file is whole and lacks at most the
batches that were not on the disk yet. One thread uses a PredictionLog. Others open the file read-only: SQLite before
3.51.3 can damage a database whose write-ahead log two connections write (https://sqlite.org/wal.html).
"""

from __future__ import annotations

import contextlib
import json
import math
import os
import sqlite3
from collections.abc import Mapping, Sequence
from typing import Any, Callable, NamedTuple, Optional, Tuple

import numpy as np
from edgeml_device._common.words import counted

from edgeml_server.common import json_codec
from edgeml_server.common.errors import ConflictError, InvalidRequestError, NotFoundError, UnavailableError
from edgeml_server.common.log import Log
from edgeml_server.common.tensors import Array, datatype_of, to_json

from .answers import AnswerForm, answer_in, predictions_of

COLUMNS = (
    *("id", "time", "model", "version", "request_id", "code", "seconds"),
    *("inputs", "outputs", "prediction", "label", "error"),
)
_SCHEMA_VERSION = 1
_AUTO_VACUUM_INCREMENTAL = 2
_SCHEMA = """
CREATE TABLE predictions (
    id INTEGER PRIMARY KEY,
    time REAL NOT NULL,
    model TEXT NOT NULL,
    version TEXT NOT NULL,
    request_id TEXT,
    code INTEGER NOT NULL,
    seconds REAL NOT NULL,
    inputs TEXT,
    outputs TEXT,
    prediction TEXT,
    label TEXT,
    error TEXT
);
CREATE INDEX predictions_by_request_id ON predictions (request_id) WHERE request_id IS NOT NULL;
"""
# What is kept of requests until their labels come. It goes with its row, whoever deletes that.
_AWAITING_SCHEMA = """
CREATE TABLE IF NOT EXISTS awaiting_label (id INTEGER PRIMARY KEY, content BLOB NOT NULL);
CREATE TRIGGER IF NOT EXISTS awaiting_label_goes AFTER DELETE ON predictions
    BEGIN DELETE FROM awaiting_label WHERE id = old.id; END;
"""
_NO_AWAITING_SCHEMA = "DROP TRIGGER IF EXISTS awaiting_label_goes; DROP TABLE IF EXISTS awaiting_label;"
# So that the log still has the rows of a while.
_AWAITING_SHARE_MAX = 256
# A tensor with more elements is only summarised, whatever was chosen.
_ELEMENTS_MAX = 4096
_ERROR_CHARACTERS_MAX = 500
_REQUEST_ID_CHARACTERS_MAX = 200
# The approximate size of a row without its texts.
_ROW_BYTES = 200
# Deleting a tenth of the rows at a time makes it rare.
_DELETED_SHARE = 10

FREE_BYTES_MIN = 16 << 20
"""What the log leaves free of its filesystem, or a twentieth of it where that is less."""
_FREE_SHARE_MIN = 20

_Row = Tuple[Any, ...]

_log = Log(__name__)


class Record(NamedTuple):
    """One inference request and its result. ``inputs`` and ``outputs`` are empty when it failed. ``form``: what the
    release says of the model's answers."""

    time: float
    model: str
    version: str
    request_id: str | None
    code: int
    seconds: float
    inputs: Mapping[str, Array]
    outputs: Mapping[str, Array]
    error: str | None
    in_sequence: bool = False
    form: AnswerForm | None = None


AwaitingLabel = Callable[[Record], Optional[bytes]]


class LogOptions(NamedTuple):
    """Where the log is, its bounds, and whether it keeps the inputs themselves or only their summary.

    ``awaiting_label`` says what else is kept of a request until its label comes; without it nothing is.
    """

    path: str
    rows: int
    bytes: int
    full_inputs: bool
    awaiting_label: AwaitingLabel | None = None


class Labelled(NamedTuple):
    """A label compared with its prediction: right and wrong rows of a classification, or errors of a regression.

    ``predictions`` and ``labels`` are those of the rows, ``awaiting`` is what was kept of the request until now.
    """

    version: str
    right: int
    wrong: int
    absolute_errors: Sequence[float]
    predictions: Sequence[Any] = ()
    labels: Sequence[Any] = ()
    awaiting: bytes | None = None


class PredictionLog:
    """The log's file, opened for writing. A damaged file or one with another schema is renamed."""

    def __init__(self, options: LogOptions) -> None:
        self._options = options
        try:
            self._connection = _open(options.path)
        except sqlite3.OperationalError:
            # Not the content's fault: no permission, no directory, a full disk.
            raise
        except sqlite3.DatabaseError as error:
            _log.error("prediction log damaged, starting a new one", path=options.path, error=error)
            for suffix in ("", "-wal", "-shm"):
                with contextlib.suppress(FileNotFoundError):
                    os.replace(options.path + suffix, f"{options.path}.damaged{suffix}")
            self._connection = _open(options.path)
        self._connection.executescript(_NO_AWAITING_SCHEMA if options.awaiting_label is None else _AWAITING_SCHEMA)
        self._page_bytes = int(self._pragma("page_size"))

    def append(self, records: Sequence[Record]) -> None:
        """Write the records, and delete the oldest rows that are too many.

        Raises sqlite3.Error, and UnavailableError when too little of the disk is free.

        Usually one transaction; more when the records are large in comparison to the log.
        """
        check_free_space(self._options.path)
        rows: list[tuple[_Row, bytes | None]] = []
        size = 0
        for record in records:
            row, awaiting = self._row(record), self._awaiting(record)
            row_size = _ROW_BYTES + sum(len(value) for value in row if isinstance(value, str)) + len(awaiting or b"")
            if rows and size + row_size > self._options.bytes // 4:
                self._write(rows, size)
                rows, size = [], 0
            rows.append((row, awaiting))
            size += row_size
        self._write(rows, size)

    def label(self, model: str, request_id: str, label: Any) -> Labelled:
        """Note the true label (a list: one for each row) of a logged request and return what it says of the prediction.

        Raises NotFoundError, ConflictError if it has one, InvalidRequestError if it does not fit the prediction, and
        UnavailableError when too little of the disk is free.
        """
        check_free_space(self._options.path)
        row = self._connection.execute(
            "SELECT id, version, prediction, label FROM predictions WHERE request_id = ? AND model = ?"
            " ORDER BY id DESC LIMIT 1",
            (request_id[:_REQUEST_ID_CHARACTERS_MAX], model),
        ).fetchone()
        if row is None:
            raise NotFoundError(f"model {model!r}: the prediction log has no request {request_id!r} (any more)")
        identity, version, prediction_text, known = row
        if known is not None:
            raise ConflictError(f"request {request_id!r} has its label already: {known}")
        if prediction_text is None:
            raise InvalidRequestError(
                f"request {request_id!r} has no prediction to compare with: it failed, or what it answered is neither "
                "one value nor one list of scores for each row. A release whose probe set says which output has the "
                "answers and what they are (output, task) is compared by that"
            )
        predictions = json.loads(prediction_text)
        labels = _by_rows(label, predictions)
        labelled = _compare(version, predictions, labels)
        awaiting = None
        with self._transaction():
            self._connection.execute("UPDATE predictions SET label = ? WHERE id = ?", (json.dumps(labels), identity))
            if self._options.awaiting_label is not None:
                kept = self._connection.execute(
                    "SELECT content FROM awaiting_label WHERE id = ?", (identity,)
                ).fetchone()
                self._connection.execute("DELETE FROM awaiting_label WHERE id = ?", (identity,))
                awaiting = None if kept is None else kept[0]
        return labelled._replace(predictions=predictions, labels=labels, awaiting=awaiting)

    @property
    def directory(self) -> str:
        """Where the file is."""
        return os.path.dirname(self._options.path) or "."

    def forget_awaiting(self, since: Mapping[str, float]) -> None:
        """Delete what waits for labels but of these models' requests since these times."""
        if self._options.awaiting_label is None:
            return
        kept = "".join(" WHEN ? THEN predictions.time < ?" for _model in since)
        with self._transaction():
            self._connection.execute(
                "DELETE FROM awaiting_label WHERE id IN (SELECT awaiting_label.id FROM awaiting_label"
                f" JOIN predictions USING (id) WHERE CASE predictions.model{kept or ' WHEN NULL THEN 0'} ELSE 1 END)",
                [value for pair in since.items() for value in pair],
            )

    def used_bytes(self) -> int:
        """Bytes of the file that hold rows; free pages are given back or used again."""
        return (int(self._pragma("page_count")) - int(self._pragma("freelist_count"))) * self._page_bytes

    def close(self) -> None:
        """Close the file, whole and without a write-ahead log beside it."""
        self._connection.close()

    def _write(self, rows: Sequence[tuple[_Row, bytes | None]], size: int) -> None:
        self._make_room(size)
        with self._transaction():
            (last,) = self._connection.execute("SELECT coalesce(max(id), 0) FROM predictions").fetchone()
            self._connection.executemany(
                "INSERT INTO predictions (id, time, model, version, request_id, code, seconds, inputs, outputs,"
                " prediction, error) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
                [(last + number, *row) for number, (row, _awaiting) in enumerate(rows, 1)],
            )
            awaiting = [(last + number, content) for number, (_row, content) in enumerate(rows, 1) if content]
            if awaiting:
                self._connection.executemany("INSERT INTO awaiting_label VALUES (?, ?)", awaiting)
            self._connection.execute(
                "DELETE FROM predictions WHERE id <= (SELECT max(id) FROM predictions) - ?", (self._options.rows,)
            )
        self._make_room(0)
        # What deleting frees goes back to the disk, a little at a time.
        self._connection.execute("PRAGMA incremental_vacuum(256)").fetchall()

    def _make_room(self, size: int) -> None:
        while self.used_bytes() + size > self._options.bytes and self._delete_oldest():
            pass

    @contextlib.contextmanager
    def _transaction(self) -> Any:
        self._connection.execute("BEGIN IMMEDIATE")
        try:
            yield
        except BaseException:
            with contextlib.suppress(sqlite3.Error):
                self._connection.execute("ROLLBACK")
            raise
        self._connection.execute("COMMIT")

    def _delete_oldest(self) -> bool:
        """Delete the oldest tenth of the rows; return whether there were any."""
        least, most = self._connection.execute("SELECT min(id), max(id) FROM predictions").fetchone()
        if least is None:
            return False
        with self._transaction():
            self._connection.execute(
                "DELETE FROM predictions WHERE id <= ?", (least + (most - least) // _DELETED_SHARE,)
            )
        return True

    def _pragma(self, name: str) -> Any:
        return self._connection.execute(f"PRAGMA {name}").fetchone()[0]

    def _awaiting(self, record: Record) -> bytes | None:
        if self._options.awaiting_label is None or record.error is not None:
            return None
        content = self._options.awaiting_label(record)
        return content if content and len(content) <= self._options.bytes // _AWAITING_SHARE_MAX else None

    def _row(self, record: Record) -> _Row:
        values, form = answer_in(record.outputs, record.form)
        predictions = None if values is None else predictions_of(values, form)
        return (
            record.time,
            record.model,
            record.version,
            None if record.request_id is None else record.request_id[:_REQUEST_ID_CHARACTERS_MAX],
            record.code,
            record.seconds,
            _tensors_json(record.inputs, self._options.full_inputs) if record.inputs else None,
            _tensors_json(record.outputs, full=True) if record.outputs else None,
            None if predictions is None else _json(predictions),
            None if record.error is None else record.error[:_ERROR_CHARACTERS_MAX],
        )


def check_free_space(path: str) -> None:
    """Raise UnavailableError when the disk of a file is nearly full: it is kept for models, and for deleting rows.

    In its write-ahead log SQLite needs free bytes even to delete.
    """
    filesystem = os.statvfs(os.path.dirname(path) or ".")
    free = filesystem.f_bavail * filesystem.f_frsize
    least = min(FREE_BYTES_MIN, filesystem.f_blocks * filesystem.f_frsize // _FREE_SHARE_MIN)
    if free < least:
        raise UnavailableError(f"{path}: expected {least} free bytes on its filesystem; found {free}")


def summary_of(values: Array) -> dict[str, Any]:
    """Datatype, shape and, of numbers, minimum, maximum, mean and how many are NaN or infinite."""
    summary: dict[str, Any] = {"datatype": datatype_of(values), "shape": list(values.shape)}
    if values.dtype == object or not values.size:
        return summary
    numbers = values.reshape(-1)
    mean = float(numbers.mean(dtype=np.float64))
    if not math.isfinite(mean):
        finite = numbers[np.isfinite(numbers)]
        summary["not_finite"] = int(numbers.size - finite.size)
        if not finite.size:
            return summary
        numbers, mean = finite, float(finite.mean(dtype=np.float64))
    summary.update(minimum=float(numbers.min()), maximum=float(numbers.max()), mean=_json_value(mean))
    return summary


def _open(path: str) -> sqlite3.Connection:
    # Only the service's user and group may read it.
    os.close(os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o640))
    connection = sqlite3.connect(path, isolation_level=None, check_same_thread=False)
    try:
        if connection.execute("PRAGMA auto_vacuum").fetchone()[0] != _AUTO_VACUUM_INCREMENTAL:
            # Before the first table, or without effect. In a log that has it, it would be written again, and synced.
            connection.execute("PRAGMA auto_vacuum = INCREMENTAL")
        connection.execute("PRAGMA journal_mode = WAL").fetchone()
        # In WAL mode this loses the last transactions in a power cut, never the file.
        connection.execute("PRAGMA synchronous = NORMAL")
        connection.execute("PRAGMA wal_autocheckpoint = 256")
        connection.execute("PRAGMA journal_size_limit = 1048576")
        found = int(connection.execute("PRAGMA user_version").fetchone()[0])
        if found == 0 and connection.execute("SELECT count(*) FROM sqlite_master").fetchone()[0] == 0:
            connection.executescript(f"BEGIN; {_SCHEMA} PRAGMA user_version = {_SCHEMA_VERSION}; COMMIT;")
        elif found != _SCHEMA_VERSION:
            raise sqlite3.DatabaseError(f"expected schema {_SCHEMA_VERSION}; found {found}")
        connection.execute("SELECT min(id), max(id) FROM predictions").fetchone()
    except sqlite3.Error:
        connection.close()
        raise
    return connection


def _compare(version: str, predictions: Sequence[Any], labels: Sequence[Any]) -> Labelled:
    if len(labels) != len(predictions):
        raise InvalidRequestError(f"label: expected {len(predictions)}, one for each row; found {len(labels)}")
    if None in predictions:
        raise InvalidRequestError(
            f"label: expected that of a number; the prediction of row {predictions.index(None)} is not finite"
        )
    rows, wanted = ([_values(row) for row in each] for each in (predictions, labels))
    sizes = [(len(found), len(right)) for found, right in zip(rows, wanted) if len(found) != len(right)]
    if sizes:
        raise InvalidRequestError(
            f"label: expected {counted(sizes[0][0], 'value')} for each row, as the prediction has; found "
            f"{sizes[0][1]}. What the values of an output are, the release says by the task of its probe set"
        )
    expected = type(rows[0][0])
    fits = (float, int) if expected is float else (expected,)
    if any(type(value) not in fits for label in wanted for value in label):
        raise InvalidRequestError(f"label: expected {expected.__name__}, as the prediction is; found {labels[:5]}")
    if expected is float:
        return Labelled(version, 0, 0, [_mean_error(*both) for both in zip(rows, wanted)])
    right = sum(found == label for found, label in zip(rows, wanted))
    return Labelled(version, right, len(labels) - right, [])


def _by_rows(label: Any, predictions: Sequence[Any]) -> list[Any]:
    """The label as a list with one for each row. That of a single row, which may be a list itself, may stand alone."""
    is_one = isinstance(predictions[0], list) and isinstance(label, list) and not any(map(_is_list, label))
    return label if isinstance(label, list) and not is_one else [label]


def _is_list(value: Any) -> bool:
    return isinstance(value, list)


def _values(row: Any) -> list[Any]:
    return row if isinstance(row, list) else [row]


def _mean_error(found: Sequence[float], wanted: Sequence[float]) -> float:
    """As a probe set measures it: the mean over a row's values."""
    return math.fsum(abs(one - other) for one, other in zip(found, wanted)) / len(found)


def _tensors_json(tensors: Mapping[str, Array], full: bool) -> str:
    return _json({name: _tensor(values, full) for name, values in tensors.items()})


def _tensor(values: Array, full: bool) -> dict[str, Any]:
    if not full or values.size > _ELEMENTS_MAX:
        return summary_of(values)
    return {"datatype": datatype_of(values), "shape": list(values.shape), "data": to_json(values)}


def _json(document: Any) -> str:
    return json_codec.dumps(document).decode("utf-8", "replace")


def _json_value(value: Any) -> Any:
    return None if isinstance(value, float) and not math.isfinite(value) else value
