# Copyright (c) 2026, The edgeml.fleet authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# PRIVATE to the collection edgeml.fleet: no stable interface.

"""What a controller needs for devices that pull: the variable ``rollout_pull``, checked. Pure."""

from __future__ import annotations

import dataclasses
import os
from dataclasses import dataclass
from typing import Any, Mapping

from ansible_collections.edgeml.fleet.plugins.module_utils._common.errors import ArgumentError
from ansible_collections.edgeml.fleet.plugins.module_utils._release.desired import check_fleet_name

REPORT_SECONDS = 2700.0
MQTT_PORT = 8883
_PATHS = (
    "fleet_key",
    "online_key",
    "ca_file",
    "crl_file",
    "mailbox_ca_file",
    "certificate_file",
    "key_file",
    "mqtt_ca_file",
)
_REQUIRED = ("fleet", "fleet_key", "online_key", "mailbox", "ca_file")


@dataclass(frozen=True)
class PullSettings:
    """Where the desired state of ``fleet`` is published, and where its reports arrive.

    ``repository`` is the signed model repository's directory; ``fleet_key`` and ``online_key`` sign the desired
    state, and snapshot and timestamp. ``mailbox`` is a directory, or an address that is read with ``certificate_file``
    and ``key_file``, whose server ``mailbox_ca_file`` vouches for. ``ca_file`` issued the devices' certificates,
    ``crl_file`` has those of them that were revoked. ``report_seconds`` is how long devices have for a report.
    ``ledger`` is the ledger's directory. ``mqtt_broker``, which is shown the same certificate, has the devices look
    when something was published.
    """

    fleet: str
    repository: str
    fleet_key: str
    online_key: str
    mailbox: str
    ca_file: str
    ledger: str
    crl_file: str = ""
    mailbox_ca_file: str = ""
    certificate_file: str = ""
    key_file: str = ""
    report_seconds: float = REPORT_SECONDS
    mqtt_broker: str = ""
    mqtt_port: int = MQTT_PORT
    mqtt_ca_file: str = ""

    @property
    def book(self) -> str:
        """The directory of what the fleet's devices have reported."""
        return os.path.join(self.ledger, "pull", self.fleet)


def read_settings(values: Mapping[str, Any], repository: str, ledger: str) -> PullSettings:
    """Read ``rollout_pull``. ``repository``: where releases are read from. Raises ArgumentError, which names what is
    missing or wrong."""
    missing = [name for name in _REQUIRED if not values.get(name)]
    if missing:
        raise ArgumentError(
            f"rollout_pull: expected {', '.join(_REQUIRED)}, because devices of this run have rollout_transport: pull; "
            f"missing: {', '.join(missing)}. See docs/pull.md"
        )
    fields = {item.name for item in dataclasses.fields(PullSettings)}
    found = {name: value for name, value in values.items() if name in fields and value not in (None, "")}
    check_fleet_name(found["fleet"], "rollout_pull: fleet")
    for name in _PATHS:
        if name in found:
            found[name] = _path(str(found[name]))
    found["repository"] = str(found.get("repository") or repository)
    if found["repository"].startswith(("http://", "https://")):
        raise ArgumentError(
            "rollout_pull: repository: expected the directory of the model repository, where the desired state is "
            f"written; found {found['repository']}"
        )
    found["repository"] = _path(found["repository"])
    if not str(found["mailbox"]).startswith(("http://", "https://")):
        found["mailbox"] = _path(str(found["mailbox"]))
    return PullSettings(**{**found, "ledger": ledger})


def _path(text: str) -> str:
    return os.path.abspath(os.path.expanduser(os.path.expandvars(text)))
