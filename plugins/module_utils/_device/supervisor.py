# Copyright (c) 2026, The edgeml.fleet authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# PRIVATE to the collection edgeml.fleet: no stable interface.

"""Supervisor on the device, where systemd does not run: asked about programs, over its Unix socket.

It has no timers. What systemd's timers do, the listener does (``listener.py``) as long as there is a file for it.
"""

from __future__ import annotations

import contextlib
import os
import socket
import time
from typing import Any

from .._common.errors import ServerError
from .http import HttpError, exchange

SOCKETS = ("/run/supervisor.sock", "/var/run/supervisor.sock", "/tmp/supervisor.sock")
LISTENER = "edgeml-listener"
# The files that say what the listener does regularly; a start of the device does it once in any case.
WORK = "/run/edgeml-work"
WATCH = "watch"
FETCH = "fetch"
_SECONDS = 300.0
# How long a program that Supervisor has started may take until it counts as one that runs: its `startsecs`, and tries.
_STARTING_SECONDS = 60.0
_STARTING = ("STARTING", "BACKOFF")
_REPLY_BYTES_MAX = 1 << 20
# What Supervisor says of a program that is to be started and runs, or to be stopped and does not (its Faults).
_ALREADY = (60, 70)


def supervisor_runs() -> bool:
    """Whether Supervisor manages this device."""
    return _socket() is not None


def start_program(unit: str) -> None:
    """Have the program of a unit started, and do not wait for it; nothing to do where it runs. Raises ServerError."""
    call("supervisor.startProcess", program_name(unit), False)


def program_name(unit: str) -> str:
    """The name of the program that does what a systemd unit does elsewhere."""
    return unit[: -len(".service")] if unit.endswith(".service") else unit


def call(method: str, *arguments: Any) -> Any:
    """Call a method of Supervisor's XML-RPC interface and return its result.

    Raises ServerError with what Supervisor says.
    """
    # Many a call of the command asks nothing of it.
    import xmlrpc.client

    address = _socket()
    if address is None:
        raise ServerError(f"Supervisor does not run here: no socket at {', '.join(SOCKETS)}")
    body = xmlrpc.client.dumps(arguments, method).encode("utf-8")
    try:
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as connection:
            connection.connect(address)
            headers = {"Host": "localhost", "Content-Type": "text/xml"}
            status, reply, _headers = exchange(connection, "POST", "/RPC2", headers, body, (_REPLY_BYTES_MAX, _SECONDS))
        if status != 200:
            raise ServerError(f"{address}: {method}: HTTP status {status}")
        return xmlrpc.client.loads(reply.decode("utf-8"))[0][0]
    except xmlrpc.client.Fault as fault:
        if fault.faultCode in _ALREADY:
            return True
        raise ServerError(f"{address}: {method} {' '.join(map(str, arguments))}: {fault.faultString}") from fault
    except (OSError, HttpError, ValueError, xmlrpc.client.Error) as error:
        raise ServerError(f"{address}: {method}: {error}") from error


def have_work(name: str) -> None:
    """Have the listener do WATCH or FETCH regularly; one that starts is waited for.

    Raises ServerError when it does not run.
    """
    deadline = time.monotonic() + _STARTING_SECONDS
    while (state := _state(LISTENER)) in _STARTING and time.monotonic() < deadline:
        time.sleep(0.2)
    if state != "RUNNING":
        raise ServerError(f"Supervisor's program {LISTENER}: expected it to be RUNNING; found {state}")
    os.makedirs(WORK, 0o755, exist_ok=True)
    with open(os.path.join(WORK, name), "w", encoding="ascii"):
        pass


def forget_work(name: str) -> None:
    """Have it do that no more."""
    with contextlib.suppress(FileNotFoundError):
        os.unlink(os.path.join(WORK, name))


def _state(program: str) -> str:
    return str(call("supervisor.getProcessInfo", program)["statename"])


def _socket() -> str | None:
    """Supervisor's socket: of several files the first at which somebody listens, for the others are left over."""
    there = list(dict.fromkeys(os.path.realpath(path) for path in SOCKETS if os.path.exists(path)))
    return next((path for path in there if len(there) > 1 and _listens(path)), there[0] if there else None)


def _listens(path: str) -> bool:
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as connection:
        connection.settimeout(1.0)
        try:
            connection.connect(path)
        except (ConnectionRefusedError, FileNotFoundError):
            return False
        except OSError:
            pass  # Somebody who is busy, or who lets others in.
        return True
