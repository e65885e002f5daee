#!/usr/bin/env bash
# paho-mqtt says "connected" when it no longer listens, and "not connected" of messages that it delivers.
#
# Guess:    an exception in a callback is reported and the client goes on, or is_connected() turns false; publish() with an error
#           code has not taken the message.
# Truth:    an exception in on_message ends the network thread. The client still says that it is connected, and publish() still
#           returns success; its message even arrives, but the acknowledgement is never read, and nothing is received any more. The
#           other way round, publish() before the connection returns MQTT_ERR_NO_CONN at QoS 1, keeps the message, and delivers it
#           with the connection; its own receipt raises an error for ever.
# Versions: paho-mqtt 2.2.0, mosquitto 2.0.11 of Debian 12.
# Fleet:    a device that is deaf to triggers looks healthy to itself for good, and a sender that repeats what was "refused"
#           sends twice. Callbacks only queue; health is a message of one's own that came back; outcomes carry an id.

# shellcheck source=findings/lib.sh
source "$(dirname "$0")/lib.sh"

install here paho-mqtt==2.2.0
unpack mosquitto=2.0.11-1.2+deb12u2 libcjson1 libdlt2 libev4 libmosquitto1=2.0.11-1.2+deb12u2 libuv1 libwebsockets17 libwrap0
port=$(unused_port)
printf 'listener %s 127.0.0.1\nallow_anonymous true\n' "$port" >"$folder/mosquitto.conf"
"$folder/debian/usr/sbin/mosquitto" -c "$folder/mosquitto.conf" >"$folder/log" 2>&1 &
started+=($!)
listens "$port"

python_finding here "$port" <<'EOF'
import sys, threading, time
from paho.mqtt import client as mqtt
from finding import expect

threading.excepthook = lambda raised: None  # its traceback goes to standard error otherwise


def connected(name, topic=None, on_message=None):
    client = mqtt.Client(mqtt.CallbackAPIVersion.VERSION2, name)
    join(client, topic, on_message)
    return client


def join(client, topic=None, on_message=None):
    ready = threading.Event()
    client.on_message = on_message
    client.on_connect = lambda client, *ignored: client.subscribe(topic, 1) if topic else ready.set()
    client.on_subscribe = lambda *ignored: ready.set()
    client.connect("127.0.0.1", int(sys.argv[1]))
    client.loop_start()
    ready.wait(10)


def arrives(text):
    for _ in range(100):
        if text in heard:
            return True
        time.sleep(0.05)
    return False


heard = []
witness = connected("witness", "fleet/#", lambda client, data, message: heard.append(message.payload.decode()))

early = mqtt.Client(mqtt.CallbackAPIVersion.VERSION2, "early")
receipt = early.publish("fleet/status", "early", qos=1)
expect("publish() before the connection", "MQTT_ERR_NO_CONN", mqtt.MQTTErrorCode(receipt.rc).name)
join(early)
expect("its message arrives all the same", True, arrives("early"))
try:
    delivered = str(receipt.is_published())
except RuntimeError as error:
    delivered = "RuntimeError"
expect("its receipt says", "RuntimeError", delivered)


def fails(client, data, message):
    raise ValueError("a message that this device does not understand")


calls = []
deaf = connected("deaf", "fleet/trigger", lambda *arguments: (calls.append(1), fails(*arguments)))
threads = set(threading.enumerate())
witness.publish("fleet/trigger", "look", qos=1).wait_for_publish(10)
for _ in range(100):
    gone = [thread for thread in threads if not thread.is_alive()]
    if gone:
        break
    time.sleep(0.05)
expect("network threads that ended", 1, len(gone))
expect("is_connected()", True, deaf.is_connected())
receipt = deaf.publish("fleet/status", "from the deaf", qos=1)
expect("publish()", "MQTT_ERR_SUCCESS", mqtt.MQTTErrorCode(receipt.rc).name)
expect("its message arrives", True, arrives("from the deaf"))
witness.publish("fleet/trigger", "look again", qos=1).wait_for_publish(10)
expect("the witness hears the second trigger", True, arrives("look again"))
expect("calls of the deaf client's callback", 1, len(calls))
expect("its receipt ever sees the acknowledgement", False, receipt.is_published())
for client in (witness, early):
    client.loop_stop()
EOF
finish
