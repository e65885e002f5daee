# Copyright (c) 2026, The edgeml.fleet authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# PRIVATE to the collection edgeml.fleet: no stable interface.

"""The controller at a fleet's broker: it has devices look, says how rollouts go on, and reads who is there.

Nothing depends on it. Each call has a connection of its own, and says all that matters anew.
"""

from __future__ import annotations

import contextlib
import queue
import uuid
from typing import Any, Iterator, Mapping, NamedTuple

from ansible_collections.edgeml.fleet.plugins.module_utils._common.errors import EdgemlError
from ansible_collections.edgeml.fleet.plugins.module_utils._common.tls import client_context
from ansible_collections.edgeml.fleet.plugins.module_utils._mqtt.messages import (
    device_topic,
    look_topic,
    read_message,
    rollout_topic,
    write_message,
)

SECONDS = 10
_PRESENCE = "presence"


class BrokerError(EdgemlError):
    """The broker cannot be used; the text says why."""


class BrokerAddress(NamedTuple):
    """A broker, with TLS. ``certificate`` and ``key`` are the files of a reader's.

    Without ``key`` the key is in that file, too. Without ``ca_file`` the system's authorities count.
    """

    broker: str
    port: int
    ca_file: str
    certificate: str
    key: str = ""


class RolloutProgress(NamedTuple):
    """How the newest rollout of a model goes on. Of two, the one with the larger ``counter`` is newer."""

    model: str
    counter: tuple[int, int]
    content: Mapping[str, Any]


def tell_fleet(address: BrokerAddress, fleet: str, progress: list[RolloutProgress], look: bool) -> str:
    """Say how the rollouts of a fleet go on, and have its devices look for the desired state if ``look``.

    Progress is retained by the broker. Returns why that did not work, or nothing. Takes at most some 20 s. A device
    that does not hear it looks at its own time.
    """
    try:
        with _connected(address) as connection:
            for told in progress:
                topic = rollout_topic(fleet, told.model)
                connection.publish(topic, write_message(told.counter, told.content), retain=True)
            if look:
                connection.publish(look_topic(fleet), b"")
    except BrokerError as error:
        return str(error)
    return ""


def read_presence(address: BrokerAddress, fleet: str) -> dict[str, bool]:
    """Return which devices the broker says are there, and which are not; those that never came are missing.

    Raises BrokerError.
    """
    pattern = device_topic(fleet, "+", _PRESENCE)
    with _connected(address) as connection:
        messages = connection.retained(pattern, f"edgeml/{fleet}/readers/{uuid.uuid4().hex}")
    before, after = pattern.split("+")
    found: dict[str, bool] = {}
    for topic, content in messages.items():
        message = read_message(content)
        if message is not None and isinstance(message[1].get("online"), bool):
            found[topic[len(before) : -len(after)]] = message[1]["online"]
    return found


class _Connection:
    """A connection that the broker has accepted."""

    def __init__(self, client: Any, broker: str) -> None:
        self._client = client
        self._broker = broker
        self._granted: queue.Queue[Any] = queue.Queue()
        self._messages: queue.Queue[tuple[str, bytes]] = queue.Queue()
        client.on_subscribe = lambda _client, _data, _number, codes, _properties: self._granted.put(codes)
        client.on_message = lambda _client, _data, message: self._messages.put((message.topic, message.payload))

    def publish(self, topic: str, content: bytes, retain: bool = False) -> None:
        """Send a message, and wait until the broker has it."""
        message = self._client.publish(topic, content, qos=1, retain=retain)
        message.wait_for_publish(SECONDS)
        if not message.is_published():
            raise BrokerError(f"{self._broker}: the broker did not acknowledge the message")

    def retained(self, pattern: str, end: str) -> dict[str, bytes]:
        """Return the retained messages of topics: all that come before an own message, to the topic ``end``."""
        self._client.subscribe([(end, 1), (pattern, 1)])
        if any(code.is_failure for code in self._granted.get(timeout=SECONDS)):
            raise BrokerError(f"{self._broker}: the broker does not let this certificate read {pattern}")
        self.publish(end, b"")
        found: dict[str, bytes] = {}
        while True:
            topic, content = self._messages.get(timeout=SECONDS)
            if topic == end:
                return found
            found[topic] = content


@contextlib.contextmanager
def _connected(address: BrokerAddress) -> Iterator[_Connection]:
    """A connection to the broker. Raises BrokerError, also for what goes wrong while it is used."""
    try:
        from paho.mqtt import client as paho
        from paho.mqtt.enums import CallbackAPIVersion
    except ImportError:
        raise BrokerError(
            "the package paho-mqtt is missing on the controller. Install the collection's requirements.txt"
        ) from None
    codes: queue.Queue[Any] = queue.Queue()
    client = paho.Client(CallbackAPIVersion.VERSION2)
    client.connect_timeout = SECONDS
    client.on_connect = lambda _client, _data, _flags, code, _properties: codes.put(code)
    client.on_disconnect = lambda _client, _data, _flags, code, _properties: codes.put(code)
    try:
        client.tls_set_context(client_context(address.ca_file or None, address.certificate, address.key or None))
        client.connect(address.broker, address.port)
        client.loop_start()
        try:
            code = codes.get(timeout=SECONDS)
            if code.is_failure:
                raise BrokerError(f"{address.broker}: the broker refuses the connection: {code}")
            yield _Connection(client, address.broker)
        finally:
            client.disconnect()
            client.loop_stop()
    except queue.Empty:
        raise BrokerError(f"{address.broker}: the broker did not answer within {SECONDS} s") from None
    except (OSError, ValueError, RuntimeError) as error:
        raise BrokerError(f"{address.broker}:{address.port}: {error}") from error
