# Copyright (c) 2026, The edgeml.fleet authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Which options of the roles pull_agent, mqtt_broker and telemetry are refused. Certificates: test_tls_problems.py."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from certificates import Authority

from ansible_collections.edgeml.fleet.plugins.filter import (
    mqtt_broker_problems,
    pull_agent_problems,
    telemetry_problems,
)

PULL = {
    "fleet": "north",
    "sources": ["https://models.example"],
    "root": "{}",
    "authority": "PEM",
    "authority_directory": "",
    "poll_seconds": 900,
}
NO_TLS = {"tls_certificate": "", "tls_key": "", "tls_client_ca": ""}
DEVICE = {
    **NO_TLS,
    "server": False,
    "node_exporter": True,
    "allow_unprotected": False,
    "listen_address": "127.0.0.1",
    "forward_url": "",
    "forward_seconds": 60,
    "forward_batches": 1,
    "forward_certificate": "",
    "forward_key": "",
}
WATCHER = {
    "server": True,
    "server_group": "edge",
    "server_scrape_seconds": 1,
    "server_retention_days": 1,
    "server_store": True,
    "server_store_tls_certificate": "",
    "server_store_tls_key": "",
    "server_store_tls_client_ca": "",
}


@pytest.fixture
def tls(tmp_path: Path) -> dict[str, str]:
    """A certificate with its key, and the authority of clients."""
    authority = Authority(tmp_path, "fleet")
    certificate, key = (path.read_text() for path in authority.issue("server"))
    return {"tls_certificate": certificate, "tls_key": key, "tls_client_ca": authority.path.read_text()}


@pytest.mark.parametrize(
    ("changes", "problems"),
    [
        ({}, []),
        ({"authority": "", "authority_directory": "/etc/authority"}, []),
        ({"poll_seconds": 86400}, []),
        ({"fleet": "", "sources": []}, ["pull_agent_fleet is required", "pull_agent_sources is required"]),
        ({"root": ""}, ["pull_agent_root is required: the first root.json of the model repository"]),
        ({"authority": ""}, ["pull_agent_authority or pull_agent_authority_directory is required"]),
    ],
)
def test_what_a_device_that_pulls_needs_is_named(changes: dict[str, Any], problems: list[str]) -> None:
    assert pull_agent_problems.pull_agent_problems({**PULL, **changes}, "aarch64", "3.11.2") == problems


def test_a_device_that_there_are_no_wheels_for_cannot_pull() -> None:
    (seconds,) = pull_agent_problems.pull_agent_problems({**PULL, "poll_seconds": 7}, "x86_64", "3.13.0")
    assert seconds.startswith("pull_agent_poll_seconds: expected one of 5, 10, 20, 30, 60, 120, ")
    assert pull_agent_problems.pull_agent_problems(PULL, "armv7l", "3.9.2") == [
        "pull mode has wheels for aarch64, x86_64, but this device is armv7l",
        "pull mode has wheels for Python 3.10 to 3.13, but this device has 3.9.2",
    ]


def test_a_broker_is_had_with_certificates_and_plain_names(tls: dict[str, str]) -> None:
    values = {**tls, "fleets": ["north"], "controllers": ["controller"], "refused_devices": [], "tls_keep": False}
    find = mqtt_broker_problems.mqtt_broker_problems
    assert find(values) == []
    assert find({**values, "tls_keep": True, "tls_key": ""}) == [
        "mqtt_broker_tls_certificate, mqtt_broker_tls_key and mqtt_broker_tls_client_ca are required"
    ]
    rule = "expected a name of letters, digits, dots, hyphens and underscores; found "
    assert find({**values, "controllers": ["a b", "ok"], "refused_devices": ["topic/#"]}) == [
        f"{rule}a b",
        f"{rule}topic/#",
    ]
    assert find({**values, "fleets": []}) == ["mqtt_broker_fleets is required"]
    damaged = {**values, "tls_certificate": "no PEM"}
    assert find(damaged) != []
    assert find({**damaged, "tls_keep": True}) == [], "the machine's own are kept"


@pytest.mark.parametrize(
    ("changes", "problem"),
    [
        ({"listen_address": "localhost"}, None),
        ({"listen_address": "10.0.0.1", "allow_unprotected": True}, None),
        ({"listen_address": "10.0.0.1", "node_exporter": False}, None),
        ({"forward_url": "https://store.example", "forward_seconds": 3600}, None),
        ({"listen_address": "0.0.0.0"}, "telemetry_listen_address is 0.0.0.0: set telemetry_tls_certificate, "),
        ({"forward_url": "ftp://x"}, "telemetry_forward_url: expected an address with https://; found ftp://x"),
        ({"forward_seconds": 15}, "telemetry_forward_seconds: expected one of 10, 20, 30, 60, 120, "),
        ({"forward_batches": 0}, "telemetry_forward_batches: expected at least 1"),
        ({"forward_key": "/k"}, "telemetry_forward_certificate and telemetry_forward_key: expected both or none"),
    ],
)
def test_what_a_device_cannot_be_watched_with_is_named(changes: dict[str, Any], problem: str | None) -> None:
    found = telemetry_problems.telemetry_problems({**DEVICE, **changes}, {})
    assert [text[: len(problem or "")] for text in found] == ([problem] if problem else [])


def test_a_device_asks_for_client_certificates_or_is_not_reached(tls: dict[str, str]) -> None:
    values = {**DEVICE, **tls, "listen_address": "0.0.0.0"}
    assert telemetry_problems.telemetry_problems(values, {}) == []
    (problem,) = telemetry_problems.telemetry_problems({**values, "tls_client_ca": ""}, {})
    assert problem.startswith("telemetry_listen_address is 0.0.0.0: ")


def test_what_a_host_cannot_watch_with_is_named(tls: dict[str, str]) -> None:
    def find(**changes: Any) -> list[str]:
        return telemetry_problems.telemetry_problems({**WATCHER, **changes}, {"edge": []})

    store = {f"server_store_{name}": text for name, text in tls.items()}
    assert find() == find(**store) == []
    assert find(server_group="egde", server_scrape_seconds=0, server_retention_days=0) == [
        "telemetry_server_group: expected a group of the inventory; found egde",
        "telemetry_server_scrape_seconds: expected at least 1",
        "telemetry_server_retention_days: expected at least 1",
    ]
    alone = {**store, "server_store_tls_client_ca": ""}
    (problem,) = find(**alone)
    assert problem.startswith("telemetry_server_store_tls_client_ca is required")
    assert find(**alone, server_store=False) == []
