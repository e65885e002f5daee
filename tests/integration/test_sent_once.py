# Copyright (c) 2026, The edgeml.fleet authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Devices of a site: a release is sent to the one that shares, as a delta, and the others fetch it from there."""

from __future__ import annotations

import json
import random
import sys
import threading
from pathlib import Path
from typing import Any

from controller import Ansible
from releases import make_release, publish, put

from ansible_collections.edgeml.fleet.plugins.module_utils._device.sharing import BlobServer, ShareOptions
from ansible_collections.edgeml.fleet.plugins.module_utils._device.store import Store
from ansible_collections.edgeml.fleet.plugins.plugin_utils._publish.cli import main as edgeml_publish

NOISE = random.Random(1).randbytes(200_000)
OLD, NEW = (
    make_release(f"1.{number}.0", model="plain", files={"model.bin": NOISE + bytes([number]) * 9}) for number in (0, 1)
)


def test_a_release_is_sent_to_one_device_of_a_site(tmp_path: Path) -> None:
    repository = tmp_path / "repository"
    stores: dict[str, Store] = {}
    for made in (OLD, NEW):
        publish(made, repository)
    names = ["--repository", str(repository), "--model", "plain", "--from", "1.0.0", "--to", "1.1.0"]
    assert edgeml_publish(["delta", *names]) == 0
    hosts: dict[str, Any] = {}
    # The first one shares, and asks itself in vain.
    for name in ("edge-1", "edge-2", "edge-3"):
        (tmp_path / name).mkdir()
        stores[name] = Store(str(tmp_path / name))
        put(stores[name], OLD)
        local = {"ansible_connection": "local", "ansible_python_interpreter": sys.executable}
        hosts[name] = {**local, "store": stores[name].root}
    with BlobServer(stores["edge-1"], ShareOptions(address="127.0.0.1", port=0)) as server:
        threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
        swap = {
            "model": "plain",
            "version": "1.1.0",
            "state": "present",
            "strategy": "none",
            "store": "{{ store }}",
            "repository": str(repository),
            "fetch": {"sources": [f"http://127.0.0.1:{server.server_address[1]}"]},
        }
        task = {"name": "swap", "edgeml.fleet.model_swap": swap}
        play = {"gather_facts": False, "tasks": [task]}
        ansible = Ansible(tmp_path, [], **hosts)
        plays = [{"hosts": "edge-1", **play}, {"hosts": "all:!edge-1", **play}]
        (ansible.directory / "site.yml").write_text(json.dumps(plays))
        run = ansible.run("site.yml")
        server.shutdown()
    assert run.code == 0, run
    results = run.results("swap")
    first = results.pop("edge-1")
    assert (first["changed"], first["sent"]["deltas"], first["fetched"]["failure"]["kind"]) == (True, 1, "refused")
    assert first["sent"]["bytes"] < 1000
    assert {(result["changed"], "sent" in result) for result in results.values()} == {(True, False)}
    assert {result["fetched"]["received_bytes"] for result in results.values()} == {
        NEW.release.variants[0].files[0].size
    }
    for store in stores.values():
        store.version("plain", "1.1.0").verify()
