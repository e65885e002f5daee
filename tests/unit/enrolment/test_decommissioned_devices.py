# Copyright (c) 2026, The edgeml.fleet authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What the authority signs for a device that was decommissioned: nothing, whatever its key."""

from __future__ import annotations

import datetime
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding

from ansible_collections.edgeml.fleet.plugins.module_utils._enrolment.request import (
    EnrolmentError,
    fingerprint,
    make_request,
)
from ansible_collections.edgeml.fleet.plugins.plugin_utils._enrolment.authority import (
    Authority,
    is_authority,
    revoked_devices,
)
from ansible_collections.edgeml.fleet.plugins.plugin_utils._enrolment.desk import DirectoryDesk
from ansible_collections.edgeml.fleet.plugins.plugin_utils._enrolment.enrolment import Enrolment

NOW = datetime.datetime.now(datetime.UTC)


def request(name: str) -> tuple[bytes, str]:
    """A request of a new key of the device, and the key's fingerprint."""
    key = ec.generate_private_key(ec.SECP256R1())
    made = make_request(key, name)
    content = made if isinstance(made, bytes) else made.public_bytes(Encoding.PEM)
    return content, fingerprint(key.public_key())


def test_nothing_is_signed_for_it_and_all_of_that_can_be_taken_back(tmp_path: Path) -> None:
    directory = tmp_path / "authority"
    assert not is_authority(str(directory))
    assert revoked_devices(str(directory)) == []
    authority = Authority.create(str(directory))
    assert is_authority(str(directory))
    content, digest = request("edge-17")
    given = authority.sign(content, "edge-17", digest, days=90)
    authority.revoke("edge-17")
    authority.revoke("edge-18")
    assert revoked_devices(str(directory)) == ["edge-17", "edge-18"]
    assert (directory / "revoked/edge-17.pem").read_text() == given
    assert authority.devices() == [], "nothing of it is renewed"
    for asked, key in ((content, digest), request("edge-17")):
        with pytest.raises(EnrolmentError, match="edge-17: was decommissioned"):
            authority.sign(asked, "edge-17", key, days=90, replace=True)
    authority.allow("edge-17")
    authority.allow("edge-17")
    again, key = request("edge-17")
    assert authority.sign(again, "edge-17", key, days=90).startswith("-----BEGIN CERTIFICATE-----")


def test_an_operator_sees_that_it_asks(tmp_path: Path) -> None:
    authority = Authority.create(str(tmp_path / "authority"))
    authority.revoke("edge-17")
    stick = tmp_path / "stick"
    stick.mkdir()
    content, digest = request("edge-17")
    (stick / f"{digest}.csr").write_bytes(content)
    enrolment = Enrolment(str(tmp_path / "authority"), days=90, check_mode=False, now=NOW)
    desk = DirectoryDesk(str(stick))
    assert enrolment.waiting(desk, set()) == [
        {"fingerprint": digest, "device": "edge-17", "problem": "the device was decommissioned"}
    ]
    with pytest.raises(EnrolmentError, match="edge-17: was decommissioned"):
        enrolment.accept(desk, {"edge-17": digest}, replace=True)
