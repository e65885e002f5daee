# Copyright (c) 2026, The edgeml.fleet authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""A large model is sent in parts: what broke goes on where it broke, in the next run or in the same task."""

from __future__ import annotations

import json
import os
import random
import signal
import sys
import time
from pathlib import Path
from typing import Any

import pytest
from controller import Ansible
from releases import Made, make_release, publish, sha256

from ansible_collections.edgeml.fleet.plugins.module_utils._device.store import Store
from ansible_collections.edgeml.fleet.plugins.module_utils._release.release import File
from ansible_collections.edgeml.fleet.plugins.plugin_utils._publish.deltas import add_deltas, make_deltas
from ansible_collections.edgeml.fleet.plugins.plugin_utils._sending import PART_BYTES

# Three parts: of 4 MiB, of 8, and the rest, if the link is not slow.
MODEL = random.Random(1).randbytes(3 * PART_BYTES + 99)
MADE = make_release("1.0.0", model="plain", files={"model.bin": MODEL})


class Fleet:
    """One device on this machine, and its controller, which has ``made``."""

    def __init__(self, directory: Path, made: Made = MADE) -> None:
        self.repository = directory / "repository"
        publish(made, self.repository)
        (directory / "store").mkdir()
        self.store = Store(str(directory / "store"))
        self.part = Path(self.store.fetched.directory) / f"{sha256(MODEL)}.part"
        device = {"ansible_connection": "local", "ansible_python_interpreter": sys.executable}
        self.ansible = Ansible(directory, [], edge=device)
        swap = {
            "model": "plain",
            "version": "1.0.0",
            "state": "present",
            "strategy": "none",
            "store": self.store.root,
            "repository": str(self.repository),
        }
        play = {"hosts": "edge", "gather_facts": False, "tasks": [{"name": "swap", "edgeml.fleet.model_swap": swap}]}
        (self.ansible.directory / "swap.yml").write_text(json.dumps([play]))

    def swap(self) -> dict[str, Any]:
        """Run to the end, whatever comes of it."""
        return self.ansible.run("swap.yml").results("swap")["edge"]


@pytest.fixture
def fleet(tmp_path: Path) -> Fleet:
    return Fleet(tmp_path)


def family(process: int) -> list[int]:
    """The process and all that it started, directly or not."""
    found = [process]
    for pid in found:
        for children in Path(f"/proc/{pid}/task").glob("*/children"):
            found += map(int, children.read_text().split())
    return found


def kill_when_a_part_has_come(fleet: Fleet) -> None:
    with fleet.ansible.start("swap.yml") as process:
        while not (fleet.part.exists() and fleet.part.stat().st_size >= PART_BYTES):
            assert process.poll() is None, process.communicate()
            time.sleep(0.01)
        # Workers have sessions of their own.
        for pid in family(process.pid):
            os.kill(pid, signal.SIGKILL)
    assert fleet.store.versions("plain") == []


def test_a_controller_that_was_killed_goes_on_where_it_was(fleet: Fleet) -> None:
    kill_when_a_part_has_come(fleet)
    result = fleet.swap()
    assert result["changed"]
    sent = result["sent"]
    assert sent["resumed_bytes"] >= PART_BYTES
    assert sent["bytes"] == sent["whole_bytes"] - sent["resumed_bytes"] == len(MODEL) - sent["resumed_bytes"]
    fleet.store.version("plain", "1.0.0").verify()
    assert not list(Path(fleet.store.fetched.directory).iterdir())
    assert not fleet.swap()["changed"]


def test_a_wrong_block_of_the_repository_ends_the_task_and_the_blocks_before_stay(fleet: Fleet) -> None:
    blob = fleet.repository / "blobs" / "sha256" / sha256(MODEL)
    wrong = bytearray(MODEL)
    wrong[PART_BYTES + 5] ^= 1
    blob.write_bytes(wrong)
    result = fleet.swap()
    assert result["failed"]
    assert f"the part from byte {PART_BYTES} on, 3 times: the device kept nothing of it" in result["msg"]
    assert fleet.part.stat().st_size == PART_BYTES
    blob.write_bytes(MODEL)
    assert fleet.swap()["sent"]["resumed_bytes"] == PART_BYTES


# Noise, and what can be compressed: its compressed form has two parts.
SPARSE = MODEL[: 2 * PART_BYTES] + bytes(PART_BYTES)


@pytest.fixture
def sparse(tmp_path: Path) -> Fleet:
    """A fleet whose model is published in its compressed form, too."""
    made = make_release("1.0.0", model="plain", files={"model.bin": SPARSE})
    fleet = Fleet(tmp_path, made)

    def locate(file: File) -> str:
        return str(fleet.repository / "blobs" / "sha256" / file.sha256)

    (delta,) = make_deltas(made.release, locate, None, locate, str(tmp_path))
    add_deltas(str(fleet.repository), [delta])
    fleet.part = Path(fleet.store.fetched.directory) / f"{sha256(SPARSE)}.{delta.delta.sha256}.part"
    return fleet


def test_a_delta_goes_on_where_it_was(sparse: Fleet) -> None:
    kill_when_a_part_has_come(sparse)
    sent = sparse.swap()["sent"]
    assert (sent["deltas"], sent["whole_bytes"]) == (1, len(SPARSE))
    assert sent["resumed_bytes"] >= PART_BYTES
    assert sent["bytes"] < 2 * PART_BYTES + 10_000 - sent["resumed_bytes"]
    sparse.store.version("plain", "1.0.0").verify()
    assert not list(Path(sparse.store.fetched.directory).iterdir())
    assert not sparse.swap()["changed"]


def test_a_delta_that_is_refused_is_said_and_what_it_made_right_is_not_sent_again(sparse: Fleet) -> None:
    path = sparse.repository / "deltas" / sha256(SPARSE) / sparse.part.name.split(".")[1]
    content = bytearray(path.read_bytes())
    content[PART_BYTES + 500] ^= 1
    # Who damaged it has made an index that fits.
    wrong = path.with_name(sha256(bytes(content)))
    wrong.write_bytes(content)
    index = path.with_name("index.json")
    index.write_text(index.read_text().replace(path.name, wrong.name))
    result = sparse.swap()
    (warning,) = result["warnings"]
    assert warning.startswith("model.bin: sent whole, as its delta was refused: ")
    assert "block 5 of 12: expected SHA-256" in warning
    assert (result["changed"], result["sent"]["resumed_bytes"]) == (True, PART_BYTES)
    assert result["sent"]["bytes"] == len(content) + len(SPARSE) - PART_BYTES
    sparse.store.version("plain", "1.0.0").verify()
    assert not list(Path(sparse.store.fetched.directory).iterdir())
