# Copyright (c) 2026, The edgeml.fleet authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The crontab of examples/cron with the real daemon, every minute, on a local device: quiet when all is well, and a
mail when something is wrong."""

from __future__ import annotations

import re
import time
from pathlib import Path

import pytest
import yaml
from controller import DIGITS, Ansible
from cron_controller import CronController
from device import Device
from links import REPOSITORY
from releases import read_release
from rollouts import at_once

pytestmark = pytest.mark.end_to_end
CRONTAB = REPOSITORY / "examples" / "cron" / "edgeml-fleet"
GUARD_SECONDS = 240


def test_cron_heals_a_device_quietly_and_mails_what_is_wrong(tmp_path: Path, machines: dict[str, Device]) -> None:
    device = machines["edge-s1"]
    device.reset()
    device.serve(read_release(DIGITS, "digits", "1.0.0"))
    variables = at_once(tmp_path / "rollouts")
    release = {"model_name": "digits", "model_version": "1.1.0"}
    run = Ansible(tmp_path, [device]).run("edgeml.fleet.rollout", **variables, **release)
    assert run.code == 0, run
    # Somebody put in another card: the device has lost everything.
    device.reset()

    # The devices of the tests are root's.
    every_minute = re.compile(r"^\S+ \S+ \S+ \S+ \S+ +edgeml ", re.MULTILINE)
    crontab, jobs = every_minute.subn("* * * * * root ", CRONTAB.read_text())
    assert jobs == 2
    inventory = {"edge": {"hosts": {device.name: device.inventory()}, "vars": variables}}
    settings = f"[defaults]\ninventory=/etc/edgeml/hosts.yml\ncollections_path=/opt/collections\nhome={tmp_path}/home\n"
    controller = CronController(
        tmp_path / "machine",
        {
            "/etc/crontab": "",
            "/etc/cron.d/edgeml-fleet": crontab,
            "/etc/edgeml/ansible.cfg": f"{settings}pipelining=True\n[connection]\npipelining=True\n",
            "/etc/edgeml/hosts.yml": yaml.safe_dump(inventory),
            "/etc/edgeml/reconcile.yml": "{}\n",
            # Does not come as far as the ledger, which the other job holds.
            "/etc/edgeml/rollout.yml": yaml.safe_dump({**release, "model_version": "9.9.9"}),
        },
    )
    deadline = time.monotonic() + GUARD_SECONDS
    with controller:
        while device.live != "1.1.0" or not controller.mails or controller.is_busy:
            assert time.monotonic() < deadline, [controller.log, *controller.mails]
            time.sleep(0.2)
    assert not [mail for mail in controller.mails if "edgeml.fleet.reconcile" in mail], controller.mails
    for mail in controller.mails:
        assert "To: root" in mail
        assert "digits/9.9.9/manifest.json: expected the manifest of digits 9.9.9" in mail
