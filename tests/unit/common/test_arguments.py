# Copyright (c) 2026, The edgeml.fleet authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The parser of a device's command lines."""

from __future__ import annotations

import json
import os
import pty
import subprocess
import sys
import termios

import pytest
from links import PYTHON_PATH

_COLUMNS = 50
# With commands, as each of them has a parser of its own.
_PARSE = """
import json, sys
from edgeml_device._common.arguments import ArgumentParser
before = set(sys.modules)
parser = ArgumentParser(prog="edgeml")
command = parser.add_subparsers(required=True).add_parser("activate", help="make a held version serve")
command.add_argument("model", help="its name, which is that of the release, and this text is longer than one line")
found = parser.parse_args(sys.argv[1:])
print(json.dumps([found.model, sorted({"bz2", "lzma", "shutil", "zlib"} & (set(sys.modules) - before))]))
"""


def _command(*arguments: str) -> list[str]:
    return [sys.executable, "-c", _PARSE, *arguments]


def _environment() -> dict[str, str]:
    return {**os.environ, "PYTHONPATH": str(PYTHON_PATH)}


def test_to_parse_needs_no_module_of_compression() -> None:
    done = subprocess.run(
        _command("activate", "digits"), env=_environment(), stdout=subprocess.PIPE, text=True, check=True
    )
    assert json.loads(done.stdout) == ["digits", []]


@pytest.mark.parametrize("arguments", [("--help",), ("activate", "--help")])
def test_help_fits_the_terminal(arguments: tuple[str, ...]) -> None:
    controller, terminal = pty.openpty()
    try:
        termios.tcsetwinsize(terminal, (24, _COLUMNS))
        subprocess.run(_command(*arguments), env=_environment(), stdout=terminal, check=True)
        text = os.read(controller, 1 << 16).decode()
    finally:
        os.close(terminal)
        os.close(controller)
    assert 0 < max(map(len, text.splitlines())) <= _COLUMNS
    assert "model" in text or "activate" in text
