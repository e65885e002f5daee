# Copyright (c) 2026, The edgeml.fleet authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""An ARM device that went from ONNX Runtime to ncnn while a client asked."""

from __future__ import annotations

import json
import urllib.request
from pathlib import Path
from typing import Any

import numpy as np
from testinfra.host import Host

URL = "http://127.0.0.1:8106"
FLEET = Path(__file__).parents[3] / ".ansible" / "ncnn"
REPOSITORY = FLEET / "publication" / "repository"
GUARD_SECONDS = 60


def ask(path: str, document: object = None) -> Any:
    body = None if document is None else json.dumps(document).encode()
    with urllib.request.urlopen(urllib.request.Request(URL + path, body), timeout=GUARD_SECONDS) as reply:
        return json.load(reply)


def test_the_device_is_an_arm_machine_with_both_runtimes(host: Host) -> None:
    assert host.check_output("uname -m") == "aarch64"
    facts = json.loads(host.check_output("/etc/ansible/facts.d/edgeml.fact"))
    assert facts["architecture"] == "aarch64"
    assert set(facts["runtimes"]) == {"onnxruntime", "ncnn"}


def test_ncnn_serves_what_the_source_computes(host: Host) -> None:
    metadata = ask("/v2/models/digits")
    assert (metadata["platform"], metadata["versions"]) == ("ncnn", ["1.2.0"])
    manifest = json.loads((REPOSITORY / "digits" / "1.2.0" / "manifest.json").read_text())
    golden = json.loads((REPOSITORY / "blobs" / "sha256" / manifest["golden"]["sha256"]).read_text())
    reply = ask("/v2/models/digits/infer", {"inputs": golden["inputs"]})
    (found,), (expected,) = reply["outputs"], golden["outputs"]
    assert (reply["model_version"], found["shape"]) == ("1.2.0", expected["shape"])
    np.testing.assert_allclose(found["data"], expected["data"], atol=1e-4)


def test_it_was_tested_by_ncnn_on_the_device_before_it_served(host: Host) -> None:
    tested = json.loads(host.file("/var/lib/edgeml/store/models/digits/versions/1.2.0/tested.json").content_string)
    assert tested["runtime"].startswith("ncnn 1.0.")
    with urllib.request.urlopen(f"{URL}/metrics", timeout=GUARD_SECONDS) as reply:
        assert 'variant="ncnn-fp32"' in reply.read().decode()


def test_no_request_failed_while_the_runtime_changed() -> None:
    (report,) = json.loads((FLEET / "answers.json").read_text()).values()
    assert report["failed"] == 0
    assert set(report["versions"]) == {"1.1.0", "1.2.0"}
    for version, answered in report["versions"].items():
        # Both are right in 0.983 of all images.
        assert report["correct_by_version"][version] >= 0.9 * answered


def test_the_server_ran_through(host: Host) -> None:
    assert host.check_output("systemctl show edgeml-inference --property=NRestarts --value") == "0"
    assert host.check_output("systemctl is-system-running") == "running"
