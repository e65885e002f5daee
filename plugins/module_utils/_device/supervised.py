# Copyright (c) 2026, The edgeml.fleet authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# PRIVATE to the collection edgeml.fleet: no stable interface.

"""The command ``edgeml supervised``: the service as a program of Supervisor, with what systemd's unit does around it.

Supervisor knows no commands before a start and after an end, and no watchdog. So its program is this one: it recovers
the models, runs the server as the service's user, is its watchdog (``relay.py``), and counts its crashes before the
next start. The file RUNNING says that a server runs, and whether it is ready; one that an earlier run left was not
ended in an orderly way, and counts as a crash, unless the device started in between.
"""

from __future__ import annotations

import argparse
import ctypes
import json
import os
import pwd
import resource
import signal
import sys
from typing import Sequence

from .._common.arguments import ArgumentParser
from .._common.errors import ServerError
from .._common.files import remove_file, write_whole
from .._common.process import run_command
from .facts import boot_id
from .relay import SOCKET, Relay

RUNNING = "/run/edgeml-running.json"
COMMAND = "/usr/local/bin/edgeml"
_SET_PARENT_DEATH_SIGNAL = 1
_DIRECTORY_MODE = 0o750


class SupervisedService:
    """The service's one run. ``running`` is the file that says so, and ``edgeml`` the device's command."""

    def __init__(self, options: argparse.Namespace) -> None:
        self._options = options
        self._stopped = False

    def run(self) -> int:
        """Run the server to its end. Returns the exit code: the server's."""
        options = self._options
        if self._left_behind():
            self._count_crash()
        else:
            remove_file(options.running)
        self._make_directories()
        self._edgeml("recover", "--before-start")
        self._note(ready=False)
        relay = Relay(
            options.command, options.socket, self._environment(), options.start_seconds, options.watchdog_seconds
        )
        relay.when_ready = lambda: self._note(ready=True)
        relay.when_stopped = self._stop
        code = relay.run(self._become_service)
        if code != 0 and not self._stopped:
            self._count_crash()
        remove_file(options.running)
        return code

    def _make_directories(self) -> None:
        """Of the sockets and of the prediction log. The first one is gone after a start of the device."""
        user = pwd.getpwnam(self._options.user)
        for path in (os.path.dirname(self._options.socket), self._options.log_directory):
            os.makedirs(path, _DIRECTORY_MODE, exist_ok=True)
            os.chmod(path, _DIRECTORY_MODE)
            os.chown(path, user.pw_uid, user.pw_gid)

    def _left_behind(self) -> bool:
        """Whether an earlier run of this boot was ended without a chance to say so."""
        try:
            with open(self._options.running, encoding="utf-8") as file:
                return bool(json.load(file)["boot_id"] == boot_id())
        except (OSError, ValueError, KeyError, TypeError):
            return False

    def _note(self, ready: bool) -> None:
        write_whole(self._options.running, json.dumps({"pid": os.getpid(), "ready": ready, "boot_id": boot_id()}))

    def _stop(self) -> None:
        self._stopped = True

    def _count_crash(self) -> None:
        self._edgeml("crashed", SERVICE_RESULT="exit-code")

    def _edgeml(self, *arguments: str, **environment: str) -> None:
        """What fails in it must not keep the server from serving what it can."""
        command = [*self._options.edgeml, *arguments]
        try:
            run_command(command, self._options.start_seconds, env={**os.environ, **environment}, prints=True)
        except ServerError as error:
            sys.stderr.write(f"edgeml supervised: {error}\n")

    def _environment(self) -> dict[str, str]:
        # Supervisor's own words about its program are no affair of the server.
        kept = {name: value for name, value in os.environ.items() if not name.startswith("SUPERVISOR_")}
        kept.pop("NOTIFY_SOCKET", None)
        return kept

    def _become_service(self) -> None:
        """In the server's process: give up root's rights, and end when this program is ended, in whatever way."""
        options = self._options
        os.umask(int(options.umask, 8))
        resource.setrlimit(resource.RLIMIT_NOFILE, (options.open_files_max, options.open_files_max))
        if os.geteuid() == 0:
            user = pwd.getpwnam(options.user)
            os.setgroups([])
            os.setgid(user.pw_gid)
            os.setuid(user.pw_uid)
        # After the user: a change of it takes the signal back.
        ctypes.CDLL(None).prctl(_SET_PARENT_DEATH_SIGNAL, signal.SIGKILL)


def main(arguments: Sequence[str]) -> int:
    """Run the service. Exit code: the server's; 1 when it could not be started."""
    parser = ArgumentParser(prog="edgeml supervised", description="Run the service, as Supervisor's program does.")
    parser.add_argument("--user", default="edgeml", help="whose rights the server has")
    parser.add_argument("--umask", default="0027", metavar="MODE")
    parser.add_argument("--open-files-max", type=int, default=16384, metavar="N")
    parser.add_argument("--start-seconds", type=float, default=180.0, metavar="S", help="until it has to be ready")
    parser.add_argument("--watchdog-seconds", type=float, default=60.0, metavar="S", help="between signs of progress")
    parser.add_argument("--socket", default=SOCKET, metavar="PATH", help="where the server notifies")
    parser.add_argument("--log-directory", default="/var/lib/edgeml-inference", metavar="PATH", help="the server's own")
    parser.add_argument("--running", default=RUNNING, metavar="FILE", help="says that a server runs")
    parser.add_argument("--edgeml", nargs=1, default=[COMMAND], metavar="PATH", help="the device's command")
    parser.add_argument("command", nargs="+", metavar="COMMAND")
    try:
        return SupervisedService(parser.parse_args(arguments)).run()
    except (OSError, KeyError) as error:
        sys.stderr.write(f"edgeml supervised: {error}\n")
        return 1
