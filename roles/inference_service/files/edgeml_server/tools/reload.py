# Copyright (c) 2026, The edgeml.fleet authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Command line: ``python -m edgeml_server.tools.reload --config FILE PID``: have a server use what its files say now.

Where only certificates or credentials may have changed, the server reads them again. Where its configuration or the
files by which it is started (``--definition``) differ, a new process takes over from it when it has loaded the models,
and the old one answers what is open there. No request is lost either way. It waits for the outcome, and fails where the
server goes on as it was, so that ``systemctl reload`` does.

Exit code: 0 if the server uses the new files; 75 if they need a restart, because another process does not fit into the
memory beside the one that serves, or that one cannot hand over; 1 if they cannot be used. The reason is printed.
"""

from __future__ import annotations

import http.client
import os
import signal
import socket
import subprocess
import sys
import time

from edgeml_device._common.arguments import ArgumentParser

from edgeml_server.common.memory import memory_headroom
from edgeml_server.common.unix_http import UnixConnection
from edgeml_server.config import ConfigError, read_config
from edgeml_server.handover.channel import Description, HandoverError, definition_digest, describe

SECONDS = 30.0
RESTART_NEEDED = 75
"""The exit code where only a restart helps: EX_TEMPFAIL of sysexits.h."""
# What a process takes for a while as it starts, beside what the one before it has.
START_BYTES = 64 << 20
_PAUSE_SECONDS = 0.05


class ReloadError(Exception):
    """The server does not say that it uses the new files."""


class RestartNeededError(Exception):
    """Only a restart makes the server use the new files."""


def reload(address: str, process: int, seconds: float = SECONDS) -> None:
    """Have the server ``process``, which answers at the Unix socket ``address``, read certificates and credentials
    again. Raises ReloadError."""
    before = _metric(address, "edgeml_reloads_total")
    os.kill(process, signal.SIGHUP)
    deadline = time.monotonic() + seconds
    while _metric(address, "edgeml_reloads_total") == before:
        if time.monotonic() > deadline:
            raise ReloadError(f"the server has not reloaded within {seconds:.0f} s")
        time.sleep(_PAUSE_SECONDS)
    if not _metric(address, "edgeml_reload_successful"):
        raise ReloadError("the old certificates and credentials stay in use; the server's log says why")


def replace(description: Description, server: list[str], watchdog_seconds: float) -> None:
    """Have a new process take over, started by the arguments ``server``, and wait until it is the main one.

    Raises RestartNeededError, and ReloadError when it does not become ready: the one before serves on.
    """
    needed, left = description.memory_bytes + START_BYTES, memory_headroom()
    if needed > left.bytes:
        raise RestartNeededError(
            f"a second process needs {needed} bytes of memory beside the one that serves; {left.bytes} are left "
            f"({left.limit})"
        )
    ours, theirs = socket.socketpair()
    command = [sys.executable, "-m", "edgeml_server", *server, "--take-over", str(theirs.fileno())]
    environment = {**os.environ, "WATCHDOG_USEC": str(int(watchdog_seconds * 1e6))}
    environment.pop("WATCHDOG_PID", None)
    with ours:
        with theirs:
            # A child of the service manager at once: that learns of the end of no other process.
            subprocess.run(["setsid", "--fork", *command], env=environment, pass_fds=[theirs.fileno()], check=True)
        # The service manager limits the time. A process that ends closes its socket.
        if not ours.recv(1):
            raise ReloadError("the new process did not become ready, and the one before serves on; the log says why")


def _metric(address: str, name: str) -> float:
    """The value of a metric without labels."""
    connection = UnixConnection(address, SECONDS)
    try:
        connection.request("GET", "/metrics")
        lines = connection.getresponse().read().decode().splitlines()
    except (OSError, http.client.HTTPException) as error:
        raise ReloadError(f"{address}: {error}") from error
    finally:
        connection.close()
    return next(float(line.split()[1]) for line in lines if line.split()[0] == name)


def main() -> int:
    """Reload. Exit code: as the module says."""
    parser = ArgumentParser(prog="edgeml_server.tools.reload", description="Have a server use its files anew.")
    parser.add_argument("--config", required=True, metavar="FILE", help="as the server's")
    parser.add_argument("--definition", action="append", default=[], metavar="FILE", help="as the server's")
    parser.add_argument("--watchdog-seconds", type=float, metavar="S", help="the new process's; default: as before")
    parser.add_argument(
        "--same-process",
        action="store_true",
        help="the server is the first process of a container, which ends with it: no other one can take over",
    )
    parser.add_argument("process", metavar="PID", type=int, help="the server's main process")
    arguments = parser.parse_args()
    try:
        address = read_config(arguments.config).socket
        try:
            description = describe(address)
        except (OSError, HandoverError) as error:
            raise RestartNeededError(f"the server that runs cannot hand over: {error}") from error
        if description.definition == definition_digest([arguments.config, *arguments.definition]):
            reload(address, arguments.process)
            return 0
        if arguments.same_process:
            raise RestartNeededError("the configuration is another one, and a container ends with its first process")
        definitions = [word for path in arguments.definition for word in ("--definition", path)]
        watchdog_seconds = arguments.watchdog_seconds
        if watchdog_seconds is None:
            watchdog_seconds = description.watchdog_seconds
        replace(description, ["--config", arguments.config, *definitions], watchdog_seconds)
    except RestartNeededError as error:
        print(f"edgeml_server.tools.reload: {error}: restart the service instead", file=sys.stderr)
        return RESTART_NEEDED
    except (ConfigError, ReloadError, OSError, subprocess.SubprocessError) as error:
        print(f"edgeml_server.tools.reload: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
