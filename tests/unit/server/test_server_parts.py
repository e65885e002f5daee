# Copyright (c) 2026, The edgeml.fleet authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The parts of the server that need no server: configuration, log lines, the pool."""

from __future__ import annotations

import asyncio
import json
import logging
import sys
import threading
from pathlib import Path
from typing import Any

import pytest
from edgeml_server.config import Config, ConfigError, parse_config, read_config
from edgeml_server.errors import UnavailableError
from edgeml_server.executor import InferenceExecutor
from edgeml_server.log import LineFormatter
from edgeml_server.memory import room
from edgeml_server.systemd import Notifier

MINIMAL = {"store": "/store", "socket": "/run/server.sock"}


def test_configuration_defaults() -> None:
    config = parse_config(MINIMAL)
    assert config == Config(store="/store", socket="/run/server.sock")
    assert (config.listen_address, config.listen_port, config.threads) == ("127.0.0.1", 8080, 1)
    assert (config.max_request_bytes, config.max_pending, config.drain_seconds) == (16777216, 64, 10)


def test_workers_follow_the_processors_unless_told() -> None:
    assert parse_config({**MINIMAL, "workers": 3}).inference_workers == 3
    assert parse_config({**MINIMAL, "threads": 1 << 20}).inference_workers == 1
    assert parse_config(MINIMAL).inference_workers >= 1


@pytest.mark.parametrize(
    ("document", "expected"),
    [
        ([], "expected an object; found list"),
        ({"store": "/store"}, "socket: missing"),
        ({**MINIMAL, "prot": 1}, "unknown key prot"),
        ({**MINIMAL, "listen_port": "8080"}, "listen_port: expected a whole number from 0 to 65535; found '8080'"),
        ({**MINIMAL, "listen_port": 65536}, "listen_port: expected"),
        ({**MINIMAL, "threads": 0}, "threads: expected a whole number from 1"),
        ({**MINIMAL, "threads": True}, "threads: expected"),
        ({**MINIMAL, "socket": ""}, "socket: expected a text"),
        (
            {**MINIMAL, "prediction_log_sample_percent": 101},
            "prediction_log_sample_percent: expected a number from 0 to",
        ),
        ({**MINIMAL, "prediction_log_inputs": "all"}, "prediction_log_inputs: expected one of summary, full; found"),
        ({**MINIMAL, "log_level": "loud"}, "log_level: expected one of debug, info, warning, error; found 'loud'"),
    ],
)
def test_a_wrong_configuration_names_the_key(document: Any, expected: str, tmp_path: Path) -> None:
    path = tmp_path / "server.json"
    path.write_text(json.dumps(document))
    with pytest.raises(ConfigError, match=r".") as caught:
        read_config(str(path))
    assert str(caught.value).startswith(f"{path}: ")
    assert expected in str(caught.value)


@pytest.mark.parametrize("content", [None, "{"])
def test_an_unreadable_configuration_names_the_file(content: str | None, tmp_path: Path) -> None:
    path = tmp_path / "server.json"
    if content is not None:
        path.write_text(content)
    with pytest.raises(ConfigError, match=r"server\.json"):
        read_config(str(path))


def log_line(journald: bool, message: str, **fields: object) -> str:
    try:
        raise ValueError("two\nlines")
    except ValueError:
        exception = sys.exc_info() if fields.pop("exception", False) else None
    record = logging.LogRecord("name", logging.ERROR, "file", 1, message, None, exception)
    record.fields = fields
    return LineFormatter(journald).format(record)


def test_log_lines() -> None:
    assert log_line(False, "it broke", model="a", seconds=1 / 3) == "error it broke model=a seconds=0.333333"
    assert log_line(True, "it broke", reason="a b") == '<3>it broke reason="a b"'
    assert log_line(True, "it\nbroke", a='"', b="x=y", c="") == r'<3>it broke a="\"" b="x=y" c=""'
    assert "\n" not in log_line(True, "it broke", exception=True)
    assert "ValueError: two" in log_line(True, "it broke", exception=True)


@pytest.mark.parametrize(
    ("files", "expected"),
    [
        ({}, (1000 << 10, "MemAvailable")),
        # The limit of the service counts, not its parents' larger ones; the inactive cache can be had.
        (
            {
                "proc/self/cgroup": "0::/system.slice/edgeml.service\n",
                "sys/fs/cgroup/system.slice/memory.max": "900000",
                "sys/fs/cgroup/system.slice/memory.current": "10",
                "sys/fs/cgroup/system.slice/edgeml.service/memory.max": "500000",
                "sys/fs/cgroup/system.slice/edgeml.service/memory.current": "450000",
                "sys/fs/cgroup/system.slice/edgeml.service/memory.stat": "anon 7\ninactive_file 1000\n",
            },
            (51_000, "the memory limit of the control group /system.slice/edgeml.service"),
        ),
        (
            {
                "proc/self/cgroup": "0::/a/b\n",
                "sys/fs/cgroup/a/memory.max": "100",
                "sys/fs/cgroup/a/memory.current": "150",
                "sys/fs/cgroup/a/b/memory.max": "max",
                "sys/fs/cgroup/a/b/memory.current": "150",
            },
            (0, "the memory limit of the control group /a"),
        ),
        (
            {
                "proc/self/cgroup": "4:memory:/docker\n1:cpu:/docker\n",
                "sys/fs/cgroup/memory/docker/memory.limit_in_bytes": "5000",
                "sys/fs/cgroup/memory/docker/memory.usage_in_bytes": "4000",
                "sys/fs/cgroup/memory/docker/memory.stat": "inactive_file 1\ntotal_inactive_file 500\n",
            },
            (1500, "the memory limit of the control group /docker"),
        ),
    ],
)
def test_the_memory_that_is_left(files: dict[str, str], expected: tuple[int, str], tmp_path: Path) -> None:
    for name, content in {"proc/meminfo": "MemTotal: 9 kB\nMemAvailable:    1000 kB\n", **files}.items():
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(content)
    assert room(str(tmp_path)) == expected


def nothing() -> None:
    pass


class Hanging:
    """A call that hangs until it is told to finish."""

    def __init__(self) -> None:
        self.started, self.finish = threading.Event(), threading.Event()

    def __call__(self) -> str:
        self.started.set()
        self.finish.wait()
        return "done"


def test_the_pool_is_bounded_and_knows_what_hangs() -> None:
    async def scenario() -> None:
        executor, hang = InferenceExecutor(workers=1, max_pending=2), Hanging()
        assert executor.longest_run_seconds() == 0
        first, second = executor.submit(hang, nothing), executor.submit(hang, nothing)
        hang.started.wait()
        assert (executor.pending, executor.waiting) == (2, 1)
        earlier = executor.longest_run_seconds()
        assert executor.longest_run_seconds() > earlier > 0
        with pytest.raises(UnavailableError, match="2 inferences are pending"):
            executor.submit(hang, nothing)
        hang.finish.set()
        assert (await first.result, await second.result) == ("done", "done")
        assert (executor.pending, executor.longest_run_seconds()) == (0, 0)
        executor.close()

    asyncio.run(scenario())


def test_a_job_that_fails_leaves_its_place() -> None:
    ended = []

    def fail() -> None:
        raise KeyError("reason")

    async def scenario() -> None:
        executor = InferenceExecutor(workers=1, max_pending=1)
        for count in range(1, 4):
            with pytest.raises(KeyError, match="reason"):
                await executor.submit(fail, lambda: ended.append(1)).result
            assert (executor.pending, len(ended)) == (0, count)
        executor.close()

    asyncio.run(scenario())


def test_what_is_withdrawn_does_not_run_and_keeps_its_place_in_the_queue() -> None:
    ended = []

    async def scenario() -> None:
        executor, hang = InferenceExecutor(workers=1, max_pending=2), Hanging()
        running = executor.submit(hang, lambda: ended.append("running"))
        hang.started.wait()
        waiting = executor.submit(hang, lambda: ended.append("waiting"))
        assert (running.withdraw(), waiting.withdraw(), waiting.withdraw()) == (False, True, False)
        assert (executor.pending, ended) == (2, ["waiting"])
        with pytest.raises(UnavailableError):
            executor.submit(hang, nothing)
        hang.finish.set()
        assert await running.result == "done"
        # The thread comes to its place before it comes to this.
        assert await executor.submit(hang, lambda: ended.append("last")).result == "done"
        assert (executor.pending, ended) == (0, ["waiting", "running", "last"])
        assert not waiting.result.done()
        executor.close()

    asyncio.run(scenario())


def test_closing_drops_what_did_not_start_and_waits_for_nothing() -> None:
    ended = []
    hang = Hanging()

    async def scenario() -> InferenceExecutor:
        executor = InferenceExecutor(workers=1, max_pending=3)
        executor.submit(hang, lambda: ended.append("running"))
        hang.started.wait()
        waiting = executor.submit(hang, lambda: ended.append("waiting"))
        executor.close()
        assert (executor.pending, ended) == (1, ["waiting"])
        with pytest.raises(asyncio.CancelledError):
            await waiting.result
        return executor

    executor = asyncio.run(scenario())
    # Its event loop is closed by now: nobody waits for the result, and the thread ends all the same.
    hang.finish.set()
    for thread in threading.enumerate():
        if thread.name.startswith("inference"):
            thread.join()
    assert (executor.pending, ended) == (0, ["waiting", "running"])


def test_as_many_threads_as_jobs_at_once_and_no_more_than_workers() -> None:
    async def scenario() -> None:
        executor, hangs = InferenceExecutor(workers=2, max_pending=3), [Hanging() for _ in range(3)]
        jobs = [executor.submit(hang, nothing) for hang in hangs]
        for hang in hangs[:2]:
            hang.started.wait()
        assert (executor.waiting, hangs[2].started.is_set()) == (1, False)
        for hang in hangs:
            hang.finish.set()
        assert [await job.result for job in jobs] == ["done"] * 3
        executor.close()

    asyncio.run(scenario())


def test_without_systemd_nothing_is_notified() -> None:
    notifier = Notifier({"WATCHDOG_USEC": "1000000"})
    assert notifier.watchdog_seconds == 0
    notifier.notify(READY="1")


def test_a_lost_notification_is_no_failure(caplog: pytest.LogCaptureFixture, tmp_path: Path) -> None:
    Notifier({"NOTIFY_SOCKET": str(tmp_path / "absent")}).notify(READY="1")
    assert "cannot notify systemd" in caplog.text
