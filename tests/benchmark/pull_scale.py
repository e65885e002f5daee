# Copyright (c) 2026, The edgeml.fleet authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What 100,000 devices that pull cost their origin and their controller.

True polls by the device's own code against real nginx give what one poll costs: its requests, bytes and nginx's
processor time. A fleet of devices, each at its own moment, is then simulated with the device's own function of backing
off, in steady operation and after outages of the origin. The reports of a wave, signed by a key of its own each, are
collected from a directory and from nginx with the mailbox's configuration.

usage: PYTHONPATH=.cache/python:tests/support python tests/benchmark/pull_scale.py [--polls N]
    [--reports N] [--earlier CHECKOUT] [--image IMAGE]
"""

from __future__ import annotations

import argparse
import json
import random
import resource
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from collections import Counter, defaultdict
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import NamedTuple

from links import PYTHON_PATH, REPOSITORY
from pulled import PulledFleet, PullingDevice
from report_mailbox import Mailbox
from signed_reports import write_reports

from ansible_collections.edgeml.fleet.plugins.module_utils._pull.backoff import skipped_after
from ansible_collections.edgeml.fleet.plugins.module_utils._release.cohort import position
from ansible_collections.edgeml.fleet.plugins.plugin_utils._pull.collect import Collector
from ansible_collections.edgeml.fleet.plugins.plugin_utils._pull.settings import PullSettings

DEVICES, AWAY, POLL_SECONDS = 100_000, 0.3, 900
# Of the controller, for each further device of a rollout by SSH: README.md, "A rollout by SSH".
PUSH_SECONDS = 0.247
BIN_SECONDS = 10
DAY = 86_400

# The processor time of each command, the median of several runs in turns.
MEASURE = """
import json, os, statistics, sys
commands, seconds = json.loads(sys.argv[1]), {}
for _run in range(int(sys.argv[2])):
    for name, (path, words) in commands.items():
        command = [sys.executable, "-sS", "-c", *words]
        nowhere = [(os.POSIX_SPAWN_OPEN, number, os.devnull, os.O_WRONLY, 0) for number in (1, 2)]
        environment = {"PATH": os.environ["PATH"], "PYTHONPATH": path}
        pid = os.posix_spawn(command[0], command, environment, file_actions=nowhere)
        _pid, status, used = os.wait4(pid, 0)
        assert status == 0, (command, status)
        seconds.setdefault(name, []).append(used.ru_utime + used.ru_stime)
print(json.dumps({name: statistics.median(found) for name, found in seconds.items()}))
"""

SECURE_ORIGIN = """
log_format cost '$request_length $bytes_sent $request_uri';
server {{
    listen 127.0.0.1:{port} ssl; access_log {log} cost; root {repository}; etag off;
    ssl_certificate {directory}/server.pem; ssl_certificate_key {directory}/server.pem;
    ssl_session_tickets off;
}}
"""


class Cost(NamedTuple):
    """One poll: its requests, the bytes of HTTP both ways, and nginx's processor time in seconds."""

    requests: float
    octets: float
    seconds: float

    def line(self, name: str) -> str:
        """A row of the table."""
        return f"{name:42} {self.requests:5.2f} {self.octets:9,.0f} {self.seconds * 1e6:9.0f}"


class Origin:
    """A fleet's repository behind real nginx, by HTTP and by HTTPS."""

    def __init__(self, directory: Path) -> None:
        self.fleet = PulledFleet(directory, versions=("1.0.0",), web=True)
        self.fleet.stop()
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            port = free.getsockname()[1]
        self._log = directory / "access.log"
        own = directory / "nginx"
        configuration = self.fleet._configuration.replace("etag off; }", f"etag off; access_log {self._log} cost; }}")
        secure = SECURE_ORIGIN.format(port=port, log=self._log, repository=self.fleet.signed.path, directory=own)
        self.fleet._configuration = secure + configuration
        self.fleet.start_web()
        self.secure_url = f"https://127.0.0.1:{port}"

    def measure(self, polls: int, poll: Callable[[], object]) -> Cost:
        """What a poll costs on average."""
        self._log.write_text("")
        before = self._processor_seconds()
        for _time in range(polls):
            poll()
        seconds = self._processor_seconds() - before
        lines = [line.split(" ", 2) for line in self._log.read_text().splitlines()]
        octets = sum(int(received) + int(sent) for received, sent, _path in lines)
        return Cost(len(lines) / polls, octets / polls, seconds / polls)

    def _processor_seconds(self) -> float:
        master = int((self.fleet.directory / "nginx" / "nginx.pid").read_text())
        children = Path(f"/proc/{master}/task/{master}/children").read_text().split()
        return sum(int(Path(f"/proc/{pid}/schedstat").read_text().split()[0]) for pid in (master, *children)) / 1e9


def polls_of_a_device(origin: Origin, polls: int) -> dict[str, Cost]:
    """What polls cost the origin, by what they find."""
    found, devices = {}, {}
    fleet = origin.fleet
    fleet.publish(fleet.rollout("1.0.0"))
    for name, url in (("http", fleet.url), ("https", origin.secure_url)):
        device = fleet.device(f"edge-{name}", sources=[url], mailbox=None)
        device.poll()
        found[f"nothing new, {name}"] = origin.measure(polls, partial(_quiet, device))
        devices[name] = device
    for name, device in devices.items():
        fleet.publish(fleet.rollout("1.0.0", reason=f"once more, {name}"))
        found[f"a new desired state, {name}"] = origin.measure(1, partial(_quiet, device))
    for device in devices.values():
        _quiet(device)
    return found


def _quiet(device: PullingDevice) -> None:
    poll = device.poll()
    assert (poll.code, poll.errors) == (0, ""), poll


# ---- the fleet ----


class Herd(NamedTuple):
    """Polls a second: on average before an outage, in the busiest BIN_SECONDS before it and after it; and the busiest
    after it in requests, where each device finds something new when it is back."""

    steady: float
    busiest_before: float
    busiest_after: float
    requests_after: float


def simulate(outage_seconds: int, requests_when_new: float) -> Herd:
    """A fleet whose origin is away for some time, and then has something new."""
    chance = random.Random(1)
    begin = 4 * POLL_SECONDS
    end = begin + outage_seconds
    stop = end + 8 * POLL_SECONDS
    polls: Counter[int] = Counter()
    requests: dict[int, float] = defaultdict(float)
    for number in range(DEVICES):
        moment = position("pull", f"edge-{number:06}") * POLL_SECONDS
        failures = skips = 0
        is_new = True
        while moment < stop:
            now, moment = moment, moment + POLL_SECONDS
            if chance.random() < AWAY:
                continue
            if skips:
                skips -= 1
                continue
            if begin <= now < end:
                failures += 1
                skips = skipped_after(failures)
                continue
            failures = 0
            place = int(now // BIN_SECONDS)
            polls[place] += 1
            requests[place] += requests_when_new if now >= end and is_new else 1
            is_new = is_new and now < end
    before = [count / BIN_SECONDS for place, count in polls.items() if place * BIN_SECONDS < begin]
    return Herd(
        statistics.mean(before),
        max(before),
        max(count / BIN_SECONDS for place, count in polls.items() if place * BIN_SECONDS >= end),
        max(count / BIN_SECONDS for place, count in requests.items() if place * BIN_SECONDS >= end),
    )


# ---- the device, and the controller ----


def processor_seconds(origin: Origin, runs: int, earlier: Path | None, image: str | None) -> dict[str, float]:
    """The processor time in seconds of a whole ``edgeml pull`` that finds nothing, by HTTP and HTTPS, and of ``edgeml
    status``: today's, and with ``earlier`` that of an earlier version, which has an empty store.

    With ``image`` they run in a container of it, such as that of an emulated device.
    """
    start = "import sys; from edgeml_device.{} import main; sys.exit(main(sys.argv[1:]))"
    directory = origin.fleet.directory
    commands = {}
    for name in ("http", "https"):
        device = directory / "devices" / f"edge-{name}"
        commands[name] = (str(PYTHON_PATH), [start.format("_pull.command"), "--config", str(device / "pull.json")])
        status = [start.format("_device.cli"), "status", "--store", str(device / "store")]
        commands["status"] = (str(PYTHON_PATH), status)
    places = [REPOSITORY, directory]
    if earlier:
        code = earlier.resolve() / "plugins" / "module_utils"
        places.append(code)
        (directory / "earlier" / "store").mkdir(parents=True, exist_ok=True)
        link = directory / "earlier" / "edgeml_device"
        link.unlink(missing_ok=True)
        link.symlink_to(code)
        module = "_command" if (code / "_command.py").exists() else "_device.cli"
        status = [start.format(module), "status", "--store", str(link.parent / "store")]
        commands["earlier status"] = (str(link.parent), status)
    measure = ["-c", MEASURE, json.dumps(commands), str(runs)]
    if image:
        mounts = [word for place in places for word in ("--volume", f"{place}:{place}")]
        program = ["docker", "run", "--rm", "--network=host", *mounts, "--entrypoint=/usr/bin/python3", image]
    else:
        program = [sys.executable]
    done = subprocess.run([*program, *measure], stdout=subprocess.PIPE, text=True, check=True)
    found: dict[str, float] = json.loads(done.stdout)
    return found


def _shares(name: str, seconds: dict[str, float]) -> str:
    return ", ".join(
        f"{seconds[name] / seconds[status]:.2f} of {status}"
        for status in ("status", "earlier status")
        if status in seconds
    )


def collections_of_a_wave(directory: Path, reports: int) -> list[str]:
    """What it costs the controller to collect a report of each device: from a directory, and over HTTPS."""
    directory.mkdir()
    mailbox = Mailbox(directory)
    names = [f"edge-{number:06}" for number in range(reports)]
    lines = []
    try:
        write_reports(mailbox.files, mailbox.fleet, names)
        reader = str(mailbox.reader())
        ca = str(directory / "client-ca.pem")
        for kind, where in (("a directory", str(mailbox.files / "reports")), ("https", mailbox.url)):
            settings = PullSettings(
                "hall",
                repository="",
                fleet_key="",
                online_key="",
                mailbox=where,
                ca_file=ca,
                ledger=str(directory / kind),
                mailbox_ca_file=str(mailbox.ca),
                certificate_file=reader,
            )
            collector = Collector(settings)
            asked = dict.fromkeys(names, "digits")
            for what, question, answered in (("10,000 new reports", 1, reports), ("then nothing new", 2, 0)):
                before = time.process_time()
                found = collector.collect(asked, question, 0.0)
                assert (found.answered, found.refused) == (answered, []), found
                lines.append(f"{what} from {kind}: {time.process_time() - before:.1f} s of processor time")
            collector.close()
        lines.append(f"memory: {resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024:.0f} MiB")
    finally:
        mailbox.stop()
    return lines


def main() -> None:
    """Measure, simulate, and print."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--polls", type=int, default=3000)
    parser.add_argument("--reports", type=int, default=10_000)
    parser.add_argument("--earlier", type=Path, metavar="CHECKOUT", help="measure its `edgeml status` as well")
    parser.add_argument("--image", help="measure the commands of a device in containers of this image as well")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as path:
        origin = Origin(Path(path) / "origin")
        try:
            costs = polls_of_a_device(origin, options.polls)
            seconds = processor_seconds(origin, 30, options.earlier, None)
            emulated = processor_seconds(origin, 10, options.earlier, options.image) if options.image else {}
        finally:
            origin.fleet.stop()
        print(f"{'a poll that finds':42} {'requests':>5} {'bytes':>7} {'nginx us':>9}")
        for name, cost in costs.items():
            print(cost.line(name))
        steady = DEVICES * (1 - AWAY) / POLL_SECONDS
        for name in ("http", "https"):
            idle = costs[f"nothing new, {name}"]
            a_day = idle.seconds * DAY / POLL_SECONDS * (1 - AWAY)
            print(
                f"{DEVICES:,} devices, {name}: {steady * idle.requests:.0f} requests and {steady * idle.octets:,.0f} "
                f"bytes a second; nginx {a_day * 1e3:.2f} ms of processor time per device and day, "
                f"{a_day / PUSH_SECONDS:.3f} of a push; edgeml pull {_shares(name, seconds)}"
            )
            if emulated:
                print(f"in {options.image}: edgeml pull {_shares(name, emulated)}")
        for minutes in (10, 120, 1440):
            new = costs["a new desired state, https"].requests
            herd = simulate(minutes * 60, new)
            print(
                f"origin away for {minutes} min: {herd.steady:.1f} polls a second before, at most "
                f"{herd.busiest_before / herd.steady:.2f}x in 10 s; after it at most "
                f"{herd.busiest_after / herd.steady:.2f}x; in requests, where there is something new, "
                f"{herd.requests_after / herd.steady:.2f}x"
            )
        for line in collections_of_a_wave(Path(path) / "mailbox", options.reports):
            print(line)


if __name__ == "__main__":
    main()
