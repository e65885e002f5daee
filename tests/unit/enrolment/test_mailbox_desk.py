# Copyright (c) 2026, The edgeml.fleet authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Requests that are read from a mailbox over TLS, whatever the server there answers."""

from __future__ import annotations

import http.server
import json
import ssl
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from authorities import Authority

from ansible_collections.edgeml.fleet.plugins.module_utils._enrolment.request import EnrolmentError
from ansible_collections.edgeml.fleet.plugins.plugin_utils._enrolment.desk import MailboxDesk

DIGESTS = ["0" * 64, "f" * 64]


class Server(http.server.ThreadingHTTPServer):
    """A web server with TLS that keeps what is put, and answers with ``status`` instead where it is set."""

    daemon_threads = True

    def __init__(self, directory: Path) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        authority = Authority("servers")
        self.ca = authority.write(directory / "ca.pem")
        self.client = authority.issue("reader", directory / "client.pem")
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(authority.issue("mailbox", directory / "server.pem"))
        self.socket = context.wrap_socket(self.socket, server_side=True)
        self.files: dict[str, bytes] = {}
        self.status = 0
        self.url = f"https://127.0.0.1:{self.server_address[1]}"


class Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: Server

    def do_GET(self) -> None:
        names = [{"name": name.rpartition("/")[2]} for name in self.server.files]
        listed = self.server.files.get("list", json.dumps(names).encode())
        self._answer(listed if self.path.endswith("/") else self.server.files.get(self.path))

    def do_PUT(self) -> None:
        self.server.files[self.path] = self.rfile.read(int(self.headers["Content-Length"]))
        self._answer(b"")

    def do_DELETE(self) -> None:
        self._answer(b"" if self.server.files.pop(self.path, None) is not None else None)

    def _answer(self, content: bytes | None) -> None:
        self.send_response(self.server.status or (404 if content is None else 200))
        self.send_header("Content-Length", str(len(content or b"")))
        self.end_headers()
        self.wfile.write(content or b"")

    def log_message(self, *_arguments: object) -> None:
        pass


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Server]:
    with Server(tmp_path) as made:
        thread = threading.Thread(target=made.serve_forever, args=(0.01,))
        thread.start()
        yield made
        made.shutdown()
        thread.join()


@pytest.fixture
def desk(server: Server) -> Iterator[MailboxDesk]:
    made = MailboxDesk(f"{server.url}/reports", str(server.client), str(server.ca))
    yield made
    made.close()


def test_a_request_is_read_and_answered(server: Server, desk: MailboxDesk) -> None:
    server.files = {f"/enroll/{digest}.csr": b"request" for digest in reversed(DIGESTS)}
    server.files["/enroll/other"] = b""
    assert desk.waiting() == DIGESTS
    assert desk.request(DIGESTS[0]) == b"request"
    desk.answer(DIGESTS[0], "certificate")
    assert server.files[f"/enroll/{DIGESTS[0]}.pem"] == b"certificate"
    assert desk.waiting() == DIGESTS[1:]
    # Renewed: nobody had asked.
    desk.answer(DIGESTS[0], "another")
    assert server.files[f"/enroll/{DIGESTS[0]}.pem"] == b"another"


def test_a_request_that_is_too_long_is_not_read_to_its_end(server: Server, desk: MailboxDesk) -> None:
    server.files = {f"/enroll/{DIGESTS[0]}.csr": b"x" * 1_000_000}
    assert len(desk.request(DIGESTS[0])) == (16 << 10) + 1
    assert desk.waiting() == DIGESTS[:1]


@pytest.mark.parametrize("content", [b"", b"{}", b"[1]", b"[{}]"])
def test_a_list_that_is_none(server: Server, desk: MailboxDesk, content: bytes) -> None:
    server.files = {"list": content}
    if content == b"{}":
        assert desk.waiting() == []
    else:
        with pytest.raises(EnrolmentError, match="expected a list in JSON"):
            desk.waiting()


def test_a_mailbox_that_refuses(server: Server, desk: MailboxDesk) -> None:
    server.status = 403
    with pytest.raises(EnrolmentError, match=r"HTTP status 403 of GET; is enrolment open there\?"):
        desk.waiting()


def test_a_mailbox_that_is_away(server: Server, desk: MailboxDesk, tmp_path: Path) -> None:
    (tmp_path / "other").mkdir()
    stranger = Authority("another").write(tmp_path / "other/ca.pem")
    with pytest.raises(EnrolmentError, match=r"cannot be reached: .*certificate verify failed"):
        MailboxDesk(server.url, str(server.client), str(stranger)).waiting()
    server.server_close()


def test_what_is_no_mailbox(server: Server, tmp_path: Path) -> None:
    for address in ("http://mailbox.example", "https://[::1", "mailbox.example", "https://mailbox.example:99999"):
        with pytest.raises(EnrolmentError, match="expected an address with https://; found"):
            MailboxDesk(address, str(server.client), None)
    with pytest.raises(EnrolmentError, match="expected the client's certificate with its key"):
        MailboxDesk(server.url, str(server.ca), None)


def test_a_connection_that_the_server_has_closed_is_made_anew(server: Server, desk: MailboxDesk) -> None:
    server.files = {f"/enroll/{DIGESTS[0]}.csr": b"request"}
    assert desk.request(DIGESTS[0]) == b"request"
    desk._client._connection.sock.close()
    assert desk.request(DIGESTS[0]) == b"request"
