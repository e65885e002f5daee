# Copyright (c) 2026, The edgeml.fleet authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""A real nginx with the configuration of the role site_cache, between an origin and devices that fetch."""

from __future__ import annotations

import io
import json
import os
import random
import re
import shutil
import socketserver
import subprocess
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
from authorities import Authority
from deltas import delta_between
from nginx import Nginx, defaults, rendered
from releases import make_release, publish, sha256

from ansible_collections.edgeml.fleet.plugins.module_utils._common.errors import IntegrityError
from ansible_collections.edgeml.fleet.plugins.module_utils._common.files import DurableTree
from ansible_collections.edgeml.fleet.plugins.module_utils._common.hashing import BLOCK_BYTES
from ansible_collections.edgeml.fleet.plugins.module_utils._fetch.failures import FetchError, Kind
from ansible_collections.edgeml.fleet.plugins.module_utils._fetch.fetcher import Fetcher
from ansible_collections.edgeml.fleet.plugins.module_utils._fetch.held import Held
from ansible_collections.edgeml.fleet.plugins.module_utils._fetch.options import FetchOptions
from ansible_collections.edgeml.fleet.plugins.module_utils._release.delta_index import Delta, index_document
from ansible_collections.edgeml.fleet.plugins.module_utils._release.release import File

CONTENT = random.Random(7).randbytes(3 * BLOCK_BYTES + 77)
MADE = make_release(files={"model.onnx": CONTENT})
(FILE,) = MADE.release.variants[0].files
PATH = f"/blobs/sha256/{FILE.sha256}"
# An origin as it comes with the distribution: with an ETag. What it sends is in its log.
ORIGIN = """
log_format sent '$status $http_range $body_bytes_sent $uri';
server {{ listen 127.0.0.1:{port}; root {root}; access_log {log} sent; etag on; }}
"""


class Site:
    """An origin, and a cache of it. ``without`` are lines that are taken out of the cache's configuration."""

    def __init__(self, directory: Path, without: str = "", **changes: Any) -> None:
        self.directory = directory
        self.mirror = directory / "mirror"
        publish(MADE, self.mirror)
        for name in ("origin", "cache", "slices"):
            (directory / name).mkdir()
        (directory / "slices/slices").mkdir()
        port = defaults("site_cache")["listen_port"]
        self.log = directory / "origin/sent"
        self.origin = f"http://127.0.0.1:{port}"
        self.source = Nginx(directory / "origin", ORIGIN.format(port=port, root=self.mirror, log=self.log))
        values = {**defaults("site_cache"), "origin": self.origin, "directory": str(directory / "slices"), **changes}
        parts = urlsplit(values["origin"])
        configuration = rendered(
            "site_cache",
            "edgeml-site-cache.conf",
            __site_cache_values=values,
            __site_cache_tls=bool(values["tls_certificate"]),
            __site_cache_tls_directory=str(directory),
            __site_cache_origin={
                "scheme": parts.scheme,
                "netloc": parts.netloc,
                "hostname": parts.hostname,
                "path": parts.path,
            },
        )
        if without:
            configuration, count = re.subn(rf"^.*{without}.*$", "", configuration, flags=re.MULTILINE)
            # In the two locations.
            assert count == 2
        self.cache = Nginx(directory / "cache", configuration)
        scheme = "https" if values["tls_certificate"] else "http"
        self.url = f"{scheme}://127.0.0.1:{values['listen_port']}"

    def stop(self) -> None:
        """End both, as far as they still run."""
        for server in (self.source, self.cache):
            if server.runs:
                server.stop()

    def rebuild(self, content: bytes = CONTENT, seconds: int = 100) -> None:
        """Write the mirror anew, at another time: its ETag is another one."""
        path = self.mirror / PATH[1:]
        path.with_name("new").write_bytes(content)
        at = path.stat().st_mtime + seconds
        os.utime(path.with_name("new"), (at, at))
        path.with_name("new").rename(path)

    def asked(self) -> list[str]:
        """The ranges that the origin was asked for."""
        return [line.split('"')[1] if '"' in line else line.split()[1] for line in self.lines() if "index" not in line]

    def asked_indexes(self) -> list[str]:
        """The indexes of deltas that the origin was asked for."""
        return [line.split()[-1] for line in self.lines() if line.endswith("/index.json")]

    def lines(self) -> list[str]:
        """What the origin logged."""
        return self.log.read_text().splitlines()

    def curl(self, *options: str, path: str = PATH) -> subprocess.CompletedProcess[bytes]:
        return subprocess.run(
            ["curl", "--silent", "--path-as-is", *options, f"{self.url}{path}"], capture_output=True, check=False
        )


@pytest.fixture
def site(tmp_path: Path) -> Iterator[Site]:
    made = Site(tmp_path)
    yield made
    made.stop()


def fetch(device: Path, *sources: str, file: File = FILE, held: Held | None = None, **options: Any) -> Fetcher:
    """A device fetches; what it gets is right."""
    device.mkdir(exist_ok=True)
    chosen = FetchOptions(sources=sources, **options)
    fetcher = Fetcher(DurableTree(str(device)), str(device / "fetched"), chosen, held=held)
    try:
        assert sha256(Path(fetcher.fetch(file)).read_bytes()) == file.sha256
    finally:
        fetcher.close()
    return fetcher


def test_a_site_costs_the_origin_one_download(site: Site, tmp_path: Path) -> None:
    for number in range(4):
        fetcher = fetch(tmp_path / f"device-{number}", site.url)
        assert fetcher.tally.received == len(CONTENT)
    ranges = [f"bytes={start}-{start + BLOCK_BYTES - 1}" for start in range(0, len(CONTENT), BLOCK_BYTES)]
    assert site.asked() == ranges


def test_devices_at_the_same_time_cost_one_download(site: Site, tmp_path: Path) -> None:
    together(*[lambda number=number: fetch(tmp_path / f"device-{number}", site.url) for number in range(4)])
    assert len(site.asked()) == 4


def together(*functions: Callable[[], object]) -> None:
    threads = [threading.Thread(target=function) for function in functions]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()


def test_a_mirror_that_is_rebuilt_under_a_fetch_cuts_nothing(site: Site, tmp_path: Path) -> None:
    """The first slice was cached before, the others come from the new mirror."""
    assert len(site.curl("--range", "0-9").stdout) == 10
    site.rebuild()
    fetcher = fetch(tmp_path / "device", site.url)
    assert fetcher.tally.received == len(CONTENT)
    assert len(site.asked()) == 4
    assert site.curl().stdout == CONTENT


def test_without_the_roles_line_such_a_mirror_would_cut_every_download(tmp_path: Path) -> None:
    """So the test above can fail: this is what nginx does by itself, with 200 and the whole length."""
    site = Site(tmp_path, without="proxy_hide_header ETag;")
    try:
        assert len(site.curl("--range", "0-9").stdout) == 10
        site.rebuild()
        for _time in range(2):
            done = site.curl("--dump-header", str(tmp_path / "headers"))
            assert (tmp_path / "headers").read_text().startswith("HTTP/1.1 200")
            assert done.returncode == 18, "curl: transferred a partial file"
            assert len(done.stdout) < len(CONTENT)
    finally:
        site.stop()


def test_a_mirror_that_is_wrong_does_not_reach_devices_and_heals(site: Site, tmp_path: Path) -> None:
    """Other bytes of the right length: the cache keeps them, and then the mirror is mended."""
    site.rebuild(CONTENT[:100] + b"x" + CONTENT[101:])
    with pytest.raises(FetchError) as caught:
        fetch(tmp_path / "first", site.url)
    assert caught.value.kind is Kind.CORRUPT
    site.rebuild()
    assert site.curl("--range", "100-100").stdout == b"x", "the cache still has it"
    fetch(tmp_path / "second", site.url)
    assert site.curl("--range", "100-100").stdout == CONTENT[100:101]
    fetcher = fetch(tmp_path / "third", site.url)
    assert fetcher.tally.received == len(CONTENT)


def test_a_cache_that_is_down_leads_to_the_origin(site: Site, tmp_path: Path) -> None:
    site.cache.stop()
    fetch(tmp_path / "device", site.url, site.origin)


def test_an_origin_that_is_down_leaves_what_is_cached(site: Site, tmp_path: Path) -> None:
    fetch(tmp_path / "first", site.url)
    site.source.stop()
    fetch(tmp_path / "second", site.url)


@pytest.mark.parametrize(
    "path",
    [
        "/",
        "/deltas/",
        f"/deltas/{'0' * 64}/other.json",
        f"/deltas/{'0' * 64}/index.json/",
        "/blobs/sha256/",
        "/blobs/sha256/abc",
        "/metadata/timestamp.json",
        f"/x{PATH}",
        "/../etc/passwd",
        f"{PATH}/",
    ],
)
def test_nothing_but_blobs_and_deltas_is_passed_on(site: Site, path: str) -> None:
    done = site.curl("--output", os.devnull, "--write-out", "%{http_code}", path=path)
    assert done.stdout in (b"404", b"400")
    assert not site.log.read_text()


def test_a_site_costs_the_origin_one_delta(site: Site, tmp_path: Path) -> None:
    new = CONTENT[:-5] + b"other"
    delta = delta_between(new, CONTENT)
    changed = make_release("1.1.0", files={"model.onnx": new})
    (file,) = changed.release.variants[0].files
    publish(changed, site.mirror)
    directory = site.mirror / "deltas" / file.sha256
    directory.mkdir(parents=True)
    found = index_document([Delta(sha256(delta), len(delta), (FILE.sha256,))])
    (directory / "index.json").write_text(json.dumps(found))
    (directory / sha256(delta)).write_bytes(delta)

    def open_base(digest: str, _size: int) -> io.BytesIO:
        if digest != FILE.sha256:
            raise IntegrityError(f"{digest}: not held")
        return io.BytesIO(CONTENT)

    held = Held([FILE.sha256], {}, open_base)

    def device(number: int) -> None:
        fetcher = fetch(tmp_path / f"device-{number}", site.url, file=file, held=held)
        assert (fetcher.tally.deltas, fetcher.tally.made) == (1, len(new))

    together(*[partial(device, number) for number in range(4)])
    assert site.asked_indexes() == [f"/deltas/{file.sha256}/index.json"]
    assert site.asked() == [f"bytes=0-{BLOCK_BYTES - 1}"]
    path = f"/deltas/{file.sha256}/{sha256(delta)}"
    assert site.curl(path=path).stdout == delta
    done = site.curl("--head", path=f"/deltas/{file.sha256}/index.json")
    assert b"max-age=60" in done.stdout


def test_an_index_that_is_absent_is_asked_for_once_a_minute(site: Site, tmp_path: Path) -> None:
    for number in range(3):
        fetch(tmp_path / f"device-{number}", site.url)
    assert site.asked_indexes() == [f"/deltas/{FILE.sha256}/index.json"]


@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE", "PURGE"])
def test_it_is_for_reading(site: Site, method: str) -> None:
    done = site.curl("--request", method, "--output", os.devnull, "--write-out", "%{http_code}")
    assert done.stdout == b"405"


def test_an_absent_blob_is_absent_for_seconds_only(site: Site) -> None:
    done = site.curl("--output", os.devnull, "--write-out", "%{http_code}", path=f"/blobs/sha256/{'0' * 64}")
    assert done.stdout == b"404"


def test_certificates_on_both_sides(tmp_path: Path) -> None:
    """Devices verify the cache and are verified by it; through a proxy, too, which sees nothing."""
    authority, devices = Authority("site"), Authority("devices")
    both = authority.issue("cache", tmp_path / "certificate.pem")
    shutil.copyfile(both, tmp_path / "key.pem")
    ca = devices.write(tmp_path / "client-ca.pem").read_text()
    trusted = authority.write(tmp_path / "ca.pem")
    known = devices.issue("device", tmp_path / "known.pem")
    stranger = Authority("another").issue("device", tmp_path / "stranger.pem")
    (tmp_path / "site").mkdir()
    for name in ("certificate.pem", "key.pem", "client-ca.pem"):
        shutil.copyfile(tmp_path / name, tmp_path / "site" / name)
    site = Site(tmp_path / "site", tls_certificate=both.read_text(), tls_client_ca=ca)
    try:
        fetch(tmp_path / "good", site.url, ca_file=str(trusted), certificate_file=str(known))
        with tunnel() as (proxy, targets):
            fetch(tmp_path / "far", site.url, ca_file=str(trusted), certificate_file=str(known), proxy=proxy)
        assert targets == [site.url.removeprefix("https://")]
        for certificate, ca_file, kind in (
            (known, None, Kind.UNTRUSTED),
            (stranger, trusted, Kind.REFUSED),
            (None, trusted, Kind.REFUSED),
            (tmp_path / "absent.pem", trusted, Kind.UNTRUSTED),
        ):
            with pytest.raises(FetchError) as caught:
                fetch(
                    tmp_path / "bad",
                    site.url,
                    ca_file=str(ca_file) if ca_file else None,
                    certificate_file=str(certificate) if certificate else None,
                )
            assert caught.value.kind is kind, caught.value
    finally:
        site.stop()


@contextmanager
def tunnel() -> Iterator[tuple[str, list[str]]]:
    """A proxy that knows CONNECT: its address, and whom it was asked for."""
    targets: list[str] = []

    class Handler(socketserver.StreamRequestHandler):
        def handle(self) -> None:
            target = self.rfile.readline().decode().split()[1]
            targets.append(target)
            while self.rfile.readline().strip():
                pass
            self.wfile.write(b"HTTP/1.1 200 Connection established\r\n\r\n")
            host, port = target.split(":")
            relay = subprocess.Popen(
                ["python3", "-c", _RELAY, host, port], stdin=self.connection, stdout=self.connection
            )
            relay.wait()

    class Server(socketserver.ThreadingTCPServer):
        daemon_threads = True

    with Server(("127.0.0.1", 0), Handler) as server:
        threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
        yield f"http://127.0.0.1:{server.server_address[1]}", targets
        server.shutdown()


_RELAY = """
import os, select, socket, sys
far = socket.create_connection((sys.argv[1], int(sys.argv[2])))
while True:
    for ready in select.select([0, far], [], [])[0]:
        data = os.read(0, 65536) if ready == 0 else far.recv(65536)
        if not data:
            sys.exit()
        far.sendall(data) if ready == 0 else os.write(1, data)
"""
