# Copyright (c) 2026, The edgeml.fleet authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What a controller says of a broker that does not work. A real one is in the integration tests."""

from __future__ import annotations

import socket
import ssl
import sys
import threading
from pathlib import Path

import pytest
from authorities import Authority

from ansible_collections.edgeml.fleet.plugins.plugin_utils import _broker
from ansible_collections.edgeml.fleet.plugins.plugin_utils._broker import (
    BrokerAddress,
    BrokerError,
    read_presence,
    tell_fleet,
)


def look_now(address: BrokerAddress, fleet: str) -> str:
    """Have a fleet look, and say nothing else."""
    return tell_fleet(address, fleet, [], look=True)


ACCEPTED, REFUSED = b"\x20\x02\x00\x00", b"\x20\x02\x00\x05"


def broker(directory: Path, answer: bytes) -> BrokerAddress:
    """Somebody who answers the first packet of one connection with these bytes, and then no more."""
    authority = Authority("servers")
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(authority.issue("broker", directory / "server.pem"))
    listening = socket.create_server(("127.0.0.1", 0))

    def serve() -> None:
        with listening, listening.accept()[0] as plain, context.wrap_socket(plain, server_side=True) as connection:
            connection.recv(4096)
            connection.sendall(answer)
            while connection.recv(4096):
                pass

    threading.Thread(target=serve, daemon=True).start()
    client = authority.issue("controller", directory / "client.pem")
    return BrokerAddress(
        "127.0.0.1", listening.getsockname()[1], str(authority.write(directory / "ca.pem")), str(client)
    )


@pytest.mark.parametrize(
    ("answer", "problem"),
    [
        (ACCEPTED, "the broker did not acknowledge the message"),
        (REFUSED, "the broker refuses the connection: Not authorized"),
        (b"", "the broker did not answer within 0.2 s"),
    ],
)
def test_a_broker_that_does_not_work(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, answer: bytes, problem: str
) -> None:
    if answer != REFUSED:
        monkeypatch.setattr(_broker, "SECONDS", 0.2 if not answer else 2)
    assert problem in look_now(broker(tmp_path, answer), "shop")


def test_a_broker_that_is_away(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    certificate = Authority("fleet").issue("controller", tmp_path / "client.pem")
    address = BrokerAddress("127.0.0.1", port, "", str(certificate))
    assert look_now(address, "shop") == f"127.0.0.1:{port}: [Errno 111] Connection refused"
    assert "No such file" in look_now(address._replace(certificate=str(tmp_path / "absent")), "shop")


def test_presence_cannot_be_read(tmp_path: Path) -> None:
    with pytest.raises(BrokerError, match="the broker refuses the connection: Not authorized"):
        read_presence(broker(tmp_path, REFUSED), "shop")


def test_a_controller_without_the_package(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "paho.mqtt", None)
    assert "paho-mqtt is missing" in look_now(BrokerAddress("x", 1, "", ""), "shop")
