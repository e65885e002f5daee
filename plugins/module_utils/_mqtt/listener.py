# Copyright (c) 2026, The edgeml.fleet authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# PRIVATE to the collection edgeml.fleet: no stable interface.

"""A device that listens to a broker: it looks at once when it is told to, and says that it is there and what it serves.

paho's callbacks run in its network thread: work in them stops the pings, and an exception in one ends the thread while
the client still says that it is connected. So they only queue. What is sent counts when the broker has acknowledged it,
and the connection counts while a message of the device's own comes back. Whatever else goes wrong ends the process;
systemd starts it again.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import queue
import sys
import threading
import time
from typing import Any, Callable, Mapping, NamedTuple

from .._common.errors import EdgemlError
from .._common.tls import client_context
from .config import MqttConfig
from .messages import device_topic, look_topic, write_message

with contextlib.suppress(ImportError):
    from paho.mqtt import client as paho
    from paho.mqtt.enums import CallbackAPIVersion

KEEPALIVE_SECONDS = 60
RECONNECT_SECONDS = (1, 300)
GOODBYE_SECONDS = 5
# What callbacks queue is handled within milliseconds; more than this only a broker gone mad sends.
EVENTS_MAX = 1000


class ListenerError(EdgemlError):
    """The connection is not what it seems; the text says how that was noticed."""


class Event(NamedTuple):
    """What a callback saw: ``connected``, ``subscribed``, ``lost``, ``message``, ``sent`` or ``failed``."""

    kind: str
    value: Any = None


class Listener:
    """One connection that is kept. ``look`` has the device look for its desired state; ``telemetry`` is what it says.

    ``starts`` counts the listener's starts.
    """

    def __init__(
        self, config: MqttConfig, starts: int, look: Callable[[], None], telemetry: Callable[[], Mapping[str, Any]]
    ) -> None:
        self._config = config
        self._look = look
        self._telemetry = telemetry
        self._starts = starts
        self._messages = 0
        self._events: queue.Queue[Event] = queue.Queue(EVENTS_MAX)
        self._is_connected = False
        # Of the moments ahead, by time.monotonic(): when to look, when to send, and when an echo has to be back.
        self._look_at: float | None = None
        self._looked_at = -config.look_seconds
        self._send_at = 0.0
        self._echo_by: float | None = None
        self._echo = b""
        self._pending: int | None = None
        self._topics = {
            name: device_topic(config.fleet, config.device, name) for name in ("presence", "telemetry", "echo")
        }
        self._client = self._make_client()

    def run(self, stop: threading.Event) -> None:
        """Listen until ``stop`` is set, or there is another certificate to begin anew with.

        Raises ListenerError where the connection cannot be believed.
        """
        threading.excepthook = self._thread_failed
        self._client.connect_async(self._config.broker, self._config.port, KEEPALIVE_SECONDS)
        self._client.loop_start()
        certificate = self._certificate()
        try:
            while not stop.is_set() and self._certificate() == certificate:
                self._handle(self._next_event())
                self._do_what_is_due(time.monotonic())
            if self._is_connected:
                self._publish("presence", {"online": False}, retain=True).wait_for_publish(GOODBYE_SECONDS)
        finally:
            self._client.disconnect()
            self._client.loop_stop()

    def _certificate(self) -> tuple[int, int]:
        status = os.stat(self._config.certificate)
        return status.st_ino, status.st_mtime_ns

    def _make_client(self) -> paho.Client:
        client = paho.Client(CallbackAPIVersion.VERSION2, client_id=self._config.device)
        client.tls_set_context(client_context(self._config.ca_file, self._config.certificate, self._config.key))
        client.reconnect_delay_set(*RECONNECT_SECONDS)
        client.will_set(self._topics["presence"], self._message({"online": False}), qos=1, retain=True)
        client.on_connect = lambda _client, _data, _flags, code, _properties: self._note(Event("connected", code))
        client.on_disconnect = lambda _client, _data, _flags, code, _properties: self._note(Event("lost", code))
        client.on_message = lambda _client, _data, message: self._note(
            Event("message", (message.topic, message.payload))
        )
        client.on_subscribe = lambda _client, _data, _number, _codes, _properties: self._note(Event("subscribed"))
        client.on_publish = lambda _client, _data, number, _code, _properties: self._note(Event("sent", number))
        return client

    def _note(self, event: Event) -> None:
        # Where the queue is full, a trigger more or less does not matter.
        with contextlib.suppress(queue.Full):
            self._events.put_nowait(event)

    def _thread_failed(self, failure: Any) -> None:
        self._note(Event("failed", failure.exc_value))

    def _next_event(self) -> Event | None:
        moments = [at for at in (self._look_at, self._echo_by, self._send_at if self._is_connected else None) if at]
        wait = min([1.0, *(max(0.0, at - time.monotonic()) for at in moments)])
        try:
            return self._events.get(timeout=wait)
        except queue.Empty:
            return None

    def _handle(self, event: Event | None) -> None:
        if event is None:
            return
        if event.kind == "failed":
            raise ListenerError(f"the network thread ended: {event.value!r}")
        if event.kind == "connected":
            self._begin(event.value)
        elif event.kind == "lost":
            self._is_connected, self._echo_by, self._pending = False, None, None
            _say(f"no connection: {event.value}")
        elif event.kind == "sent" and event.value == self._pending:
            self._pending = None
        elif event.kind == "subscribed":
            # Before this moment a trigger may have been missed.
            self._plan_look()
        elif event.kind == "message":
            self._take(*event.value)

    def _begin(self, code: Any) -> None:
        if code.is_failure:
            _say(f"the broker refuses the connection: {code}")
            return
        self._is_connected = True
        _say("connected")
        self._client.subscribe([(look_topic(self._config.fleet), 1), (self._topics["echo"], 1)])
        self._publish("presence", {"online": True}, retain=True)
        # What was sent before may be lost with the connection, or with the broker's disk: it is sent again.
        self._send_at = time.monotonic()

    def _take(self, topic: str, payload: bytes) -> None:
        if topic == look_topic(self._config.fleet):
            self._plan_look()
        elif topic == self._topics["echo"] and payload == self._echo:
            self._echo_by = None

    def _plan_look(self) -> None:
        if self._look_at is None:
            earliest = max(time.monotonic(), self._looked_at + self._config.look_seconds)
            self._look_at = earliest + own_delay(self._config.device, self._config.spread_seconds)

    def _do_what_is_due(self, now: float) -> None:
        if self._look_at is not None and now >= self._look_at:
            self._look_at, self._looked_at = None, now
            self._look()
        if self._echo_by is not None and now >= self._echo_by:
            raise ListenerError(
                f"a message of this device did not come back within {self._config.echo_seconds:g} s, though paho "
                f"says connected: {self._client.is_connected()}"
            )
        if self._is_connected and now >= self._send_at:
            self._send_at = now + self._config.telemetry_seconds
            if self._pending is None:
                self._pending = self._publish("telemetry", self._telemetry()).mid
            if self._echo_by is None:
                self._echo = self._message({})
                self._client.publish(self._topics["echo"], self._echo, qos=1)
                self._echo_by = now + self._config.echo_seconds

    def _publish(self, name: str, content: Mapping[str, Any], retain: bool = False) -> paho.MQTTMessageInfo:
        return self._client.publish(self._topics[name], self._message(content), qos=1, retain=retain)

    def _message(self, content: Mapping[str, Any]) -> bytes:
        self._messages += 1
        return write_message((self._starts, self._messages), content)


def own_delay(device: str, seconds: float) -> float:
    """The device's own part of a time, always the same one: in seconds, from 0 to ``seconds``."""
    return int.from_bytes(hashlib.sha256(device.encode()).digest()[:4], "big") / 2**32 * seconds


def _say(text: str) -> None:
    sys.stderr.write(f"edgeml: {text}\n")
