# Copyright (c) 2026, The edgeml.fleet authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What nginx serves with the configuration of the role model_repository: curl asks, and the client."""

from __future__ import annotations

import re
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from authorities import Authority
from nginx import Nginx, defaults, rendered
from releases import make_release
from signed import Signed

from ansible_collections.edgeml.fleet.plugins.module_utils._fetch.options import FetchOptions
from ansible_collections.edgeml.fleet.plugins.module_utils._trust.client import Client, Fetcher
from ansible_collections.edgeml.fleet.plugins.module_utils._trust.metadata import TrustError
from ansible_collections.edgeml.fleet.plugins.plugin_utils._trust.repository import Trust, open_repository


class Server:
    """nginx with the configuration that the role writes."""

    def __init__(self, directory: Path, repository: Signed, tls: bool, **changes: Any) -> None:
        self.directory, self.repository = directory, repository
        directory.mkdir()
        values = {**defaults("model_repository"), "directory": str(repository.path), **changes}
        self.url = f"{'https' if tls else 'http'}://127.0.0.1:{values['listen_port']}"
        self.ca: Path | None = None
        if tls:
            authority = Authority("server's authority")
            self.ca = authority.write(directory / "ca.pem")
            both = authority.issue("server", directory / "certificate.pem")
            shutil.copyfile(both, directory / "key.pem")
            values["tls_certificate"] = both.read_text()
        if values["tls_client_ca"]:
            (directory / "client-ca.pem").write_text(values["tls_client_ca"])
        self._nginx = Nginx(
            directory,
            rendered(
                "model_repository",
                "edgeml-model-repository.conf",
                __model_repository_values=values,
                __model_repository_tls=tls,
                __model_repository_tls_directory=str(directory),
            ),
        )
        self.stop = self._nginx.stop

    def curl(self, path: str, *options: str) -> tuple[int, dict[str, str], bytes]:
        """Ask as curl does: status, headers by their lower-case names, content."""
        trust = ["--cacert", str(self.ca)] if self.ca else []
        body = self.directory / "body.out"
        body.unlink(missing_ok=True)
        done = subprocess.run(
            [
                "curl",
                "--silent",
                "--show-error",
                "--path-as-is",
                "--dump-header",
                "-",
                "--output",
                str(body),
                *trust,
                *options,
                f"{self.url}{path}",
            ],
            check=True,
            capture_output=True,
            text=True,
        )
        head, *lines = done.stdout.strip().splitlines()
        headers = dict(re.split(r":\s*", line, maxsplit=1) for line in lines if ":" in line)
        content = body.read_bytes() if body.exists() else b""
        return int(head.split()[1]), {name.lower(): value for name, value in headers.items()}, content


@pytest.fixture(scope="module")
def repository(tmp_path_factory: pytest.TempPathFactory) -> Signed:
    return Signed(tmp_path_factory.mktemp("models") / "models", versions=("1.0.0", "2.0.0"))


@pytest.fixture(scope="module")
def server(repository: Signed, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """A server with TLS."""
    made = Server(tmp_path_factory.mktemp("nginx") / "tls", repository, tls=True)
    yield made
    made.stop()


@pytest.fixture(scope="module")
def blob() -> tuple[str, bytes]:
    """The path of a blob, and its content."""
    ((digest, content),) = make_release("1.0.0").blobs.items()
    return f"/blobs/sha256/{digest}", content


def test_a_controller_reads_and_verifies_over_tls(server: Server, repository: Signed, tmp_path: Path) -> None:
    (tmp_path / "root.json").write_bytes(repository.root)
    trust = Trust(root=str(tmp_path / "root.json"), state=str(tmp_path / "state"), client_ca=str(server.ca))
    opened = open_repository(server.url, trust)
    release = opened.release("digits", "1.0.0")
    assert opened.verify(release) == len(next(iter(make_release("1.0.0").blobs.values())))


def test_an_authority_that_is_not_trusted(server: Server, repository: Signed, tmp_path: Path) -> None:
    with pytest.raises(TrustError, match="certificate verify failed") as caught:
        repository.client(tmp_path, server.url).refresh()
    assert caught.value.kind == "unreachable"


def test_what_never_changes_is_kept_and_what_does_is_not(server: Server, blob: tuple[str, bytes]) -> None:
    for path in (blob[0], "/digits/1.0.0/manifest.json", "/metadata/1.root.json", "/metadata/1.targets.json"):
        status, headers, _content = server.curl(path)
        assert (status, headers["cache-control"]) == (200, "public, max-age=31536000, immutable")
        assert "etag" not in headers
    status, headers, _content = server.curl("/metadata/timestamp.json")
    assert (status, headers["cache-control"]) == (200, "public, max-age=60, must-revalidate")
    # A client asks for the next root each time: nobody may remember that there was none.
    status, headers, _content = server.curl("/metadata/2.root.json")
    assert status == 404
    assert "cache-control" not in headers


def test_the_desired_state_of_a_fleet_is_served(server: Server, repository: Signed) -> None:
    for path in (f"fleet/shop/{'0' * 64}.desired.json", "metadata/7.fleet-shop.json"):
        (repository.path / path).parent.mkdir(parents=True, exist_ok=True)
        (repository.path / path).write_text("{}")
        status, headers, content = server.curl(f"/{path}")
        assert (status, headers["cache-control"]) == (200, "public, max-age=31536000, immutable")
        assert content == b"{}"
    (repository.path / "fleet/shop/key.pem").write_text("x")
    assert server.curl("/fleet/shop/key.pem")[0] == 404


def test_a_download_goes_on_where_it_broke_off(server: Server, blob: tuple[str, bytes]) -> None:
    path, content = blob
    packed = ("--header", "Accept-Encoding: gzip")
    status, headers, part = server.curl(path, "--range", "100-199", *packed)
    assert (status, part) == (206, content[100:200])
    assert headers["content-range"] == f"bytes 100-199/{len(content)}"
    assert server.curl(path, "--range", f"{len(content)}-")[0] == 416
    status, headers, whole = server.curl(path, *packed)
    assert (status, whole, headers["content-length"]) == (200, content, str(len(content)))
    assert "content-encoding" not in headers


@pytest.mark.parametrize(
    "path",
    [
        *(
            "/",
            "/metadata/",
            "/metadata",
            "/digits/",
            "/digits/1.0.0/",
            "/blobs/sha256/",
            "/digits/1.0.0/withdrawn.json",
        ),
        *("/../etc/passwd", "/digits/../../../etc/passwd", "/digits/%2e%2e/%2e%2e/etc/passwd", "/%2e%2e/server.conf"),
        *(
            "/.git/config",
            "/metadata/.left-over",
            "/metadata/1.root.json/",
            "/blobs/sha256/0",
            "/link/1.0.0/manifest.json",
        ),
    ],
)
def test_nothing_else_is_served(server: Server, repository: Signed, path: str) -> None:
    (repository.path / "digits/1.0.0/withdrawn.json").write_text('{"reason": "x"}')
    (repository.path / "metadata/.left-over").write_text("x")
    link = repository.path / "link/1.0.0/manifest.json"
    if not link.is_symlink():
        link.parent.mkdir(parents=True)
        link.symlink_to("/etc/passwd")
    status, _headers, content = server.curl(path)
    assert status in (400, 403, 404)
    assert b"root:" not in content


@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE", "OPTIONS", "PROPFIND"])
def test_it_is_for_reading(server: Server, method: str) -> None:
    assert server.curl("/metadata/timestamp.json", "--request", method)[0] == 405


def test_old_tls_is_refused(server: Server) -> None:
    with pytest.raises(subprocess.CalledProcessError) as caught:
        server.curl("/metadata/timestamp.json", "--tls-max", "1.1", "--tlsv1.0", "--ciphers", "DEFAULT:@SECLEVEL=0")
    assert caught.value.returncode == 35


def test_certificates_of_clients(repository: Signed, tmp_path: Path) -> None:
    authority = Authority("clients' authority")
    known = authority.issue("controller", tmp_path / "known.pem")
    stranger = Authority("another").issue("controller", tmp_path / "stranger.pem")
    text = authority.write(tmp_path / "ca.pem").read_text()
    server = Server(tmp_path / "nginx", repository, tls=True, tls_client_ca=text)
    try:
        for certificate, kind in ((None, "unreachable"), (stranger, "unreachable"), (known, "")):
            options = FetchOptions(ca_file=str(server.ca), certificate_file=str(certificate) if certificate else None)
            state = str(tmp_path / f"state-{certificate}".replace("/", "_"))
            client = Client(server.url, repository.root, state, fetcher=Fetcher(server.url, options))
            if kind:
                with pytest.raises(TrustError) as caught:
                    client.refresh()
                assert (caught.value.kind, "400" in str(caught.value)) == (kind, True)
            else:
                client.refresh()
    finally:
        server.stop()


def test_a_client_that_asks_too_often_is_told_to_wait(repository: Signed, tmp_path: Path) -> None:
    server = Server(tmp_path / "nginx", repository, tls=False, requests_per_second=1, requests_burst=4)
    try:
        statuses = [server.curl("/metadata/timestamp.json")[0] for _number in range(20)]
        assert statuses[:5] == [200] * 5
        assert 429 in statuses
    finally:
        server.stop()


def test_a_slow_server_is_read_to_its_end(repository: Signed, tmp_path: Path) -> None:
    """With a limit of bytes in a second, which is above what the client calls too slow."""
    server = Server(tmp_path / "nginx", repository, tls=False, bytes_per_second=20_000)
    try:
        repository.client(tmp_path / "state", server.url).refresh()
    finally:
        server.stop()
