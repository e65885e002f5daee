#!/usr/bin/env bash
# Mosquitto acknowledges QoS 1 messages with success and drops the newest, the large ones, and those of a shared subscription's sleeper.
#
# Guess:    QoS 1 is "at least once": a message whose PUBACK says success is kept for each subscriber with a session, whoever is away; what
#           is dropped is the oldest, or refused with MQTT 5's reason "quota exceeded".
# Truth:    of 1,200 messages for a device that is away, all acknowledged with success, it gets the first 1,000; the newest are gone. A
#           client that accepts packets of 1,000 bytes gets no larger message, retained ones included: its subscription is granted, and
#           nothing is said to either side. Of the jobs of a shared subscription half go to the member that is away, and wait there.
# Versions: mosquitto 2.0.11 of Debian 12, paho-mqtt 2.2.0.
# Fleet:    the order that counts is the newest one ("go back to the version before"), and it is the one that is lost, by a sender who saw
#           "success". Use a retained message for a wanted state, have devices poll as well, and compare what a device says that it has.

# shellcheck source=findings/lib.sh
source "$(dirname "$0")/lib.sh"

unpack mosquitto=2.0.11-1.2+deb12u* libmosquitto1 libcjson1 libdlt2 libwrap0
install here paho-mqtt==2.2.0
port=$(unused_port)
printf 'listener %s 127.0.0.1\nallow_anonymous true\n' "$port" >"$folder/mosquitto.conf"
"$folder/debian/usr/sbin/mosquitto" -c "$folder/mosquitto.conf" >"$folder/log" 2>&1 &
started+=($!)
listens "$port"
python_finding here "$port" <<'EOF'
import sys
import time
from paho.mqtt.client import Client, MQTTv5
from paho.mqtt.enums import CallbackAPIVersion
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties
from finding import expect


def until(condition):
    for _ in range(200):
        if condition():
            return
        time.sleep(0.1)


class Device(Client):
    """A client with a session of an hour, which keeps what it gets and what it is told."""

    def __init__(self, name, largest=None):
        super().__init__(CallbackAPIVersion.VERSION2, name, protocol=MQTTv5)
        self.got, self.granted, self.acknowledged = [], [], []
        self.on_message = lambda _client, _data, message: self.got.append(message.payload)
        self.on_subscribe = lambda _client, _data, _id, codes, _properties: self.granted.extend(map(str, codes))
        self.on_publish = lambda _client, _data, _id, code, _properties: self.acknowledged.append(str(code))
        self.options = Properties(PacketTypes.CONNECT)
        self.options.SessionExpiryInterval = 3600
        if largest:
            self.options.MaximumPacketSize = largest

    def come(self, topic=None):
        self.connect("127.0.0.1", int(sys.argv[1]), clean_start=False, properties=self.options)
        self.loop_start()
        until(self.is_connected)
        if topic:
            self.subscribe(topic, 1)
            until(lambda: self.granted)
        return self

    def go(self):
        self.disconnect()
        self.loop_stop()

    def send(self, topic, *contents, retain=False):
        """Publish at QoS 1, wait for every acknowledgement, and return what they say."""
        before = len(self.acknowledged)
        for content in contents:
            self.publish(topic, content, 1, retain)
        until(lambda: len(self.acknowledged) == before + len(contents))
        return f"{len(self.acknowledged) - before} {' '.join(sorted(set(self.acknowledged[before:])))}"


sender = Device("sender").come()
away = Device("away").come("orders/#")
away.go()
expect("orders for a device that is away: acknowledged", "1200 Success", sender.send("orders/away", *map(str, range(1200))))
away.come()
until(lambda: len(away.got) >= 1000)
time.sleep(1)
expect("when it is back it gets", "1000, the last is order 999", f"{len(away.got)}, the last is order {away.got[-1].decode()}")

expect("a large retained message, kept by the broker: acknowledged", "1 No matching subscribers", sender.send("state", b"x" * 2000, retain=True))
small = Device("small", largest=1000).come("state")
expect("a device with room for 1,000 bytes: its subscription", ["Granted QoS 1"], small.granted)
expect("another large message: acknowledged", "1 Success", sender.send("state", b"y" * 2000))
expect("a small one: acknowledged", "1 Success", sender.send("state", b"z"))
until(lambda: small.got)
expect("it gets", [b"z"], small.got)

sleeper, worker = Device("sleeper").come("$share/workers/jobs"), Device("worker").come("$share/workers/jobs")
sleeper.go()
expect("ten jobs for two workers, one of them away: acknowledged", "10 Success", sender.send("jobs", *map(str, range(10))))
until(lambda: len(worker.got) >= 5)
time.sleep(1)
expect("the one that is there gets", 5, len(worker.got))
EOF
finish
