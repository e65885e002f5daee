# Copyright (c) 2026, The edgeml.fleet authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Which failures of a connection are tried again, and for how long."""

from __future__ import annotations

import itertools

import pytest
from ansible.errors import AnsibleConnectionFailure

from ansible_collections.edgeml.fleet.plugins.plugin_utils._links import is_away, never_connected, patiently

FAILED = "Failed to connect to the host via ssh: "
# As Ansible and OpenSSH 9 say it.
SLOW = (
    "Timeout (12s) waiting for privilege escalation prompt: ",
    f"{FAILED}Connection timed out during banner exchange\nConnection to 127.0.0.1 port 2201 timed out",
    f"{FAILED}kex_exchange_identification: Connection closed by remote host\nConnection closed by 127.0.0.1 port 2201",
    f"{FAILED}ssh: connect to host 10.0.0.7 port 22: Connection reset by peer",
    f"{FAILED}client_loop: send disconnect: Broken pipe",
    # A key that cannot be read, beside one that was taken.
    f'{FAILED}Load key "/home/ops/.ssh/old": Permission denied\r\nclient_loop: send disconnect: Broken pipe',
    f"{FAILED}Connection to 10.0.0.7 closed by remote host.",
    f"{FAILED}Shared connection to 10.0.0.7 closed.",
)
AWAY = (
    f"{FAILED}ssh: connect to host 10.0.0.7 port 22: Connection refused",
    f"{FAILED}ssh: connect to host 10.0.0.7 port 22: Connection timed out",
    f"{FAILED}ssh: connect to host 10.0.0.7 port 22: No route to host",
    f"{FAILED}ssh: Could not resolve hostname edge-1: Name or service not known",
    f"{FAILED}ops@10.0.0.7: Permission denied (publickey).",
    f"{FAILED}Host key verification failed.",
    f"{FAILED}No ED25519 host key is known for edge-1 and you have asked\r\nHost key verification failed.",
    f'{FAILED}Load key "/home/ops/.ssh/id": error in libcrypto\r\nops@10.0.0.7: Permission denied (publickey).',
    f"{FAILED}Unable to negotiate with 10.0.0.7 port 22: no matching host key type found. Their offer: ssh-rsa",
    # Behind a jump host, with ControlPersist and without.
    f"{FAILED}kex_exchange_identification: Connection closed by remote host\r\nConnection closed by UNKNOWN port 65535",
    f"{FAILED}channel 0: open failed: connect failed: No route to host\r\nstdio forwarding failed",
    # The controller's own ssh.
    f"{FAILED}command-line: line 0: Bad configuration option: nosuchoption",
    f"{FAILED}Bad owner or permissions on /home/ops/.ssh/config",
    f"{FAILED}Can't open user config file /home/ops/ssh_config: No such file or directory",
    f"{FAILED}ControlPath too long ('/home/ops/.ansible/cp/123c084d92' >= 108 bytes)",
    "Incorrect sudo password",
)


class Time:
    """A clock that only sleeping moves."""

    def __init__(self) -> None:
        self.now = 0.0
        self.pauses: list[float] = []

    def sleep(self, seconds: float) -> None:
        self.pauses.append(seconds)
        self.now += seconds


def fail(messages: tuple[str, ...]) -> list[str]:
    """The messages of the failures that came, until ``patiently`` gave up or there were no more."""
    raised = []
    time = Time()
    endless = itertools.cycle(messages)

    def attempt() -> None:
        raised.append(next(endless))
        raise AnsibleConnectionFailure(raised[-1])

    with pytest.raises(AnsibleConnectionFailure):
        patiently(attempt, 100, "edge-1", lambda: time.now, time.sleep)
    return raised


@pytest.mark.parametrize("message", SLOW)
def test_a_slow_device_is_tried_again_for_a_bounded_time(message: str) -> None:
    assert not is_away(message)
    # At 0, 2, 6, 14, 30, 60 and 90 s.
    assert fail((message,)) == [message] * 7


# The connection stood, so a command may have begun.
BROKEN = [message for message in SLOW if "Broken pipe" in message or "closed." in message or "remote host." in message]


@pytest.mark.parametrize("message", [*SLOW, *AWAY, "[Errno 32] Broken pipe", f"{FAILED}something new"])
def test_a_command_may_have_begun_where_a_connection_stood(message: str) -> None:
    assert never_connected(message) != (message in BROKEN or "new" in message)


@pytest.mark.parametrize("message", AWAY)
def test_a_device_that_is_away_is_not(message: str) -> None:
    assert is_away(message)
    assert fail((message,)) == [message]


def test_a_device_that_is_away_may_be_given_a_shorter_time() -> None:
    time = Time()

    def attempt() -> None:
        raise AnsibleConnectionFailure(AWAY[0])

    with pytest.raises(AnsibleConnectionFailure):
        patiently(attempt, 100, "edge-1", lambda: time.now, time.sleep, away_seconds=15)
    assert time.pauses == [2, 4, 8]


def test_a_device_that_was_there_starts_again_and_is_waited_for() -> None:
    """What it was asked took ten minutes before the power was cut; nobody listens until it has started."""
    time = Time()

    def attempt() -> None:
        time.now += 600 if not time.pauses else 0
        raise AnsibleConnectionFailure(AWAY[0])

    with pytest.raises(AnsibleConnectionFailure):
        patiently(attempt, 100, "edge-1", lambda: time.now, time.sleep, away_seconds=15, was_there=lambda: True)
    assert time.pauses == [2, 4, 8, 16, 30, 30]


def test_the_first_success_counts() -> None:
    time = Time()
    outcomes = iter([AnsibleConnectionFailure(SLOW[0]), AnsibleConnectionFailure(SLOW[1]), None])

    def attempt() -> str:
        outcome = next(outcomes)
        if outcome is not None:
            raise outcome
        return "done"

    assert patiently(attempt, 100, "edge-1", lambda: time.now, time.sleep) == "done"
    assert time.pauses == [2, 4]


def test_another_error_is_no_matter_of_the_link() -> None:
    def attempt() -> None:
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        patiently(attempt, 100, "edge-1", sleep=lambda _seconds: pytest.fail("it waits"))
