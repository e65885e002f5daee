# Copyright (c) 2026, The edgeml.fleet authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Access over TCP: certificates, credentials, and their replacement while the server runs."""

from __future__ import annotations

import base64
import http.client
import json
import socket
import ssl
import threading
from collections.abc import Callable, Iterator
from contextlib import closing, suppress
from pathlib import Path
from typing import Any

import onnx_models
import pytest
from certificates import Authority
from server_process import GUARD_SECONDS, Device, Reply, plus_input, read_reply

from ansible_collections.edgeml.fleet.plugins.module_utils._common.credentials import make_document

SECRETS = {"line-3": "correct horse battery staple", "prometheus": "tokens have no spaces in them"}
PLUS = json.dumps({"inputs": [plus_input([1, 2])]})
EVERYTHING = [
    ("GET", "/v2"),
    ("GET", "/v2/models/plus"),
    ("GET", "/v2/models/plus/ready"),
    ("POST", "/v2/models/plus/infer"),
    ("GET", "/metrics"),
    ("GET", "/none"),
    ("PUT", "/v2"),
    ("POST", "/v2/repository/index"),
    ("POST", "/v2/repository/models/plus/load"),
    ("POST", "/v2/repository/models/plus/unload"),
]


def trusting(authority: Authority, certificate: tuple[Path, Path] | None = None) -> ssl.SSLContext:
    context = ssl.create_default_context(cafile=str(authority.path))
    if certificate is not None:
        context.load_cert_chain(*certificate)
    return context


def connect(device: Device, context: ssl.SSLContext) -> http.client.HTTPSConnection:
    return http.client.HTTPSConnection("127.0.0.1", device.port, timeout=GUARD_SECONDS, context=context)


def infer(connection: http.client.HTTPConnection) -> Reply:
    connection.request("POST", "/v2/models/plus/infer", PLUS)
    return read_reply(connection)


def is_let_in(device: Device, context: ssl.SSLContext) -> bool:
    """Whether the server takes the client's certificate, or its absence, and the client the server's."""
    with closing(connect(device, context)) as connection:
        try:
            return infer(connection).status == 200
        except (ssl.SSLError, ConnectionError):
            return False


def resume(
    device: Device, context: ssl.SSLContext, session: ssl.SSLSession | None
) -> tuple[int | None, ssl.SSLSession | None, bool]:
    """Ask something in ``session``, or in a new one. Return the reply's status, the session, and if it was resumed."""
    with socket.create_connection(("127.0.0.1", device.port)) as plain:
        plain.settimeout(GUARD_SECONDS)
        try:
            with context.wrap_socket(plain, server_hostname="127.0.0.1", session=session) as client:
                client.sendall(b"GET /v2 HTTP/1.1\r\nHost: device\r\n\r\n")
                status = client.recv(1000).split()[1:2]
                return int(status[0]) if status else None, client.session, client.session_reused is True
        except (ssl.SSLError, ConnectionError):
            return None, None, False


@pytest.fixture(params=["uvloop and httptools", "asyncio and h11"])
def start(request: pytest.FixtureRequest, device: Device) -> Callable[..., Device]:
    """Start the device's server, which serves ``plus``."""

    def start(**config: Any) -> Device:
        device.publish("plus", "1.0.0", onnx_models.plus(1))
        hidden_by = device.hide("httptools", "uvloop") if "h11" in request.param else None
        device.spawn(hidden_by=hidden_by, **config)
        device.wait_ready()
        return device

    return start


# ---- TLS ----


def test_tls_is_for_tcp_and_the_unix_socket_stays_as_it_is(start: Callable[..., Device], tmp_path: Path) -> None:
    authority, other = Authority(tmp_path, "authority"), Authority(tmp_path, "other")
    certificate, key = authority.issue("server")
    device = start(tls_certificate=str(certificate), tls_key=str(key))
    assert is_let_in(device, trusting(authority))
    assert not is_let_in(device, trusting(other))
    assert device.get("/v2/health/ready", local=True).status == 200
    with socket.create_connection(("127.0.0.1", device.port)) as plain:
        plain.sendall(b"GET /v2 HTTP/1.1\r\n\r\n")
        with suppress(ConnectionError):
            assert not plain.recv(100).startswith(b"HTTP")
    old = trusting(authority)
    old.maximum_version = ssl.TLSVersion.TLSv1_2
    assert is_let_in(device, old)
    assert "tls=on credentials=off" in device.log.wait_for_text("info listening")


def test_only_clients_with_a_certificate_of_the_authority(start: Callable[..., Device], tmp_path: Path) -> None:
    authority, other = Authority(tmp_path / "1", "authority"), Authority(tmp_path / "2", "other")
    certificate, key = authority.issue("server")
    device = start(tls_certificate=str(certificate), tls_key=str(key), tls_client_ca=str(authority.path))
    assert is_let_in(device, trusting(authority, authority.issue("client")))
    assert not is_let_in(device, trusting(authority))
    assert not is_let_in(device, trusting(authority, other.issue("client")))
    assert device.get("/v2/health/ready", local=True).status == 200
    assert not [line for line in device.log.all() if line.startswith("error")]


def test_an_issuing_authority_alone_admits_its_clients_and_only_them(
    start: Callable[..., Device], tmp_path: Path
) -> None:
    """As a fleet has it: an authority for each site, below one that is kept offline."""
    root = Authority(tmp_path / "root", "root")
    site, other = (Authority(tmp_path / name, name, issuer=root) for name in ("site", "other site"))
    certificate, key = root.issue("server")
    device = start(tls_certificate=str(certificate), tls_key=str(key), tls_client_ca=str(site.path))
    client = site.issue("client")
    assert is_let_in(device, trusting(root, client))
    whole_chain = (tmp_path / "chain.pem", client[1])
    whole_chain[0].write_bytes(client[0].read_bytes() + site.path.read_bytes())
    assert is_let_in(device, trusting(root, whole_chain))
    for stranger in (other.issue("client"), root.issue("client"), None):
        assert not is_let_in(device, trusting(root, stranger))


def test_refused_handshakes_are_counted_and_logged(start: Callable[..., Device], tmp_path: Path) -> None:
    authority, other = Authority(tmp_path / "1", "authority"), Authority(tmp_path / "2", "other")
    certificate, key = authority.issue("server")
    device = start(tls_certificate=str(certificate), tls_key=str(key), tls_client_ca=str(authority.path))
    assert is_let_in(device, trusting(authority, authority.issue("client")))
    assert device.metric("edgeml_tls_handshakes_refused_total") == 0
    for _time in range(3):
        assert not is_let_in(device, trusting(authority, other.issue("client")))
    assert device.metric("edgeml_tls_handshakes_refused_total") == 3
    assert "unable to get local issuer certificate" in device.log.wait_for_text("warning TLS handshake refused")
    # A client that speaks no TLS, and one that goes away, as port scanners do.
    for said in (b"GET / HTTP/1.1\r\n\r\n", b""):
        with socket.create_connection(("127.0.0.1", device.port)) as plain:
            plain.sendall(said)
            plain.shutdown(socket.SHUT_WR)
            plain.recv(1000)
    assert is_let_in(device, trusting(authority, authority.issue("client")))
    assert not [line for line in device.log.all() if line.startswith("error")]


def test_a_new_certificate_is_used_after_a_reload(start: Callable[..., Device], tmp_path: Path) -> None:
    first, second = Authority(tmp_path / "1", "first"), Authority(tmp_path / "2", "second")
    certificate, key = first.issue("server")
    device = start(tls_certificate=str(certificate), tls_key=str(key))
    with closing(connect(device, trusting(first))) as kept:
        assert "connection" not in infer(kept).headers
        for path, content in zip((certificate, key), second.issue("server"), strict=True):
            path.write_bytes(content.read_bytes())
        assert not is_let_in(device, trusting(second))
        assert device.reload_as_unit() == "info reloaded"
        assert is_let_in(device, trusting(second))
        assert not is_let_in(device, trusting(first))
        last = infer(kept)
        assert (last.status, last.headers["connection"]) == (200, "close")


def test_a_bad_certificate_leaves_the_old_in_use(start: Callable[..., Device], tmp_path: Path) -> None:
    authority = Authority(tmp_path, "authority")
    certificate, key = authority.issue("server")
    device = start(tls_certificate=str(certificate), tls_key=str(key), tls_client_ca=str(authority.path))
    client = trusting(authority, authority.issue("client"))
    for path in (certificate, key, authority.path):
        good = path.read_bytes()
        for bad in (b"", b"not a certificate", authority.issue("another")[path is key].read_bytes()):
            if path is authority.path and b"BEGIN" in bad:
                continue
            path.write_bytes(bad)
            assert str(path) in device.reload_as_unit()
            assert is_let_in(device, client)
        path.unlink()
        assert "reload failed" in device.reload_as_unit()
        assert is_let_in(device, client)
        assert device.metric("edgeml_reload_successful") == 0
        path.write_bytes(good)
    assert device.reload_as_unit() == "info reloaded"
    assert is_let_in(device, client)
    assert device.metric("edgeml_reload_successful") == 1


def test_an_authority_that_is_gone_lets_nobody_in(start: Callable[..., Device], tmp_path: Path) -> None:
    old, new = Authority(tmp_path / "1", "old"), Authority(tmp_path / "2", "new")
    trusted = tmp_path / "trusted.pem"
    trusted.write_bytes(old.path.read_bytes())
    certificate, key = old.issue("server")
    device = start(tls_certificate=str(certificate), tls_key=str(key), tls_client_ca=str(trusted))
    context = trusting(old, old.issue("client"))
    status, session, _resumed = resume(device, context, None)
    assert status == 200
    status, session, resumed = resume(device, context, session)
    assert (status, resumed) == (200, True)
    trusted.write_bytes(new.path.read_bytes())
    assert device.reload() == "info reloaded"
    assert is_let_in(device, trusting(old, new.issue("client")))
    assert not is_let_in(device, context)
    status, _session, resumed = resume(device, context, session)
    assert (status, resumed) == (None, False)


def test_no_request_fails_while_certificates_are_replaced(start: Callable[..., Device], tmp_path: Path) -> None:
    authority = Authority(tmp_path, "authority")
    certificate, key = authority.issue("server")
    device = start(tls_certificate=str(certificate), tls_key=str(key), tls_client_ca=str(authority.path))
    context = trusting(authority, authority.issue("client"))
    stop, wrong, answered = threading.Event(), list[str](), [0, 0, 0]

    def client(number: int, anew: bool) -> None:
        with closing(connect(device, context)) as connection:
            while not stop.is_set():
                try:
                    status = infer(connection).status
                except OSError as error:
                    wrong.append(repr(error))
                    return
                if status != 200:
                    wrong.append(str(status))
                answered[number] += 1
                if anew:
                    connection.close()

    threads = [threading.Thread(target=client, args=(number, number > 0)) for number in range(3)]
    for thread in threads:
        thread.start()
    for _ in range(10):
        target = [count + 5 for count in answered]
        authority.issue("server")
        assert device.reload_as_unit() == "info reloaded"
        while not wrong and any(count < least for count, least in zip(answered, target, strict=True)):
            pass
    stop.set()
    for thread in threads:
        thread.join()
    assert wrong == []


@pytest.mark.parametrize("missing", ["tls_certificate", "tls_key", "tls_client_ca", "credentials"])
def test_a_server_does_not_start_without_what_it_is_told_to_use(device: Device, tmp_path: Path, missing: str) -> None:
    authority = Authority(tmp_path, "authority")
    certificate, key = authority.issue("server")
    config: dict[str, Any] = {"tls_certificate": str(certificate), "tls_key": str(key)}
    config[missing] = str(tmp_path / "absent")
    device.spawn(**config)
    assert device.wait() == 2
    assert "absent" in device.log.all()[-1]


def test_a_server_open_to_the_network_says_so(device: Device) -> None:
    device.start(listen_address="0.0.0.0")
    assert "any client on the network has access" in device.log.wait_for_text("warning")


# ---- credentials ----


def write_credentials(path: Path, secrets: dict[str, str]) -> None:
    credentials = [{"name": name, "secret": secret} for name, secret in secrets.items()]
    path.write_text(json.dumps(make_document(credentials, "device")))


def basic(name: str, secret: str) -> str:
    return f"Basic {base64.b64encode(f'{name}:{secret}'.encode()).decode('ascii')}"


@pytest.fixture(scope="module")
def guarded(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Device]:
    """A device that lets in ``SECRETS``."""
    device = Device(tmp_path_factory.mktemp("device"))
    path = device.directory / "credentials.json"
    write_credentials(path, SECRETS)
    device.publish("plus", "1.0.0", onnx_models.plus(1))
    device.publish("bad", "1.0.0", b"not a model")
    try:
        device.start(credentials=str(path))
        yield device
    finally:
        device.stop()


def ask(device: Device, method: str, path: str, authorization: str | None, local: bool = False) -> Reply:
    headers = {} if authorization is None else {"Authorization": authorization}
    return device.request(method, path, PLUS.encode("ascii") if "infer" in path else None, headers, local)


@pytest.mark.parametrize(
    "authorization",
    [
        None,
        "",
        "Basic",
        "Bearer",
        "Bearer ",
        "Bearer wrong",
        "Basic !!!",
        "Basic " + base64.b64encode(b"no colon").decode(),
        "Basic " + base64.b64encode(b"\xff:\xff").decode(),
        "Bearer \xe9\xff",
        "Digest " + SECRETS["line-3"],
        basic("line-3", ""),
        basic("line-3", "wrong"),
        basic("line-3", SECRETS["prometheus"]),
        basic("LINE-3", SECRETS["line-3"]),
        basic("", SECRETS["line-3"]),
        basic("line-3", SECRETS["line-3"] + " "),
        "Bearer " + "x" * 2000,
    ],
)
def test_who_has_no_good_credential_is_401_everywhere(guarded: Device, authorization: str | None) -> None:
    for method, path in EVERYTHING:
        reply = ask(guarded, method, path, authorization)
        assert (reply.status, list(reply.json())) == (401, ["error"]), path
        assert reply.headers["www-authenticate"] in ("Bearer", 'Basic realm="edgeml", charset="UTF-8"')


@pytest.mark.parametrize(
    "authorization",
    [
        basic("line-3", SECRETS["line-3"]),
        basic("prometheus", SECRETS["prometheus"]),
        "bEARER " + SECRETS["line-3"],
        "Bearer " + SECRETS["prometheus"],
    ],
)
def test_a_client_with_a_valid_credential_has_access(guarded: Device, authorization: str) -> None:
    statuses = {path: ask(guarded, method, path, authorization).status for method, path in EVERYTHING}
    assert list(statuses.values()) == [405, 200, 200, 200, 200, 404, 403, 403, 403]
    assert ask(guarded, "GET", "/v2", authorization).status == 200


def test_health_is_open_and_says_no_more_than_yes_or_no(guarded: Device) -> None:
    assert guarded.get("/v2/health/live").status == 200
    ready = guarded.get("/v2/health/ready")
    assert (ready.status, ready.json()) == (503, {"live": True, "ready": False, "error": "not ready"})
    assert "bad" in guarded.get("/v2/health/ready", local=True).json()["error"]


def test_the_unix_socket_asks_for_no_credential(guarded: Device) -> None:
    for method, path in EVERYTHING[:5]:
        assert ask(guarded, method, path, None, local=True).status == 200
    assert ask(guarded, "POST", "/v2/repository/index", "Bearer wrong", local=True).status == 200


def test_secrets_are_neither_kept_nor_logged(guarded: Device) -> None:
    ask(guarded, "GET", "/v2", basic("line-3", SECRETS["line-3"]))
    text = (guarded.directory / "credentials.json").read_text() + "\n".join(guarded.log.all())
    for secret in SECRETS.values():
        assert secret not in text
        assert basic("line-3", secret) not in text


def test_who_guesses_does_not_keep_the_others_out(guarded: Device) -> None:
    good = basic("line-3", SECRETS["line-3"])
    assert ask(guarded, "GET", "/v2", good).status == 200
    before = guarded.metric("edgeml_http_unauthorized_total") or 0
    statuses: list[int] = []

    def guess(number: int) -> None:
        statuses.append(ask(guarded, "GET", "/v2", f"Bearer guess {number}").status)

    threads = [threading.Thread(target=guess, args=(number,)) for number in range(60)]
    for thread in threads:
        thread.start()
    while any(thread.is_alive() for thread in threads):
        assert ask(guarded, "GET", "/v2", good).status == 200
    assert set(statuses) <= {401, 503}
    assert guarded.metric("edgeml_http_unauthorized_total") == before + statuses.count(401)


def test_credentials_are_replaced_while_the_server_runs(device: Device, tmp_path: Path) -> None:
    path = tmp_path / "credentials.json"
    write_credentials(path, {"line-3": SECRETS["line-3"]})
    device.start(credentials=str(path))
    with closing(device.connect()) as kept:

        def status(secret: str) -> int:
            kept.request("GET", "/v2", headers={"Authorization": f"Bearer {secret}"})
            return read_reply(kept).status

        assert [status(secret) for secret in SECRETS.values()] == [200, 401]
        write_credentials(path, SECRETS)
        assert device.reload() == "info reloaded"
        assert [status(secret) for secret in SECRETS.values()] == [200, 200]
        for bad in ("", "{}", '{"salt": "00", "hashes": {"a": 1}}', '{"salt": "00", "hashes": {"a": "x"}}', "[]"):
            path.write_text(bad)
            assert "reload failed" in device.reload()
            assert [status(secret) for secret in SECRETS.values()] == [200, 200]
        write_credentials(path, {"prometheus": SECRETS["prometheus"]})
        assert device.reload() == "info reloaded"
        assert [status(secret) for secret in SECRETS.values()] == [401, 200]
