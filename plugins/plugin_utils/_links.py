# Copyright (c) 2026, The edgeml.fleet authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# PRIVATE to the collection edgeml.fleet: no stable interface.

"""Connections that fail now and then: a slow device or a bad link is no device that is away."""

from __future__ import annotations

import re
import time
from typing import Callable, TypeVar

from ansible.errors import AnsibleConnectionFailure
from ansible.utils.display import Display

PAUSE_SECONDS = 2.0
PAUSE_SECONDS_MAX = 30.0
# Nobody is there, or who is there lets nobody in, or this machine's own ssh cannot begin: OpenSSH's words (ssh.c,
# sshconnect.c, readconf.c), and sudo's. A key file that cannot be read is not yet the end: another one may do.
_AWAY = (
    r"connect to (host|address) .*: (?!Connection reset)|Could not resolve hostname|(?<!\": )Permission denied|"
    r"Host key verification failed|Too many authentication failures|REMOTE HOST IDENTIFICATION HAS CHANGED|"
    r"Unable to negotiate with|"
    # A jump host, or another ProxyCommand, ended before the device spoke; with ControlPersist its own words are lost.
    r"stdio forwarding failed|Connection closed by UNKNOWN port|"
    r"ControlPath too long|Bad configuration option|Bad owner or permissions on|Can't open user config file|"
    r"^usage: ssh|(Incorrect|Missing) \S+ password"
)
# What may pass, but came before there was a connection, or before become came to its end: no command began.
_BEFORE = (
    r"connect to (host|address) .*: Connection reset|kex_exchange_identification|banner exchange|"
    r"waiting for privilege escalation prompt|"
    # Ansible's own word, if ssh, on a busy controller, has closed its input and not yet ended: what was sent is not
    # whole, so it did not run, wherever it came to.
    r"\[Errno 32\] Broken pipe"
)
_IS_AWAY = re.compile(_AWAY, re.MULTILINE)
_IS_BEFORE = re.compile(f"{_AWAY}|{_BEFORE}", re.MULTILINE)
_Result = TypeVar("_Result")


def is_away(message: str) -> bool:
    """Whether a connection's failure says that trying again is useless: nobody answers there, or nobody is let in.

    All else may pass: ``become`` or the greeting took too long, the connection broke or was reset.
    """
    return bool(_IS_AWAY.search(message))


def never_connected(message: str) -> bool:
    """Whether a connection's failure says that no command began on the device.

    A connection that broke later says other things, and what is not known is taken for one.
    """
    return bool(_IS_BEFORE.search(message))


def patiently(
    attempt: Callable[[], _Result],
    seconds: float,
    host: str,
    clock: Callable[[], float] = time.monotonic,
    sleep: Callable[[float], None] = time.sleep,
    *,
    away_seconds: float = 0,
    was_there: Callable[[], bool] = lambda: False,
) -> _Result:
    """What ``attempt`` returns, which is made again while the connection fails, for about ``seconds`` from its first
    failure on: what a device was asked may take long before the connection breaks.

    Where nobody is there, or nobody is let in, for ``away_seconds`` only, unless somebody ``was_there``: a device that
    starts again refuses connections meanwhile. The pauses double, up to ``PAUSE_SECONDS_MAX``. Raises
    AnsibleConnectionFailure, the last one.
    """
    began, failing = clock(), None
    pause = PAUSE_SECONDS
    while True:
        try:
            return attempt()
        except AnsibleConnectionFailure as error:
            now = clock()
            failing = now if failing is None else failing
            is_gone = is_away(str(error)) and not was_there()
            if now + pause > (began + away_seconds if is_gone else failing + seconds):
                raise
            Display().warning(f"{host}: the connection failed, the next attempt is in {pause:.0f} s: {error}")
        sleep(pause)
        pause = min(2 * pause, PAUSE_SECONDS_MAX)
