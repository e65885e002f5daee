# Copyright (c) 2026, The edgeml.fleet authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The transitions that are put to the proof: a device as it is before, what is done to it, and what may be active."""

from __future__ import annotations

import os
import random
import subprocess
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from releases import Made, make_release

from . import subject

# More than is copied at once.
_LARGE = random.Random(1).randbytes((1 << 20) + 12345)
_LABELS = b"zero one two three four five six seven eight nine\n" * 100
_RELEASES = {
    version: make_release(version, files={"model.onnx": content, "labels.txt": _LABELS}, golden=golden)
    for version, content, golden in (
        ("0.8.0", b"the oldest model" * 1000, b"{}"),
        ("0.9.0", b"an old model" * 1000, b"{}"),
        ("1.0.0", b"the model" * 1000, b'{"golden": 1}'),
        ("1.1.0", _LARGE, b'{"golden": 2}'),
        ("1.2.0", b"the next model" * 1000, b'{"golden": 2}'),
    )
}
OLD, NEW, NEXT = "1.0.0", "1.1.0", "1.2.0"


def release(version: str) -> Made:
    """One of the releases of these proofs."""
    return _RELEASES[version]


@dataclass(frozen=True)
class Scenario:
    """A transition of a device from the active version ``old`` to ``new``; both the same where it changes none.

    ``history`` is what makes the device as it is before; ``action`` is the transition.
    """

    name: str
    old: str | None
    new: str | None
    history: Sequence[Callable[[Path], object]]
    action: Callable[[Path], object]

    def prepare(self, directory: Path) -> None:
        """Make the device as it is before the transition."""
        (directory / "store").mkdir(parents=True)
        deliver(directory, *_RELEASES)
        for step in self.history:
            step(directory)


def deliver(directory: Path, *versions: str) -> None:
    """Put the blobs of releases where the action plugin puts them."""
    incoming = directory / "incoming"
    incoming.mkdir(exist_ok=True)
    for version in versions:
        for digest, content in release(version).blobs.items():
            (incoming / digest).write_bytes(content)


def clone(source: Path, target: Path) -> None:
    """Copy a device with its hard links and times."""
    subprocess.run(["cp", "-a", str(source), str(target)], check=True)


def swap_to(version: str) -> Callable[[Path], object]:
    """The transition to ``version``, with no server to tell."""
    return partial(subject.swap, made=release(version))


def _hold(version: str) -> Callable[[Path], object]:
    """Hold a version that is neither active nor previous: what a swap prunes."""
    return partial(subject.hold, made=release(version))


def _back_from(version: str) -> Callable[[Path], object]:
    return partial(subject.leave, version=version)


def _without(version: str) -> Callable[[Path], object]:
    return partial(subject.remove, version=version)


def _rubbish(directory: Path) -> None:
    """What a killed swap left in staging."""
    staging = directory / "store" / "staging" / "digits@9.9.9"
    staging.mkdir(parents=True)
    (staging / "model.onnx").write_bytes(b"half")
    os.link(staging / "model.onnx", directory / "store" / "staging" / ("0" * 64))


_SERVING = (swap_to("0.9.0"), swap_to(OLD), _hold("0.8.0"))

# Stages (blobs, a version's directory), prunes one version before and one after, switches, and writes the journal.
SWAP = Scenario("swap", OLD, NEW, _SERVING, swap_to(NEW))
SCENARIOS = (
    SWAP,
    Scenario("first swap of a device", None, NEW, (), swap_to(NEW)),
    Scenario("swap after an interrupted one", OLD, NEW, (*_SERVING, _rubbish), swap_to(NEW)),
    Scenario("swap to a version held", "0.9.0", OLD, (swap_to(OLD), swap_to("0.9.0")), swap_to(OLD)),
    Scenario("going back", NEW, OLD, (*_SERVING, swap_to(NEW)), _back_from(NEW)),
    Scenario("removal", OLD, OLD, _SERVING, _without("0.8.0")),
    Scenario("recovery", OLD, OLD, (*_SERVING, _rubbish), subject.recover),
)
