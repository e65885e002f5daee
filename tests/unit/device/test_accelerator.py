# Copyright (c) 2026, The edgeml.fleet authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What a Jetson says of its software and its power mode, in the words of NVIDIA's files."""

from __future__ import annotations

from pathlib import Path

import pytest

from ansible_collections.edgeml.fleet.plugins.module_utils._device import runtime
from ansible_collections.edgeml.fleet.plugins.module_utils._device.accelerator import Accelerator, read_accelerator
from ansible_collections.edgeml.fleet.plugins.module_utils._device.runtime import Runtime, runtime_identity
from ansible_collections.edgeml.fleet.plugins.module_utils._device.service_config import execution_provider


def release_of(release: str, revision: str, board: str) -> str:
    """The first line of NVIDIA's file."""
    return f"# {release} (release), REVISION: {revision}, GCID: 38968081, BOARD: {board}, EABI: aarch64\n"


ORIN_NANO = release_of("R36", "4.3", "generic")
XAVIER = release_of("R35", "5.0", "t186ref")
NANO = release_of("R32", "7.1", "t210ref")
LATER = release_of("R41", "1.0", "generic")
MODES = """
# FAN_CONFIG
< PARAM TYPE=FILE NAME=CPU_ONLINE >
CORE_0 /sys/devices/system/cpu/cpu0/online
< POWER_MODEL ID=0 NAME=15W >
CPU_ONLINE CORE_0 1
< POWER_MODEL ID=1 NAME=25W >
CPU_ONLINE CORE_0 1
< POWER_MODEL ID=2 NAME=MAXN_SUPER >
CPU_ONLINE CORE_0 1
< PM_CONFIG DEFAULT=1 >
"""


def device(root: Path, release: str = "", status: str = "", modes: str = "") -> str:
    for name, text in (
        ("etc/nv_tegra_release", release),
        ("var/lib/nvpmodel/status", status),
        ("etc/nvpmodel.conf", modes),
    ):
        if text:
            (root / name).parent.mkdir(parents=True, exist_ok=True)
            (root / name).write_text(text)
    return str(root)


@pytest.mark.parametrize(
    ("release", "software", "jetpack"),
    [
        (ORIN_NANO, "36.4.3", "6.2"),
        (XAVIER, "35.5.0", "5"),
        (NANO, "32.7.1", "4"),
        (LATER, "41.1.0", ""),
        ("", "", ""),
        ("# Rx (release)", "", ""),
    ],
)
def test_the_release_of_jetson_linux(tmp_path: Path, release: str, software: str, jetpack: str) -> None:
    found = read_accelerator(device(tmp_path, release))
    assert (found.software, found.jetpack) == (software, jetpack)


@pytest.mark.parametrize(
    ("status", "modes", "expected"),
    [
        ("pmode:0002 fmode:quiet", MODES, "MAXN_SUPER"),
        ("pmode:0000", MODES, "15W"),
        ("pmode:0008 fmode:cool", MODES, "8"),
        ("pmode:0001", "", "1"),
        ("", MODES, ""),
        ("damaged", MODES, ""),
    ],
)
def test_the_power_mode_has_the_name_that_the_board_gives_it(
    tmp_path: Path, status: str, modes: str, expected: str
) -> None:
    assert read_accelerator(device(tmp_path, status=status, modes=modes)).power_mode == expected


def test_what_it_is_in_words(tmp_path: Path) -> None:
    jetson = read_accelerator(device(tmp_path, ORIN_NANO, "pmode:0002", MODES))
    assert jetson.words == "Jetson Linux 36.4.3, MAXN_SUPER"
    assert Accelerator().words == ""


def test_a_test_with_an_accelerator_holds_for_its_software_and_power_mode(monkeypatch: pytest.MonkeyPatch) -> None:
    installed = Runtime("venv-1 app-1", "/python", "/app")
    found = Accelerator("36.4.3", "6.2", "15W")
    monkeypatch.setattr(runtime, "read_accelerator", lambda: found)
    # The processor's kernels are the same in each power mode.
    monkeypatch.setattr(runtime, "execution_provider", lambda: "cpu")
    assert runtime_identity(installed) == "venv-1 app-1"
    monkeypatch.setattr(runtime, "execution_provider", lambda: "tensorrt")
    assert runtime_identity(installed) == "venv-1 app-1 tensorrt Jetson Linux 36.4.3, 15W"
    found = found._replace(power_mode="MAXN_SUPER")
    assert runtime_identity(installed) == "venv-1 app-1 tensorrt Jetson Linux 36.4.3, MAXN_SUPER"


@pytest.mark.parametrize(("text", "expected"), [('{"execution_provider": "qnn"}', "qnn"), ("{}", "cpu"), ("", "cpu")])
def test_a_server_that_says_nothing_computes_on_the_processor(tmp_path: Path, text: str, expected: str) -> None:
    path = tmp_path / "server.json"
    path.write_text(text)
    assert execution_provider(str(path)) == expected
