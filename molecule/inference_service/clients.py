# Copyright (c) 2026, The edgeml.fleet authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Clients of edge-s1 that ask one thing after the other, while its certificate and its credentials are replaced.

usage: clients.py PORT CERTIFICATES     (the directory that make_certificates.py wrote)

They end when both certificates of the server were seen and the file CERTIFICATES/end is there, and print one line of
JSON: how many requests were answered, what went wrong, and whose certificates the server showed.
"""

from __future__ import annotations

import base64
import http.client
import json
import ssl
import sys
import threading
import time
from collections.abc import Iterator
from itertools import cycle
from pathlib import Path
from typing import cast

GUARD_SECONDS = 60
CREDENTIALS = (
    "Basic " + base64.b64encode(b"line-3:correct horse battery staple").decode("ascii"),
    "Bearer correct horse battery staple",
)
ROUNDS = ("first", "second")


class Clients:
    """Some that keep their connection as long as the server does, some that make one for each request."""

    def __init__(self, port: int, certificates: Path) -> None:
        self._port = port
        self._end = certificates / "end"
        self.answered = 0
        self.wrong: list[str] = []
        self._seen: set[bytes] = set()
        self._own = {
            ssl.PEM_cert_to_DER_cert((certificates / name / "server-certificate.pem").read_text()): name
            for name in ROUNDS
        }
        self._context = ssl.create_default_context(
            cadata="".join((certificates / name / "authority.pem").read_text() for name in ROUNDS)
        )
        client = certificates / "clients"
        self._context.load_cert_chain(client / "client-certificate.pem", client / "client-key.pem")

    def run(self) -> None:
        """Ask until there is nothing left to see."""
        threads = [threading.Thread(target=self._ask, args=(anew,)) for anew in (False, True)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()

    @property
    def authorities(self) -> list[str]:
        """Whose certificates the server showed."""
        return sorted(self._own[certificate] for certificate in self._seen)

    def _ask(self, anew: bool) -> None:
        credentials: Iterator[str] = cycle(CREDENTIALS)
        connection = http.client.HTTPSConnection("127.0.0.1", self._port, timeout=GUARD_SECONDS, context=self._context)
        answers = 0
        while not self.wrong and not (self._end.exists() and len(self._seen) == len(ROUNDS)):
            began = time.monotonic()
            try:
                if connection.sock is None:
                    answers = 0
                    connection.connect()
                    self._seen.add(cast("ssl.SSLSocket", connection.sock).getpeercert(binary_form=True) or b"")
                connection.request("GET", "/v2/models/digits", headers={"Authorization": next(credentials)})
                reply = connection.getresponse()
                reply.read()
            except (OSError, http.client.HTTPException) as error:
                seconds = time.monotonic() - began
                self.wrong.append(
                    f"{time.strftime('%H:%M:%S', time.gmtime())} UTC, {'new' if anew else 'kept'} connections, after "
                    f"{answers} answers of this one and {seconds:.2f} s: {error!r}"
                )
                return
            answers += 1
            if reply.status != http.HTTPStatus.OK:
                self.wrong.append(f"status {reply.status}")
            self.answered += 1
            if anew:
                connection.close()


if __name__ == "__main__":
    clients = Clients(int(sys.argv[1]), Path(sys.argv[2]))
    clients.run()
    print(json.dumps({"answered": clients.answered, "wrong": clients.wrong, "authorities": clients.authorities}))
