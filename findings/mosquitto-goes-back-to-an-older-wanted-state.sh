#!/usr/bin/env bash
# After a power cut mosquitto, with `persistence true`, gives devices the wanted state of before, which it had replaced and acknowledged.
#
# Guess:    with `persistence true` a broker acknowledges at QoS 1 what it has written; a loss, if any, is of a message, and
#           what a retained topic says is its newest value, or nothing.
# Truth:    the file is written every half an hour, and when the broker is ended. After SIGKILL it starts with the file as it was: the
#           retained order "0.9", acknowledged, is "1.0" again, its flag of freshness and all; an order for a device that was away is
#           gone, its session is "present". SIGTERM keeps all; with `autosave_interval 1` all is kept that is more than a second or two old.
# Versions: mosquitto 2.0.11 of Debian 12, paho-mqtt 2.2.0.
# Fleet:    a site went back from a bad release by a retained message; the site loses power, and every device that comes back installs
#           the bad release again, by order. Save each second, and put an increasing number into the order, so that a device can refuse
#           a smaller one.

# shellcheck source=findings/lib.sh
source "$(dirname "$0")/lib.sh"

unpack mosquitto=2.0.11-1.2+deb12u* libmosquitto1 libcjson1 libdlt2 libwrap0
install here paho-mqtt==2.2.0
python_finding here "$folder/debian/usr/sbin/mosquitto" "$(unused_port)" <<'EOF'
import getpass
import pathlib
import socket
import subprocess
import sys
import time
from paho.mqtt.client import Client, MQTTv5
from paho.mqtt.enums import CallbackAPIVersion
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties
from finding import expect

PORT = int(sys.argv[2])


def until(condition):
    for _ in range(200):
        if condition():
            return
        time.sleep(0.1)


class Broker:
    """Mosquitto with a database of its own, which is started and ended."""

    def __init__(self, name, *options):
        self.configuration = pathlib.Path(f"{name}.conf")
        data = pathlib.Path(name).resolve()
        data.mkdir()
        lines = (f"listener {PORT} 127.0.0.1", "allow_anonymous true", f"user {getpass.getuser()}", "persistence true", *options)
        self.configuration.write_text("\n".join([*lines, f"persistence_location {data}/", ""]))

    def start(self):
        with open("broker.log", "a") as log:
            self.process = subprocess.Popen([sys.argv[1], "-c", self.configuration], stderr=log)
        until(self.listens)

    def listens(self):
        try:
            socket.create_connection(("127.0.0.1", PORT)).close()
        except OSError:
            return False
        return True

    def end(self, how):
        getattr(self.process, how)()
        self.process.wait()


class Device(Client):
    """A client with a session of an hour, which keeps what it gets."""

    def __init__(self, name):
        super().__init__(CallbackAPIVersion.VERSION2, name, protocol=MQTTv5)
        self.got, self.granted, self.session = [], 0, None
        self.on_message = lambda _client, _data, message: self.got.append(f"{message.topic}={message.payload.decode()}")
        self.on_connect = lambda _client, _data, flags, *_: setattr(self, "session", flags.session_present)
        self.on_subscribe = lambda *_: setattr(self, "granted", self.granted + 1)
        options = Properties(PacketTypes.CONNECT)
        options.SessionExpiryInterval = 3600
        self.connect("127.0.0.1", PORT, clean_start=False, properties=options)
        self.loop_start()
        until(lambda: self.session is not None)

    def listen(self, topic):
        before = self.granted
        self.subscribe(topic, 1)
        until(lambda: self.granted > before)

    def send(self, topic, content, retain=False):
        """Publish at QoS 1, and wait for the acknowledgement."""
        self.publish(topic, content, 1, retain).wait_for_publish(20)

    def go(self):
        self.disconnect()
        self.loop_stop()


def seen(name, how, *options, seconds=0):
    """What a device that was away gets after the broker ended so, seconds after the orders, and whether its session was there."""
    broker = Broker(name, *options)
    broker.start()
    device, desk = Device("device"), Device("desk")
    device.listen("orders")
    device.go()
    desk.send("wanted", "1.0", retain=True)
    desk.go()
    broker.end("terminate")
    broker.start()
    desk = Device("desk")
    desk.send("wanted", "0.9", retain=True)
    desk.send("orders", "go-back")
    desk.go()
    time.sleep(seconds)
    broker.end(how)
    broker.start()
    device = Device("device")
    device.listen("wanted")
    until(lambda: any(text.startswith("wanted") for text in device.got))
    time.sleep(1)
    device.go()
    broker.end("terminate")
    return f"{' '.join(sorted(device.got))}, session {'present' if device.session else 'new'}"


expect("after SIGTERM", "orders=go-back wanted=0.9, session present", seen("terminated", "terminate"))
expect("after SIGKILL", "wanted=1.0, session present", seen("killed", "kill"))
expect(
    "after SIGKILL, five seconds later, saved each second",
    "orders=go-back wanted=0.9, session present",
    seen("saving", "kill", "autosave_interval 1", seconds=5),
)
EOF
finish
