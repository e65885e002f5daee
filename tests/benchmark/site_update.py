# Copyright (c) 2026, The edgeml.fleet authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""A new version for the devices of a site, over the one link that they share: bytes on the link, and time.

The controller and the origin are on this side of the link, the devices and the site's cache on the other. Each way
brings the same file to devices that have the version before. Of those of this collection, one takes deltas.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "support"))

from bad_link import NEAR, BadLink
from clone import PYTHON_PATH
from controller import Ansible
from networks import FILE, Network
from nginx import CONFIGURATION, NGINX, defaults, rendered
from releases import Made, make_release, publish, sha256
from simulated_fleet import Place, SimulatedFleet, leave_the_machine
from sshd import Sshd, find_sshd

from ansible_collections.edgeml.fleet.plugins.module_utils._common.table import text_table
from ansible_collections.edgeml.fleet.plugins.plugin_utils._publish.cli import main as publish_command

PORT = 8080
ORIGIN = "server {{ listen {address}:{port}; root {root}; }}"
SHARED = "model_swap, fetched from each other"
SENT_ONCE = "model_swap, sent to one by SSH"
# The first device goes first, and shares what it has.
SHARING = (SHARED, SENT_ONCE)
# Each way's first device comes at an address of its own, so that no connection of another way is used.
FIRST_ADDRESS = 1


class Site:
    """The devices behind ``link``, and what serves ``made`` to them."""

    def __init__(self, directory: Path, link: BadLink, ssh: Sshd, count: int, before: Made, made: Made) -> None:
        self._directory, self._link, self._ssh, self._count = directory, link, ssh, count
        self._before, self._made = before, made
        self._shares: list[subprocess.Popen[bytes]] = []
        self.repository = directory / "repository"
        publish(before, self.repository)
        publish(made, self.repository)
        names = (before.document["version"], made.document["version"])
        released = [str(self.repository), "--model", before.document["model"], "--from", names[0], "--to", names[1]]
        assert publish_command(["delta", "--repository", *released]) == 0
        self._file = made.release.variants[0].files[0]
        self.cache = f"http://{link.address(0)}:{PORT}"
        self.origin = f"http://{NEAR}:{PORT}"
        self._nginx((), "origin", ORIGIN.format(address=NEAR, port=PORT, root=self.repository))
        slices = directory / "slices"
        (slices / "slices").mkdir(parents=True)
        values = {**defaults("site_cache"), "listen_address": link.address(0), "listen_port": PORT}
        host = self.origin.removeprefix("http://")
        configuration = rendered(
            "site_cache",
            "edgeml-site-cache.conf",
            __site_cache_values={**values, "origin": self.origin, "directory": str(slices)},
            __site_cache_tls=False,
            __site_cache_tls_directory="",
            __site_cache_origin={"scheme": "http", "netloc": host, "hostname": NEAR, "path": ""},
        )
        self._nginx(link.enter, "cache", configuration)

    def ways(self) -> Mapping[str, Mapping[str, Any]]:
        """A task for each way."""
        name = {"model": self._before.document["model"], "version": self._made.document["version"]}
        swap = {
            **name,
            "state": "present",
            "repository": str(self.repository),
            "strategy": "none",
            "store": "{{ home }}/store",
        }
        fetch = {"sources": [self.cache, self.origin]}
        # The same release where nobody made deltas: what they are worth.
        whole = self._directory / "whole"
        shutil.copytree(self.repository, whole, ignore=shutil.ignore_patterns("deltas"))
        blob = f"blobs/sha256/{self._file.sha256}"
        target = "{{ home }}/model.onnx"
        # The first device fetches from the origin, and the others from the first one.
        shared = {"sources": "{{ peers + [origin] }}"}
        found: dict[str, Mapping[str, Any]] = {
            "model_swap, sent by SSH": {"edgeml.fleet.model_swap": swap},
            "model_swap, sent by SSH, whole": {"edgeml.fleet.model_swap": {**swap, "repository": str(whole)}},
            "model_swap, fetched by the site's cache": {"edgeml.fleet.model_swap": {**swap, "fetch": fetch}},
            SHARED: {"edgeml.fleet.model_swap": {**swap, "repository": str(whole), "fetch": shared}},
            # What no device has, the controller sends.
            SENT_ONCE: {"edgeml.fleet.model_swap": {**swap, "fetch": {"sources": "{{ peers }}"}}},
            "ansible.builtin.copy": {"ansible.builtin.copy": {"src": str(self.repository / blob), "dest": target}},
            "ansible.builtin.get_url": {
                "ansible.builtin.get_url": {
                    "url": f"{self.origin}/{blob}",
                    "dest": target,
                    "checksum": f"sha256:{self._file.sha256}",
                    # With its default of 10 seconds it fails where ten devices share such a link.
                    "timeout": 600,
                }
            },
        }
        if shutil.which("rsync"):
            source = self._directory / "synchronized" / "model.onnx"
            source.parent.mkdir(exist_ok=True)
            shutil.copyfile(self.repository / blob, source)
            found["ansible.posix.synchronize"] = {"ansible.posix.synchronize": {"src": str(source), "dest": target}}
        return found

    def measure(self, number: int, way: str, task: Mapping[str, Any]) -> dict[str, str]:
        """Bring the version to new devices."""
        directory = self._directory / f"way-{number}"
        directory.mkdir()
        places = SimulatedFleet(directory, self._count, self._before, self._made).places
        hosts = {}
        for index, place in enumerate(places):
            address = self._link.address(FIRST_ADDRESS + number * self._count + index)
            home = place.directory / "lib"
            # Where the others put the file, the version before is.
            (home / "model.onnx").write_bytes(self._before.blobs[self._before.release.variants[0].files[0].sha256])
            hosts[place.name] = {**place.variables(), **self._ssh.variables(address), "home": str(home)}
            hosts[place.name].update(origin=self.origin, peers=[])
            if way in SHARING:
                self._share(place, address)
                hosts[place.name]["peers"] = [
                    f"http://{self._link.address(FIRST_ADDRESS + number * self._count)}:{PORT}"
                ]
        ansible = Ansible(directory, [], **hosts)
        (ansible.directory / "ansible.cfg").write_text(f"[defaults]\nforks = {self._count}\n")
        play = {"hosts": "edge", "gather_facts": False, "tasks": [task]}
        if way in SHARING:
            play["serial"] = [1, "100%"]
        (ansible.directory / "site.yml").write_text(json.dumps([play]))
        before, began = link_bytes(), time.monotonic()
        run = ansible.run("site.yml")
        seconds, carried = time.monotonic() - began, link_bytes() - before
        assert run.code == 0, run
        self._check(places)
        whole = self._file.size * self._count
        return {
            "way": way,
            "MB on the link": f"{carried / 1e6:.1f}",
            "of the files": f"{carried / whole:.2f}x",
            "seconds": f"{seconds:.0f}",
        }

    def _share(self, place: Place, address: str) -> None:
        """Have a device serve what it holds."""
        options = place.directory / "share.json"
        options.write_text(json.dumps({"address": address, "port": PORT, "connections_max": self._count}))
        command = ["/usr/local/bin/edgeml", "share", "--store", place.store.root, "--config", str(options)]
        self._shares.append(subprocess.Popen([*self._link.enter, *command]))

    def _check(self, places: Sequence[Place]) -> None:
        """Every device has the file, by whichever way."""
        for place in places:
            blob = Path(place.store.root, "blobs", "sha256", self._file.sha256)
            copied = place.directory / "lib" / "model.onnx"
            found = blob if blob.exists() else copied
            assert sha256(found.read_bytes()) == self._file.sha256, place

    def _nginx(self, enter: Sequence[str], name: str, server: str) -> None:
        """A server that ends with this process's namespaces."""
        directory = self._directory / name
        directory.mkdir()
        (directory / "server.conf").write_text(server)
        (directory / "nginx.conf").write_text(CONFIGURATION.format(directory=directory))
        subprocess.run([*enter, NGINX, "-p", str(directory), "-c", str(directory / "nginx.conf")], check=True)
        self.servers = [*getattr(self, "servers", []), [*enter, NGINX, "-p", str(directory)]]

    def stop(self) -> None:
        """End the servers."""
        for process in self._shares:
            process.terminate()
            process.wait()
        for command in self.servers:
            subprocess.run([*command, "-c", f"{command[-1]}/nginx.conf", "-s", "stop"], check=True)


def pair(directory: Path) -> tuple[Made, Made]:
    """The releases of two versions of a real model, as ``delta_pairs.py`` makes them."""
    contents = [(directory / version / FILE).read_bytes() for version in ("old", "new")]
    before, made = (make_release(f"1.{number}.0", files={FILE: content}) for number, content in enumerate(contents))
    return before, made


def link_bytes() -> int:
    """What this side gave to the link and got from it, lost or not."""
    lines = Path("/proc/self/net/dev").read_text().splitlines()
    fields = next(line for line in lines if line.strip().startswith("near:")).split(":")[1].split()
    return int(fields[0]) + int(fields[8])


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--devices", type=int, default=10)
    parser.add_argument("--megabytes", type=int, default=2, help="the size of a model of which a few bytes change")
    parser.add_argument("--pair", type=Path, help="a directory with old/model.onnx and new/model.onnx in its place")
    parser.add_argument("--megabits", type=float, default=2.0, help="the link's rate, for each direction")
    parser.add_argument("--only", default="", help="measure the ways whose name has this in it")
    parser.add_argument("--delay", type=float, default=0.02, help="seconds, one way")
    options = parser.parse_args()
    os.environ["PYTHONPATH"] = str(PYTHON_PATH)
    program = find_sshd()
    leave_the_machine()
    before, made = pair(options.pair) if options.pair else map(Network(options.megabytes).release, (0, 1))
    rows: list[dict[str, str]] = []
    # The devices' files are seen by all namespaces.
    with tempfile.TemporaryDirectory(prefix="edgeml-site-") as name, ExitStack() as stack:
        link = stack.enter_context(BadLink(0.0, options.delay, options.megabits * 1e6 / 8))
        ssh = stack.enter_context(Sshd(Path(name), *program, enter=link.enter, address=link.address(0)))
        site = Site(Path(name), link, ssh, options.devices, before, made)
        stack.callback(site.stop)
        for number, (way, task) in enumerate(site.ways().items()):
            if options.only not in way:
                continue
            rows.append(site.measure(number, way, task))
            print(rows[-1], file=sys.stderr, flush=True)
        print("\n".join(text_table(rows)))
        if not shutil.which("rsync"):
            print("ansible.posix.synchronize: not measured, because rsync is not installed")


if __name__ == "__main__":
    main()
