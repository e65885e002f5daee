# Copyright (c) 2026, The edgeml.fleet authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The playbook ``decommission``: a device that is reached, and one that is away until later."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from controller import Ansible, Run
from cryptography import x509
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec
from device import Device
from report_mailbox import Mailbox

from ansible_collections.edgeml.fleet.plugins.module_utils._enrolment.request import fingerprint, make_request
from ansible_collections.edgeml.fleet.plugins.plugin_utils._enrolment.authority import Authority, revoked_devices

HERE, AWAY = "edge-s1", "edge-s2"


def enrolled(authority: Authority, device: Device) -> Path:
    """A device's certificate with its key, where a real one has it."""
    key = ec.generate_private_key(ec.SECP256R1())
    private = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    certificate = authority.sign(make_request(key, device.name), device.name, fingerprint(key.public_key()), days=90)
    assert x509.load_pem_x509_certificate(certificate.encode())
    path = device.directory / "lib/card/etc/edgeml/pull/device.pem"
    path.parent.mkdir(parents=True)
    path.write_bytes(certificate.encode() + private)
    return path


class Site:
    """A controller with its authority and its ledger, and two devices, of which one is away."""

    def __init__(self, directory: Path, devices: list[Device]) -> None:
        self.directory = directory
        self.authority = Authority.create(str(directory / "authority"))
        self.devices = devices
        self.ansible = Ansible(directory, devices)
        self.variables: dict[str, Any] = {
            "enroll_authority": str(directory / "authority"),
            "rollout_ledger": str(directory / "ledger"),
            # Units and directories of this machine are not the devices'.
            "decommission_root": "/var/lib/edgeml/card",
        }

    def is_away(self, name: str) -> None:
        """Nothing answers where a device is."""
        path = self.ansible.directory / "hosts.json"
        inventory = json.loads(path.read_text())
        host = inventory["all"]["children"]["edge"]["hosts"][name]
        host.update(ansible_connection="ssh", ansible_host="127.0.0.1", ansible_port=1)
        path.write_text(json.dumps(inventory))

    def is_back(self) -> None:
        """All devices answer."""
        path = self.ansible.directory / "hosts.json"
        inventory = json.loads(path.read_text())
        inventory["all"]["children"]["edge"]["hosts"] = {device.name: device.inventory() for device in self.devices}
        path.write_text(json.dumps(inventory))

    def decommission(self, *options: str, **changes: Any) -> Run:
        """Take both devices out of service."""
        named = {"decommission_devices": [HERE, AWAY], "decommission_reason": "sold"}
        return self.ansible.run("edgeml.fleet.decommission", *options, **{**self.variables, **named, **changes})


@pytest.fixture
def site(tmp_path: Path, fleet: dict[str, Device]) -> Site:
    return Site(tmp_path, [fleet[HERE], fleet[AWAY]])


def test_a_device_that_is_here_and_one_that_is_away(site: Site, tmp_path: Path) -> None:
    cards = {device.name: device.directory / "lib/card" for device in site.devices}
    certificates = {}
    for device in site.devices:
        copy = tmp_path / f"{device.name}.pem"
        copy.write_bytes(enrolled(site.authority, device).read_bytes())
        certificates[device.name] = copy
    site.is_away(AWAY)

    would = site.decommission("--check", "--diff")
    assert would.code == 0, would
    noted = would.results("Note them in the ledger, and have the authority refuse them")["localhost"]
    assert noted["changed"]
    assert '"reason": "sold"' in noted["diff"]["after"]
    assert would.results("Remove keys, models, logs and programs")[HERE]["paths"] == ["/var/lib/edgeml/card/etc/edgeml"]
    assert (cards[HERE] / "etc/edgeml").exists()
    assert revoked_devices(site.variables["enroll_authority"]) == []

    run = site.decommission()
    assert run.code == 0, run
    assert run.custom_stats["decommission_wiped"] == [HERE]
    assert run.custom_stats["decommission_to_wipe"] == [AWAY]
    (said,) = run.results("Name the devices that were not reached").values()
    assert AWAY in said["msg"]
    assert not (cards[HERE] / "etc/edgeml").exists()
    assert (cards[AWAY] / "etc/edgeml").exists()

    # The mailbox refuses both, by the list that its role reads; the broker has the same one.
    refused = revoked_devices(site.variables["enroll_authority"])
    assert refused == [HERE, AWAY]
    (tmp_path / "mailbox").mkdir()
    mailbox = Mailbox(tmp_path / "mailbox", client_ca=site.authority.pem, refused_devices=refused)
    try:
        for name, certificate in certificates.items():
            assert mailbox.deliver(certificate, name, 1, b"{}") == [403, 403, 403]
    finally:
        mailbox.stop()

    # It is back.
    site.is_back()
    later = site.decommission()
    assert later.code == 0, later
    assert later.custom_stats["decommission_wiped"] == [AWAY]
    assert not (cards[AWAY] / "etc/edgeml").exists()
    again = site.decommission()
    assert again.code == 0, again
    assert {host: recap["changed"] for host, recap in again.stats.items()} == {"localhost": 0}

    back = site.decommission(decommission_devices=[HERE], decommission_undo=True)
    assert back.code == 0, back
    assert back.custom_stats["decommission_refused"] == [AWAY]
    assert revoked_devices(site.variables["enroll_authority"]) == [AWAY]


def test_the_roles_of_mailbox_and_broker_read_who_is_refused(site: Site) -> None:
    """Here they end at their certificates, which are none."""
    site.authority.revoke(HERE)
    roles = ("report_mailbox", "mqtt_broker")
    variables: dict[str, Any] = {
        "mqtt_broker_fleets": ["shop"],
        **{f"mqtt_broker_tls_{what}": "no certificate" for what in ("certificate", "key", "client_ca")},
    }
    for role in roles:
        variables[f"{role}_authority_directory"] = site.variables["enroll_authority"]
        variables[f"{role}_refused_devices"] = ["edge-9"]
        variables[f"{role}_secure_logging"] = False
    tasks = [
        {
            "name": role,
            "block": [{"name": role, "ansible.builtin.include_role": {"name": f"edgeml.fleet.{role}"}}],
            "rescue": [{"name": f"Values of {role}", "ansible.builtin.debug": {"var": f"__{role}_values"}}],
        }
        for role in roles
    ]
    play = {"hosts": HERE, "gather_facts": False, "vars": variables, "tasks": tasks}
    (site.ansible.directory / "roles.yml").write_text(json.dumps([play]))
    run = site.ansible.run("roles.yml")
    assert run.code == 0, run
    for role in roles:
        (shown,) = run.results(f"Values of {role}").values()
        assert shown[f"__{role}_values"]["refused_devices"] == ["edge-9", HERE]


def test_nobody_is_decommissioned_by_a_slip(site: Site) -> None:
    """A text is a list of letters to who forgets the brackets."""
    run = site.decommission(decommission_devices=HERE)
    assert run.code != 0
    (result,) = run.results("Have devices to take out of service").values()
    assert f'decommission_devices: expected a list of names, such as ["edge-17"]; found {HERE}' in result["msg"]
    assert not (site.directory / "ledger").exists()
