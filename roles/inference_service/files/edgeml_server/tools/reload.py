# Copyright (c) 2026, The edgeml.fleet authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Command line: ``python -m edgeml_server.tools.reload SOCKET PID``: have a server read its certificates again.

It waits until the server has done so, and fails if the server keeps the old ones, so that ``systemctl reload`` does.
"""

from __future__ import annotations

import argparse
import http.client
import os
import signal
import socket
import sys
import time

SECONDS = 30.0
_PAUSE_SECONDS = 0.05


class ReloadError(Exception):
    """The server does not say that it uses the new files."""


def reload(address: str, process: int, seconds: float = SECONDS) -> None:
    """Have the server ``process``, which answers at the Unix socket ``address``, reload. Raises ReloadError."""
    before = _metric(address, "edgeml_reloads_total")
    os.kill(process, signal.SIGHUP)
    deadline = time.monotonic() + seconds
    while _metric(address, "edgeml_reloads_total") == before:
        if time.monotonic() > deadline:
            raise ReloadError(f"the server has not reloaded within {seconds:.0f} s")
        time.sleep(_PAUSE_SECONDS)
    if not _metric(address, "edgeml_reload_successful"):
        raise ReloadError("the old certificates and credentials stay in use; the server's log says why")


def _metric(address: str, name: str) -> float:
    """The value of a metric without labels."""
    connection = http.client.HTTPConnection("localhost", timeout=SECONDS)
    connection.sock = socket.socket(socket.AF_UNIX)
    try:
        connection.sock.settimeout(SECONDS)
        connection.sock.connect(address)
        connection.request("GET", "/metrics")
        lines = connection.getresponse().read().decode().splitlines()
    except (OSError, http.client.HTTPException) as error:
        raise ReloadError(f"{address}: {error}") from error
    finally:
        connection.close()
    return next(float(line.split()[1]) for line in lines if line.split()[0] == name)


def main() -> int:
    """Reload. Exit code: 0 if the server uses the new files, 1 if not; the reason is printed."""
    parser = argparse.ArgumentParser(prog="edgeml_server.tools.reload", description="Have a server reload.")
    parser.add_argument("socket", metavar="SOCKET")
    parser.add_argument("process", metavar="PID", type=int)
    arguments = parser.parse_args()
    try:
        reload(arguments.socket, arguments.process)
    except (ReloadError, OSError) as error:
        print(f"edgeml_server.tools.reload: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
