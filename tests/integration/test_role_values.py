# Copyright (c) 2026, The edgeml.fleet authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What roles write to a device for values that arrive as text, as ``-e name=value`` and INI inventories give them."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml
from controller import Ansible
from links import REPOSITORY

RENDERED = {
    "container_runtime": {
        "prune": "{{ lookup('ansible.builtin.template', role_path ~ '/templates/edgeml-container-prune.service') }}",
        "log": "{{ lookup('ansible.builtin.template', role_path ~ '/templates/50-edgeml.conf') }}",
        "units": "{{ __container_runtime_units }}",
    },
    "mcu_gateway": {
        "directories": "{{ __mcu_gateway_store_part.directories }}",
        "config": "{{ lookup('ansible.builtin.template', role_path ~ '/templates/mcu.json') }}",
        "unit": "{{ lookup('ansible.builtin.template', role_path ~ '/templates/edgeml-mcu.service') }}",
    },
    "model_repository": {
        "config": "{{ lookup('ansible.builtin.template', role_path ~ '/templates/edgeml-model-repository.conf') }}",
        "allow_unprotected": "{{ __model_repository_values.allow_unprotected }}",
    },
    "model_sync": {"keep": "{{ __model_sync_values.keep }}", "releases": "{{ __model_sync_values.releases }}"},
    "provision": {
        "time": "{{ __provision_parts | map(attribute='tags') | map('last') }}",
        "ntp": "{{ lookup('ansible.builtin.template', role_path ~ '/templates/timesyncd.conf.d/50-edgeml.conf') }}",
        "packages": "{{ __provision_base.packages }}",
    },
    "mqtt_broker": {
        "config": "{{ lookup('ansible.builtin.template', role_path ~ '/templates/edgeml.conf') }}",
        "acl": "{{ lookup('ansible.builtin.template', role_path ~ '/templates/acl') }}",
    },
    "pull_agent": {
        "config": "{{ __pull_agent_config }}",
        "calendar": "{{ __pull_agent_calendar }}",
        "timer": "{{ lookup('ansible.builtin.template', role_path ~ '/templates/edgeml-pull.timer') }}",
    },
    "report_mailbox": {
        "config": "{{ lookup('ansible.builtin.template', role_path ~ '/templates/edgeml-report-mailbox.conf') }}",
    },
    "site_cache": {
        "config": "{{ lookup('ansible.builtin.template', role_path ~ '/templates/edgeml-site-cache.conf') }}",
        "allow_unprotected": "{{ __site_cache_values.allow_unprotected }}",
    },
    "telemetry": {
        "problems": "{{ __telemetry_problems }}",
        "timer": "{{ lookup('ansible.builtin.template', role_path ~ '/templates/edgeml-forward.timer') }}",
        "forward": "{{ __telemetry_forward_config }}",
        "exporter": "{{ __telemetry_exporter_arguments }}",
        "prometheus": "{{ lookup('ansible.builtin.template', role_path ~ '/templates/prometheus.yml.j2') }}",
        "alertmanager": "{{ lookup('ansible.builtin.template', role_path ~ '/templates/alertmanager.yml.j2') }}",
        "targets": "{{ lookup('ansible.builtin.template', role_path ~ '/templates/server.json') }}",
        "exporters": "{{ lookup('ansible.builtin.template', role_path ~ '/templates/device.json') }}",
        "front": "{{ lookup('ansible.builtin.template', role_path ~ '/templates/edgeml-telemetry.conf') }}",
        "dashboards": "{{ __telemetry_grafana.files | map(attribute='path') }}",
        "rules": "{{ __telemetry_rules }}",
    },
}
TEXTS: dict[str, dict[str, str]] = {
    "container_runtime": {
        "container_runtime_prune_unused": "false",
        "container_runtime_podman_socket": "no",
        "container_runtime_prune": "yes",
        "container_runtime_log_max_bytes": "4096",
    },
    "mcu_gateway": {"mcu_gateway_directory": "/srv/mcu"},
    "model_repository": {
        "model_repository_allow_unprotected": "false",
        "model_repository_bytes_per_second": "0",
        "model_repository_listen_port": "8443",
    },
    "model_sync": {
        "model_sync_keep": "3",
        "model_sync_releases": '[{"model": "digits", "version": "1.10"}]',
    },
    "provision": {
        "provision_time_sync": "false",
        "provision_ntp_servers": "ntp1.example,ntp2.example",
        "provision_packages": '["ca-certificates", "chrony"]',
    },
    "mqtt_broker": {"mqtt_broker_fleets": "shop,hall", "mqtt_broker_listen_port": "9883"},
    "pull_agent": {
        "pull_agent_fleet": "shop",
        "pull_agent_poll_seconds": "7200",
        "pull_agent_sources": "https://a.example,https://b.example",
    },
    "report_mailbox": {
        "report_mailbox_enrolment": "false",
        "report_mailbox_listen_port": "9443",
        "report_mailbox_refused_devices": "edge-7,edge-8",
    },
    "site_cache": {
        "site_cache_origin": "https://models.example:8443/edge/",
        "site_cache_allow_unprotected": "no",
        "site_cache_bytes_per_second": "0",
        "site_cache_days": "7",
    },
    "telemetry": {
        "telemetry_allow_unprotected": "yes",
        "telemetry_forward_seconds": "300",
        "telemetry_forward_url": "https://watch.example:8444",
        "telemetry_forward_batches": "100",
        "telemetry_server_group": "all",
        "telemetry_server_scrape_seconds": "5",
        "telemetry_server_scrape_username": "prometheus",
        "telemetry_server_controllers": "controller.example:9100",
        "telemetry_server_page_url": "https://pager.example/hook",
        "telemetry_server_store": "true",
        "telemetry_server_dashboards": "/etc/grafana/dashboards",
        "telemetry_server_authority_directory": "/nowhere",
    },
}


@pytest.fixture(scope="module")
def rendered(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """What each role renders, by its name."""
    ansible = Ansible(
        tmp_path_factory.mktemp("ansible"), [], **{name: {"ansible_connection": "local"} for name in TEXTS}
    )
    plays = []
    for name, texts in TEXTS.items():
        role = REPOSITORY / "roles" / name
        plays.append(
            {
                "hosts": name,
                "gather_facts": False,
                "vars": {
                    **role_variables(role / "defaults" / "main.yml"),
                    **role_variables(role / "vars" / "main.yml"),
                    "role_path": str(role),
                    # The first task of each role notes it as a fact.
                    f"__{name}_values": "{{ lookup('edgeml.fleet.role_values', role_path) }}",
                    **texts,
                },
                "tasks": [{"name": "Render", "ansible.builtin.debug": {"msg": RENDERED[name]}}],
            }
        )
    (ansible.directory / "play.yml").write_text(json.dumps(plays))
    run = ansible.run("play.yml")
    assert run.code == 0, run
    return {name: result["msg"] for name, result in run.results("Render").items()}


def role_variables(path: Path) -> dict[str, Any]:
    found: dict[str, Any] = yaml.safe_load(path.read_text()) if path.exists() else {}
    return found


def test_false_as_text_prunes_no_image_that_has_a_name(rendered: dict[str, Any]) -> None:
    made = rendered["container_runtime"]
    assert "image prune --force\n" in made["prune"]
    assert "log_size_max = 4096\n" in made["log"]
    units = {unit["name"]: (unit["enabled"], unit.get("state")) for unit in made["units"]}
    assert units["podman.socket"] == (False, "stopped")
    assert units["edgeml-container-prune.timer"] == (True, "started")


@pytest.mark.parametrize("name", ["model_repository", "site_cache"])
def test_false_as_text_protects_and_nought_as_text_is_no_limit(rendered: dict[str, Any], name: str) -> None:
    made = rendered[name]
    assert made["allow_unprotected"] is False
    assert "limit_rate" not in made["config"]


def test_what_a_web_server_gets_as_text_is_in_its_place(rendered: dict[str, Any]) -> None:
    assert "    listen 0.0.0.0:8443 default_server;\n" in rendered["model_repository"]["config"]
    cache = rendered["site_cache"]["config"]
    assert " inactive=7d;\n" in cache
    assert "        proxy_pass https://models.example:8443;\n" in cache
    assert "        proxy_ssl_name models.example;\n" in cache
    assert "        rewrite ^(.*)$ /edge$1 break;\n" in cache

    mailbox = rendered["report_mailbox"]["config"]
    assert "    listen 0.0.0.0:9443 ssl;\n" in mailbox
    assert "    ssl_verify_client on;\n" in mailbox
    assert '    "SUCCESS CN=edge-8" "/refused";\n' in mailbox


def test_what_a_device_in_pull_mode_gets_as_text_is_in_its_place(rendered: dict[str, Any]) -> None:
    agent = rendered["pull_agent"]
    assert agent["config"]["sources"] == ["https://a.example", "https://b.example"]
    assert agent["config"]["poll_seconds"] == 7200
    assert agent["config"]["mailbox"] is None
    assert agent["calendar"] == "*-*-* 00/2:00:00"
    assert "RandomizedDelaySec=7200\n" in agent["timer"]
    broker = rendered["mqtt_broker"]
    assert "listener 9883 0.0.0.0\n" in broker["config"]
    assert "pattern write edgeml/hall/devices/%u/telemetry\n" in broker["acl"]


def test_what_watches_gets_its_configuration(rendered: dict[str, Any], tmp_path: Path) -> None:
    found = rendered["telemetry"]
    assert found["problems"] == []
    assert "OnCalendar=*-*-* *:00/5:00\nRandomizedDelaySec=300\n" in found["timer"]
    assert (found["forward"]["batches_max"], found["forward"]["ca_file"]) == (100, None)
    assert found["exporter"] == ["--web.listen-address=0.0.0.0:9100"]
    prometheus = yaml.safe_load(found["prometheus"])
    assert (prometheus["global"]["scrape_interval"], prometheus["global"]["scrape_timeout"]) == ("5s", "5s")
    assert prometheus["remote_write"] == [{"url": "http://127.0.0.1:8428/api/v1/write"}]
    assert [job["job_name"] for job in prometheus["scrape_configs"]] == [
        "edgeml-server",
        "edgeml-device",
        "edgeml-controller",
    ]
    assert prometheus["scrape_configs"][0]["basic_auth"]["username"] == "prometheus"
    assert prometheus["scrape_configs"][2]["static_configs"] == [{"targets": ["controller.example:9100"]}]
    for targets, port in (("targets", 8080), ("exporters", 9100)):
        (first, *_others) = json.loads(found[targets])
        assert first == {
            "targets": [f"container_runtime:{port}"],
            "labels": {"__scheme__": "http", "device": "container_runtime"},
        }
    alertmanager = yaml.safe_load(found["alertmanager"])
    assert [receiver["name"] for receiver in alertmanager["receivers"]] == ["nobody", "page", "ticket"]
    assert alertmanager["receivers"][1]["webhook_configs"][0]["url"] == "https://pager.example/hook"
    assert "    listen 0.0.0.0:8444 ssl;\n" in found["front"]
    assert found["dashboards"][0] == "/etc/grafana/dashboards/edgeml-fleet.json"
    assert yaml.safe_load(found["rules"])["groups"]
    # What the program itself says.
    (tmp_path / "prometheus.yml").write_text(found["prometheus"])
    subprocess.run(["promtool", "check", "config", "--syntax-only", tmp_path / "prometheus.yml"], check=True)


def test_a_gateway_without_microcontrollers_has_a_directory_for_their_stores(rendered: dict[str, Any]) -> None:
    gateway = rendered["mcu_gateway"]
    assert gateway["directories"] == [{"path": "/srv/mcu", "group": "edgeml", "mode": "0750"}]
    assert json.loads(gateway["config"]) == {"microcontrollers": []}
    assert "ReadWritePaths=/srv/mcu /run/lock\n" in gateway["unit"]


def test_lists_and_numbers_as_text_are_lists_and_numbers(rendered: dict[str, Any]) -> None:
    assert rendered["model_sync"] == {"keep": 3, "releases": [{"model": "digits", "version": "1.10"}]}
    assert "NTP=ntp1.example ntp2.example\n" in rendered["provision"]["ntp"]
    assert rendered["provision"]["packages"] == ["ca-certificates", "chrony"]
    assert "provision_time" not in rendered["provision"]["time"]


def test_each_role_notes_its_values_once() -> None:
    for role in TEXTS:
        tasks = "\n".join(path.read_text() for path in (REPOSITORY / "roles" / role / "tasks").glob("*.yml"))
        assert tasks.count("lookup('edgeml.fleet.role_values', role_path)") == 1
