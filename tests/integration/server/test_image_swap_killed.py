# Copyright (c) 2026, The edgeml.fleet authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A swap of the server's image that is killed at any of its steps: the device puts it right, and no request is lost."""

from __future__ import annotations

import os
import re
import signal
import sys
import threading
import uuid
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from docker_service import DOCKER, PODMAN, UNIT, loaded_image, running_service
from edgeml_device._device.cli import main
from image_device import NAME, ImageDevice
from load import OK, Load
from server_process import plus_input
from user_manager import SYSTEMD

INFER = "/v2/models/plus/infer"
REQUEST = {"inputs": [plus_input([1, 2])]}
REQUESTS_PER_SECOND = 20
OLD, NEW = "1.1.0", "1.2.0"
# How long after a program was started the swap is killed, where it is killed while that runs.
LATER_SECONDS = 0.4
# A step that comes more often is killed at its first times only.
TIMES = 2
# What only asks: killed there, a swap has done what it had done before it asked.
_ASKS = re.compile(r"^(docker|podman) (ps|info|inspect|image ls|image inspect) |^systemctl (show|is-active) ")
# Whoever is only slow is not ended meanwhile.
WATCHDOG_SECONDS = 240
# Python's audit events of changes to a directory, and which of their arguments is the name that does not change.
_CHANGES = {"os.rename": 1, "os.link": 1, "os.symlink": 1}

pytestmark = [
    pytest.mark.skipif(not Path(SYSTEMD).exists(), reason="needs systemd's program"),
    pytest.mark.runners,
]


class Step(NamedTuple):
    """The ``number``-th time that a swap does something: it starts a program, or it changes a directory."""

    text: str
    number: int
    later: bool = False
    """Whether the program that it starts has run for a while."""


@pytest.fixture(scope="module", params=[DOCKER, PODMAN])
def device(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[ImageDevice]:
    """A device that serves ``plus`` from the image of release OLD, and holds NEW."""
    directory = tmp_path_factory.mktemp("device")
    with (
        pytest.MonkeyPatch.context() as patch,
        loaded_image(request.param, directory) as image,
        running_service(image, directory, request.param, WATCHDOG_SECONDS) as service,
    ):
        device = ImageDevice.make(service, directory, patch)
        for version, state in ((OLD, "active"), (NEW, "present")):
            built = device.build(version, app=uuid.uuid4().bytes)
            result = device.swap(version, device.publish(built, version), state=state)
            assert not result.get("failed"), result
        yield device


def test_an_image_swap_that_is_killed_at_any_step_is_put_right(device: ImageDevice, tmp_path: Path) -> None:
    references = {OLD: device.running()}
    steps = [Step(text, number) for text, count in swap(device).items() for number in range(1, min(count, TIMES) + 1)]
    references[NEW] = device.running()
    assert references[NEW] != references[OLD]
    steps += [
        step._replace(later=True) for step in steps if step.text.startswith(("systemctl", "docker load", "podman load"))
    ]
    outcomes: Counter[str] = Counter()
    failures = []
    for step in steps:
        put_back(device)
        device.service.manager.call("reset-failed", UNIT)  # counts its restarts from here
        with Load(tmp_path, device.service.device.port, INFER, REQUEST, REQUESTS_PER_SECOND) as load:
            found = swap(device, step)
            service = device.service.device
            assert main(["watch", "--store", service.store.root, "--server", service.socket_path]) == 0
        state = device.service.device.store.state(NAME)
        restarts = device.service.manager.shown(UNIT, "NRestarts")
        lost = [request for request in load.requests if request.status != OK]
        problems = {
            "not killed": step.text in found,
            f"{len(lost)} of {len(load.requests)} requests lost": lost,
            f"{state.active} is active, {device.running()} runs": device.running() != references[str(state.active)],
            f"containers: {device.containers()}": device.containers() != [device.service.container.name],
            f"counts as failed: {state.failed}": state.failed,
            f"trial: {state.trial}": state.trial,
            # What gives way to the bridge ends, and systemd may be the first to start it again.
            f"restarted {restarts} times": int(restarts) > 1,
        }
        print(f"{step}: {state.active}", flush=True)
        failures += [f"{step}: {text}" for text, is_so in problems.items() if is_so]
        outcomes[str(state.active)] += 1
    assert not failures, "\n".join(failures)
    print(f"{len(steps)} kills: {dict(outcomes)}")


def put_back(device: ImageDevice) -> None:
    """Have the device serve OLD."""
    if device.service.device.store.state(NAME).active != OLD:
        result = device.swap(OLD, retry=True, trial_seconds=0.0)
        assert not result.get("failed"), result


def swap(device: ImageDevice, killed_at: Step | None = None) -> Counter[str]:
    """Swap to NEW in a process of its own, which is killed at a step. Returns how often it came to each step, of one
    that was not killed."""
    reader, writer = os.pipe()
    child = os.fork()
    if child == 0:
        code = 1
        try:
            steps = _count_steps(killed_at)
            result = device.swap(NEW, trial_seconds=0.0)
            os.write(writer, "\n".join(steps.elements()).encode())
            code = 1 if result.get("failed") else 0
        finally:
            os._exit(code)
    os.close(writer)
    with os.fdopen(reader) as told:
        text = told.read()
    _pid, status = os.waitpid(child, 0)
    ended = -os.WTERMSIG(status) if os.WIFSIGNALED(status) else os.WEXITSTATUS(status)
    assert ended in (0, -signal.SIGKILL), ended
    return Counter(text.splitlines())


def _count_steps(killed_at: Step | None) -> Counter[str]:
    """Count the steps of this process from here on, and kill it at one of them."""
    steps: Counter[str] = Counter()
    kill = threading.Timer(LATER_SECONDS, os.kill, (os.getpid(), signal.SIGKILL))
    kill.daemon = True

    def heard(event: str, arguments: tuple[Any, ...]) -> None:
        text = _told(event, arguments)
        if text is None:
            return
        steps[text] += 1
        if killed_at is None or (text, steps[text]) != killed_at[:2]:
            return
        if killed_at.later:
            kill.start()
        else:
            os.kill(os.getpid(), signal.SIGKILL)

    sys.addaudithook(heard)
    return steps


def _told(event: str, arguments: tuple[Any, ...]) -> str | None:
    """What Python's own audit event says that is a step, without what is not the same in each run."""
    if event == "subprocess.Popen":
        program, words = arguments[:2]
        text = " ".join([os.path.basename(program), *(os.fspath(word) for word in words[1:])])
        return None if _ASKS.search(text) else re.sub(r"edgeml-test-\d+", "edgeml-test", text)
    if event in _CHANGES:
        return f"{event} {os.path.basename(os.fspath(arguments[_CHANGES[event]]))}"
    return None
