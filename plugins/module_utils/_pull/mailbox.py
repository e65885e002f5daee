# Copyright (c) 2026, The edgeml.fleet authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# PRIVATE to the collection edgeml.fleet: no stable interface.

"""Reports to the mailbox: in their order, each under a name of its own, whole or not at all.

nginx's DAV ignores ``If-None-Match``: so a report is put under another name first, and moved to its own unless that
exists. A report that is there already has arrived before.
"""

from __future__ import annotations

from urllib.parse import quote

from .._common.mailbox import MailboxClient
from .config import PullConfig
from .memory import Memory
from .origin import LinkError

_EXISTS, _NO_DIRECTORY = 412, (404, 409, 500)


def send_reports(config: PullConfig, memory: Memory) -> int:
    """Send what is queued, in its order; return how many arrived. Raises LinkError at the first one that did not."""
    queued = memory.queued()
    if config.mailbox is None or not queued:
        return 0
    mailbox = _Mailbox(config, config.mailbox)
    try:
        for sequence, path in queued:
            with open(path, "rb") as file:
                mailbox.put(f"{sequence}.json", file.read())
            memory.sent(path)
    finally:
        mailbox.client.close()
    return len(queued)


class _Mailbox:
    def __init__(self, config: PullConfig, url: str) -> None:
        self.client = MailboxClient(
            url, error=LinkError, ca_file=config.ca_file, certificate=config.certificate, key=config.key
        )
        self._directory = f"{quote(config.device, safe='')}/"
        self._is_made = False

    def put(self, name: str, content: bytes) -> None:
        path = f"{self._directory}{name}"
        part = f"{path}.part"
        reply = self.client.ask("PUT", part, content)
        if reply.status in _NO_DIRECTORY and not self._is_made:
            self.client.ask("MKCOL", self._directory)
            self._is_made = True
            reply = self.client.ask("PUT", part, content)
        self.client.require(reply, "PUT", part)
        headers = {"Destination": f"{self.client.url}/{path}", "Overwrite": "F"}
        reply = self.client.ask("MOVE", part, headers=headers)
        if reply.status != _EXISTS:
            self.client.require(reply, "MOVE", part)
