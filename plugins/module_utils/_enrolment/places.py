# Copyright (c) 2026, The edgeml.fleet authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# PRIVATE to the collection edgeml.fleet: no stable interface.

"""Where a machine has credentials: what is there, a request of a new key, and new files that its service takes.

A key is made here and never leaves the machine. It waits beside the one in use until its certificate has come. Files
are changed together with their service: where that refuses them, all of them are put back as they were.
"""

from __future__ import annotations

import contextlib
import os
import ssl
from typing import Any, Iterable, Mapping, NamedTuple

from .._common.errors import EdgemlError, ServerError, with_path
from .._common.files import fsync_directory, remove_file
from .._common.process import run_command

# A service that answers its last requests.
_RELOAD_SECONDS = 300
_FILE_BYTES_MAX = 1 << 20
_CHECK_NGINX = ("nginx", "-t", "-q")
_RELOAD_NGINX = ("systemctl", "try-reload-or-restart", "nginx.service")


class PlaceError(EdgemlError):
    """Credentials that cannot be read, or that a service refuses; the text says where and why."""


class Place(NamedTuple):
    """Files of one service. ``check`` ends with 0 where it could use them, ``reload`` has it use them."""

    name: str
    certificate: str = ""
    key: str = ""
    authorities: tuple[str, ...] = ()
    revocations: str = ""
    check: tuple[str, ...] = ()
    reload: tuple[str, ...] = ()

    @property
    def paths(self) -> list[str]:
        """Its files, but for the key."""
        return [path for path in (self.certificate, *self.authorities, self.revocations) if path]

    @property
    def mark(self) -> str:
        """A file that is there while files are changed, and the service has not taken them."""
        return f"{self.paths[0]}.changing"

    @property
    def next_key(self) -> str:
        """Where a key waits for its certificate."""
        return f"{self.key}.next"


def _nginx(name: str, directory: str, more: str = "") -> Place:
    return Place(
        name,
        f"{directory}/certificate.pem",
        f"{directory}/key.pem",
        tuple(f"{directory}/{file}" for file in ("client-ca.pem", more) if file),
        f"{directory}/client-crl.pem",
        _CHECK_NGINX,
        _RELOAD_NGINX,
    )


# Where the roles of this collection put them.
PLACES = (
    Place(
        "inference_service",
        "/etc/edgeml/tls-certificate.pem",
        "/etc/edgeml/tls-key.pem",
        ("/etc/edgeml/tls-client-ca.pem",),
        reload=("systemctl", "try-reload-or-restart", "edgeml-inference.service"),
    ),
    Place(
        "pull_agent",
        "/etc/edgeml/pull/device.pem",
        "/etc/edgeml/pull/device.key",
        ("/etc/edgeml/pull/authority.pem", "/etc/edgeml/pull/ca.pem"),
        # It begins anew with what it finds; where no broker is used, it does not run.
        reload=("systemctl", "try-restart", "edgeml-mqtt.service"),
    ),
    _nginx("model_repository", "/etc/nginx/edgeml"),
    _nginx("report_mailbox", "/etc/nginx/edgeml-report-mailbox"),
    _nginx("site_cache", "/etc/nginx/edgeml-site-cache", "origin-ca.pem"),
    Place(
        "site_cache_origin",
        "/etc/nginx/edgeml-site-cache/origin-certificate.pem",
        "/etc/nginx/edgeml-site-cache/origin-key.pem",
        check=_CHECK_NGINX,
        reload=_RELOAD_NGINX,
    ),
    Place(
        "mqtt_broker",
        "/etc/mosquitto/edgeml/certificate.pem",
        "/etc/mosquitto/edgeml/key.pem",
        ("/etc/mosquitto/edgeml/client-ca.pem",),
        "/etc/mosquitto/edgeml/client-crl.pem",
        # When it is told to reload, it reads its certificate and key, and not the authorities.
        reload=("systemctl", "try-restart", "mosquitto.service"),
    ),
)


def read_place(place: Place) -> dict[str, Any]:
    """What is there, and no key. Raises PlaceError.

    Returns ``name``, ``certificate`` (PEM or empty), ``key_fits``, ``authorities`` and ``revocations`` (texts by their
    paths), and ``changing``: whether a change was interrupted.
    """
    certificate = _text(place.certificate)
    return {
        "name": place.name,
        "certificate": certificate,
        "key_fits": not certificate or not _mismatch(place.certificate, place.key),
        "authorities": {path: text for path in place.authorities for text in [_text(path)] if text},
        "revocations": {path: text for path in [place.revocations] for text in [_text(path)] if text},
        "changing": os.path.exists(place.mark),
    }


def read_places(places: Iterable[Place]) -> list[dict[str, Any]]:
    """What is at those places that this machine has."""
    return [read_place(place) for place in places if any(os.path.exists(path) for path in place.paths)]


def request_certificate(place: Place) -> str:
    """Have a key wait beside the one in use, and return a request of it in PEM. Raises PlaceError."""
    if not os.path.exists(place.next_key):
        part = f"{place.next_key}.part"
        remove_file(part)
        with _umask(0o077):
            _openssl(place, "ecparam", "-name", "prime256v1", "-genkey", "-noout", "-out", part)
        with open(part, "rb") as file:
            os.fsync(file.fileno())
        os.rename(part, place.next_key)
        fsync_directory(os.path.dirname(place.next_key))
    return _openssl(place, "req", "-new", "-sha256", "-key", place.next_key, "-subj", "/CN=request")


def change_place(place: Place, files: Mapping[str, str], certificate: str) -> None:
    """Put files in place, with a ``certificate`` also that and its key, which waits, and have the service take them.

    Without any of them the service is only told again. Where it refuses, all files are as they were. Raises PlaceError.
    """
    strange = sorted(set(files).difference([*place.authorities, place.revocations]))
    if strange:
        raise PlaceError(f"{place.name}: expected files with authorities or revocations; found {strange[0]}")
    new = {path: text.encode() for path, text in files.items()}
    if certificate:
        with with_path(place.next_key), open(place.next_key, "rb") as file:
            new[place.key] = file.read()
        new[place.certificate] = certificate.encode()
    old = {path: _bytes(path) for path in new}
    _write(place.mark, b"", like=next(path for path in place.paths if os.path.exists(path)))
    for path, content in new.items():
        _write(path, content, like=path)
    try:
        if certificate:
            problem = _mismatch(place.certificate, place.key)
            if problem:
                raise PlaceError(f"{place.name}: {problem}")
        for command in (place.check, place.reload):
            _run(place, command)
    except PlaceError:
        for path, before in old.items():
            _write(path, before, like=path)
        with contextlib.suppress(PlaceError):
            _run(place, place.reload)
        remove_file(place.mark)
        raise
    if certificate:
        remove_file(place.next_key)
    remove_file(place.mark)
    fsync_directory(os.path.dirname(place.mark))


def _mismatch(certificate: str, key: str) -> str:
    """What OpenSSL says against a certificate with its key; empty where they belong together."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    try:
        # Asked for the password of an encrypted key, it has none.
        context.load_cert_chain(certificate, key, password=b"")
    except (OSError, ValueError) as error:
        return f"{certificate} with {key}: {error}"
    return ""


def _write(path: str, content: bytes, like: str) -> None:
    """Put a file in place by one rename, with the owner, group and mode of ``like``."""
    found = os.stat(like)
    part = f"{path}.part"
    remove_file(part)
    descriptor = os.open(part, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    with with_path(path), open(descriptor, "wb") as file:
        file.write(content)
        file.flush()
        os.fchown(file.fileno(), found.st_uid, found.st_gid)
        os.fchmod(file.fileno(), found.st_mode & 0o777)
        os.fsync(file.fileno())
    os.rename(part, path)
    fsync_directory(os.path.dirname(path))


def _bytes(path: str) -> bytes:
    try:
        with with_path(path), open(path, "rb") as file:
            return file.read(_FILE_BYTES_MAX)
    except FileNotFoundError:
        return b""


def _text(path: str) -> str:
    try:
        return _bytes(path).decode() if path else ""
    except UnicodeDecodeError as error:
        raise PlaceError(f"{path}: expected texts in PEM; {error}") from error


def _openssl(place: Place, *arguments: str) -> str:
    return _run(place, ("openssl", *arguments))


def _run(place: Place, command: Iterable[str]) -> str:
    words = list(command)
    if not words:
        return ""
    try:
        ended = run_command(words, _RELOAD_SECONDS)
    except ServerError as error:
        raise PlaceError(f"{place.name}: {error}") from error
    if ended.code != 0:
        raise PlaceError(f"{place.name}: {' '.join(words)}: ended with {ended.code}: {ended.reason}")
    return ended.stdout


@contextlib.contextmanager
def _umask(value: int) -> Any:
    before = os.umask(value)
    try:
        yield
    finally:
        os.umask(before)
