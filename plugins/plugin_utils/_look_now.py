# Copyright (c) 2026, The edgeml.fleet authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# PRIVATE to the collection edgeml.fleet: no stable interface.

"""Telling devices in pull mode to look now, after something was published. Nothing depends on it."""

from __future__ import annotations

import queue
from typing import Any, NamedTuple

from ansible_collections.edgeml.fleet.plugins.module_utils._common.tls import client_context
from ansible_collections.edgeml.fleet.plugins.module_utils._mqtt.messages import look_topic

SECONDS = 10


class BrokerAddress(NamedTuple):
    """A broker, with TLS. ``certificate`` and ``key`` are the files of a reader's.

    Without ``key`` the key is in that file, too. Without ``ca_file`` the system's authorities count.
    """

    broker: str
    port: int
    ca_file: str
    certificate: str
    key: str = ""


def look_now(address: BrokerAddress, fleet: str) -> str:
    """Have all devices of a fleet look for its desired state. Returns why that did not work, or nothing.

    Takes at most some 20 s. A device that does not hear it looks at its own time.
    """
    try:
        from paho.mqtt import client as paho
        from paho.mqtt.enums import CallbackAPIVersion
    except ImportError:
        return "the package paho-mqtt is missing on the controller. Install the collection's requirements.txt"
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
                return f"{address.broker}: the broker refuses the connection: {code}"
            message = client.publish(look_topic(fleet), b"", qos=1)
            message.wait_for_publish(SECONDS)
            return "" if message.is_published() else f"{address.broker}: the broker did not acknowledge the message"
        finally:
            client.disconnect()
            client.loop_stop()
    except queue.Empty:
        return f"{address.broker}: the broker did not answer within {SECONDS} s"
    except (OSError, ValueError, RuntimeError) as error:
        return f"{address.broker}:{address.port}: {error}"
