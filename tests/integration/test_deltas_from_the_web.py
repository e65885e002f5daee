# Copyright (c) 2026, The edgeml.fleet authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The role model_sync with a signed repository behind nginx: the controller downloads a delta, and pushes it."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from controller import Ansible
from device import Device
from networks import FILE, Digits
from nginx import Nginx, defaults
from releases import publish, put, sha256
from signed import Signed

from ansible_collections.edgeml.fleet.plugins.module_utils._release.delta_index import Delta, index_document
from ansible_collections.edgeml.fleet.plugins.module_utils._release.release import File
from ansible_collections.edgeml.fleet.plugins.module_utils._release.repository import Repository
from ansible_collections.edgeml.fleet.plugins.plugin_utils._publish.cli import main as edgeml_publish

OLD, NEW = Digits().release(0), Digits().release(1)


class WebRepository:
    """Two signed versions with the delta between them, served by nginx, and a controller that trusts who signed."""

    def __init__(self, directory: Path, device: Device) -> None:
        self._directory, self._device = directory, device
        self._ansible = Ansible(directory, [device])
        signed = Signed(directory / "repository", versions=())
        for made in (OLD, NEW):
            publish(made, signed.path)
        signed.release()
        old, new = (str(made.document["version"]) for made in (OLD, NEW))
        released = ["--repository", str(signed.path), "--model", "digits", "--from", old, "--to", new]
        assert edgeml_publish(["delta", *released]) == 0
        store = Repository(str(signed.path))
        self.file: File = next(file for file in NEW.release.all_files() if file.path == FILE)
        self.deltas = store.deltas(self.file)
        self.delta = next(delta for delta in self.deltas if delta.bases)
        self.path = Path(store.delta_path(self.file, self.delta))
        (directory / "nginx").mkdir()
        port = defaults("site_cache")["listen_port"]
        server = f"server {{ listen 127.0.0.1:{port}; root {signed.path}; }}"
        self.nginx = Nginx(directory / "nginx", server)
        root = directory / "root.json"
        root.write_bytes(signed.root)
        self.variables = {
            "model_sync_repository": f"http://127.0.0.1:{port}",
            "model_repository_root": str(root),
            "model_repository_unsigned": False,
            "model_repository_state": str(directory / "state"),
            "model_sync_releases": [{"model": "digits", "version": new}],
        }

    def downloaded(self) -> tuple[bool, bool]:
        """Whether the controller has downloaded the delta, and the whole file."""
        (cache,) = (self._directory / "state").glob("*/cache")
        blob = cache / "blobs" / "sha256" / self.file.sha256
        return any(cache.glob(f"deltas/{self.file.sha256}/{64 * '?'}")), blob.exists()

    def sync(self) -> dict[str, Any]:
        """Run the role; return what it says of the version, which the device then holds, with the task's warnings."""
        role = {"role": "edgeml.fleet.model_sync", "vars": self.variables}
        play = {"hosts": "edge", "gather_facts": False, "roles": [role]}
        (self._ansible.directory / "sync.yml").write_text(json.dumps([play]))
        run = self._ansible.run("sync.yml")
        assert run.code == 0, run
        result = run.results("Hold the releases in the device's store")[self._device.name]
        (item,) = result["results"]
        self._device.store.version("digits", str(NEW.document["version"])).verify()
        return {**item, "warnings": result.get("warnings", [])}


@pytest.fixture
def device(fleet: dict[str, Device]) -> Device:
    """A device that holds the version before."""
    found = fleet["edge-s1"]
    found.reset()
    put(found.store, OLD)
    return found


@pytest.fixture
def web(tmp_path: Path, device: Device) -> Iterator[WebRepository]:
    made = WebRepository(tmp_path, device)
    try:
        yield made
    finally:
        made.nginx.stop()


def test_the_delta_is_all_that_is_downloaded_and_pushed(web: WebRepository) -> None:
    result = web.sync()
    assert (result["changed"], result["sent"]["deltas"], result["warnings"]) == (True, 1, [])
    assert web.delta.size <= result["sent"]["bytes"] < web.file.size
    assert web.downloaded() == (True, False)
    assert not web.sync()["changed"]


def test_a_damaged_delta_is_said_and_the_whole_file_is_pushed(web: WebRepository) -> None:
    """Nobody signs an index of deltas: who can write to the web server can name any delta in it."""
    content = web.path.read_bytes()[:-1]
    wrong = Delta(sha256(content), len(content), web.delta.bases)
    web.path.with_name(wrong.sha256).write_bytes(content)
    web.path.with_name("index.json").write_text(json.dumps(index_document([wrong])))
    result = web.sync()
    (warning,) = result["warnings"]
    assert warning.startswith(f"{FILE}: sent whole, as its delta was refused: ")
    assert result["changed"]
    assert result["sent"]["bytes"] >= wrong.size + web.file.size
    assert web.downloaded() == (True, True)


def test_a_device_that_lost_the_old_blob_has_it_again_of_its_version_and_gets_the_delta(
    web: WebRepository, device: Device
) -> None:
    (base,) = web.delta.bases
    blob = Path(device.store.blobs.directory) / base
    blob.unlink()
    result = web.sync()
    assert (result["changed"], result["sent"]["deltas"], result["warnings"]) == (True, 1, [])
    assert web.delta.size <= result["sent"]["bytes"] < web.file.size // 100
    assert blob.exists()
    assert web.downloaded() == (True, False)
