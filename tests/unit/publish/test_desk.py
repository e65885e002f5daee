# Copyright (c) 2026, The edgeml.fleet authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The desk: how a version is laid out, and what is made of a runtime that refuses, crashes, hangs or talks nonsense."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from ansible_collections.edgeml.fleet.plugins.plugin_utils._publish import desk as desk_module
from ansible_collections.edgeml.fleet.plugins.plugin_utils._publish.desk import Desk, Measured, RunFailedError
from ansible_collections.edgeml.fleet.plugins.plugin_utils._publish.model import Model, file_of


def desk(directory: Path, script: str) -> Desk:
    """A desk whose Python is a shell script."""
    python = directory / "python"
    python.write_text(f"#!/bin/sh\n{script}\n")
    python.chmod(0o755)
    work = directory / "work"
    work.mkdir()
    return Desk(str(work), str(python))


def model(directory: Path, *names: str) -> Model:
    files = []
    for name in names:
        (directory / name).write_text(f"the bytes of {name}")
        files.append(file_of(str(directory / name)))
    return Model("onnx-fp32", "onnx", tuple(files))


def test_what_was_measured_is_read(tmp_path: Path) -> None:
    said = {"runtime": "onnxruntime 1.20.0", "architecture": "x86_64", "latency_seconds": 0.5, "memory_bytes": 4096}
    found = desk(tmp_path, f"echo '{json.dumps(said)}'").measure("version")
    assert found == Measured(said)
    assert (found.runtime, found.architecture) == ("onnxruntime 1.20.0", "x86_64")
    assert (found.latency_seconds, found.memory_bytes) == (0.5, 4096)


def test_the_tool_is_started_with_the_servers_code_and_told_which_version(tmp_path: Path) -> None:
    made = desk(tmp_path, 'printf \'{"arguments": "%s", "path": "%s"}\\n\' "$*" "$PYTHONPATH"')
    assert made.smoke("version") == {"arguments": "-B -m edgeml_server.tools.smoke version", "path": made.code}
    assert {path.name for path in Path(made.code).iterdir()} == {"edgeml_device", "edgeml_server"}
    assert all((path / "__init__.py").is_file() for path in Path(made.code).iterdir())


def test_a_reason_names_the_version_and_not_where_the_desk_has_it(tmp_path: Path) -> None:
    made = desk(tmp_path, 'echo "{\\"error\\": \\"$PWD/versions/draft/model.onnx: no model\\"}"')
    for call in (made.measure, made.smoke):
        with pytest.raises(RunFailedError, match=r"^draft/model\.onnx: no model$"):
            call("version")


@pytest.mark.parametrize(
    ("script", "expected"),
    [
        ("kill -KILL $$", "this machine: the runtime ended by signal 9 (SIGKILL) and said: nothing"),
        ("echo first >&2; echo last >&2; exit 3", "this machine: the runtime ended with code 3 and said: last"),
        ("echo '{'", "this machine: the runtime ended with code 0 and said: nothing"),
        ("echo '[]'", "this machine: the runtime ended with code 0 and said: nothing"),
    ],
)
def test_a_runtime_that_ends_without_a_result(tmp_path: Path, script: str, expected: str) -> None:
    with pytest.raises(RunFailedError) as failed:
        desk(tmp_path, script).smoke("version")
    assert str(failed.value) == expected


def test_a_crash_is_that_of_the_versions_that_had_no_result_yet(tmp_path: Path) -> None:
    made = desk(tmp_path, 'echo \'{"number": 1}\'; echo \'{"error": "too new"}\'; kill -SEGV $$')
    first, second, third, fourth = made.measure_all(["a", "b", "c", "d"], None, made.here)
    assert first == Measured({"number": 1})
    assert str(second) == "too new"
    assert third is fourth
    assert str(third) == "this machine: the runtime ended by signal 11 (SIGSEGV) and said: nothing"


def test_a_runtime_that_hangs_is_ended(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(desk_module, "SECONDS_MAX", 0.1)
    made = desk(tmp_path, "sleep 600")
    found = made.measure_all(["a", "b"], None, made.here)
    assert [str(item) for item in found] == ["this machine: no result after 0.1 s"] * 2


def test_another_python_that_is_not_there(tmp_path: Path) -> None:
    made = desk(tmp_path, "exit 0")
    none = str(tmp_path / "none")
    with pytest.raises(RunFailedError, match=r"none: cannot be started: .*No such file") as failed:
        made.smoke("version", made.elsewhere(none))
    assert str(failed.value).startswith(f"{none}: ")


def test_a_version_is_laid_out_as_a_store_has_it(tmp_path: Path) -> None:
    made = desk(tmp_path, "exit 0")
    source = model(tmp_path, "model.onnx")
    golden = tmp_path / "blob"
    golden.write_text("golden")
    for _again in range(2):
        directory = Path(made.version("draft", {"schema": 1}, "onnx-fp32", source, **{"golden.json": str(golden)}))
    assert {path.name for path in directory.iterdir()} == {"model.onnx", "golden.json", "version.json"}
    assert json.loads((directory / "version.json").read_text()) == {"release": {"schema": 1}, "variant": "onnx-fp32"}
    assert (directory / "model.onnx").samefile(tmp_path / "model.onnx")
    assert (directory / "golden.json").read_text() == "golden"


def test_a_model_of_several_files_is_copied(tmp_path: Path) -> None:
    directory = Path(desk(tmp_path, "").version("draft", {}, "onnx-fp32", model(tmp_path, "model.onnx", "weights.bin")))
    for name in ("model.onnx", "weights.bin"):
        assert not (directory / name).samefile(tmp_path / name)
        assert (directory / name).read_text() == f"the bytes of {name}"


def test_a_model_on_another_file_system_is_copied(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(source: str, target: str) -> None:
        raise OSError(18, "Invalid cross-device link", source, None, target)

    monkeypatch.setattr(os, "link", refuse)
    directory = Path(desk(tmp_path, "").version("draft", {}, "onnx-fp32", model(tmp_path, "model.onnx")))
    assert (directory / "model.onnx").read_text() == "the bytes of model.onnx"
