# Copyright (c) 2026, The edgeml.fleet authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""A real mosquitto with the configuration of the role mqtt_broker: the listener of a device, and what nobody can do."""

from __future__ import annotations

import contextlib
import queue
import socket
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from authorities import Authority
from mosquitto import GUARD_SECONDS, Broker, Peer
from paho.mqtt import client as paho
from paho.mqtt.enums import CallbackAPIVersion

from ansible_collections.edgeml.fleet.plugins.module_utils._mqtt.config import MqttConfig
from ansible_collections.edgeml.fleet.plugins.module_utils._mqtt.listener import Listener, ListenerError
from ansible_collections.edgeml.fleet.plugins.module_utils._mqtt.messages import device_topic, look_topic, rollout_topic
from ansible_collections.edgeml.fleet.plugins.plugin_utils._broker import (
    BrokerAddress,
    RolloutProgress,
    read_presence,
    tell_fleet,
)


def wait_for(condition: Callable[[], Any], what: str = "") -> Any:
    """The first result of a condition that is true."""
    deadline = time.monotonic() + GUARD_SECONDS
    while not (found := condition()):
        assert time.monotonic() < deadline, what
        time.sleep(0.01)
    return found


class Device:
    """A device whose listener runs in a thread. ``looks`` counts how often it looked."""

    def __init__(self, broker: Broker, name: str = "edge-1", starts: int = 1, **changes: Any) -> None:
        certificate = str(broker.certificate(name))
        values = {"look_seconds": 0.01, "spread_seconds": 0.0, "telemetry_seconds": 3600.0, **changes}
        config = MqttConfig(
            device=name,
            fleet="shop",
            broker="127.0.0.1",
            port=broker.port,
            ca_file=str(broker.ca),
            certificate=certificate,
            key=certificate,
            **values,
        )
        self.looks = 0
        self.error: BaseException | None = None
        self.listener = Listener(config, starts, self._look, lambda: {"models": {"digits": {"active": "1.0.0"}}})
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run)
        self._thread.start()

    def _look(self) -> None:
        self.looks += 1

    def _run(self) -> None:
        try:
            self.listener.run(self._stop)
        except ListenerError as error:
            self.error = error

    @property
    def runs(self) -> bool:
        return self._thread.is_alive()

    def stop(self) -> None:
        self._stop.set()
        self._thread.join()


@pytest.fixture
def broker(tmp_path: Path) -> Iterator[Broker]:
    made = Broker(tmp_path)
    made.start()
    hook = threading.excepthook
    yield made
    threading.excepthook = hook
    made.stop()


@pytest.fixture
def controller(broker: Broker) -> Iterator[Peer]:
    peer = Peer(broker, broker.certificate("controller"), topics=("edgeml/shop/#",))
    yield peer
    peer.close()


PRESENCE = device_topic("shop", "edge-1", "presence")
TELEMETRY = device_topic("shop", "edge-1", "telemetry")


def test_a_device_says_that_it_is_there_and_what_it_serves(broker: Broker, controller: Peer) -> None:
    device = Device(broker, starts=7)
    try:
        assert controller.next(PRESENCE) == {"counter": (7, 2), "online": True}
        assert controller.next(TELEMETRY) == {"counter": (7, 3), "models": {"digits": {"active": "1.0.0"}}}
    finally:
        device.stop()
    gone = controller.next(PRESENCE)
    assert (gone["online"], gone["counter"] > (7, 3)) == (False, True)


def test_a_device_that_is_cut_off_leaves_its_will(broker: Broker, controller: Peer) -> None:
    device = Device(broker)
    try:
        assert controller.next(PRESENCE)["online"] is True
        connection = device.listener._client.socket()
        assert isinstance(connection, socket.socket)
        connection.shutdown(socket.SHUT_RDWR)
        assert controller.next(PRESENCE)["online"] is False
        # It comes back by itself, and says all of it again.
        assert controller.next(PRESENCE)["online"] is True
        assert device.runs
    finally:
        device.stop()


@pytest.mark.parametrize("content", [b"", b"\xff" * 1000, b'{"command": "reboot"}'])
def test_whoever_says_look_is_not_listened_to_further(broker: Broker, controller: Peer, content: bytes) -> None:
    device = Device(broker)
    try:
        # Once when the broker has its subscriptions: before, a trigger may have been missed.
        wait_for(lambda: device.looks == 1)
        controller.publish(look_topic("shop"), content)
        wait_for(lambda: device.looks == 2)
    finally:
        device.stop()


def test_the_controller_has_a_fleet_look(tmp_path: Path, broker: Broker) -> None:
    address = BrokerAddress("127.0.0.1", broker.port, str(broker.ca), str(broker.certificate("controller")))
    device = Device(broker)
    try:
        wait_for(lambda: device.looks == 1)
        assert tell_fleet(address, "shop", [], look=True) == ""
        wait_for(lambda: device.looks == 2)
    finally:
        device.stop()
    broker.stop()
    assert "Connection refused" in tell_fleet(address, "shop", [], look=True)
    absent = address._replace(certificate=str(tmp_path / "absent"))
    assert "No such file" in tell_fleet(absent, "shop", [], look=True)


def test_progress_is_kept_and_told_again_to_a_broker_that_forgot_it(tmp_path: Path) -> None:
    broker = Broker(tmp_path, controllers=["controller", "dashboard"])
    broker.start()
    address = BrokerAddress("127.0.0.1", broker.port, str(broker.ca), str(broker.certificate("controller")))
    topic = rollout_topic("shop", "digits")

    def watched() -> dict[str, Any]:
        peer = Peer(broker, broker.certificate("dashboard"), topics=(topic,))
        try:
            return peer.next(topic)
        finally:
            peer.close()

    try:
        first = RolloutProgress("digits", (3, 1), {"state": "running", "wave": 1})
        assert tell_fleet(address, "shop", [first], look=False) == ""
        assert watched() == {"counter": (3, 1), "state": "running", "wave": 1}
        broker.stop()
        broker.start()
        second = RolloutProgress("digits", (3, 2), {"state": "passed", "wave": 1})
        assert tell_fleet(address, "shop", [second], look=True) == ""
        assert watched() == {"counter": (3, 2), "state": "passed", "wave": 1}
    finally:
        broker.stop()


def test_who_is_there(broker: Broker) -> None:
    address = BrokerAddress("127.0.0.1", broker.port, str(broker.ca), str(broker.certificate("controller")))
    assert read_presence(address, "shop") == {}
    device, other = Device(broker), Device(broker, "edge-2")
    try:
        wait_for(lambda: device.looks == other.looks == 1)
        other.stop()
        assert read_presence(address, "shop") == {"edge-1": True, "edge-2": False}
        # What is no presence says nothing.
        peer = Peer(broker, broker.certificate("edge-3"))
        peer.publish(device_topic("shop", "edge-3", "presence"), b"hostile", retain=True)
        peer.close()
        assert read_presence(address, "shop") == {"edge-1": True, "edge-2": False}
    finally:
        device.stop()
        other.stop()


def test_a_storm_of_triggers_is_one_look(broker: Broker, controller: Peer) -> None:
    device = Device(broker, look_seconds=3600.0)
    try:
        wait_for(lambda: device.looks == 1)
        for _time in range(50):
            controller.publish(look_topic("shop"))
        echo = device_topic("shop", "edge-1", "echo")
        controller.publish(echo, b"the last one")
        wait_for(lambda: device.listener._events.empty())
        assert device.looks == 1
        assert device.listener._look_at is not None, "the next look is planned"
    finally:
        device.stop()


def test_a_broker_that_is_away_changes_nothing(tmp_path: Path, broker: Broker) -> None:
    broker.stop()
    device = Device(broker)
    try:
        # It goes on by itself, and asks again; what it would have said is not piled up.
        wait_for(lambda: device.listener._client._thread is not None)
        assert device.runs
        assert device.looks == 0
        broker.start()
        wait_for(lambda: device.looks == 1)
    finally:
        device.stop()
    assert device.error is None


def test_a_broker_that_forgets_everything_is_told_again(broker: Broker, controller: Peer) -> None:
    """mosquitto's retained messages are lost with its disk: after a reconnection all that matters is sent again."""
    device = Device(broker)
    try:
        first = controller.next(TELEMETRY)
        broker.stop()
        controller.close()
        broker.start()
        peer = Peer(broker, broker.certificate("controller"), topics=("edgeml/shop/#",))
        try:
            assert peer.next(PRESENCE)["online"] is True
            assert peer.next(TELEMETRY)["counter"] > first["counter"]
        finally:
            peer.close()
    finally:
        device.stop()


def test_a_network_thread_that_ended_ends_the_process(broker: Broker) -> None:
    """paho goes on to say that it is connected: what is seen of 2.2.0."""
    device = Device(broker)
    wait_for(lambda: device.looks == 1)

    def fail(*_arguments: Any) -> None:
        raise RuntimeError("in a callback")

    device.listener._client.on_message = fail
    peer = Peer(broker, broker.certificate("controller"))
    try:
        peer.publish(look_topic("shop"))
        wait_for(lambda: not device.runs)
        assert "the network thread ended: RuntimeError('in a callback')" in str(device.error)
    finally:
        peer.close()
        device.stop()


def test_a_connection_that_brings_nothing_back_ends_the_process(broker: Broker) -> None:
    device = Device(broker, telemetry_seconds=0.1, echo_seconds=1.0)
    try:
        wait_for(lambda: device.looks == 1)
        # A broker that acknowledges, and delivers nothing.
        device.listener._client.on_message = lambda *_arguments: None
        wait_for(lambda: not device.runs)
        assert "did not come back within 1 s, though paho says connected: True" in str(device.error)
    finally:
        device.stop()


@pytest.mark.parametrize(
    "topic",
    [
        device_topic("shop", "edge-9", "presence"),
        device_topic("shop", "edge-9", "telemetry"),
        device_topic("shop", "edge-9", "echo"),
        device_topic("shop", "edge-1", "other"),
        look_topic("shop"),
        "edgeml/shop/rollout",
        "other",
    ],
)
def test_a_device_writes_nothing_of_others(broker: Broker, controller: Peer, topic: str) -> None:
    device = Peer(broker, broker.certificate("edge-1"))
    try:
        device.publish(topic, b"hostile", retain=True)
        device.publish(TELEMETRY, b"own")
        name, payload, _retain = controller.messages.get(timeout=GUARD_SECONDS)
        assert (name, payload) == (TELEMETRY, b"own")
    finally:
        device.close()


def test_a_device_reads_nothing_of_others(broker: Broker, controller: Peer) -> None:
    topics = ("#", "edgeml/shop/devices/+/telemetry", look_topic("shop"))
    device = Peer(broker, broker.certificate("edge-1"), topics=topics)
    try:
        controller.publish(device_topic("shop", "edge-9", "telemetry"), b"secret")
        controller.publish(look_topic("shop"), b"now")
        assert device.messages.get(timeout=GUARD_SECONDS)[:2] == (look_topic("shop"), b"now")
    finally:
        device.close()


def test_nobody_takes_the_place_of_another(broker: Broker, controller: Peer) -> None:
    """A broker ends the connection of whoever has the client id that another one names."""
    device = Device(broker)
    try:
        wait_for(lambda: device.looks == 1)
        hostile = Peer(broker, broker.certificate("edge-2"), client_id="edge-1")
        hostile.publish(device_topic("shop", "edge-2", "telemetry"), b"mine")
        hostile.close()
        controller.publish(look_topic("shop"))
        wait_for(lambda: device.looks == 2)
        assert broker.log.count("as edge-1 ") == 1, "it was never ended"
    finally:
        device.stop()


def test_who_is_not_of_the_fleet(broker: Broker) -> None:
    stranger = broker.certificate("edge-1", authority=Authority("fleet"))
    client = paho.Client(CallbackAPIVersion.VERSION2)
    client.tls_set(str(broker.ca), str(stranger), str(stranger))
    codes: queue.Queue[Any] = queue.Queue()
    client.on_connect = lambda _client, _data, _flags, code, _properties: codes.put(code)
    client.on_disconnect = lambda _client, _data, _flags, code, _properties: codes.put(code)
    with contextlib.suppress(OSError):
        client.connect("127.0.0.1", broker.port)
        client.loop_start()
        assert codes.get(timeout=GUARD_SECONDS).is_failure
        client.loop_stop()
    wait_for(lambda: "certificate verify failed" in broker.log or "unknown ca" in broker.log, broker.log)


def test_a_refused_device_hears_and_says_nothing(tmp_path: Path) -> None:
    (tmp_path / "other").mkdir()
    broker = Broker(tmp_path / "other", refused_devices=["edge-1"])
    broker.start()
    try:
        controller = Peer(broker, broker.certificate("controller"), topics=("edgeml/shop/#",))
        refused = Peer(broker, broker.certificate("edge-1"), topics=(look_topic("shop"),))
        good = Peer(broker, broker.certificate("edge-2"), topics=(look_topic("shop"),))
        refused.publish(TELEMETRY, b"hostile")
        controller.publish(look_topic("shop"), b"now")
        assert good.messages.get(timeout=GUARD_SECONDS)[1] == b"now"
        assert refused.messages.empty()
        assert controller.messages.get(timeout=GUARD_SECONDS)[1] == b"now"
        for peer in (controller, refused, good):
            peer.close()
    finally:
        broker.stop()


def test_what_paho_says_of_a_message_while_it_is_offline(broker: Broker, controller: Peer) -> None:
    """It returns an error and delivers all the same, so nothing is published without a connection (paho 2.2.0)."""
    certificate = broker.certificate("edge-1")
    client = paho.Client(CallbackAPIVersion.VERSION2, client_id="edge-1")
    client.tls_set(str(broker.ca), str(certificate), str(certificate))
    said = client.publish(TELEMETRY, b"queued", 1)
    assert said.rc == paho.MQTT_ERR_NO_CONN
    client.connect("127.0.0.1", broker.port)
    client.loop_start()
    try:
        assert controller.messages.get(timeout=GUARD_SECONDS)[:2] == (TELEMETRY, b"queued")
    finally:
        client.disconnect()
        client.loop_stop()
