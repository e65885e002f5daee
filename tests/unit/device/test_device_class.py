# Copyright (c) 2026, The edgeml.fleet authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Classes of devices by their device trees, and the fact that the role provision installs.

The trees are those of the sources of Linux and of NVIDIA's and Raspberry Pi's kernels; the memory is what such boards
say of themselves in /proc/meminfo.
"""

from __future__ import annotations

import json
import os
import subprocess
from pathlib import Path

import pytest
from jinja2 import Environment
from links import REPOSITORY

from ansible_collections.edgeml.fleet.plugins.module_utils._device.device_class import (
    board_name,
    device_class,
    memory_name,
)
from ansible_collections.edgeml.fleet.plugins.module_utils._device.facts import device_facts

TREES = json.loads(Path(__file__).with_name("device_trees.json").read_text())
TEMPLATE = REPOSITORY / "roles/provision/templates/facts.d/edgeml.fact"


def rendered() -> str:
    """The fact's program, of its template."""
    return (
        Environment()
        .from_string(TEMPLATE.read_text())
        .render(lookup=lambda _plugin, path: Path(path).read_text().strip(), role_path=REPOSITORY / "roles/provision")
    )


@pytest.mark.parametrize("board", TREES, ids=lambda board: str(board["name"]))
def test_boards_are_told_apart(board: dict[str, str | int | list[str]]) -> None:
    entries, kibibytes = board["compatible"], board["mem_total_kib"]
    assert isinstance(entries, list)
    assert isinstance(kibibytes, int)
    content = "".join(f"{entry}\0" for entry in entries)
    assert device_class(content, kibibytes * 1024, "aarch64") == board["device_class"]


def test_a_zero_2_is_no_pi_3_whatever_its_kernel_calls_the_processor() -> None:
    assert board_name("raspberrypi,model-zero-2-w\0brcm,bcm2837\0") == "pi-zero-2"
    assert board_name("raspberrypi,3-model-b\0brcm,bcm2837\0") == "pi-3"


@pytest.mark.parametrize(
    ("compatible", "expected"),
    [
        ("", "x86_64-2gb"),
        ("acme,gateway-7\0rockchip,rk3399\0", "rk3399-2gb"),
        ("acme,Odd_Board\0", "odd-board-2gb"),
        ("linux,dummy-virt\0", "dummy-virt-2gb"),
        # A name that only begins like one that is known.
        ("rockchip,rk3588-toybrick\0acme,soc1\0", "soc1-2gb"),
    ],
)
def test_what_nobody_knows_has_a_class_all_the_same(compatible: str, expected: str) -> None:
    assert device_class(compatible, 2_000_000_000, "x86_64") == expected


@pytest.mark.parametrize(
    ("gibibytes", "expected"),
    [
        (0.42, "512mb"),
        (0.5, "512mb"),
        (0.91, "1gb"),
        (3.3, "4gb"),
        (6.7, "8gb"),
        (8.0, "8gb"),
        (30.6, "32gb"),
        (500.2, "501gb"),
    ],
)
def test_memory_is_what_was_built_in(gibibytes: float, expected: str) -> None:
    assert memory_name(int(gibibytes * (1 << 30))) == expected


def test_the_fact_is_a_program_of_its_own(tmp_path: Path) -> None:
    """On a device that is only just provisioned there is nothing but Python beside it."""
    program = tmp_path / "edgeml.fact"
    program.write_text(rendered())
    run = subprocess.run(
        ["/bin/sh", program],
        env={"PATH": os.environ["PATH"]},
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
    )
    assert run.returncode == 0, run.stderr
    facts = json.loads(run.stdout)
    own = device_facts()
    assert {name: facts[name] for name in ("architecture", "cpu_count", "board", "runtimes")} == {
        name: own[name] for name in ("architecture", "cpu_count", "board", "runtimes")
    }
    assert facts["device_class"].endswith("gb")
    assert "cpu_model" in facts
