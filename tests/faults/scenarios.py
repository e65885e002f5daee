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
from typing import Any

from deltas import delta_between
from releases import Made, make_release, sha256

from ansible_collections.edgeml.fleet.plugins.module_utils._common.errors import with_path
from ansible_collections.edgeml.fleet.plugins.module_utils._device.facts import processor_id
from ansible_collections.edgeml.fleet.plugins.module_utils._device.prepared import PreparedModel

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
        ("1.3.0", b"finetuned" + _LARGE[9:] + random.Random(2).randbytes(8192), b'{"golden": 2}'),
    )
}
OLD, NEW, NEXT = "1.0.0", "1.1.0", "1.2.0"
# Almost as NEW is; devices fetch it, and nobody sends it. Its second block is large enough for a delta to be asked for.
CHANGED = "1.3.0"


def release(version: str) -> Made:
    """One of the releases of these proofs."""
    return _RELEASES[version]


@dataclass(frozen=True)
class Scenario:
    """A transition of a device from the active version ``old`` to ``new``; both the same where it changes none.

    ``history`` is what makes the device as it is before; ``action`` is the transition. The files of the version
    ``damaged`` are wrong before it. ``undone``: a failure takes it back.
    ``fallback``: what a recovery makes active where the active version can't be read. ``again``: the action, after it
    was interrupted, brings the version; else the module's swap does, with all blobs sent.
    """

    name: str
    old: str | None
    new: str | None
    history: Sequence[Callable[[Path], object]]
    action: Callable[[Path], object]
    damaged: str | None = None
    undone: bool = True
    fallback: str | None = None
    again: bool = False

    def prepare(self, directory: Path) -> None:
        """Make the device as it is before the transition."""
        (directory / "store").mkdir(parents=True)
        deliver(directory, *(version for version in _RELEASES if version != CHANGED))
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


def swap_to(version: str, **options: Any) -> Callable[[Path], object]:
    """The module's swap to ``version``, with nobody to tell."""
    return partial(subject.swap, made=release(version), **options)


def _as_delta(version: str, base: str) -> Callable[[Path], object]:
    """Have what is to be sent of a version as a delta from another one."""

    def step(directory: Path) -> None:
        new, old = (max(release(name).blobs.values(), key=len) for name in (version, base))
        path = directory / "incoming" / sha256(new)
        path.unlink()
        path.with_suffix(".delta").write_bytes(delta_between(new, old))

    return step


def _hold(version: str) -> Callable[[Path], object]:
    """Hold a version that is neither active nor previous: what a swap prunes."""
    return swap_to(version, state="present", keep=1)


def _back_from(version: str) -> Callable[[Path], object]:
    return partial(subject.leave, made=release(version))


def _without(version: str) -> Callable[[Path], object]:
    return partial(subject.remove, made=release(version))


def _killed_on_the_way_to(version: str) -> Callable[[Path], object]:
    return partial(subject.swap_killed_when_switched, made=release(version))


def _edgeml(*arguments: str) -> Callable[[Path], object]:
    return lambda directory: subject.edgeml(directory, *arguments)


def _crash(directory: Path) -> None:
    """The service crashed: what its unit calls then."""
    os.environ["SERVICE_RESULT"] = "exit-code"
    try:
        subject.edgeml(directory, "crashed")
    finally:
        del os.environ["SERVICE_RESULT"]


def _restart(directory: Path) -> None:
    """The state of a trial that began before the device restarted."""
    state = subject.state_of(directory)
    assert state.trial is not None
    trial = state.trial._replace(boot_id="another boot")
    subject.store_of(directory).update(subject.MODEL, state._replace(trial=trial))


def _note_test(directory: Path) -> None:
    """What a swap does where the device has a runtime."""
    store = subject.store_of(directory)
    store.note_test(store.version(subject.MODEL, OLD), {"latency_seconds": 0.1, "runtime_id": "venv app"})


def _prepare(content: bytes) -> Callable[[Path], object]:
    """What a swap does with a model that its runtime has prepared."""

    def keep(directory: Path) -> None:
        store = subject.store_of(directory)
        version = store.version(subject.MODEL, OLD)
        with store.work_directory() as work:
            for name in ("model.onnx", "model.onnx.data"):
                with with_path(os.path.join(work, name)):
                    Path(work, name).write_bytes(content)
            files = store.adopt_prepared(work, ("model.onnx", "model.onnx.data"))
        prepared = PreparedModel("runtime 1", processor_id(), files[0].path, {"prepacking": "no"}, files)
        store.keep_prepared(version, {"runtime_id": "venv app", "prepared": prepared.document}, files)

    return keep


def _rubbish(directory: Path) -> None:
    """What a killed swap left in staging."""
    staging = directory / "store" / "staging" / "digits@9.9.9"
    staging.mkdir(parents=True)
    (staging / "model.onnx").write_bytes(b"half")
    os.link(staging / "model.onnx", staging.parent / ("0" * 64))


def _flip(version: str) -> Callable[[Path], object]:
    """Change one bit of a version's model; its blob is the same file."""

    def flip(directory: Path) -> None:
        path = _model_file(directory, version)
        content = bytearray(path.read_bytes())
        content[len(content) // 2] ^= 1
        path.chmod(0o600)
        path.write_bytes(content)

    return flip


def _lose(version: str) -> Callable[[Path], object]:
    return lambda directory: _model_file(directory, version).unlink()


def _model_file(directory: Path, version: str) -> Path:
    return Path(subject.store_of(directory).version(subject.MODEL, version).entrypoint_path)


_COMMITTED = (swap_to("0.9.0", trial_seconds=0), swap_to(OLD, trial_seconds=0), _hold("0.8.0"))
_ON_TRIAL = (*_COMMITTED, swap_to(NEW))

# Stages (blobs, a version's directory), prunes a version, switches, writes the journal, and begins a trial.
SWAP = Scenario("swap", OLD, NEW, _COMMITTED, swap_to(NEW))
SWAP_BY_DELTA = Scenario("swap by a delta", OLD, NEW, (*_COMMITTED, _as_delta(NEW, OLD)), swap_to(NEW))
SCENARIOS = (
    SWAP,
    Scenario("swap without a trial", OLD, NEW, _COMMITTED, swap_to(NEW, trial_seconds=0)),
    Scenario("first swap of a device", None, NEW, (), swap_to(NEW)),
    Scenario("swap to a version held", "0.9.0", OLD, (_COMMITTED[0], _hold(OLD)), swap_to(OLD)),
    Scenario("swap during a trial", NEW, NEXT, _ON_TRIAL, swap_to(NEXT)),
    Scenario("swap after a killed one", OLD, NEW, (*_COMMITTED, _killed_on_the_way_to(NEXT), _rubbish), swap_to(NEW)),
    Scenario("going back", OLD, "0.9.0", _COMMITTED, _back_from(OLD), undone=False),
    Scenario("revert of a trial", NEW, OLD, _ON_TRIAL, _back_from(NEW), undone=False),
    Scenario("revert by hand", NEW, OLD, _ON_TRIAL, _edgeml("revert", subject.MODEL), undone=False),
    Scenario("revert after crashes", NEW, OLD, (*_ON_TRIAL, _crash, _crash), _crash, undone=False),
    Scenario("commit of a trial", NEW, NEW, (*_COMMITTED, swap_to(NEW, trial_seconds=1e-9)), _edgeml("watch")),
    Scenario("removal", OLD, OLD, _COMMITTED, _without("0.8.0")),
    Scenario("note of a test", OLD, OLD, _COMMITTED, _note_test),
    Scenario("prepared model", OLD, OLD, (*_COMMITTED, _prepare(b"first" * 3000)), _prepare(b"second" * 3000)),
    SWAP_BY_DELTA,
    Scenario("heal", OLD, OLD, (*_COMMITTED, _flip(OLD)), swap_to(OLD, verify="full"), damaged=OLD),
    Scenario(
        "recovery after a kill",
        OLD,
        OLD,
        (*_COMMITTED, _killed_on_the_way_to(NEW), _rubbish),
        subject.recover,
        fallback="0.9.0",
    ),
    Scenario("recovery in a trial", NEW, NEW, (*_ON_TRIAL, _restart), subject.recover, fallback=OLD),
    Scenario("recovery without files", "0.9.0", "0.9.0", (*_COMMITTED, _lose(OLD)), subject.recover, damaged=OLD),
)
# Those of the quick run: each writing path of the store is in one of them.
CHOSEN = tuple(
    scenario
    for scenario in SCENARIOS
    if scenario.name
    in (
        "swap",
        "first swap of a device",
        "swap during a trial",
        "revert of a trial",
        "swap by a delta",
        "heal",
        "prepared model",
        "recovery after a kill",
    )
)
