# Copyright (c) 2026, The edgeml.fleet authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# PRIVATE to the collection edgeml.fleet: no stable interface.

"""Programs of Supervisor, on a device without systemd: the same that ``units.py`` does with units."""

from __future__ import annotations

import json
import os
import socket
import time

from .commands import SetupError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

# The rule of `_device/supervisor.py`, too. This file is sent as text to devices that have nothing else yet.
SOCKETS = ("/run/supervisor.sock", "/var/run/supervisor.sock", "/tmp/supervisor.sock")
# The service says there that it runs, and whether it is ready.
RUNNING = "/run/edgeml-running.json"
READY_SECONDS = 300
# Supervisor shows its socket before it listens there; a device that is busy takes a while for the rest.
LISTENS_SECONDS = 60
_LOG_BYTES = 2000
# What Supervisor says of a program that it does not know, that has ended, that cannot be started or has ended badly
# before it looked, that runs already, and that does not run.
_BAD_NAME, _ENDED, _NOT_STARTED, _ALREADY_STARTED, _NOT_RUNNING = 10, 40, 50, 60, 70
_ACTIVE = ("STARTING", "RUNNING", "BACKOFF")


class Supervisor:
    """The programs of Supervisor, by the names of the units that do the same under systemd."""

    definitions: tuple[str, ...] = ("/etc/supervisor/conf.d/",)
    # `update` stops a program, and starts it by its new definition; `restart` would keep the old one.
    reload_command = "supervisorctl update edgeml-inference edgeml-listener"

    def __init__(self, running: str = RUNNING) -> None:
        self._running = running
        self._begun_anew: set[str] = set()

    def show(self, unit: str) -> dict[str, str]:
        """What systemd would say of a program, which need not exist."""
        state = self._state(unit)
        active = "active" if state in _ACTIVE else "failed" if state == "FATAL" else "inactive"
        return {"ActiveState": active, "UnitFileState": "enabled" if state else "", "NeedDaemonReload": "no"}

    def enable(self, unit: str) -> None:
        """A program that Supervisor knows starts with the device."""

    def reload(self) -> None:
        """Have Supervisor read its files, and take over what is new, other or gone of this collection's programs.

        A program that an operator had stopped stays stopped.
        """
        ((added, changed, removed),) = self._call("supervisor.reloadConfig")
        for name in [name for name in (*changed, *removed) if _is_ours(name)]:
            stopped = self._state(name) == "STOPPED"
            self._call("supervisor.stopProcessGroup", name)
            self._call("supervisor.removeProcessGroup", name)
            if name in changed:
                self._add(name)
                if stopped:
                    self._call("supervisor.stopProcess", name)
        for name in added:
            if _is_ours(name):
                self._add(name)

    def control(self, verb: str, unit: str, active_state: str) -> None:
        """Start, restart or reload a program, and wait until its service is ready.

        Raises SetupError with the end of its log.
        """
        name = _program(unit)
        if verb in ("restart", "reload") and name not in self._begun_anew:
            self._call("supervisor.stopProcess", name)
        # One that ends at once has said why in its log.
        waits = name == "edgeml-inference"
        allowed = (_ENDED, _ALREADY_STARTED, _NOT_STARTED) if waits else (_ENDED, _ALREADY_STARTED)
        self._call("supervisor.startProcess", name, allowed=allowed)
        if waits:
            self._wait_ready(name)

    def hand_over(self, unit: str, lock: str) -> bool:
        """A program of Supervisor has one process: only a restart helps."""
        return False

    def _add(self, name: str) -> None:
        self._call("supervisor.addProcessGroup", name)
        self._begun_anew.add(name)

    def _state(self, unit: str) -> str:
        info = self._call("supervisor.getProcessInfo", _program(unit), allowed=(_BAD_NAME,))
        return info["statename"] if isinstance(info, dict) else ""

    def _wait_ready(self, name: str) -> None:
        """Wait until the process that Supervisor has started says itself that it is ready."""
        deadline = time.monotonic() + READY_SECONDS
        while True:
            info = self._call("supervisor.getProcessInfo", name)
            if _reported(self._running) == (info["pid"], True):
                return
            if info["statename"] not in _ACTIVE or time.monotonic() > deadline:
                log = self._call("supervisor.tailProcessStdoutLog", name, 0, _LOG_BYTES)[0]
                raise SetupError(
                    f"{name}: expected it to be ready, but Supervisor says {info['statename']} {info['spawnerr']}. "
                    f"The end of its log:\n{log.strip()}"
                )
            time.sleep(0.2)

    def _call(self, method: str, *arguments: Any, allowed: tuple[int, ...] = (_ALREADY_STARTED, _NOT_RUNNING)) -> Any:
        """Call a method of Supervisor's interface; None for a fault that is ``allowed``. Raises SetupError."""
        import xmlrpc.client

        address = _socket()
        if address is None:
            raise SetupError(f"Supervisor: expected its socket at one of {', '.join(SOCKETS)}")
        try:
            with xmlrpc.client.ServerProxy("http://localhost", transport=_transport(address)) as server:
                return getattr(server, method)(*arguments)
        except xmlrpc.client.Fault as fault:
            if fault.faultCode in allowed:
                return None
            raise SetupError(f"{address}: {method} {' '.join(map(str, arguments))}: {fault.faultString}") from None
        except (OSError, xmlrpc.client.Error) as error:
            raise SetupError(f"{address}: {method}: {error}") from None


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


def _program(unit: str) -> str:
    return unit[: -len(".service")] if unit.endswith(".service") else unit


def _is_ours(name: str) -> bool:
    return name.startswith("edgeml-")


def _reported(path: str) -> tuple[Any, Any]:
    """The process that says that it runs the service, and whether it is ready."""
    try:
        with open(path, encoding="utf-8") as file:
            document = json.load(file)
        return document["pid"], document["ready"]
    except (OSError, ValueError, KeyError, TypeError):
        return None, False


def _transport(address: str) -> Any:
    """XML-RPC over a Unix socket."""
    import http.client
    import xmlrpc.client

    class Connection(http.client.HTTPConnection):
        def connect(self) -> None:
            deadline = time.monotonic() + LISTENS_SECONDS
            while True:
                self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
                try:
                    return self.sock.connect(address)
                except OSError as error:
                    self.sock.close()
                    if not isinstance(error, ConnectionRefusedError) or time.monotonic() > deadline:
                        raise
                time.sleep(0.2)

    class Transport(xmlrpc.client.Transport):
        def make_connection(self, host: Any) -> http.client.HTTPConnection:
            # The transport closes what it knows.
            self._connection = host, Connection("localhost")
            return self._connection[1]

    return Transport()
