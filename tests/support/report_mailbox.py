# Copyright (c) 2026, The edgeml.fleet authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""A real mailbox of reports: nginx with the configuration of the role report_mailbox."""

from __future__ import annotations

import http.client
import shutil
import ssl
from pathlib import Path
from typing import Any

from authorities import Authority
from nginx import Nginx, defaults, rendered

READER_UNIT = "edgeml reader"


class Mailbox:
    """A mailbox in ``directory``. ``changes`` are variables of the role, without its name before theirs.

    ``client_ca`` is the fleet's authority, in PEM; without it there is one of the mailbox's own.
    """

    def __init__(self, directory: Path, client_ca: bytes | None = None, **changes: Any) -> None:
        self.directory = directory
        self.server = Authority("servers")
        self.fleet = Authority("fleet")
        self.ca = self.server.write(directory / "ca.pem")
        both = self.server.issue("mailbox", directory / "certificate.pem")
        shutil.copyfile(both, directory / "key.pem")
        self.fleet.write(directory / "client-ca.pem")
        if client_ca is not None:
            (directory / "client-ca.pem").write_bytes(client_ca)
        self.files = directory / "files"
        for path in (directory / "part", self.files / "reports", self.files / "enroll"):
            path.mkdir(parents=True)
        values = {**defaults("report_mailbox"), "requests_per_minute": 6000, "directory": str(directory), **changes}
        (directory / "client-crl.pem").write_text(values["tls_crl"])
        self.port = int(values["listen_port"])
        self.url = f"https://127.0.0.1:{self.port}/reports"
        configuration = rendered(
            "report_mailbox",
            "edgeml-report-mailbox.conf",
            __report_mailbox_values=values,
            __report_mailbox_tls_directory=str(directory),
        )
        # As root the tests' server writes to what the test owns.
        self._nginx = Nginx(directory, configuration)
        self.stop = self._nginx.stop

    def certificate(self, name: str, unit: str = "", authority: Authority | None = None) -> Path:
        """The certificate with the key of a device, or of a reader."""
        return (authority or self.fleet).issue(name, self.directory / f"client-{name}-{unit}.pem", unit)

    def reader(self) -> Path:
        """The certificate with the key of a reader."""
        return self.certificate("controller", READER_UNIT)

    def ask(
        self, certificate: Path | None, method: str, path: str, body: bytes | None = None, **headers: str
    ) -> tuple[int, bytes]:
        """One request as it is written here: the status of the reply and its content."""
        context = ssl.create_default_context(cafile=str(self.ca))
        if certificate is not None:
            context.load_cert_chain(certificate)
        connection = http.client.HTTPSConnection("127.0.0.1", self.port, context=context, timeout=60)
        try:
            connection.request(method, path, body, headers)
            reply = connection.getresponse()
            return reply.status, reply.read()
        finally:
            connection.close()

    def deliver(self, certificate: Path, name: str, number: int, body: bytes) -> list[int]:
        """Deliver a report as a device does: the statuses of MKCOL, PUT and MOVE."""
        path = f"/reports/{name}/{number}.json"
        return [
            self.ask(certificate, "MKCOL", f"/reports/{name}/")[0],
            self.ask(certificate, "PUT", f"{path}.part", body)[0],
            self.move(certificate, f"{path}.part", path),
        ]

    def move(self, certificate: Path, path: str, to: str, overwrite: str = "F") -> int:
        """The status of a MOVE to a path of this server."""
        destination = f"https://127.0.0.1:{self.port}{to}"
        return self.ask(certificate, "MOVE", path, Destination=destination, Overwrite=overwrite)[0]
