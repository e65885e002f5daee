# Copyright (c) 2026, The edgeml.fleet authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""How a device is asked: by a request to its command where that has the controller's code, and else by a module."""

from __future__ import annotations

import base64
import json
import os
import re
import shlex
import signal
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from controller import DIGITS, Ansible
from device import GUARD_SECONDS, Device
from releases import make_release, publish, read_release

from ansible_collections.edgeml.fleet.plugins.module_utils._common.code import code_digest

CODE = json.dumps({"edgeml_code": code_digest()})
COMMAND = "/usr/local/bin/edgeml call"


class Asked:
    """A device, and what its Python was called for: it logs each module that Ansible runs."""

    def __init__(self, device: Device, directory: Path) -> None:
        self.device = device
        self.directory = directory
        self._modules = directory / "modules"
        python = directory / "python"
        python.write_text(f'#!/bin/sh\necho >>{self._modules}\nexec {shlex.quote(sys.executable)} "$@"\n')
        python.chmod(0o755)
        device.python = str(python)
        self._ansible: Ansible | None = None

    @property
    def modules(self) -> int:
        """How often a module was run, in all."""
        return len(self._modules.read_text().splitlines()) if self._modules.exists() else 0

    def install(self, *lines: str) -> None:
        """Have a shell script in the place of the command."""
        self.device.install_command(program="\n".join(["#!/bin/sh", *lines, ""]))

    def tasks(self, *tasks: dict[str, Any]) -> list[dict[str, Any]]:
        """Run tasks on the device; return their results."""
        self._ansible = self._ansible or Ansible(self.directory, [self.device])
        return self._ansible.tasks(*tasks)


@pytest.fixture
def asked(machines: dict[str, Device], tmp_path: Path) -> Asked:
    """A device that serves 1.0.0."""
    device = machines["edge-s1"]
    device.reset()
    device.serve(read_release(DIGITS, "digits", "1.0.0"))
    return Asked(device, tmp_path)


def swap(version: str = "1.1.0", **arguments: Any) -> dict[str, Any]:
    common = {"model": "digits", "version": version, "min_ready_seconds": 0, "trial_seconds": 0}
    return {"edgeml.fleet.model_swap": {**common, "repository": str(DIGITS), **arguments}}


def info(**arguments: Any) -> dict[str, Any]:
    return {"edgeml.fleet.model_info": {"model": "digits", **arguments}}


# ---- both ways give the same ----


def alike(value: Any) -> Any:
    """A result without what two devices cannot have in common: times, sizes of memory."""
    if isinstance(value, dict):
        return {
            name: type(item).__name__ if name.endswith(("seconds", "_bytes", "accuracy")) else alike(item)
            for name, item in value.items()
        }
    if isinstance(value, list):
        return [alike(item) for item in value]
    if isinstance(value, str):
        return re.sub(r"\d{4}-\d\d-\d\dT[\d:]{8}Z|\d{7,}|\b\d+ s\b", "…", value)
    return type(value).__name__ if isinstance(value, float) else value


def differences(one: Any, other: Any, path: str = "") -> Iterator[str]:
    """Where two results differ, and how."""
    if isinstance(one, dict) and isinstance(other, dict):
        for name in sorted({*one, *other}):
            yield from differences(one.get(name, "nothing"), other.get(name, "nothing"), f"{path}.{name}")
    elif isinstance(one, list) and isinstance(other, list) and len(one) == len(other):
        for number, (item, beside) in enumerate(zip(one, other, strict=True)):
            yield from differences(item, beside, f"{path}[{number}]")
    elif one != other:
        yield f"{path}: {one!r} and {other!r}"


@pytest.mark.both_ways
def test_both_ways_return_the_same(machines: dict[str, Device], tmp_path: Path) -> None:
    """Check, run and again, with diff; refusals, failures, wrong arguments; and what was asked, in ``invocation``."""
    life = [
        swap("1.0.0", rollout_id="r-1", reason="first", trial_seconds=60, trial_limits={"crashes_max": "3"}),
        swap(),
        swap("1.1.0", state="previous", repository=None),
        swap("1.1.0", state="absent", repository=None),
        swap("1.0.0", state="previous", repository=None, retry=True),
        swap("1.1.0", state="absent", repository=None),
    ]
    refused = [
        swap("1.2.0", repository=None),
        swap("9.9.9"),
        swap("../x", repository=None),
        swap(min_ready_seconds="nan"),
        swap(trial_limits={"crashes_max": 10**9}),
        swap(headroom_percent="a lot"),
        swap(unheard_of=1),
        {"edgeml.fleet.model_swap": {"version": "1.1.0"}},
        info(model="../x"),
    ]
    tasks = [{**step, "check_mode": check, "diff": True} for step in life for check in (True, False, True, False)]
    tasks += [*refused, info(probe="yes", history="5"), info(model=None, history=1)]
    found = []
    for way in ("request", "module"):
        device = machines["edge-s1"]
        device.stop_server()
        device.reset()
        if way == "module":
            device.remove_command()
        (tmp_path / way).mkdir()
        asked = Asked(device, tmp_path / way)
        found.append(alike(asked.tasks(*tasks)))
        # What the argument spec refuses, the module says.
        assert (asked.modules < 10) == (way == "request")
    assert list(differences(*found)) == []


def test_neither_a_python_for_modules_nor_a_temporary_directory_is_needed(asked: Asked) -> None:
    asked.device.python = "/nonexistent/python"
    ansible = Ansible(asked.directory, [asked.device])
    swapped, told = ansible.tasks(swap(), info())
    assert (swapped["live"], told["model"]["live"]) == ("1.1.0", "1.1.0")
    assert not (ansible.directory / "remote-tmp").exists()


def _device_files(version: str) -> set[str]:
    """The digests of the files that a device holds of a version of the digits."""
    release = read_release(DIGITS, "digits", version).release
    return {file.sha256 for file in release.files(release.variants[0])}


def test_a_swap_sends_what_the_device_lacks_and_nothing_when_it_has_it(asked: Asked) -> None:
    log = asked.directory / "requests"
    asked.install(f"tee -a {log} | {Device.command()}")
    first, again = asked.tasks(swap(), swap())
    assert (first["live"], first["changed"], again["changed"]) == ("1.1.0", True, False)
    requests = [json.loads(line) for line in log.read_text().replace("}{", "}\n{").splitlines()]
    brought = [sorted(request["arguments"].get("inline_blobs", {})) for request in requests]
    missing = sorted(_device_files("1.1.0") - _device_files("1.0.0"))
    assert brought == [[], missing, []]
    assert asked.modules == 0


def test_what_needs_a_temporary_directory_that_is_not_there_is_refused_with_the_live_version(asked: Asked) -> None:
    repository = asked.directory / "repository"
    model = read_release(DIGITS, "digits", "1.1.0").blobs
    files = {"model.onnx": max(model.values(), key=len), "extra": b"x" * 100_000}
    publish(make_release("2.0.0", files=files), repository)
    nowhere = {"vars": {"ansible_remote_tmp": "/proc/nowhere"}}
    small, large = asked.tasks({**swap(), **nowhere}, {**swap("2.0.0", repository=str(repository)), **nowhere})
    assert small["live"] == "1.1.0", "what comes with a call needs no directory"
    assert large["failed"] is True
    assert (large["refused"], large["live"]) == (True, "1.1.0")
    assert large["msg"].startswith("the blobs could not be sent: ")
    assert large["msg"].endswith("Live now: 1.1.0")
    assert "unreachable" not in large
    assert asked.device.versions() == ("1.1.0", "1.1.0", "1.0.0")


# ---- where the module is sent ----


@pytest.mark.parametrize(
    "install",
    [
        lambda asked: asked.device.remove_command(),
        lambda asked: asked.device.install_command(code="0" * 64),
        lambda asked: asked.device.install_command(program="#!/nonexistent/python\n"),
        lambda asked: asked.device.install_command(program="#!/usr/bin/python3\nimport nothing_of_that_name\n"),
        lambda asked: asked.device.install_command(program="#!/usr/bin/python3\nthis is no Python\n"),
        lambda asked: asked.install("exit 1"),
        lambda asked: asked.install("kill -9 $$"),
        lambda asked: asked.install("head -c 300000 /dev/zero"),
        lambda asked: asked.install("echo '{\"changed\": false}'"),
        lambda asked: asked.install(f"echo '{json.dumps({'edgeml_code': '0' * 64})}'"),
        lambda asked: asked.install("echo '{\"edgeml_code\": null}'"),
    ],
    ids=[
        "none",
        "other code",
        "no interpreter",
        "broken import",
        "no Python",
        "fails",
        "killed before",
        "rubbish",
        "no code",
        "other code said",
        "code unknown",
    ],
)
def test_a_command_that_does_not_take_requests_is_none(asked: Asked, install: Any) -> None:
    install(asked)
    swapped, told = asked.tasks(swap(), info())
    assert (swapped["live"], told["model"]["live"]) == ("1.1.0", "1.1.0")
    assert asked.device.events() == [("activate", None, "1.0.0"), ("activate", "1.0.0", "1.1.0")]
    assert asked.modules >= 2


def test_a_module_in_the_background_is_one(asked: Asked) -> None:
    directory = {"ansible_async_dir": str(asked.directory / "async")}
    (told,) = asked.tasks({**info(), "async": GUARD_SECONDS, "poll": 1, "vars": directory})
    assert told["model"]["live"] == "1.0.0"
    assert asked.modules > 0


# ---- what is around the answer ----


def test_noise_around_an_answer_is_passed_over(asked: Asked) -> None:
    asked.install(
        "echo 'Welcome to the line; {\"edgeml_result\": {}} is no answer'",
        'echo \'{"edgeml_result": {"changed": true, "failed": true, "msg": "too early"}}\'',
        "printf 'no end of line\\r\\n'",
        f"{Device.command()} | sed 's/$/\\r/'",
        'echo \'{"level": "info"}\'',
        "echo 'Segmentation fault' >&2",
        "exit 3",
    )
    (told,) = asked.tasks(info())
    assert told["model"]["live"] == "1.0.0"
    assert not told.get("failed")
    assert asked.modules == 0


def test_the_environment_of_the_task_reaches_the_command(asked: Asked) -> None:
    asked.install(f'echo "$SITE" >{asked.directory}/site', "exit 1")
    asked.tasks({**info(), "environment": {"SITE": "hall 3"}})
    assert (asked.directory / "site").read_text() == "hall 3\n"


# ---- a password for become ----

_BECOME = """\
#!/bin/sh
# As sudo does it: asks for a password, and reads a line from its standard input.
while :; do
    case $1 in
        -p) printf '%s' "$2" >&2; shift 2 ;;
        -u) shift 2 ;;
        -*) shift ;;
        *) break ;;
    esac
done
read -r password
[ "$password" = "of the device" ] || exit 1
exec "$@"
"""


@pytest.mark.parametrize("pipelining", [True, False])
def test_a_password_for_become_comes_before_the_request(asked: Asked, pipelining: bool) -> None:
    """Without pipelining Ansible gives such a command a terminal, where no request can follow: the module is sent."""
    become = asked.directory / "become"
    become.write_text(_BECOME)
    become.chmod(0o755)
    variables = {
        "ansible_become": True,
        "ansible_become_exe": str(become),
        "ansible_become_password": "of the device",
        "ansible_pipelining": pipelining,
    }
    swapped, told = asked.tasks({**swap(), "vars": variables}, {**info(), "vars": variables})
    assert (swapped["live"], told["model"]["live"]) == ("1.1.0", "1.1.0")
    assert (asked.modules == 0) == pipelining


# ---- a command that does not come to its end ----


def test_a_command_that_dies_once_it_has_begun_is_not_begun_again(asked: Asked) -> None:
    asked.install(f"echo '{CODE}'", "echo 'out of luck' >&2", "exec sh -c 'kill -9 $$'")
    for result in asked.tasks(swap(), info()):
        assert result["failed"] is True
        assert result["msg"].startswith(f"{COMMAND} ended with code ")
        assert result["rc"] in (137, -9)
        assert "out of luck" in result["module_stderr"]
    assert asked.modules == 0


def test_a_call_that_is_killed_in_the_middle_is_recovered_by_the_next(asked: Asked) -> None:
    device = asked.device

    def kill() -> None:
        while device.live != "1.1.0":
            time.sleep(0.02)
        for process in device.calls():
            os.kill(process, signal.SIGKILL)

    accident = threading.Thread(target=kill)
    accident.start()
    killed, check, again = asked.tasks(swap(min_ready_seconds=GUARD_SECONDS), {**swap(), "check_mode": True}, swap())
    accident.join()
    assert killed["failed"] is True
    assert killed["rc"] in (137, -9)
    assert (check["before"]["active"], check["after"]["active"], check["changed"]) == ("1.1.0", "1.1.0", True)
    assert (again["live"], again["changed"]) == ("1.1.0", True)
    assert [event for event, _before, _after in device.events()] == ["activate", "activate", "interrupted", "activate"]
    assert asked.modules == 0


def test_two_calls_at_once_are_one_after_the_other(asked: Asked) -> None:
    results: list[dict[str, Any]] = []

    def run(number: int) -> None:
        directory = asked.directory / str(number)
        directory.mkdir()
        results.extend(Ansible(directory, [asked.device]).tasks(swap(min_ready_seconds=2)))

    runs = [threading.Thread(target=run, args=(number,)) for number in range(2)]
    for thread in runs:
        thread.start()
    for thread in runs:
        thread.join()
    assert sorted(result["changed"] for result in results) == [False, True]
    assert [result["live"] for result in results] == ["1.1.0", "1.1.0"]
    assert asked.device.events() == [("activate", None, "1.0.0"), ("activate", "1.0.0", "1.1.0")]


def test_a_task_that_takes_too_long_is_ended_as_ansible_ends_it(asked: Asked) -> None:
    # A busy machine may take longer than the first time-outs until the call has begun.
    left: list[int] = []
    seconds = 6.0
    while not left and seconds < 10 * GUARD_SECONDS:
        (result,) = asked.tasks({**swap(min_ready_seconds=1200), "timeout": seconds})
        left = asked.device.calls()
        seconds *= 2
    for process in left:
        os.kill(process, signal.SIGKILL)
    assert result["failed"] is True
    assert len(left) == 1
    assert asked.modules == 0


# ---- a device that lies ----


@pytest.mark.parametrize(
    "lie",
    [
        "not JSON",
        "[]",
        "{}",
        '{"changed": "yes"}',
        '{"changed": false, "ansible_facts": {"ansible_host": "elsewhere"}}',
        '{"changed": false, "add_host": {"host_name": "elsewhere"}}',
        '{"changed": false, "_ansible_no_log": true}',
        '{"changed": false, "missing_blobs": {"sha256": "a"}}',
        '{"changed": false, "missing_blobs": [{"path": "a", "size": 1, "sha256": ["a"]}]}',
        '{"changed": false, "missing_blobs": [{"path": "a"}]}',
        "[" * 100_000,
    ],
)
def test_an_answer_that_cannot_be_is_none(asked: Asked, lie: str) -> None:
    answer = asked.directory / "answer"
    answer.write_text(f'{CODE}\n{{"edgeml_result": {lie}}}\n')
    asked.install(f"cat {answer}")
    (result,) = asked.tasks(swap())
    assert result["failed"] is True
    assert result["changed"] is False
    assert result["msg"].endswith("; see module_stderr and module_stdout")
    # Ansible adds some of its own.
    told = {"failed", "changed", "msg", "rc", "module_stdout", "module_stderr", "model", "version", "live", "refused"}
    assert set(result) - {"action", "exception", "_ansible_no_log"} == told
    assert result["_ansible_no_log"] is False
    # It took the request, so nobody knows what became of it.
    assert (result["live"], result["refused"]) == (None, False)
    assert asked.modules == 0


def test_an_answer_that_is_too_long_is_none(asked: Asked) -> None:
    asked.install(
        f"echo '{CODE}'", 'printf \'{"edgeml_result": {"msg": "\'', "head -c 17M /dev/zero | tr '\\0' x", "echo '\"}}'"
    )
    (result,) = asked.tasks(info())
    assert result["failed"] is True
    assert len(json.dumps(result)) < 10_000


@pytest.mark.parametrize("way", ["request", "module"])
def test_a_device_gets_nothing_but_the_release_whatever_it_claims_to_lack(asked: Asked, way: str) -> None:
    secret = asked.directory / "secret"
    secret.write_text("of the controller")
    received, answer = asked.directory / "received", asked.directory / "answer"
    if way == "request":
        asked.install(f"cat >>{received}", f"cat {answer}")
    else:
        asked.device.remove_command()
        hostile = asked.directory / "hostile"
        hostile.write_text(f"#!/bin/sh\ncat >>{received}\ncat {answer}\n")
        hostile.chmod(0o755)
        asked.device.python = str(hostile)
    for sha in ("../../secret", str(secret), "0" * 64):
        missing = {
            "changed": False,
            "missing_blobs": [{"path": "model.onnx", "size": 17, "sha256": sha, "held_bytes": 0, "held_deltas": {}}],
        }
        answer.write_text(
            f"{CODE}\n{json.dumps({'edgeml_result': missing})}\n" if way == "request" else json.dumps(missing)
        )
        (result,) = asked.tasks(swap())
        assert result["failed"] is True
        assert result["msg"].startswith("The device lacks 1 blobs of digits 1.1.0")
    sent = received.read_text()
    assert "unavailable_blobs" in sent or way == "request"
    for text in ("of the controller", base64.b64encode(b"of the controller").decode()):
        assert text not in sent
    assert list(asked.directory.rglob("secret")) == [secret]
    assert asked.modules == 0
