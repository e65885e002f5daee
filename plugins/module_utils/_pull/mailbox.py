# Copyright (c) 2026, The edgeml.fleet authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# PRIVATE to the collection edgeml.fleet: no stable interface.

"""Reports to the mailbox: in their order, each under a name of its own, whole or not at all.

nginx's DAV ignores ``If-None-Match``: so a report is put under another name first, and moved to its own unless that
exists. A report that is there already has arrived before.
"""

from __future__ import annotations

import http.client
from typing import Any
from urllib.parse import quote

from .config import PullConfig
from .memory import Memory
from .origin import LinkError, connect

_EXISTS, _NO_DIRECTORY = 412, (404, 409, 500)


def send_reports(config: PullConfig, memory: Memory) -> int:
    """Send what is queued, in its order; return how many arrived. Raises LinkError at the first one that did not."""
    queued = memory.queued()
    if config.mailbox is None or not queued:
        return 0
    url = f"{config.mailbox.rstrip('/')}/{quote(config.device, safe='')}/"
    connection, directory = connect(url, config.certificate, config.key, config.ca_file)
    mailbox = _Mailbox(connection, url, directory)
    try:
        for sequence, path in queued:
            with open(path, "rb") as file:
                mailbox.put(f"{sequence}.json", file.read())
            memory.sent(path)
    except (OSError, http.client.HTTPException) as error:
        raise LinkError(f"{url}: {error or type(error).__name__}") from error
    finally:
        connection.close()
    return len(queued)


class _Mailbox:
    def __init__(self, connection: Any, url: str, directory: str) -> None:
        self._connection = connection
        self._url = url
        self._directory = directory
        self._is_made = False

    def put(self, name: str, content: bytes) -> None:
        part = f"{self._directory}{name}.part"
        status = self._ask("PUT", part, content)
        if status in _NO_DIRECTORY and not self._is_made:
            self._ask("MKCOL", self._directory)
            self._is_made = True
            status = self._ask("PUT", part, content)
        self._check(status, f"{name}.part")
        status = self._ask("MOVE", part, headers={"Destination": f"{self._url}{name}", "Overwrite": "F"})
        if status != _EXISTS:
            self._check(status, name)

    def _check(self, status: int, name: str) -> None:
        if not 200 <= status < 300:
            raise LinkError(f"{self._url}{name}: HTTP status {status}; expected the mailbox to take the report")

    def _ask(self, method: str, path: str, content: bytes | None = None, headers: Any = None) -> int:
        self._connection.request(method, path, body=content, headers={"User-Agent": "edgeml", **(headers or {})})
        response = self._connection.getresponse()
        response.read()
        status: int = response.status
        return status
