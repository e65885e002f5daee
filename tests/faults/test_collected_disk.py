# Copyright (c) 2026, The edgeml.fleet authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""A controller whose disk is full while it takes what a device collected: the device removes only what is stored."""

from __future__ import annotations

import errno
from pathlib import Path
from typing import Any

import pytest

from ansible_collections.edgeml.fleet.plugins.module_utils._device.collected import answer_collect
from ansible_collections.edgeml.fleet.plugins.module_utils._device.request import CollectRequest
from ansible_collections.edgeml.fleet.plugins.module_utils._release.collected_input import (
    CollectedInput,
    Tensor,
    file_name,
    pack,
)
from ansible_collections.edgeml.fleet.plugins.plugin_utils._collected.inbox import Inbox, read_input, stored_inputs
from ansible_collections.edgeml.fleet.plugins.plugin_utils._collected.transfer import bring, parse_waiting, select

from .loop_image import make_image, mounted

MEGABYTES = 8
INPUT_BYTES = 1 << 20
# More than the disk has room for, and more than one answer of the device.
INPUTS = 12


def test_a_full_disk_of_the_controller_loses_nothing(tmp_path: Path) -> None:
    spool, image = tmp_path / "spool", tmp_path / "image"
    (spool / "digits").mkdir(parents=True)
    digests = set()
    for number in range(INPUTS):
        tensor = Tensor("x", "UINT8", (INPUT_BYTES,), bytes([number]) * INPUT_BYTES)
        item = CollectedInput("digits", "1.0.0", float(number), ("drifting",), (tensor,))
        (spool / "digits" / file_name(item.digest)).write_bytes(pack(item))
        digests.add(item.digest)

    def ask(arguments: dict[str, Any]) -> dict[str, Any]:
        return answer_collect(CollectRequest(spool=str(spool), **arguments), check_mode=False)

    def take(directory: Path) -> dict[str, Any]:
        inbox = Inbox(str(directory), "edge-1")
        with inbox.hold():
            return bring(ask, inbox, select(parse_waiting(ask({})["waiting"]), inbox, 1 << 30))

    def stored(directory: Path) -> set[str]:
        """What is stored, each of it whole."""
        found = list(stored_inputs(str(directory)))
        assert all(read_input(each.path, each.model, each.digest) for each in found)
        return {each.digest for each in found}

    make_image(image, MEGABYTES, "-m", "0")
    with mounted(image, tmp_path / "small") as small:
        with pytest.raises(OSError, match="No space left on device") as full:
            take(small)
        assert full.value.errno == errno.ENOSPC
        kept = stored(small)
        left = {path.stem for path in (spool / "digits").iterdir()}
        assert 0 < len(kept) < INPUTS
        # Some of it is in both places, and none in neither.
        assert kept | left == digests
        assert len(left) < INPUTS
        # There is no more room yet; what is stored is not sent again.
        with pytest.raises(OSError, match="No space left on device"):
            take(small)
        assert stored(small) == kept
        assert take(tmp_path / "large")["brought"] + len(kept) == INPUTS
        assert kept | stored(tmp_path / "large") == digests
    assert list((spool / "digits").iterdir()) == []
