# Copyright (c) 2026, The edgeml.fleet authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""A fleet that pulls, on this machine: a signed repository, a mailbox behind nginx, and devices with their own keys."""

from __future__ import annotations

import contextlib
import dataclasses
import io
import json
import shutil
import socket
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from authorities import Authority
from nginx import Nginx
from releases import make_release, publish
from signed import Signed

from ansible_collections.edgeml.fleet.plugins.module_utils._device.store import Store
from ansible_collections.edgeml.fleet.plugins.module_utils._pull import command
from ansible_collections.edgeml.fleet.plugins.module_utils._pull.config import PullConfig
from ansible_collections.edgeml.fleet.plugins.module_utils._pull.report import Report, read_envelope, read_report
from ansible_collections.edgeml.fleet.plugins.module_utils._release.cohort import PlanBoundaries, WaveBoundary
from ansible_collections.edgeml.fleet.plugins.module_utils._release.desired import (
    Ask,
    Desired,
    DesiredModel,
    DesiredRollout,
    SwapSettings,
    write_desired,
)
from ansible_collections.edgeml.fleet.plugins.plugin_utils._trust import keys
from ansible_collections.edgeml.fleet.plugins.plugin_utils._trust.fleets import FleetRepository, propose_fleet

MODEL, FLEET = "plain", "hall"
EVERYBODY = PlanBoundaries("salt", [WaveBoundary("100%", None, {"small": 1.0})])
# For a model that nobody serves.
AT_ONCE = SwapSettings(min_ready_seconds=0.0, trial_seconds=0.0)

SERVERS = """
map $ssl_client_s_dn $device_name {{ default ""; "~(^|,)CN=(?<cn>[^,]+)" $cn; }}
server {{ listen 127.0.0.1:{repository_port}; root {repository}; etag off; }}
server {{
    listen 127.0.0.1:{mailbox_port} ssl;
    ssl_certificate {directory}/server.pem; ssl_certificate_key {directory}/server.pem;
    ssl_client_certificate {directory}/ca.pem; ssl_verify_client on;
    client_max_body_size 1m;
    location ~ ^/reports/(?<owner>[^/]+)/ {{
        if ($owner != $device_name) {{ return 403; }}
        root {mailbox}; dav_methods PUT MKCOL MOVE; dav_access user:rw group:r;
        limit_except PUT MKCOL MOVE {{ deny all; }}
    }}
    location / {{ return 403; }}
}}
"""


def rollout(version: str, digest: str, **changes: Any) -> DesiredRollout:
    """A rollout of the model to the whole fleet."""
    fields: dict[str, Any] = {"reached": 1, "stopped": False, "boundaries": EVERYBODY, "settings": AT_ONCE, **changes}
    return DesiredRollout(id=f"{MODEL}-{version}-1", version=version, digest=digest, **fields)


class PulledFleet:
    """A fleet below ``directory``, with releases of a model that nobody serves. ``web``: with nginx."""

    def __init__(self, directory: Path, versions: Sequence[str] = ("1.0.0", "2.0.0"), web: bool = False) -> None:
        self.directory = directory
        self.signed = Signed(directory / "repository", versions=())
        self.digests: dict[str, str] = {}
        self.release(*versions)
        self.key = keys.generate("controller")
        self.allow_fleet()
        self.publisher = FleetRepository(str(self.signed.path), FLEET)
        self.mailbox = directory / "mailbox" / "reports"
        self.mailbox.mkdir(parents=True)
        self.authority = Authority("fleet")
        self.ca = self.authority.write(directory / "ca.pem")
        (directory / "root.json").write_bytes(self.signed.root)
        self.nginx: Nginx | None = None
        if web:
            self._serve()

    def release(self, *versions: str) -> None:
        """Publish and sign releases."""
        for version in versions:
            made = make_release(version, model=MODEL, files={"model.bin": f"weights {version} ".encode() * 100})
            publish(made, self.signed.path)
            self.digests[version] = made.release.digest
        if versions:
            self.sign()

    def sign(self) -> None:
        """Bring what the repository holds into force."""
        request = self.signed.signing.propose_targets()
        self.signed.signing.complete(
            self.signed.sign(request, *self.signed.holders.targets[:2]), [self.signed.holders.online]
        )

    def withdraw(self, version: str, reason: str) -> None:
        """Have nobody run a release any more."""
        (self.signed.path / MODEL / version / "withdrawn.json").write_text(json.dumps({"reason": reason}))
        self.sign()

    def allow_fleet(self, remove: Sequence[str] = ()) -> None:
        """Have the key of the controller write the fleet's desired state."""
        request = propose_fleet(self.signed.signing, FLEET, [self.key.public], remove)
        self.signed.sign(request, *self.signed.holders.targets[:2])
        self.signed.signing.complete(request, [self.signed.holders.online])

    def publish(self, *rollouts: DesiredRollout, ask: Ask | None = None, model: str = MODEL) -> int:
        """Publish a desired state: the rollouts, newest first. Return its version."""

        def content(version: int) -> bytes:
            models = {model: DesiredModel(rollouts, ask or Ask())}
            return write_desired(Desired(FLEET, version, "test", "2026-11-29T00:00:00Z", models))

        before = self.publisher.published().version
        return self.publisher.publish(content, expected=before, key=self.key, online=[self.signed.holders.online])

    def rollout(self, version: str, **changes: Any) -> DesiredRollout:
        """A rollout of a release to all devices."""
        return rollout(version, self.digests.get(version, "0" * 64), **changes)

    def device(self, name: str = "edge-1", **changes: Any) -> PullingDevice:
        """A device that was enrolled."""
        return PullingDevice(self, name, changes)

    def reports(self, name: str = "edge-1") -> list[Report]:
        """What the mailbox has of a device, in the order in which it was written."""
        paths = sorted((self.mailbox / name).glob("*.json"), key=lambda path: int(path.stem))
        return [read_report(read_envelope(path.read_bytes()).payload) for path in paths]

    # ---- nginx ----

    def _serve(self) -> None:
        ports = {}
        for name in ("repository_port", "mailbox_port"):
            with socket.socket() as free:
                free.bind(("127.0.0.1", 0))
                ports[name] = free.getsockname()[1]
        directory = self.directory / "nginx"
        directory.mkdir()
        self.authority.issue("server", directory / "server.pem")
        shutil.copyfile(self.ca, directory / "ca.pem")
        self._configuration = SERVERS.format(
            directory=directory, repository=self.signed.path, mailbox=self.mailbox.parent, **ports
        )
        self.url = f"http://127.0.0.1:{ports['repository_port']}"
        self.mailbox_url = f"https://127.0.0.1:{ports['mailbox_port']}/reports"
        self.start_web()

    def start_web(self) -> None:
        """Start nginx, again."""
        self.nginx = Nginx(self.directory / "nginx", self._configuration)

    def stop(self) -> None:
        """End nginx."""
        if self.nginx is not None and self.nginx.runs:
            self.nginx.stop()


@dataclasses.dataclass
class Poll:
    """What a poll came to."""

    code: int
    output: str
    errors: str


class PullingDevice:
    """A device that pulls: its configuration, its store, and what it remembers."""

    def __init__(self, fleet: PulledFleet, name: str, changes: Mapping[str, Any]) -> None:
        self.fleet, self.name = fleet, name
        self.directory = fleet.directory / "devices" / name
        for part in ("store", "run"):
            (self.directory / part).mkdir(parents=True)
        self.store = Store(str(self.directory / "store"))
        own = fleet.authority.issue(name, self.directory / "device.pem")
        web = fleet.nginx is not None
        self.document: dict[str, Any] = {
            "device": name,
            "device_class": "small",
            "fleet": FLEET,
            "sources": [fleet.url if web else f"file://{fleet.signed.path}"],
            "root": str(fleet.directory / "root.json"),
            "certificate": str(own),
            "key": str(own),
            "ca_file": str(fleet.ca) if web else None,
            "mailbox": fleet.mailbox_url if web else "http://127.0.0.1:1/reports",
            "state": str(self.directory / "state"),
            "runtime": str(self.directory / "run"),
            "store": str(self.directory / "store"),
            "strategy": "none",
            **changes,
        }

    @property
    def config(self) -> PullConfig:
        """Its configuration."""
        return PullConfig(**self.document)

    def poll(self) -> Poll:
        """Look once, as ``edgeml pull`` does."""
        path = self.directory / "pull.json"
        path.write_text(json.dumps(self.document))
        output, errors = io.StringIO(), io.StringIO()
        with contextlib.redirect_stdout(output), contextlib.redirect_stderr(errors):
            code = command.main(["--config", str(path)])
        return Poll(code, output.getvalue(), errors.getvalue())

    @property
    def active(self) -> str | None:
        """The version that is active."""
        return self.store.state(MODEL).active

    def queued(self) -> list[Report]:
        """The reports that were not sent."""
        paths = sorted((self.directory / "state" / "queue").glob("*.json"))
        return [read_report(read_envelope(path.read_bytes()).payload) for path in paths]

    def snapshot(self) -> dict[str, tuple[int, int, int]]:
        """Every file and directory that is its own, with its inode, size and time of change."""
        found = {}
        for path in self.directory.rglob("*"):
            if path.name not in ("pull.json", "lock"):
                status = path.lstat()
                found[str(path)] = (status.st_ino, status.st_size, status.st_mtime_ns)
        return found


@contextlib.contextmanager
def web_fleet(directory: Path, **options: Any) -> Iterator[PulledFleet]:
    """A fleet with nginx, which ends with the block."""
    fleet = PulledFleet(directory, web=True, **options)
    try:
        yield fleet
    finally:
        fleet.stop()
