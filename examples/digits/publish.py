# Copyright (c) 2026, The edgeml.fleet authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Publish what train.py wrote, by `edgeml-publish`, as releases in a model repository.

A release that is published already, from the same model and samples, is left as it is.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
from pathlib import Path

COMMAND = Path(__file__).resolve().parents[2] / "bin" / "edgeml-publish"
CREATED = "2026-11-01T00:00:00Z"
VARIANTS = "fp32,fp16,int8"


def publish(source: Path, repository: Path, more: list[str]) -> int:
    """Publish the release of one directory; returns the command's exit code."""
    release = json.loads((source / "release.json").read_text(encoding="utf-8"))
    command = [
        str(COMMAND), "release", "--model=digits", f"--version={source.name}", f"--source={source / 'model.onnx'}",
        f"--samples={source / 'holdout.npz'}", f"--repository={repository}", f"--description={release['description']}",
        f"--created={CREATED}", f"--variants={VARIANTS}", *more,
    ]  # fmt: skip
    return subprocess.run(command, env={**os.environ, "PYTHON": sys.executable}, check=False).returncode


def main() -> int:
    """Publish every release in the source directory; returns the highest exit code."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("source", type=Path, help="directory that train.py wrote")
    parser.add_argument("repository", type=Path, help="model repository to publish into")
    options, more = parser.parse_known_args()
    releases = sorted(path.parent for path in options.source.glob("*/release.json"))
    return max((publish(release, options.repository, more) for release in releases), default=0)


if __name__ == "__main__":
    sys.exit(main())
