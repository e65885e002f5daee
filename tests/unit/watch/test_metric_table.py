# Copyright (c) 2026, The edgeml.fleet authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The table of all metrics: what the server really has, and what the documentation says."""

from __future__ import annotations

import pytest
from edgeml_server.observe.metrics import Metrics
from links import REPOSITORY

from ansible_collections.edgeml.fleet.plugins.plugin_utils._watch.metrics import (
    METRICS,
    SERVER_METRICS,
    controller_exposition,
    markdown_table,
)


def test_the_server_has_these_metrics_and_no_others() -> None:
    families = Metrics(lambda: 0, lambda: 0).families
    assert {(family.name, family.kind, family.label_names, family.text) for family in families} == {
        (metric.name, metric.type, metric.labels, metric.help) for metric in SERVER_METRICS
    }


def test_each_metric_is_there_once_and_says_its_unit() -> None:
    assert len({metric.name for metric in METRICS}) == len(METRICS)
    for metric in METRICS:
        assert metric.help.endswith("."), metric
        assert metric.name.endswith("_total") == (metric.type == "counter"), metric
        for unit in ("bytes", "celsius", "watts"):
            assert (unit in metric.name.split("_")) == (unit in metric.unit.casefold().split()), metric


@pytest.mark.parametrize("source", ["server", "device", "controller"])
def test_the_documentation_has_the_table(source: str) -> None:
    assert markdown_table(source) in (REPOSITORY / "docs" / "metrics.md").read_text()


def test_what_is_of_a_device_is_not_written_by_the_controller() -> None:
    assert "edgeml_fleet_devices" in controller_exposition([("edgeml_fleet_devices", {"attention": "bad"}, 1)])
    with pytest.raises(KeyError):
        controller_exposition([("edgeml_store_free_bytes", {}, 1)])
