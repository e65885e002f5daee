# Copyright (c) 2026, The edgeml.fleet authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What a rollout costs the controller, how that grows with the fleet, and what a usual role of fifteen tasks costs."""

from __future__ import annotations

import argparse
import ctypes
import hashlib
import http.server
import json
import os
import resource
import shutil
import signal
import subprocess
import sys
import tarfile
import tempfile
import threading
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "support"))

from clone import PYTHON_PATH, REPOSITORY
from releases import Made, read_release
from simulated_fleet import CLASSES, Place, SimulatedFleet, leave_the_machine
from sshd import Sshd, find_sshd

from ansible_collections.edgeml.fleet.plugins.module_utils._common.table import text_table

DIGITS = REPOSITORY / "examples" / "digits" / "repository"
FIFTEEN_TASKS = Path(__file__).with_name("fifteen_tasks") / "playbook.yml"
BEFORE, AFTER = "1.0.0", "1.1.0"
LOOK_SECONDS = 1.0
# prctl(2)
PR_SET_CHILD_SUBREAPER = 36


@dataclass(frozen=True)
class Costs:
    """What a playbook cost: seconds, of the processor those of the controller, of its main process alone and of all
    devices together; the most memory in bytes that the controller's processes had, each shared page counted once."""

    devices: int
    wall_seconds: float
    controller_seconds: float
    main_seconds: float
    device_seconds: float
    memory_bytes: int

    @property
    def per_device(self) -> float:
        """The controller's processor time for one device, in seconds."""
        return self.controller_seconds / self.devices


class Controller:
    """Runs playbooks from ``directory`` as this collection's own configuration has Ansible run, and measures them."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory / "controller"
        self._directory.mkdir()
        # Who outlives the playbook, such as the connections that ssh keeps, is ours to end and to measure.
        ctypes.CDLL(None).prctl(PR_SET_CHILD_SUBREAPER, 1)

    def run(
        self,
        playbook: str,
        hosts: Mapping[str, Mapping[str, Any]],
        places: Sequence[Place] = (),
        separate: bool = False,
        defaults: bool = False,
        **variables: Any,
    ) -> Costs:
        """Run a playbook on ``hosts``. ``separate``: what runs on ``places`` is no child of the playbook's.
        ``defaults``: facts are gathered and nothing is pipelined, as Ansible has it.

        Raises CalledProcessError when it fails; what it printed is in the file ``log``.
        """
        classes: dict[str, Any] = {name: {"hosts": {}} for name in CLASSES}
        for name, host in hosts.items():
            classes[host["device_class"]]["hosts"][name] = dict(host)
        inventory = {
            "all": {
                "vars": {"model_repository": str(DIGITS), "model_repository_unsigned": True},
                "children": {"edge": {"children": classes}},
            }
        }
        (self._directory / "hosts.json").write_text(json.dumps(inventory))
        command = ["ansible-playbook", playbook, "-i", "hosts.json", "-e", json.dumps(variables)]
        devices_before = sum(place.cpu_seconds() for place in places)
        before, began = _children_seconds(), time.monotonic()
        with self.log.open("wb") as log:
            process = subprocess.Popen(
                command, cwd=self._directory, env=self._environment(defaults), stdout=log, stderr=subprocess.STDOUT
            )
            watched = _Watch(process.pid)
            code = process.wait()
        wall = time.monotonic() - began
        watched.stop()
        _end_connections()
        device_seconds = sum(place.cpu_seconds() for place in places) - devices_before
        seconds = _children_seconds() - before
        if code != 0:
            raise subprocess.CalledProcessError(code, command)
        return Costs(
            devices=len(hosts),
            wall_seconds=wall,
            controller_seconds=seconds if separate else seconds - device_seconds,
            main_seconds=watched.main_seconds,
            device_seconds=device_seconds,
            memory_bytes=watched.memory_bytes,
        )

    @property
    def log(self) -> Path:
        """What the last playbook printed."""
        return self._directory / "log"

    def _environment(self, defaults: bool) -> dict[str, str]:
        home = str(self._directory)
        return {
            "PATH": os.environ["PATH"],
            "HOME": home,
            "LC_ALL": "C.UTF-8",
            "ANSIBLE_CONFIG": str(REPOSITORY / "ansible.cfg"),
            "ANSIBLE_HOME": f"{home}/.ansible",
            "ANSIBLE_COLLECTIONS_PATH": str(PYTHON_PATH),
            "ANSIBLE_LOCALHOST_WARNING": "false",
            # Of local connections too, which the configuration does not mention.
            "ANSIBLE_PIPELINING": str(not defaults),
            "ANSIBLE_GATHERING": "implicit" if defaults else "explicit",
            "ANSIBLE_REMOTE_TMP": f"{home}/remote-tmp",
        }


class _Watch:
    """Looks at a playbook's processes until it is stopped."""

    def __init__(self, pid: int) -> None:
        self.memory_bytes = 0
        self.main_seconds = 0.0
        self._pid = pid
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._run)
        self._thread.start()

    def stop(self) -> None:
        """Look no more."""
        self._ended.set()
        self._thread.join()

    def _run(self) -> None:
        while not self._ended.wait(LOOK_SECONDS):
            self.memory_bytes = max(self.memory_bytes, sum(_memory(pid) for pid in _controller_processes(self._pid)))
            with suppress(OSError):
                words = Path(f"/proc/{self._pid}/stat").read_text().rpartition(")")[2].split()
                self.main_seconds = (int(words[11]) + int(words[12])) / os.sysconf("SC_CLK_TCK")


def _controller_processes(pid: int) -> Iterator[int]:
    """The process and those that it started, except what runs on devices."""
    yield pid
    with suppress(OSError):
        for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split():
            arguments = Path(f"/proc/{child}/cmdline").read_bytes().split(b"\0")
            # A device's shell is started by one of the controller's, which becomes it.
            if not arguments[0].endswith((b"/shell", b"/bash", b"/sh")):
                yield from _controller_processes(int(child))


def _memory(pid: int) -> int:
    """The process's share of memory, in bytes: what it shares with others is divided among them."""
    with suppress(OSError):
        for line in Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines():
            if line.startswith("Pss:"):
                return int(line.split()[1]) * 1024
    return 0


def _children_seconds() -> float:
    usage = resource.getrusage(resource.RUSAGE_CHILDREN)
    return usage.ru_utime + usage.ru_stime


def _end_connections() -> None:
    """End the connections that ssh keeps open, so that the kernel adds up what they have used."""
    me = os.getpid()
    for child in Path(f"/proc/{me}/task/{me}/children").read_text().split():
        with suppress(OSError):
            if Path(f"/proc/{child}/comm").read_text() == "ssh\n":
                os.kill(int(child), signal.SIGTERM)
                os.waitpid(int(child), 0)


@dataclass(frozen=True)
class Archive:
    """The release as the role of fifteen tasks takes it: a file that a web server has."""

    url: str
    sha256: str


@contextmanager
def web_server(directory: Path, made: Made) -> Iterator[Archive]:
    """Serve the release's files as one archive."""
    files = made.release.files(made.release.variants[0])
    path = directory / "release.tar.gz"
    with tarfile.open(path, "w:gz") as archive:
        for file in files:
            source = directory / file.path
            source.write_bytes(made.blobs[file.sha256])
            archive.add(source, file.path)
    content = path.read_bytes()

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200)
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            self.wfile.write(content)

        def log_message(self, *_message: Any) -> None:
            pass

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        threading.Thread(target=server.serve_forever).start()
        try:
            yield Archive(f"http://127.0.0.1:{server.server_port}/", hashlib.sha256(content).hexdigest())
        finally:
            server.shutdown()


class Scale:
    """The measurements, each on a fleet that is made for it."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._before, self._after = (read_release(DIGITS, "digits", version) for version in (BEFORE, AFTER))
        self.controller = Controller(directory)

    def rollout(self, count: int, ssh: Sshd | None = None) -> Costs:
        """A rollout to ``count`` devices, by SSH where its server is given."""
        with self._fleet(count, ssh) as (places, hosts):
            costs = self.controller.run(
                "edgeml.fleet.rollout",
                hosts,
                places,
                separate=ssh is not None,
                model_name="digits",
                model_version=AFTER,
                rollout_soak_seconds=0,
                rollout_ledger=str(self._directory / "fleet" / "ledger"),
                # The devices' times are those of a machine with all of them.
                rollout_limits={"latency_ratio_max": 1000},
            )
            for place in places:
                assert place.store.state("digits").active == AFTER
        return costs

    def plan(self, count: int) -> Costs:
        """Only the plan of a rollout, for devices that are not there: none is asked anything."""
        hosts = {
            f"edge-{number:06}": {"device_class": CLASSES[number % len(CLASSES)], "site": f"site-{number // 50}"}
            for number in range(count)
        }
        return self.controller.run(
            "edgeml.fleet.rollout",
            hosts,
            model_name="digits",
            model_version=AFTER,
            rollout_plan_only=True,
            rollout_ledger=str(self._directory / "plan"),
        )

    def fifteen_tasks(self, count: int, ssh: Sshd | None = None, defaults: bool = False) -> Costs:
        """The usual role, on as many devices."""
        with self._fleet(count, ssh) as (places, hosts), web_server(self._directory, self._after) as archive:
            costs = self.controller.run(
                str(FIFTEEN_TASKS),
                hosts,
                places,
                separate=ssh is not None,
                defaults=defaults,
                fifteen_tasks_url=archive.url,
                fifteen_tasks_sha256=archive.sha256,
            )
            for place in places:
                assert (place.directory / "lib" / "usual" / "current").is_symlink()
        return costs

    @contextmanager
    def _fleet(self, count: int, ssh: Sshd | None) -> Iterator[tuple[Sequence[Place], Mapping[str, Mapping[str, Any]]]]:
        directory = self._directory / "fleet"
        directory.mkdir()
        with ExitStack() as stack:
            stack.callback(shutil.rmtree, directory, ignore_errors=True)
            places = stack.enter_context(SimulatedFleet(directory, count, self._before, self._after)).places
            for place in places:
                for version in ("0.9.0", BEFORE):
                    (place.directory / "lib" / "usual" / "releases" / version).mkdir(parents=True)
            if ssh:
                hosts = {place.name: {**place.variables(), **ssh.variables(place.address)} for place in places}
            else:
                hosts = {place.name: {**place.variables(), "ansible_connection": "local"} for place in places}
            yield places, hosts


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--devices", type=int, nargs="*", default=[30, 100], help="sizes of the fleets")
    parser.add_argument("--usual", type=int, nargs="*", default=[30], help="those for the role of fifteen tasks")
    parser.add_argument(
        "--ssh", type=int, nargs="*", default=[30], help="sizes of the fleets that SSH reaches, for both"
    )
    parser.add_argument("--plan", type=int, nargs="*", default=[1000, 10_000], help="sizes of the fleets only planned")
    options = parser.parse_args()
    program = find_sshd() if options.ssh else None
    leave_the_machine()
    rows: list[tuple[str, Costs]] = []

    def note(way: str, costs: Costs) -> None:
        rows.append((way, costs))
        print(f"{way}: {costs}", file=sys.stderr, flush=True)

    with tempfile.TemporaryDirectory(prefix="edgeml-scale-") as name, ExitStack() as stack:
        ssh = stack.enter_context(Sshd(Path(name), *program)) if program else None
        scale = Scale(Path(name))
        try:
            for count in options.devices:
                note("rollout, local", scale.rollout(count))
            for count in options.usual:
                note("fifteen tasks, local", scale.fifteen_tasks(count))
            for count in options.ssh:
                note("rollout, SSH", scale.rollout(count, ssh))
                note("fifteen tasks, SSH", scale.fifteen_tasks(count, ssh))
                note("fifteen tasks, Ansible's defaults, SSH", scale.fifteen_tasks(count, ssh, defaults=True))
            for count in options.plan:
                note("plan only", scale.plan(count))
        except subprocess.CalledProcessError:
            print(scale.controller.log.read_text()[-5000:], file=sys.stderr)
            raise
    print("\n".join(text_table([_row(way, costs, rows) for way, costs in rows])))


def _row(way: str, costs: Costs, rows: Iterable[tuple[str, Costs]]) -> dict[str, str]:
    """What a playbook cost, in multiples of the rollout's to as many devices and of its own to the fewest."""
    rollout = f"rollout, {way.rpartition(', ')[2]}"
    beside = next((other for name, other in rows if name == rollout and other.devices == costs.devices), None)
    fewest = min((other for name, other in rows if name == way), key=lambda other: other.devices)
    return {
        "playbook": way,
        "devices": str(costs.devices),
        "CPU / rollout's": f"{costs.per_device / beside.per_device:.2f}" if beside else "-",
        "CPU per device / fewest's": f"{costs.per_device / fewest.per_device:.2f}",
        "each more / fewest's": _more(costs, fewest),
        "memory / fewest's": f"{costs.memory_bytes / fewest.memory_bytes:.2f}",
        "main process": f"{costs.main_seconds / costs.controller_seconds:.0%}",
        "CPU ms per device": f"{1000 * costs.per_device:.1f}",
        "memory MB": f"{costs.memory_bytes / 1e6:.0f}",
        "wall s": f"{costs.wall_seconds:.0f}",
    }


def _more(costs: Costs, fewest: Costs) -> str:
    """What each device above the fewest costs, in multiples of what each of the fewest does: below 1, because what a
    playbook costs whatever the devices is shared by more of them."""
    if costs.devices == fewest.devices:
        return "-"
    each = (costs.controller_seconds - fewest.controller_seconds) / (costs.devices - fewest.devices)
    return f"{each / fewest.per_device:.2f}"


if __name__ == "__main__":
    main()
