# Copyright (c) 2026, The edgeml.fleet authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Uvicorn's HTTP protocols, with what the server needs of them changed."""

from __future__ import annotations

import asyncio
import importlib
import socket
from typing import Any

from uvicorn.protocols.http.h11_impl import H11Protocol

from . import json_codec
from .app import LOCAL


class _ServerProtocol(asyncio.Protocol):
    """Requests know by which listener they came, and what is not HTTP gets a reply in JSON."""

    app_state: dict[str, Any]
    transport: asyncio.Transport

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        super().connection_made(transport)
        self.app_state = {LOCAL: transport.get_extra_info("socket").family == socket.AF_UNIX}

    def send_400_response(self, msg: str) -> None:
        body = json_codec.dumps({"error": msg})
        self.transport.write(
            b"HTTP/1.1 400 Bad Request\r\ncontent-type: application/json\r\nconnection: close\r\n"
            b"content-length: %d\r\n\r\n%b" % (len(body), body)
        )
        self.transport.close()


class H11ServerProtocol(_ServerProtocol, H11Protocol):
    """For devices without httptools."""


def protocol_class() -> type[asyncio.Protocol]:
    """The quickest protocol that is installed: httptools (C), else h11 (Python)."""
    try:
        module = importlib.import_module("uvicorn.protocols.http.httptools_impl")
    except ImportError:
        return H11ServerProtocol
    return type("HttpToolsServerProtocol", (_ServerProtocol, module.HttpToolsProtocol), {})
