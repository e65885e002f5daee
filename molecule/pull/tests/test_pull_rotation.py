# Copyright (c) 2026, The edgeml.fleet authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The authority of the devices that pull is replaced: their own units and those of the servers take what is new."""

from __future__ import annotations

import os
import re
import shlex

import pytest
from containers import ContainerController, Containers
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from links import REPOSITORY

NAMES = os.environ.get("FLEET", "quickstart")
PULLED, MAILBOX = ("edge-s1", "edge-l1"), "edge-l2"
FLEET = Containers([*PULLED, MAILBOX], NAMES)
DIRECTORY = REPOSITORY / ".ansible" / NAMES / "pull"
AUTHORITY = DIRECTORY / "authority" / "ca.pem"
BELIEVED = {
    **dict.fromkeys(PULLED, "/etc/edgeml/pull/authority.pem"),
    MAILBOX: "/etc/nginx/edgeml-report-mailbox/client-ca.pem",
}


@pytest.fixture(scope="module")
def controller(tmp_path_factory: pytest.TempPathFactory) -> ContainerController:
    inventories = [REPOSITORY / "inventories" / NAMES / "hosts.yml", REPOSITORY / "molecule/pull/inventory/hosts.yml"]
    usual = {
        "enroll_authority": str(AUTHORITY.parent),
        "rotate_hosts": ",".join(PULLED),
        "rotate_servers": f"edge-s2,{MAILBOX}",
    }
    return ContainerController(tmp_path_factory.mktemp("controller"), inventories, usual)


# Where the roles put credentials.
DIRECTORIES = "/etc/edgeml/pull /etc/nginx /etc/mosquitto"
KEEP = dict.fromkeys(
    ("report_mailbox_tls_keep", "model_repository_tls_keep", "mqtt_broker_tls_keep", "pull_agent_tls_keep"), True
)


def credentials() -> dict[str, str]:
    """The files on each machine, with their digests."""
    find = f"for at in {DIRECTORIES}; do [ ! -e $at ] || find $at -type f; done | sort | xargs sha256sum"
    return {machine: FLEET.on(machine, find) for machine in (*PULLED, MAILBOX)}


# Asks for its directory in the mailbox: host, path, certificate, key.
ASK = """
import http.client, ssl, sys
context = ssl.create_default_context(cafile="/etc/edgeml/pull/ca.pem")
context.load_cert_chain(*sys.argv[3:])
connection = http.client.HTTPSConnection(sys.argv[1], 8443, context=context, timeout=240)
connection.request("MKCOL", sys.argv[2])
print(connection.getresponse().status)
"""


def ask(device: str, address: str, certificate: str, key: str) -> int:
    """The status by which the mailbox answers a device that shows a certificate."""
    words = ["python3", "-c", ASK, address, f"/reports/{device}/", certificate, key]
    return int(FLEET.on(device, shlex.join(words)))


def test_the_authority_is_replaced(controller: ContainerController) -> None:
    address = FLEET.on(MAILBOX, "hostname -I").strip()
    (old,) = x509.load_pem_x509_certificates(AUTHORITY.read_bytes())
    (controller.directory / "old.pem").write_bytes(AUTHORITY.read_bytes())
    own = "/etc/edgeml/pull/device"
    for device in PULLED:
        FLEET.on(device, f"cp {own}.pem /root/old.pem && cp {own}.key /root/old.key")
    keys = {device: FLEET.on(device, f"sha256sum < {own}.key") for device in PULLED}
    first = controller.run("edgeml.fleet.rotate_credentials", rotate_replace=old.fingerprint(hashes.SHA256()).hex())
    assert first.returncode == 0
    (new,) = x509.load_pem_x509_certificates(AUTHORITY.read_bytes())
    assert new != old
    for machine, path in BELIEVED.items():
        assert x509.load_pem_x509_certificates(FLEET.on(machine, f"cat {path}").encode()) == [new]
    for device in PULLED:
        x509.load_pem_x509_certificate(FLEET.on(device, f"cat {own}.pem").encode()).verify_directly_issued_by(new)
        assert FLEET.on(device, f"sha256sum < {own}.key") != keys[device]
        assert FLEET.on(device, "ls /etc/edgeml/pull/*.next /etc/edgeml/pull/*.changing 2>/dev/null || true") == ""
        FLEET.on(device, "edgeml pull")
        # It has delivered before, so its directory is there: 405. Without a certificate that is believed: 400.
        assert ask(device, address, f"{own}.pem", f"{own}.key") in (201, 405)
        assert ask(device, address, "/root/old.pem", "/root/old.key") == 400
    assert FLEET.on(MAILBOX, "systemctl is-active nginx mosquitto").split() == ["active", "active"]
    assert [FLEET.on(device, "systemctl is-active edgeml-mqtt").strip() for device in PULLED] == ["active", "active"]
    second = controller.run("edgeml.fleet.rotate_credentials", rotate_replace=old.fingerprint(hashes.SHA256()).hex())
    assert second.returncode == 0
    assert "changed=1" not in second.stdout


def test_the_roles_take_nothing_back_with_the_texts_of_before(controller: ContainerController) -> None:
    before, address = credentials(), FLEET.on(MAILBOX, "hostname -I").strip()
    run = controller.run(
        "molecule/pull/roles.yml", pull_authority_text=(controller.directory / "old.pem").read_text(), **KEEP
    )
    assert run.returncode == 0
    assert re.findall(r"changed=([0-9]+)", run.stdout)
    assert set(re.findall(r"changed=([0-9]+)", run.stdout)) == {"0"}
    assert credentials() == before
    for device in PULLED:
        FLEET.on(device, "edgeml pull")
        assert ask(device, address, "/root/old.pem", "/root/old.key") == 400
