# Copyright (c) 2026, The edgeml.fleet authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What examples/deepstream prepares before an application starts: paths, when an engine is built, and what is refused.

No DeepStream and no TensorRT are here: what builds and checks an engine is a command, and these are the shell's.
"""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

EXAMPLE = Path(__file__).parents[2] / "examples" / "deepstream"
BUILD = "sh -c 'cat {onnx} >{engine}; echo built >>{onnx}.json'"


class Board:
    """The store, the power mode and the files of an application."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.models = directory / "detector"
        self.configuration = directory / "run" / "nvinfer.txt"
        (directory / "root/var/lib/nvpmodel").mkdir(parents=True)
        self.set_power_mode(2)
        for version in ("1.0.0", "1.1.0"):
            (self.models / "versions" / version).mkdir(parents=True)
            (self.models / "versions" / version / "detector.onnx").write_text(version)

    def set_power_mode(self, number: int) -> None:
        (self.directory / "root/var/lib/nvpmodel/status").write_text(f"pmode:{number:04}")

    def activate(self, version: str) -> None:
        (self.models / "active").unlink(missing_ok=True)
        (self.models / "active").symlink_to(f"versions/{version}")

    def prepare(self, *options: str, template: Path = EXAMPLE / "nvinfer.txt") -> subprocess.CompletedProcess[str]:
        places = [self.models / "active", template, self.configuration, "--cache", self.directory / "cache"]
        command = [sys.executable, EXAMPLE / "edgeml-deepstream-prepare", *places, "--build", BUILD, *options]
        environment = {"SYSTEM_ROOT": str(self.directory / "root"), "PATH": "/usr/bin:/bin"}
        return subprocess.run(list(map(str, command)), capture_output=True, text=True, check=False, env=environment)

    def named(self, name: str) -> Path:
        """The path that the configuration has."""
        (found,) = re.findall(rf"^{name}=(.*)$", self.configuration.read_text(), re.MULTILINE)
        return Path(found)

    def builds(self) -> int:
        return sum(path.read_text().count("built") for path in self.models.glob("versions/*/*.onnx.json"))


@pytest.fixture
def board(tmp_path: Path) -> Board:
    found = Board(tmp_path)
    found.activate("1.0.0")
    assert found.prepare().returncode == 0
    return found


def test_the_configuration_names_the_version_and_its_engine(board: Board) -> None:
    assert board.named("onnx-file") == board.models / "versions/1.0.0/detector.onnx"
    assert board.named("model-engine-file").read_text() == "1.0.0"
    assert "@" not in "".join(line for line in board.configuration.read_text().splitlines() if line[:1] != "#")


def test_an_engine_is_built_once_for_a_file_and_a_power_mode(board: Board) -> None:
    engines = {board.named("model-engine-file")}
    board.activate("1.1.0")
    assert board.prepare().returncode == 0
    assert board.named("model-engine-file").read_text() == "1.1.0"
    engines.add(board.named("model-engine-file"))
    board.activate("1.0.0")
    assert board.prepare().returncode == 0
    assert (board.builds(), len(engines)) == (2, 2)
    board.set_power_mode(0)
    assert board.prepare().returncode == 0
    assert board.builds() == 3
    assert board.named("model-engine-file") not in engines


@pytest.mark.parametrize(
    "options", [["--check", "grep -q 1.0.0 {engine}"], ["--build", "false"]], ids=["answers wrong", "is not built"]
)
def test_an_engine_that_fails_leaves_the_configuration_as_it_was(board: Board, options: list[str]) -> None:
    before = board.configuration.read_text()
    board.activate("1.1.0")
    failed = board.prepare(*options)
    assert failed.returncode == 1
    assert "returned non-zero exit status 1" in failed.stderr
    assert board.configuration.read_text() == before
    assert len(list((board.directory / "cache").glob("*.engine"))) == 1
    # What was not tried to its end is not taken for tried.
    assert board.prepare("--check", "grep -q 1.1.0 {engine}").returncode == 0


def test_a_template_without_an_engine_is_refused(board: Board, tmp_path: Path) -> None:
    (tmp_path / "template").write_text("onnx-file=@onnx@")
    failed = board.prepare(template=tmp_path / "template")
    assert (failed.returncode, "names no @engine@" in failed.stderr) == (1, True)


def test_systemd_understands_the_unit(tmp_path: Path) -> None:
    unit = tmp_path / "edgeml-deepstream.service"
    text = (EXAMPLE / unit.name).read_text()
    unit.write_text(re.sub(r"=/usr/(local/)?bin/\S+", "=/bin/true", text))
    done = subprocess.run(["systemd-analyze", "verify", str(unit)], capture_output=True, text=True, check=False)
    assert (done.returncode, [line for line in done.stderr.splitlines() if unit.name in line]) == (0, [])
