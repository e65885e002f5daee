# Copyright (c) 2026, The edgeml.fleet authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""A device whose first process is Supervisor serves, goes back to the installation before one that failed, and comes
back from what ends or stops its server."""

from __future__ import annotations

import json
import time
from typing import Any

import pytest
from testinfra.host import Host

GUARD_SECONDS = 600
RUNNING = "/run/edgeml-running.json"


def running(host: Host) -> dict[str, Any]:
    """What the process says that Supervisor has started; nothing while there is none."""
    text = host.run("cat %s", RUNNING).stdout
    return dict(json.loads(text)) if text else {}


def wait_restarted(host: Host, before: int) -> None:
    """Wait until another process serves than the one before."""
    deadline = time.monotonic() + GUARD_SECONDS
    while not ((now := running(host)).get("ready") and now["pid"] != before):
        assert time.monotonic() < deadline, host.check_output("tail -n 20 /var/log/edgeml-inference.log")
        time.sleep(1)


def serves(host: Host) -> str:
    """The version that serves."""
    (model,) = json.loads(host.check_output("edgeml status --json"))["models"]
    return str(model["live"])


def test_the_first_process_is_supervisor_and_there_is_no_systemd(host: Host) -> None:
    assert host.check_output("cat /proc/1/comm") == "supervisord"
    assert not host.file("/run/systemd/system").exists


def test_the_server_runs_as_its_user_and_serves(host: Host) -> None:
    assert serves(host) == "1.1.0"
    server = host.process.get(ppid=running(host)["pid"])
    assert (server.user, server.args.split()[1:3]) == ("edgeml", ["-m", "edgeml_server"])
    assert host.file("/run/edgeml/server.sock").user == "edgeml"


def test_it_runs_from_the_installation_before_the_one_that_failed_its_trial(host: Host) -> None:
    server = host.process.get(ppid=running(host)["pid"])
    (environment,) = host.run("ls -d /opt/edgeml/venv-*").stdout.split()
    assert server.args.startswith(environment)
    assert "the service crashed 3 times (at most 2)" in host.check_output("edgeml history plus")


@pytest.mark.parametrize("signal", ["KILL", "STOP"])
def test_a_server_that_is_killed_or_hangs_is_started_again(host: Host, signal: str) -> None:
    before = running(host)["pid"]
    host.check_output("kill -%s %s", signal, str(host.process.get(ppid=before).pid))
    wait_restarted(host, before)
    assert serves(host) == "1.1.0"
