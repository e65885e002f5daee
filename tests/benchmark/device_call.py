# Copyright (c) 2026, The edgeml.fleet authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What one call to a device costs: bytes on the link, the device's processor, natively and emulated, the controller's.

Beside another tree of this collection (``--baseline``), and beside Mitogen's strategy (``--mitogen``).
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import shutil
import signal
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "support"))

from clone import PYTHON_PATH, REPOSITORY
from device import APP, Device
from device_app import COMMAND, PYTHON, write_command
from measure import measured, read_costs
from releases import Made, read_release
from simulated_fleet import Place, SimulatedFleet, leave_the_machine
from sshd import Sshd, find_sshd

from ansible_collections.edgeml.fleet.plugins.module_utils._common.code import code_digest
from ansible_collections.edgeml.fleet.plugins.module_utils._common.table import text_table
from ansible_collections.edgeml.fleet.plugins.module_utils._device.request import write_call

DIGITS = REPOSITORY / "examples" / "digits" / "repository"
CALLS = ("model_info", "model_swap")
THIS, OTHER, MITOGEN, PING = "this tree", "the other tree", "Mitogen", "Ansible's ping"


def arguments(call: str) -> dict[str, Any]:
    """What a rollout asks: for a read, and for a swap to what is active already."""
    if call == "model_info":
        return {"model": "digits"}
    return {"model": "digits", "version": "1.0.0", "trial_seconds": 0, "repository": str(DIGITS)}


def on_device_arguments(call: str) -> dict[str, Any]:
    """The same as it reaches a device, with the manifest in the place of its path."""
    options = arguments(call)
    if options.pop("repository", None):
        options["manifest"] = dict(read_release(DIGITS, "digits", "1.0.0").document)
    return options


@dataclass(frozen=True)
class Tree:
    """A way to call: a tree of this collection, with the variables that its runs of Ansible need."""

    name: str
    collections: Path
    programs: Path
    settings: Mapping[str, str]


class Controller:
    """Runs tasks on hosts, from ``directory``."""

    def __init__(self, directory: Path, tree: Tree, hosts: Mapping[str, Mapping[str, Any]]) -> None:
        self._tree = tree
        self._directory = directory
        directory.mkdir()
        (directory / "hosts.json").write_text(json.dumps({"all": {"hosts": hosts}}))

    def run(self, hosts: str, *tasks: Mapping[str, Any], **settings: str) -> float:
        """Run tasks; return the controller's processor time in seconds, that of ssh's connections included."""
        play = {"hosts": hosts, "gather_facts": False, "tasks": list(tasks)}
        (self._directory / "play.yml").write_text(json.dumps([play]))
        environment = {
            "PATH": os.environ["PATH"],
            "HOME": str(self._directory),
            "LC_ALL": "C.UTF-8",
            "ANSIBLE_CONFIG": str(REPOSITORY / "ansible.cfg"),
            "ANSIBLE_HOME": f"{self._directory}/.ansible",
            "ANSIBLE_COLLECTIONS_PATH": str(self._tree.collections),
            # Ansible's own, with compression.
            "ANSIBLE_SSH_ARGS": "-C -o ControlMaster=auto -o ControlPersist=60s",
            **self._tree.settings,
            **settings,
        }
        command = [str(self._tree.programs / "ansible-playbook"), "-i", "hosts.json", "play.yml"]
        before = children_seconds()
        done = subprocess.run(
            command, cwd=self._directory, env=environment, capture_output=True, text=True, check=False
        )
        end_connections()
        if done.returncode != 0:
            raise RuntimeError(f"{self._tree.name}: {done.stdout[-3000:]}{done.stderr[-3000:]}")
        return children_seconds() - before


def children_seconds() -> float:
    """The processor time of all children that have ended."""
    usage = resource.getrusage(resource.RUSAGE_CHILDREN)
    return usage.ru_utime + usage.ru_stime


def end_connections() -> None:
    """End the connections that ssh and Mitogen keep open, and wait for them."""
    me = os.getpid()
    for child in Path(f"/proc/{me}/task/{me}/children").read_text().split():
        name = Path(f"/proc/{child}/comm")
        if name.exists() and name.read_text() == "ssh\n":
            os.kill(int(child), signal.SIGTERM)
            os.waitpid(int(child), 0)


def link_bytes() -> int:
    """What went over this machine's own network, in both directions, headers included."""
    for line in Path("/proc/net/dev").read_text().splitlines():
        name, _colon, counts = line.strip().partition(":")
        if name == "lo":
            return int(counts.split()[8])
    raise RuntimeError("no loopback interface")


# ---- by SSH: bytes, and what a further device costs the controller ----


def task(call: str) -> dict[str, Any]:
    """A task that makes a call."""
    return {"ansible.builtin.ping": {}} if call == "ping" else {f"edgeml.fleet.{call}": arguments(call)}


_PYTHON = """\
#!/bin/bash
unshare --mount --propagation private /bin/sh -c '
    mount --bind {directory}/lib /var/lib/edgeml && mount --bind {directory}/run /run/edgeml && exec {python} "$@"
' sh "$@"
code=$?
times >>{directory}/costs
exit $code
"""


def with_python(hosts: Mapping[str, Mapping[str, Any]], places: Sequence[Place]) -> dict[str, dict[str, Any]]:
    """The hosts, each with a Python within the device's mounts: Mitogen starts it without the device's shell."""
    found = {}
    for place in places:
        program = place.directory / "python"
        program.write_text(_PYTHON.format(directory=place.directory, python=sys.executable))
        program.chmod(0o755)
        found[place.name] = {**hosts[place.name], "ansible_python_interpreter": str(program)}
    return found


def by_ssh(
    directory: Path, trees: Sequence[Tree], hosts: Mapping[str, Mapping[str, Any]], places: Sequence[Place], rounds: int
) -> list[dict[str, str]]:
    """Bytes of a first call, with its connection, and of a further one; the controller's processor time for that, and
    for each further device that is called once; the devices' for each call."""
    first, others = next(iter(hosts)), len(hosts) - 1
    found: dict[tuple[str, str], dict[str, list[float]]] = {}
    for turn in range(rounds):
        for tree in trees:
            for call in ("ping", *CALLS):
                reached = with_python(hosts, places) if tree.name == MITOGEN else hosts
                controller = Controller(directory / f"{turn}-{trees.index(tree)}-{call}", tree, reached)
                figures = found.setdefault(
                    (tree.name, call), {name: [] for name in ("first", "bytes", "call", "controller", "device")}
                )
                sent, took = [], []
                for count in (1, 11):
                    before = link_bytes()
                    took.append(controller.run(first, *[task(call)] * count))
                    sent.append(link_bytes() - before)
                figures["first"].append(sent[0])
                figures["bytes"].append((sent[1] - sent[0]) / 10)
                figures["call"].append((took[1] - took[0]) / 10)
                one = controller.run(first, task(call))
                before_devices = sum(place.cpu_seconds() for place in places)
                every = controller.run("all", task(call))
                figures["controller"].append((every - one) / others)
                figures["device"].append((sum(place.cpu_seconds() for place in places) - before_devices) / len(hosts))
                print(f"{tree.name}: {call}: {figures}", file=sys.stderr, flush=True)
    rows = []
    for (name, call), figures in found.items():
        medians = {figure: statistics.median(values) for figure, values in figures.items()}
        beside = {figure: statistics.median(values) for figure, values in found[(trees[-1].name, call)].items()}
        rows.append(
            {
                "call by SSH": call,
                "way": name,
                "KB first": f"{medians['first'] / 1e3:.1f}",
                "first": f"{medians['first'] / beside['first']:.3f}",
                "KB more": f"{medians['bytes'] / 1e3:.1f}",
                "more": f"{medians['bytes'] / beside['bytes']:.3f}",
                "call ms": f"{1000 * medians['call']:.0f}",
                "call": f"{medians['call'] / beside['call']:.2f}",
                "controller ms": f"{1000 * medians['controller']:.0f}",
                "controller": f"{medians['controller'] / beside['controller']:.2f}",
                "device ms": f"{1000 * medians['device']:.0f}",
                "device": f"{medians['device'] / beside['device']:.2f}",
            }
        )
    return rows


# ---- on the device: its processor ----


def sent_modules(directory: Path, tree: Tree, device: Device) -> dict[str, Path]:
    """The files that Ansible sends to ``device``, by the name of the module."""
    device.remove_command()
    controller = Controller(directory / "sent", tree, {device.name: device.inventory()})
    controller.run(
        device.name,
        {"ansible.builtin.ping": {}},
        *({f"edgeml.fleet.{call}": on_device_arguments(call)} for call in CALLS),
        ANSIBLE_PIPELINING="false",
        ANSIBLE_KEEP_REMOTE_FILES="true",
        ANSIBLE_REMOTE_TMP=str(directory / "remote"),
    )
    return {path.stem.removeprefix("AnsiballZ_"): path for path in (directory / "remote").glob("*/AnsiballZ_*.py")}


def on_device(
    directory: Path, device: Device, root: Path | None, modules: Mapping[str, Mapping[str, Path]], rounds: int
) -> list[dict[str, str]]:
    """The processor time of each call on a device, children included: within its mounts or, with ``root``, within that
    file system, whose programs are another architecture's and so emulated."""
    log = directory / "costs"
    enter = ["chroot", str(root)] if root else list(device.enter())
    python = "/usr/bin/python3" if root else sys.executable
    commands: dict[tuple[str, str], tuple[list[str], bytes]] = {
        ("Python alone", "-"): ([python, "-sSE", "-c", "pass"], b""),
    }
    for name, files in modules.items():
        for call, path in files.items():
            key = (PING, "-") if call == "ping" else (call, name)
            commands.setdefault(key, ([python, "-"], path.read_bytes()))
    for call in CALLS:
        request = write_call(code_digest(), call, False, on_device_arguments(call))
        commands[(call, "request")] = (["/usr/local/bin/edgeml", "call"], request)
    device.install_command()
    seconds: dict[tuple[str, str], list[float]] = {}
    for _turn in range(rounds):
        for key, (command, text) in commands.items():
            log.unlink(missing_ok=True)
            done = subprocess.run(measured(log, *enter, *command), input=text, capture_output=True, check=False)
            if done.returncode != 0 or (text and b'"failed": true' in done.stdout):
                raise RuntimeError(f"{key}: {done.stdout[-2000:]!r} {done.stderr[-2000:]!r}")
            seconds.setdefault(key, []).append(read_costs(log)[0].cpu_seconds)
    rows = []
    for (call, way), values in sorted(seconds.items()):
        beside = seconds.get((call, OTHER)) or seconds.get((call, THIS)) or values
        rows.append(
            {
                "on the device": call,
                "way": f"module, {way}" if way in (THIS, OTHER) else way,
                "where": "emulated aarch64" if root else "natively",
                "CPU ms": f"{1000 * statistics.median(values):.0f} ({1000 * min(values):.0f}-{1000 * max(values):.0f})",
                "/ the other tree's": f"{statistics.median(values) / statistics.median(beside):.2f}",
            }
        )
    return rows


@contextmanager
def emulated(directory: Path, archive: Path, device: Device) -> Iterator[Path]:
    """The device's own root file system, with the store and the server of ``device`` and an app installed."""
    root = directory / "root"
    root.mkdir()
    subprocess.run(["tar", "--extract", "--file", str(archive), "--directory", str(root)], check=True)
    app = root / APP[1:]
    shutil.copytree(
        REPOSITORY / "plugins/module_utils", app / "edgeml_device", ignore=shutil.ignore_patterns("__pycache__")
    )
    write_command(app, program=COMMAND.replace(PYTHON, "/usr/bin/python3"))
    (root / "usr/local/bin/edgeml").symlink_to(f"{APP}/edgeml")
    inside = ["chroot", str(root), "/usr/bin/python3"]
    subprocess.run([*inside, "-m", "compileall", "-q", f"{APP}/edgeml_device"], check=True)
    # The standard library's bytecode is there, as after the package's installation.
    subprocess.run([*inside, "-c", "import ssl, http.client, zipfile, logging, tempfile"], check=True)
    mounts = {"lib": "var/lib/edgeml", "run": "run/edgeml"}
    with ExitStack() as stack:
        for source, target in (
            ("/proc", "proc"),
            ("/dev", "dev"),
            *((str(device.directory / a), b) for a, b in mounts.items()),
        ):
            (root / target).mkdir(parents=True, exist_ok=True)
            subprocess.run(["mount", "--bind", source, str(root / target)], check=True)
            stack.callback(subprocess.run, ["umount", str(root / target)], check=True)
        yield root


def measure_devices(
    directory: Path, trees: Sequence[Tree], release: Made, archive: Path | None, runs: int
) -> list[dict[str, str]]:
    """What each call costs a device, natively and, with its root file system, emulated."""
    with Device(_made(directory / "device"), "device") as device:
        device.serve(release)
        modules = {
            tree.name: sent_modules(_made(directory / f"modules-{number}"), tree, device)
            for number, tree in enumerate(trees)
            if tree.name in (THIS, OTHER)
        }
        rows = on_device(directory, device, None, modules, runs)
        if archive:
            with emulated(directory, archive, device) as root:
                rows += on_device(directory, device, root, modules, runs)
    return rows


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--baseline", type=Path, help="another tree of this collection, to compare with")
    parser.add_argument("--mitogen", type=Path, help="a virtual environment that has ansible-core and mitogen")
    parser.add_argument("--rootfs", type=Path, help="a device's root file system (.tar), for the emulated figures")
    parser.add_argument("--devices", type=int, default=11, help="devices that SSH reaches")
    parser.add_argument("--rounds", type=int, default=3, help="how often all by SSH is measured")
    parser.add_argument("--runs", type=int, default=15, help="how often each call is run on the device; 0: never")
    options = parser.parse_args()
    program = find_sshd()
    programs = Path(sys.executable).parent
    trees = [Tree(THIS, PYTHON_PATH, programs, {})]
    if options.mitogen:
        strategies = next(options.mitogen.glob("lib/python3*/site-packages/ansible_mitogen/plugins/strategy"))
        mitogen = {"ANSIBLE_STRATEGY_PLUGINS": str(strategies), "ANSIBLE_STRATEGY": "mitogen_linear"}
        baseline = (options.baseline or REPOSITORY) / ".cache/python"
        trees.append(Tree(MITOGEN, baseline, options.mitogen / "bin", mitogen))
    if options.baseline:
        subprocess.run([sys.executable, str(options.baseline / "tests/support/links.py")], check=True)
        trees.append(Tree(OTHER, options.baseline / ".cache/python", programs, {}))
    leave_the_machine()
    before, after = (read_release(DIGITS, "digits", version) for version in ("1.0.0", "1.1.0"))
    with tempfile.TemporaryDirectory(prefix="edgeml-call-") as name:
        directory = Path(name)
        if options.runs:
            rows = measure_devices(directory, trees, before, options.rootfs, options.runs)
            print("\n".join(text_table(rows)), end="\n\n", flush=True)
        with ExitStack() as stack:
            ssh = stack.enter_context(Sshd(directory, *program))
            places = stack.enter_context(
                SimulatedFleet(_made(directory / "fleet"), options.devices, before, after)
            ).places
            hosts = {place.name: {**place.variables(), **ssh.variables(place.address)} for place in places}
            print("\n".join(text_table(by_ssh(_made(directory / "plays"), trees, hosts, places, options.rounds))))


def _made(directory: Path) -> Path:
    directory.mkdir()
    return directory


if __name__ == "__main__":
    main()
