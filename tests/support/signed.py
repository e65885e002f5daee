# Copyright (c) 2026, The edgeml.fleet authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Signed model repositories made for a test, by keys that are made for it, and a server that does evil with them."""

from __future__ import annotations

import contextlib
import datetime
import http.server
import shutil
import threading
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any

from releases import make_release, publish
from tuf.api.metadata import Metadata, Snapshot, Targets, Timestamp

from ansible_collections.edgeml.fleet.plugins.module_utils._trust import metadata
from ansible_collections.edgeml.fleet.plugins.module_utils._trust.client import Client, Fetcher
from ansible_collections.edgeml.fleet.plugins.plugin_utils._trust import keys
from ansible_collections.edgeml.fleet.plugins.plugin_utils._trust.keys import PrivateKey
from ansible_collections.edgeml.fleet.plugins.plugin_utils._trust.request import Request
from ansible_collections.edgeml.fleet.plugins.plugin_utils._trust.signing import RoleKeys, SigningRepository


def days_ago(days: float) -> Callable[[], datetime.datetime]:
    """A clock that is wrong by so many days."""
    return lambda: metadata.now_utc() - datetime.timedelta(days=days)


@dataclass
class Holders:
    """Everybody's keys: three of root, three of targets, one online."""

    root: list[PrivateKey] = field(default_factory=lambda: [keys.generate(f"root-{n}") for n in (1, 2, 3)])
    targets: list[PrivateKey] = field(default_factory=lambda: [keys.generate(f"targets-{n}") for n in (1, 2, 3)])
    online: PrivateKey = field(default_factory=lambda: keys.generate("online"))

    def roles(self) -> dict[str, RoleKeys]:
        """Who may sign what, as a new repository is told."""
        online = RoleKeys((self.online.public,), 1)
        return {
            "root": RoleKeys(tuple(key.public for key in self.root), 2),
            "targets": RoleKeys(tuple(key.public for key in self.targets), 2),
            "snapshot": online,
            "timestamp": online,
        }


class Signed:
    """A signed repository in a directory, with its keys."""

    def __init__(self, path: Path, versions: Sequence[str] = ("1.0.0",), clock: Any = metadata.now_utc) -> None:
        self.path = path
        self.holders = Holders()
        self.signing = SigningRepository(str(path), now=clock)
        path.mkdir(parents=True, exist_ok=True)
        self.add(*versions)
        request = self.signing.begin(self.holders.roles())
        self.sign(request, *self.holders.root[:2], *self.holders.targets[:2])
        self.signing.complete(request, [self.holders.online])
        # What a controller is given.
        self.root = self.signing.root().to_bytes()

    def add(self, *versions: str) -> None:
        """Put releases into the repository, not signed yet."""
        for version in versions:
            publish(make_release(version), self.path)

    def sign(self, request: Request | None, *signers: PrivateKey) -> Request:
        """Sign a request."""
        assert request is not None
        for key in signers:
            request.sign(key)
        return request

    def release(self, *versions: str) -> None:
        """Put releases into the repository, and bring them into force."""
        self.add(*versions)
        self.signing.complete(
            self.sign(self.signing.propose_targets(), *self.holders.targets[:2]), [self.holders.online]
        )

    def rotate(self, role: str, *holders: PrivateKey, threshold: int, also: Sequence[PrivateKey] = ()) -> None:
        """Have other keys sign for a role. ``also``: who signs targets, or is the new online key."""
        roles = ("snapshot", "timestamp") if role == "online" else (role,)
        changed = RoleKeys(tuple(key.public for key in holders), threshold)
        request = self.signing.propose_root(dict.fromkeys(roles, changed))
        signers = [*self.holders.root[:2], *(holders if role == "root" else ())]
        signers += also if request.targets else ()
        self.sign(request, *signers)
        self.signing.complete(request, [self.holders.online, *(holders if role == "online" else ())])

    def client(self, state: Path, location: str | None = None, fetcher: Fetcher | None = None) -> Client:
        """A client that trusts the first root."""
        return Client(location or str(self.path), self.root, str(state), fetcher=fetcher)

    # ---- what an evil writer of the files can do ----

    @property
    def directory(self) -> Path:
        """The directory of the metadata."""
        return self.path / "metadata"

    def copy(self, target: Path) -> Path:
        """A copy of the metadata, for later."""
        shutil.copytree(self.directory, target)
        return target

    def bring_back(self, copy: Path, *names: str) -> None:
        """Put files of an earlier copy in place; all of them, if none are named."""
        for name in names or [path.name for path in copy.iterdir()]:
            shutil.copyfile(copy / name, self.directory / name)

    def forge(
        self,
        targets: Targets | None,
        signers: Sequence[PrivateKey],
        online: PrivateKey,
        **changes: int,
    ) -> None:
        """Bring targets into force by hand, without any of the checks. ``changes``: versions to write instead."""
        now = self.signing.state()
        document: Metadata[Any] = now.targets
        if targets is not None:
            document = Metadata(targets)
            for key in signers:
                document.sign(key.signer, append=True)
            (self.directory / f"{targets.version}.targets.json").write_bytes(document.to_bytes())
        files = SigningRepository(str(self.path))
        snapshot = Metadata(
            Snapshot(
                version=changes.get("snapshot", now.snapshot.signed.version + 1),
                expires=files._until("snapshot"),
                meta={"targets.json": metadata_file(document, changes.get("targets"))},
            )
        )
        snapshot.sign(online.signer)
        timestamp = Metadata(
            Timestamp(
                version=changes.get("timestamp", now.timestamp.signed.version + 1),
                expires=files._until("timestamp"),
                snapshot_meta=metadata_file(snapshot),
            )
        )
        timestamp.sign(online.signer)
        (self.directory / f"{snapshot.signed.version}.snapshot.json").write_bytes(snapshot.to_bytes())
        (self.directory / "timestamp.json").write_bytes(timestamp.to_bytes())


def metadata_file(document: Metadata[Any], version: int | None = None) -> Any:
    """What refers to a document, with its length and digest."""
    from tuf.api.metadata import MetaFile

    content = document.to_bytes()
    return MetaFile.from_data(version or document.signed.version, content, ["sha256"])


Answer = Callable[[http.server.BaseHTTPRequestHandler], None]


@contextlib.contextmanager
def served(directory: Path, evil: dict[str, Answer] | None = None) -> Iterator[str]:
    """Serve a repository on 127.0.0.1 and return its address. ``evil``: what answers a path instead."""
    answers = evil if evil is not None else {}

    class Handler(http.server.SimpleHTTPRequestHandler):
        def __init__(self, *args: Any) -> None:
            super().__init__(*args, directory=str(directory))

        def do_GET(self) -> None:
            answer = answers.get(self.path)
            with contextlib.suppress(ConnectionError):
                if answer:
                    answer(self)
                else:
                    super().do_GET()

        def log_message(self, *args: Any) -> None:
            """Say nothing."""

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    # Each has ended before the test has.
    server.daemon_threads = False
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


class Counting(Fetcher):
    """Notes what is read, and calls ``before`` with the number of each read."""

    def __init__(self, location: str, before: Callable[[int], None] | None = None) -> None:
        super().__init__(location)
        self.urls: list[str] = []
        self._before = before

    @contextlib.contextmanager
    def download_file(self, url: str, max_length: int) -> Iterator[IO[bytes]]:
        self.urls.append(url)
        if self._before:
            self._before(len(self.urls))
        with super().download_file(url, max_length) as file:
            yield file
