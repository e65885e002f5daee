# Copyright (c) 2026, The edgeml.fleet authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Publish the digits network twice, as edgeml-publish does: 1.1.0 for ONNX Runtime, 1.2.0 for ncnn.

usage: make_releases.py DIRECTORY     (with the tests' modules and pnnx in PYTHONPATH; DIRECTORY is made anew)

Both are proved on this machine and as aarch64, in the image of the devices.
"""

from __future__ import annotations

import shutil
import sys
from pathlib import Path

from publications import Case, answers


def write(directory: Path) -> None:
    """Publish both releases into ``directory / "repository"``."""
    shutil.rmtree(directory, ignore_errors=True)
    directory.mkdir(parents=True)
    case = Case(directory)
    case.samples["reference"] = answers(case.model, case.samples["image"])
    del case.options["device_image"]
    for version, variant in (("1.1.0", "fp32"), ("1.2.0", "ncnn")):
        case.options.update(version=version, variants=[variant])
        published = case.publish()
        (row,) = published.table
        if "aarch64_runtime" not in row:
            raise SystemExit(f"{row['variant']}: expected a run as aarch64; found none: {' '.join(published.notes)}")
        print(f"{row['variant']}: {row['runtime']}; as aarch64 {row['aarch64_runtime']}")


if __name__ == "__main__":
    write(Path(sys.argv[1]))
