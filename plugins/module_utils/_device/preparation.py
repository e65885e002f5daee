# Copyright (c) 2026, The edgeml.fleet authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# PRIVATE to the collection edgeml.fleet: no stable interface.

"""Preparing a version's model: found out by its runtime, in a process like the smoke test's, and kept in the store.

It never stands in the way of a release: whatever goes wrong, the release's own files are loaded, and the reason is
noted.
"""

from __future__ import annotations

import contextlib
import os
import pwd
from typing import Any, Mapping, Sequence

from .._common.errors import EdgemlError, StoreError
from .._release.names import is_file_name
from .._release.release import WHOLE, File
from .facts import processor_id
from .prepared import FILES_MAX, MODEL_BYTES_MIN, PreparedModel, parse_prepared, prepared_pipeline
from .runtime import USER, Runtime
from .service_config import CPU, execution_provider
from .smoke_test import RuntimeTool, config_arguments
from .store import Store
from .version import Version

# To compile an engine takes minutes.
SECONDS = 900
# A prepared model is as large as the release's, but for what the optimiser works out beforehand: with packed copies of
# its weights twice that.
_GROWTH, _GROWTH_PACKED = 1.25, 2.5
# An engine has code beside its weights.
_ENGINE_BYTES = 64 << 20
_REASON_CHARACTERS_MAX = 300


def note_smoke_test(store: Store, version: Version, result: Mapping[str, Any]) -> None:
    """Keep the result of a smoke test; what was prepared for the same runtime stays: apps change more often."""
    before = store.prepared(version)
    if before is not None and before.runtime == result["runtime"]:
        result = {**result, "prepared": before.document}
    store.note_test(version, result)


def prepare(store: Store, version: Version, runtime: Runtime | None = None) -> None:
    """Have the version's model prepared for the runtime that it was tested with, unless that was tried. Hold the lock.

    ``runtime`` is that one, if it is not installed yet. Models without golden inputs are not; nor, on a processor, is a
    release of less than MODEL_BYTES_MIN: to compile an engine takes long for a small model, too.
    """
    tested = store.tested(version)
    size = sum(file.size for file in version.chosen.files)
    names = [name for name, part in version.release.parts.items() if part.golden is not None]
    if tested is None or not names or (size < MODEL_BYTES_MIN and execution_provider() == CPU):
        return
    noted = tested.get("prepared")
    if noted is not None and ("settings" not in noted or store.prepared(version) is not None):
        return
    on_cpu = execution_provider() == CPU
    more = 1 << 20 if on_cpu else _ENGINE_BYTES
    least, most = (int(size * growth) + more for growth in (_GROWTH, _GROWTH_PACKED if on_cpu else _GROWTH))
    files: tuple[File, ...] = ()
    try:
        # As much again stays free.
        free = store.free_bytes()
        if free < 2 * least:
            raise StoreError(f"{store.root}: expected {2 * least} free bytes; found {free}")
        most = min(most, free // 2)
        if names == [WHOLE]:
            record, files = _prepared(store, version, WHOLE, most, runtime)
        else:
            record, files = _prepared_parts(store, version, names, most, runtime)
    except (EdgemlError, OSError, ValueError, KeyError, TypeError) as error:
        record = _reason(error)
    # What cannot be kept now is rubbish in staging, and is made again after the next test.
    with contextlib.suppress(EdgemlError, OSError):
        store.keep_prepared(version, {**tested, "prepared": record}, files)


def _prepared_parts(
    store: Store, version: Version, names: Sequence[str], most: int, runtime: Runtime | None
) -> tuple[dict[str, Any], tuple[File, ...]]:
    """As ``_prepared``, of a pipeline: a part that cannot be prepared has its reason, and the others do not mind."""
    records: dict[str, dict[str, Any]] = {}
    found: dict[str, PreparedModel] = {}
    for name in names:
        try:
            records[name], _files = _prepared(store, version, name, most, runtime)
        except (EdgemlError, OSError, ValueError, KeyError, TypeError) as error:
            records[name] = _reason(error)
        prepared = parse_prepared(records[name])
        if prepared is not None:
            found[name] = prepared
    if not found:
        return {"reason": "no part loads quicker in another form", "parts": records}, ()
    pipeline = prepared_pipeline(found)
    return {**pipeline.document, "parts": records}, pipeline.files


def _prepared(
    store: Store, version: Version, part: str, most: int, runtime: Runtime | None
) -> tuple[dict[str, Any], tuple[File, ...]]:
    """What the runtime found: the record of a prepared model with its files, or the reason why there is none."""
    with store.work_directory() as directory:
        with contextlib.suppress(KeyError, PermissionError):
            os.chown(directory, pwd.getpwnam(USER).pw_uid, -1)
        arguments = [directory, "--bytes-max", str(most), *config_arguments()]
        arguments += ["--part", part] if part else []
        with RuntimeTool(
            "preparation", "prepare", version, *arguments, runtime=runtime, gentle=True, writes=[directory]
        ) as tool:
            told = tool.answer(SECONDS)
        if told is None or "settings" not in told:
            return told or {"reason": "no runtime"}, ()
        names = [str(name) for name in told.pop("files")]
        if len(names) > FILES_MAX or not all(map(is_file_name, names)):
            raise StoreError(f"expected at most {FILES_MAX} names of files; found {names!r}")
        files = store.adopt_prepared(directory, names) if names else ()
    paths = {os.path.basename(file.path): file.path for file in files}
    record = PreparedModel(
        runtime=str(told["runtime"]),
        processor=processor_id(),
        entrypoint=paths.get(str(told["entrypoint"]), ""),
        settings=told["settings"],
        files=files,
    )
    return {**told, **record.document}, files


def _reason(error: Exception) -> dict[str, Any]:
    return {"reason": (str(error) or repr(error))[:_REASON_CHARACTERS_MAX]}
