# Copyright (c) 2026, The edgeml.fleet authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""A device that pulls by nginx: the poll, the mailbox and their failures; and by a git repository."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace

import pytest
from nginx import Nginx
from pulled import MODEL, PulledFleet, web_fleet

from ansible_collections.edgeml.fleet.plugins.module_utils._pull import memory as memory_module
from ansible_collections.edgeml.fleet.plugins.module_utils._pull.memory import Memory
from ansible_collections.edgeml.fleet.plugins.module_utils._pull.origin import LinkError, address, plain_body
from ansible_collections.edgeml.fleet.plugins.module_utils._release.desired import Ask
from ansible_collections.edgeml.fleet.plugins.plugin_utils._trust import keys

PROXY = """
log_format connections "$connection $status $scheme://$http_host$request_uri";
server {{
    listen 127.0.0.1:{port}; access_log {directory}/connections.log connections;
    if ($http_authorization != "Bearer let-me-in") {{ return 401; }}
    location / {{ proxy_pass {origin}; }}
}}
"""
ASK = Ask(1, "swap", f"{MODEL}-1.0.0-1", waves=[1])


@pytest.fixture
def web(tmp_path: Path) -> Iterator[PulledFleet]:
    with web_fleet(tmp_path) as fleet:
        fleet.publish(fleet.rollout("1.0.0"), ask=ASK)
        yield fleet


def test_reports_arrive_whole_in_their_order_and_once(web: PulledFleet) -> None:
    device = web.device()
    assert (device.poll().code, device.active) == (0, "1.0.0")
    first = web.reports()[0].sequence
    assert [(report.sequence, report.begun) for report in web.reports()] == [(first, True), (first + 1, False)]
    assert device.queued() == []
    names = sorted(path.name for path in (web.mailbox / "edge-1").iterdir())
    assert names == [f"{first}.json", f"{first + 1}.json"]


def test_a_report_that_arrived_before_the_device_was_killed_arrives_no_second_time(web: PulledFleet) -> None:
    device = web.device()
    device.poll()
    number = web.reports()[-1].sequence
    path = web.mailbox / "edge-1" / f"{number}.json"
    first = path.read_bytes()
    memory = Memory(device.document["state"])
    with memory.lock():
        memory.enqueue(number, b"another text", observation=False)
    device.poll()
    assert device.queued() == []
    assert path.read_bytes() == first


def test_reports_are_kept_while_the_mailbox_is_away(web: PulledFleet) -> None:
    device = web.device(sources=[f"file://{web.signed.path}"])
    web.stop()
    poll = device.poll()
    assert (poll.code, device.active, len(device.queued())) == (0, "1.0.0", 2)
    assert "reports are kept until the mailbox answers" in poll.errors
    web.start_web()
    device.poll()
    assert device.queued() == []
    first, second = (report.sequence for report in web.reports())
    assert second == first + 1


def test_a_device_that_lost_its_memory_reports_under_numbers_that_count(
    web: PulledFleet, monkeypatch: pytest.MonkeyPatch
) -> None:
    device = web.device()
    device.poll()
    last = max(report.sequence for report in web.reports())
    shutil.rmtree(device.document["state"])
    # Nobody flashes a device in less.
    later = time.time() + 60
    monkeypatch.setattr(memory_module, "time", SimpleNamespace(time=lambda: later))
    device.poll()
    assert [report.question for report in web.reports() if report.sequence > last] == [1, 1]


def test_a_device_writes_into_no_other_ones_directory(web: PulledFleet) -> None:
    device = web.device()
    device.document["device"] = "edge-2"
    poll = device.poll()
    assert ".json.part: HTTP status 403 of PUT" in poll.errors
    assert web.reports("edge-2") == []
    assert len(device.queued()) == 2


def test_an_origin_that_is_away_is_no_alarm_and_the_next_poll_goes_on(web: PulledFleet) -> None:
    device = web.device()
    web.stop()
    assert (device.poll().code, device.active) == (0, None)
    web.start_web()
    assert (device.poll().code, device.active) == (0, "1.0.0")


def test_files_that_are_missing_at_the_origin_are_fetched_by_the_next_poll(web: PulledFleet) -> None:
    device = web.device()
    blobs = web.signed.path / "blobs"
    blobs.rename(web.directory / "away")
    poll = device.poll()
    assert (poll.code, device.active) == (1, None)
    assert "not complete yet" in poll.errors
    assert [report.begun for report in web.reports()] == [True]
    (web.directory / "away").rename(blobs)
    assert (device.poll().code, device.active) == (0, "1.0.0")
    assert [report.begun for report in web.reports()][-1] is False


def test_a_device_behind_a_proxy_pulls_with_its_token_over_few_connections(web: PulledFleet, tmp_path: Path) -> None:
    """The poll, the metadata and the files go by the proxy; each of the three keeps its connection."""
    directory = tmp_path / "proxy"
    directory.mkdir()
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    proxy = Nginx(directory, PROXY.format(directory=directory, port=port, origin=web.url))
    token = tmp_path / "token"
    token.write_text("let-me-in\n")
    try:
        fetch = {"proxy": f"http://127.0.0.1:{port}", "token_file": str(token)}
        device = web.device(sources=["http://models.invalid"], fetch=fetch)
        poll = device.poll()
        assert (poll.code, device.active) == (0, "1.0.0"), poll
        before = device.snapshot()
        assert device.poll().code == 0
        assert device.snapshot() == before
    finally:
        proxy.stop()
    lines = [line.split(" ") for line in (directory / "connections.log").read_text().splitlines()]
    assert {status for _connection, status, _address in lines} <= {"200", "206", "404"}
    assert all(address.startswith("http://models.invalid/") for _connection, _status, address in lines)
    # Three of the first poll, one of the second.
    assert len({connection for connection, _status, _address in lines}) == 4
    # Without its token it is not let in, and that is no alarm.
    token.write_text("stranger\n")
    proxy = Nginx(directory, PROXY.format(directory=directory, port=port, origin=web.url))
    try:
        assert (device.poll().code, device.active) == (0, "1.0.0")
    finally:
        proxy.stop()


@pytest.mark.parametrize(
    ("reply", "expected"),
    [
        (b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}", b"{}"),
        (b"HTTP/1.1 302 Found\r\nContent-Length: 0\r\n\r\n", b""),
        (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nContent-Length: 2\r\n\r\n{}", b""),
        (b"HTTP/1.1 200 OK\r\n\r\n{}", b""),
    ],
)
def test_a_reply_that_is_not_plain_is_left_to_a_client_of_http(reply: bytes, expected: bytes) -> None:
    assert plain_body(reply, "http://x/") == expected


@pytest.mark.parametrize(
    "reply",
    [b"", b"SSH-2.0-x\r\n\r\n", b"HTTP/1.1 503 Busy\r\n\r\n", b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\n{}"],
)
def test_a_server_that_cannot_answer_is_a_link_that_is_away(reply: bytes) -> None:
    with pytest.raises(LinkError, match="http://x/: "):
        plain_body(reply, "http://x/")


@pytest.mark.parametrize(
    ("url", "expected"),
    [
        ("https://models.example/a/b", ("https", "models.example", 443, "/a/b")),
        ("http://models.example:8080/a", ("http", "models.example", 8080, "/a")),
        ("https://[::1]:8443/a", ("https", "::1", 8443, "/a")),
        ("http://[::1]/a", ("http", "::1", 80, "/a")),
    ],
)
def test_an_address_is_taken_apart(url: str, expected: tuple[str, str, int, str]) -> None:
    assert address(url) == expected


def test_an_address_with_a_wrong_port_is_named() -> None:
    with pytest.raises(LinkError, match="expected a number as the port"):
        address("http://x:http/a")


def test_a_device_that_was_away_for_three_releases_and_all_rotations_of_keys_follows(web: PulledFleet) -> None:
    device = web.device()
    device.poll()
    holders = web.signed.holders
    for number, version in enumerate(("2.0.0", "3.0.0", "4.0.0")):
        if version not in web.digests:
            web.release(version)
        for role in ("targets", "root"):
            new = [keys.generate(f"{role}-{number}-{holder}") for holder in (1, 2, 3)]
            web.signed.rotate(role, *new, threshold=2, also=[*getattr(holders, role)[:2], *holders.root[:2], *new[:2]])
            setattr(holders, role, new)
        before, web.key = web.key, keys.generate(f"controller-{number}")
        web.allow_fleet(remove=[before.name])
        web.publish(web.rollout(version), web.rollout("1.0.0"))
    poll = device.poll()
    assert (poll.code, device.active) == (0, "4.0.0"), poll
    assert device.store.state(MODEL).previous == "1.0.0"
    assert [report.version for report in web.reports()][-1] == "4.0.0"


# ---- git ----


class Git:
    """A git repository with the model repository in it, whose commits are signed by an SSH key."""

    def __init__(self, fleet: PulledFleet) -> None:
        self.path = fleet.signed.path
        self.directory = fleet.directory
        self.key("ops")
        self.signers = self.directory / "allowed_signers"
        self.signers.write_text(f"ops {(self.directory / 'ops.pub').read_text()}")
        self.run("init", "--quiet", "--initial-branch=main")
        self.commit("first")

    def key(self, name: str) -> None:
        path = str(self.directory / name)
        subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", name, "-f", path], check=True)

    def run(self, *arguments: str) -> None:
        configured = ["-c", "user.name=ops", "-c", "user.email=ops", "-c", "gpg.format=ssh"]
        subprocess.run(
            ["git", *configured, *arguments],
            cwd=self.path,
            check=True,
            env={"PATH": os.environ["PATH"], "HOME": str(self.directory), "GIT_CONFIG_NOSYSTEM": "1"},
        )

    def commit(self, message: str, key: str | None = "ops") -> None:
        self.run("add", "--all")
        signed = ["-c", f"user.signingkey={self.directory / key}", "commit", "--gpg-sign"] if key else ["commit"]
        self.run(*signed, "--quiet", "--allow-empty", "--message", message)


def test_a_device_follows_signed_commits_of_a_git_repository(tmp_path: Path) -> None:
    fleet = PulledFleet(tmp_path)
    fleet.publish(fleet.rollout("1.0.0"))
    git = Git(fleet)
    device = fleet.device(sources=[f"git+file://{git.path}#main"], allowed_signers=str(git.signers), mailbox=None)
    poll = device.poll()
    assert (poll.code, device.active) == (0, "1.0.0"), poll
    before = device.snapshot()
    assert device.poll().code == 0
    assert device.snapshot() == before

    fleet.publish(fleet.rollout("2.0.0"))
    git.commit("nobody signed this", key=None)
    poll = device.poll()
    assert (poll.code, device.active) == (1, "1.0.0")
    assert "is not signed by a key of" in poll.errors
    git.key("eve")
    git.commit("a stranger signed this", key="eve")
    assert (device.poll().code, device.active) == (1, "1.0.0")
    git.commit("ops signed this")
    assert (device.poll().code, device.active) == (0, "2.0.0")

    git.run("reset", "--quiet", "--soft", "HEAD~1")
    fleet.publish(fleet.rollout("1.0.0"))
    git.commit("another history")
    poll = device.poll()
    assert (poll.code, device.active) == (1, "2.0.0")
    assert "does not follow" in poll.errors
    away = fleet.device("edge-2", sources=["git+file:///nowhere/at-all"], allowed_signers=str(git.signers))
    assert away.poll().code == 0
