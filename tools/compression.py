# Copyright (c) 2026, The edgeml.fleet authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Publish the digits network, pruned and distilled, and write what each costs into docs/compression.md.

It is started by tools/compression, which makes the recipes' environment first.
"""

from __future__ import annotations

import subprocess
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import onnxruntime

from ansible_collections.edgeml.fleet.plugins.module_utils._release.repository import Repository
from ansible_collections.edgeml.fleet.plugins.plugin_utils._publish.judgement import ALPHA
from ansible_collections.edgeml.fleet.plugins.plugin_utils._publish.model import Progress
from ansible_collections.edgeml.fleet.plugins.plugin_utils._publish.options import read_options
from ansible_collections.edgeml.fleet.plugins.plugin_utils._publish.release import publish_release
from ansible_collections.edgeml.fleet.plugins.plugin_utils._rollout.gate.paired import PairedProportion

REPOSITORY = Path(__file__).resolve().parent.parent
RECIPES = REPOSITORY / "examples" / "recipes"
PYTHON = REPOSITORY / ".cache" / "recipes" / "pytorch" / "bin" / "python"
PAGE = REPOSITORY / "docs" / "compression.md"
NETWORKS = {
    "pytorch_digits": "original",
    "pruned_digits": "pruned",
    "student_digits": "student",
}
VARIANTS = ["fp32", "int8"]
BEGIN, END = "<!-- table -->\n", "\n<!-- end -->"


class Row(NamedTuple):
    """What a variant of a network costs. ``loss_upper``: what it loses at most against the original (95%)."""

    network: str
    variant: str
    size: int
    accuracy: float
    interval: tuple[float, float]
    worse: int
    better: int
    loss_upper: float
    latency_seconds: float


def measure(directory: Path) -> list[Row]:
    """Publish each network into ``directory``, and compare it with the original, image by image."""
    samples = directory / "holdout.npz"
    subprocess.run([PYTHON, RECIPES / "pytorch_digits.py", samples], check=True)
    with np.load(samples) as archive:
        images, labels = archive["image"], archive["labels"]
    rows: list[Row] = []
    first: Any = None
    for recipe, network in NETWORKS.items():
        model = recipe.replace("_", "-")
        options = {
            "model": model,
            "version": "1.0.0",
            "source": str(RECIPES / f"{recipe}.py"),
            "recipe_python": str(PYTHON),
            "samples": str(samples),
            "repository": str(directory / "repository"),
            "device_image": "none",
            "variants": VARIANTS,
            "required_variants": VARIANTS,
        }
        published = publish_release(read_options(options), Progress())
        repository = Repository(str(directory / "repository"))
        release = repository.release(model, "1.0.0")
        for entry, variant in zip(published.table, release.variants, strict=True):
            content = repository.read_blob(variant.files[0])
            session = onnxruntime.InferenceSession(content, providers=["CPUExecutionProvider"])
            right = np.asarray(session.run(None, {"image": images})[0]).argmax(axis=1) == labels
            first = right if first is None else first
            worse, better = int((first & ~right).sum()), int((right & ~first).sum())
            upper = PairedProportion(worse, better, len(labels)).upper(ALPHA)
            rows.append(
                Row(
                    network, variant.name, entry["size"], entry["metric"], entry["interval"], worse, better, upper,
                    entry["latency_seconds"],
                )
            )  # fmt: skip
    return rows


def table(rows: Sequence[Row]) -> str:
    """The rows as Markdown."""
    lines = [
        "| network | variant | size | accuracy (95%) | became wrong, right | loses at most | latency |",
        "|---|---|---|---|---|---|---|",
    ]
    for row in rows:
        low, high = row.interval
        cells = [
            row.network,
            f"`{row.variant}`",
            f"{row.size / 1024:.1f} KiB",
            f"{row.accuracy:.3f} ({low:.3f} to {high:.3f})",
            f"{row.worse}, {row.better}",
            f"{100 * row.loss_upper:.1f} points",
            f"{1e6 * row.latency_seconds:.0f} µs",
        ]
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


def main() -> None:
    """Measure, and write the table between the page's marks."""
    with tempfile.TemporaryDirectory() as directory:
        text = table(measure(Path(directory)))
    before, rest = PAGE.read_text().split(BEGIN)
    _old, after = rest.split(END)
    PAGE.write_text(f"{before}{BEGIN}{text}{END}{after}")
    print(text)


if __name__ == "__main__":
    main()
