# Copyright (c) 2026, The edgeml.fleet authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The service's pod in K3s: of the same description as the other runners, as closed as its hostPath volumes allow."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from kubernetes_manifest import documents, filled, rendered

REFERENCE = f"localhost/edgeml-inference:{'a' * 64}"
VALUES = {"EDGEML_IMAGE": REFERENCE, "EDGEML_USER": "997:996", "EDGEML_MEMORY_BYTES": "536870912"}


@pytest.fixture(scope="module")
def manifest(tmp_path_factory: pytest.TempPathFactory) -> dict[str, dict[str, Any]]:
    """The objects of one device, by kind."""
    directory: Path = tmp_path_factory.mktemp("manifest")
    return documents(filled(directory, *rendered(directory / "plain"), VALUES))


@pytest.fixture(scope="module")
def pod(manifest: dict[str, dict[str, Any]]) -> dict[str, Any]:
    found: dict[str, Any] = manifest["Deployment"]["spec"]["template"]["spec"]
    return found


def test_the_device_says_which_image_user_and_memory(pod: dict[str, Any]) -> None:
    (container,) = pod["containers"]
    assert (container["image"], container["imagePullPolicy"]) == (REFERENCE, "Never")
    assert (pod["securityContext"]["runAsUser"], pod["securityContext"]["runAsGroup"]) == (997, 996)
    assert container["resources"]["limits"]["memory"] == container["resources"]["requests"]["memory"] == "536870912"


def test_it_is_what_the_other_runners_run(pod: dict[str, Any]) -> None:
    (container,) = pod["containers"]
    assert container["command"][1:] == ["-m", "edgeml_server", "--config", "/etc/edgeml/server.json"]
    assert {entry["name"] for entry in container["env"]} >= {"PYTHONPATH", "MALLOC_ARENA_MAX"}
    mounts = {mount["mountPath"]: mount.get("readOnly", False) for mount in container["volumeMounts"]}
    assert mounts == {
        "/tmp": False,
        "/etc/edgeml": True,
        "/var/lib/edgeml/store": True,
        "/run/edgeml": False,
        "/var/lib/edgeml-inference": False,
    }
    named = {mount["name"]: mount["mountPath"] for mount in container["volumeMounts"]}
    on_host = {volume["name"]: volume["hostPath"]["path"] for volume in pod["volumes"] if "hostPath" in volume}
    assert on_host == {name: path for name, path in named.items() if path != "/tmp"}


def test_the_pod_is_restricted_but_for_what_the_documentation_names(
    manifest: dict[str, dict[str, Any]], pod: dict[str, Any]
) -> None:
    """Each rule of the Pod Security Standard `restricted`; hostPath and hostPort are the exceptions."""
    (container,) = pod["containers"]
    for host in ("hostNetwork", "hostPID", "hostIPC", "hostUsers", "shareProcessNamespace"):
        assert host not in pod
    assert pod["securityContext"]["runAsNonRoot"] is True
    assert pod["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
    assert container["securityContext"] == {
        "allowPrivilegeEscalation": False,
        "readOnlyRootFilesystem": True,
        "capabilities": {"drop": ["ALL"]},
    }
    assert pod["automountServiceAccountToken"] is False
    assert {kind for volume in pod["volumes"] for kind in volume if kind != "name"} == {"hostPath", "emptyDir"}
    labels = manifest["Namespace"]["metadata"]["labels"]
    assert labels == {
        "pod-security.kubernetes.io/enforce": "privileged",
        "pod-security.kubernetes.io/audit": "restricted",
        "pod-security.kubernetes.io/warn": "restricted",
    }


def test_nobody_but_clients_of_its_port_has_a_connection(manifest: dict[str, dict[str, Any]]) -> None:
    policy = manifest["NetworkPolicy"]["spec"]
    assert policy["podSelector"]["matchLabels"] == manifest["Deployment"]["spec"]["template"]["metadata"]["labels"]
    assert policy["policyTypes"] == ["Ingress", "Egress"]
    assert policy["ingress"] == [{"ports": [{"port": 8080, "protocol": "TCP"}]}]
    assert policy["egress"] == []


def test_the_kubelet_waits_for_the_models_and_ends_what_hangs(pod: dict[str, Any]) -> None:
    (container,) = pod["containers"]
    startup, liveness = container["startupProbe"], container["livenessProbe"]
    assert startup["periodSeconds"] * startup["failureThreshold"] == 180
    assert liveness["periodSeconds"] * liveness["failureThreshold"] == 60
    assert liveness["httpGet"] == {"path": "/v2/health/live", "port": "http", "scheme": "HTTP"}
    assert container["ports"][0]["hostIP"] == "127.0.0.1"
