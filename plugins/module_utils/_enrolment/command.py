# Copyright (c) 2026, The edgeml.fleet authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# PRIVATE to the collection edgeml.fleet: no stable interface.

"""The command ``edgeml enroll``: the device's own key, a request for a certificate, and later the certificate.

Whoever flashes devices runs it once. A timer of the role ``pull_agent`` runs it each day, and so renews it.
"""

from __future__ import annotations

import argparse
import contextlib
import datetime
import json
import os
import sys
from typing import Any, Mapping, Sequence

from .._common.arguments import ArgumentParser
from .._common.errors import EdgemlError
from .._common.files import DurableTree
from .._common.mailbox import MailboxClient, enrolment_url

CONFIG = "/etc/edgeml/pull.json"
DIRECTORY = "/etc/edgeml/pull"
AUTHORITY = f"{DIRECTORY}/authority.pem"
CERTIFICATE_BYTES_MAX = 64 << 10


def main(arguments: Sequence[str]) -> int:
    """Run the command. Exit code: 0 also while nobody has accepted the request; 1 it failed, 2 for a wrong call."""
    options = _parser().parse_args(arguments)
    try:
        result = enroll(options)
    except (EdgemlError, OSError) as error:
        sys.stderr.write(f"edgeml: {error}\n")
        return 1
    sys.stdout.write(f"{json.dumps(result, sort_keys=True) if options.json else _text(result)}\n")
    return 0


def enroll(options: argparse.Namespace) -> dict[str, Any]:
    """Have a key, bring the request to the mailbox or a directory, and take the certificate that lies there.

    Returns ``device``, ``fingerprint``, ``request`` (PEM), ``certificate`` (PEM or empty), ``until`` (when it expires,
    in ISO 8601, or empty) and ``is_due`` (whether another certificate is wanted). Raises EdgemlError and OSError.
    """
    # They need what the role brings, and their time on a small board.
    from .certificate import is_due, read_certificate, valid_until
    from .request import fingerprint, have_key, make_request

    config = _config(options.config)
    name = options.device or config.get("device")
    if not name:
        raise EdgemlError(f"{options.config}: names no device. Say which with --device")
    key = have_key(options.key)
    digest, request = fingerprint(key.public_key()), make_request(key, name)
    with open(options.authority, "rb") as file:
        authorities = file.read()
    content = _read(options.certificate)
    certificate = read_certificate(content, authorities, name, digest) if content and not options.again else None
    now = datetime.datetime.now(datetime.timezone.utc)
    mailbox = options.mailbox or config.get("mailbox")
    desk: Any = _Directory(options.directory) if options.directory else None
    if desk is None and mailbox and not options.only_request:
        desk = _Mailbox(mailbox, options.ca_file or config.get("ca_file"))
    if desk is not None and (certificate is None or is_due(certificate, now)):
        with contextlib.closing(desk):
            answer = desk.fetch(f"{digest}.pem")
            if answer:
                certificate = read_certificate(answer, authorities, name, digest)
                if answer != content:
                    DurableTree(os.path.dirname(options.certificate)).replace(options.certificate, answer, 0o644)
                content = answer
            if certificate is None or valid_until(certificate) < now:
                desk.leave(f"{digest}.csr", request)
    return {
        "device": name,
        "fingerprint": digest,
        "request": request.decode("ascii"),
        "certificate": content.decode("ascii") if certificate else "",
        "until": valid_until(certificate).isoformat() if certificate else "",
        "is_due": certificate is None or is_due(certificate, now),
    }


class _Directory:
    """A directory that requests and certificates are carried in, such as a stick."""

    def __init__(self, path: str) -> None:
        self._path = path

    def leave(self, name: str, content: bytes) -> None:
        DurableTree(self._path).replace(os.path.join(self._path, name), content, 0o644)

    def fetch(self, name: str) -> bytes:
        return _read(os.path.join(self._path, name))

    def close(self) -> None:
        return


class _Mailbox:
    """The mailbox of reports. Its certificate is verified; the device has none yet."""

    def __init__(self, url: str, ca_file: str | None) -> None:
        address = enrolment_url(url, EdgemlError)
        self._client = MailboxClient(address, error=EdgemlError, ca_file=ca_file, hint=". Is enrolment open there?")

    def leave(self, name: str, content: bytes) -> None:
        self._client.require(self._client.ask("PUT", name, content), "PUT", name)

    def fetch(self, name: str) -> bytes:
        reply = self._client.ask("GET", name, bytes_max=CERTIFICATE_BYTES_MAX)
        if reply.status == 404:
            return b""
        self._client.require(reply, "GET", name)
        return reply.content

    def close(self) -> None:
        self._client.close()


def _read(path: str) -> bytes:
    try:
        with open(path, "rb") as file:
            return file.read(CERTIFICATE_BYTES_MAX)
    except FileNotFoundError:
        return b""


def _config(path: str) -> Mapping[str, Any]:
    content = _read(path)
    try:
        found = json.loads(content) if content else {}
    except ValueError as error:
        raise EdgemlError(f"{path}: expected JSON: {error}") from error
    return found if isinstance(found, dict) else {}


def _text(result: Mapping[str, Any]) -> str:
    if result["certificate"]:
        return f"{result['device']}: enrolled, its certificate is valid until {result['until']}"
    return f"{result['device']}: waits for an operator to accept the fingerprint\n{result['fingerprint']}"


def _parser() -> ArgumentParser:
    text = "Make the device's key, ask for a certificate, and take it when it is there."
    parser = ArgumentParser(prog="edgeml enroll", description=text)
    parser.add_argument("--device", metavar="NAME", help="the device's name in the inventory (default: as configured)")
    parser.add_argument("--mailbox", metavar="URL", help="the mailbox that takes the request (default: as configured)")
    parser.add_argument("--directory", metavar="PATH", help="instead of a mailbox: a directory, such as a stick")
    parser.add_argument("--only-request", action="store_true", help="make the key and the request, and ask nobody")
    parser.add_argument("--again", action="store_true", help="ask as if there were no certificate")
    parser.add_argument("--ca-file", metavar="FILE", help="the authority of the mailbox (default: as configured)")
    parser.add_argument("--config", default=CONFIG, metavar="FILE", help=f"default: {CONFIG}")
    parser.add_argument(
        "--authority", default=f"{DIRECTORY}/authority.pem", metavar="FILE", help="the fleet's authority"
    )
    parser.add_argument("--key", default=f"{DIRECTORY}/device.key", metavar="FILE", help="the device's key")
    parser.add_argument("--certificate", default=f"{DIRECTORY}/device.pem", metavar="FILE", help="its certificate")
    parser.add_argument("--json", action="store_true", help="print JSON instead of text")
    return parser
