# Copyright (c) 2026, The edgeml.fleet authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The digits network, pruned and distilled: published, smaller, and about as good."""

from __future__ import annotations

import importlib.util
from pathlib import Path

from links import REPOSITORY

_spec = importlib.util.spec_from_file_location("compression", REPOSITORY / "tools" / "compression.py")
assert _spec is not None
assert _spec.loader is not None
compression = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(compression)


def test_pruned_and_distilled_networks_are_smaller_and_about_as_good(tmp_path: Path) -> None:
    rows = {(row.network, row.variant): row for row in compression.measure(tmp_path)}
    assert len(rows) == 6
    original = rows["original", "onnx-fp32"]
    assert (original.worse, original.better) == (0, 0)
    assert original.accuracy > 0.96
    for network in ("pruned", "student"):
        smaller, quantised = rows[network, "onnx-fp32"], rows[network, "onnx-int8"]
        assert quantised.size < original.size / 2
        assert smaller.size < original.size / 2
        assert smaller.accuracy > original.accuracy - 0.03
        assert smaller.loss_upper < 0.05


def test_the_page_has_a_row_for_each() -> None:
    page = compression.PAGE.read_text()
    table = page.split(compression.BEGIN)[1].split(compression.END)[0]
    for network in compression.NETWORKS.values():
        for variant in compression.VARIANTS:
            assert f"| {network} | `onnx-{variant}` |" in table
