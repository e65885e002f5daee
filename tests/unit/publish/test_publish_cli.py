# Copyright (c) 2026, The edgeml.fleet authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The command line: where options come from, what is printed, and what is said of an error."""

from __future__ import annotations

import io
import json
import sys
from pathlib import Path
from typing import Any

import pytest

from ansible_collections.edgeml.fleet.plugins.plugin_utils._publish import cli, release
from ansible_collections.edgeml.fleet.plugins.plugin_utils._publish.model import Progress
from ansible_collections.edgeml.fleet.plugins.plugin_utils._publish.options import ReleaseOptions
from ansible_collections.edgeml.fleet.plugins.plugin_utils._publish.publication import Published

OPTIONS = {"model": "digits", "version": "1", "source": "a.onnx", "samples": "a.npz", "repository": "models"}


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> list[tuple[ReleaseOptions, bool]]:
    """Every publication that was asked for, with whether it was in check mode; each is said to have been made."""
    calls: list[tuple[ReleaseOptions, bool]] = []

    def publish(options: ReleaseOptions, progress: Progress, *, check: bool) -> Published:
        calls.append((options, check))
        return Published(True, {"schema": 1}, "0" * 64, [], {"samples": 360}, ("no reference outputs",))

    monkeypatch.setattr(release, "publish_release", publish)
    return calls


def from_input(monkeypatch: pytest.MonkeyPatch, text: str, *arguments: str) -> int:
    monkeypatch.setattr(sys, "stdin", io.StringIO(text))
    return cli.main(["release", "--options", "-", *arguments])


def test_options_come_from_standard_input_and_the_command_line_goes_before(
    asked: list[tuple[ReleaseOptions, bool]], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert from_input(monkeypatch, json.dumps(OPTIONS), "--version", "2", "--missing-values", "--check") == 0
    ((options, check),) = asked
    assert (options.model, options.version, options.missing_values, check) == ("digits", "2", True, True)
    assert capsys.readouterr().out.splitlines()[-2:] == [
        "note: no reference outputs",
        "digits 2 would be published in models",
    ]


def test_the_result_as_json(
    asked: list[tuple[ReleaseOptions, bool]], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert from_input(monkeypatch, json.dumps(OPTIONS), "--json") == 0
    found = json.loads(capsys.readouterr().out)
    assert (found["changed"], found["check"], found["reasons"]) == (True, False, [])
    assert (found["manifest"], found["facts"]) == ({"schema": 1}, {"samples": 360})
    assert found["notes"] == ["no reference outputs"]


@pytest.mark.parametrize(
    ("text", "expected"), [("[]", "expected a JSON object: found list"), ("{", "expected a JSON object: Expecting")]
)
def test_options_that_are_no_object(
    text: str, expected: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert from_input(monkeypatch, text) == cli.REFUSED
    assert capsys.readouterr().err.startswith(f"edgeml-publish: refused: --options: -: {expected}")


@pytest.mark.parametrize(
    ("error", "expected"),
    [
        (OSError(28, "No space left on device", "/models/blob"), "/models/blob: No space left on device"),
        (OSError(28, "No space left on device"), "a file: No space left on device"),
    ],
)
def test_an_error_of_the_system_names_the_file(
    error: OSError, expected: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def fail(*_arguments: Any, **_options: Any) -> Published:
        raise error

    monkeypatch.setattr(release, "publish_release", fail)
    assert from_input(monkeypatch, json.dumps(OPTIONS), "--json") == cli.REFUSED
    said = capsys.readouterr()
    assert json.loads(said.out) == {"failed": True, "reasons": [expected]}
    assert said.err == f"edgeml-publish: refused: {expected}\n"


def test_a_report_that_cannot_be_written_is_refused_before_anything_is_done(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    monkeypatch.setattr(release, "publish_release", None)
    for path in (tmp_path / "none" / "report.html", tmp_path):
        assert from_input(monkeypatch, json.dumps({**OPTIONS, "report": str(path)})) == cli.REFUSED
        expected = f"report: expected a file in a directory that can be written; found {path}"
        assert capsys.readouterr().err == f"edgeml-publish: refused: {expected}\n"


def test_a_package_that_is_not_there_has_no_subcommands(
    asked: list[tuple[ReleaseOptions, bool]], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cli, "_OTHERS", (f"{cli.__name__.rpartition('.')[0]}.not_there.cli",))
    assert from_input(monkeypatch, json.dumps(OPTIONS)) == 0
    assert len(asked) == 1


def test_a_package_that_lacks_something_is_an_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "lacking_subcommands.py").write_text("import something_that_nobody_has\n")
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setattr(cli, "_OTHERS", ("lacking_subcommands",))
    with pytest.raises(ModuleNotFoundError, match="something_that_nobody_has"):
        from_input(monkeypatch, json.dumps(OPTIONS))
