# Copyright (c) 2026, The edgeml.fleet authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""A forest of scikit-learn as C code of emlearn, in a firmware: judged at the desk, asked on the board. What emlearn
loses without a word is refused."""

from __future__ import annotations

import base64
import json
import shutil
import subprocess
from pathlib import Path

import pytest
from figures import Figures
from links import REPOSITORY
from mcu_images import Images
from meters import Meter
from microcontrollers import BUILT, MAP, sign
from releases import Made, read_release

from ansible_collections.edgeml.fleet.plugins.module_utils._device.describe import answer_info
from ansible_collections.edgeml.fleet.plugins.module_utils._device.perform import answer_swap
from ansible_collections.edgeml.fleet.plugins.module_utils._device.request import InfoRequest, SwapRequest
from ansible_collections.edgeml.fleet.plugins.plugin_utils._mcu.release import (
    FIRMWARE,
    McuClass,
    McuPublished,
    McuRelease,
    publish_mcu,
)
from ansible_collections.edgeml.fleet.plugins.plugin_utils._publish.model import RefusedError

RECIPE = REPOSITORY / "examples" / "mcu" / "forest" / "forest.py"
KIND = McuClass("mps2-an385", MAP["IMAGE_MAX"])
# What changes the recipe so that emlearn loses something, and says nothing.
WRONG = {
    "features and thresholds of 16 bits, emlearn's default": 'CONVERSION.update(dtype="int16_t")',
    "features that are a threshold": "BELOW = 0.0",
    "trees that are not grown to their end, each with one vote": "FOREST.update(max_depth=4)",
}


class Forest:
    """What the recipe made of it in `directory`, with a change, and the firmware with it."""

    def __init__(self, directory: Path, change: str = "") -> None:
        self.directory = directory
        recipe = directory / "recipe.py"
        recipe.write_text(RECIPE.read_text().replace("\n\ndef data()", f"\n{change}\n\n\ndef data()", 1))
        run = subprocess.run(
            [BUILT / "forest" / "bin" / "python", "-B", recipe, directory], check=True, capture_output=True, text=True
        )
        self.accuracy: float = json.loads(run.stdout)["accuracy"]

    def build(self, *targets: str) -> None:
        """Build the firmware with it, or the same code for this machine."""
        # What is the same in all firmwares is built already.
        shutil.copytree(BUILT / "build" / "arm", self.directory / "arm", dirs_exist_ok=True)
        command = [
            "make",
            "--silent", "--directory", str(REPOSITORY / "examples" / "mcu"), f"BEARSSL={BUILT / 'bearssl'}",
            f"KEY={BUILT / 'keys' / 'right.c'}", f"BUILD={self.directory}", f"FOREST={self.directory}",
        ]  # fmt: skip
        subprocess.run([*command, *(f"{self.directory}/{target}" for target in targets)], check=True)

    def publish(self, image: Path) -> McuPublished:
        """At the desk."""
        golden, holdout, probe, program = (
            str(self.directory / name) for name in ("golden.json", "holdout.json", "probe.json", "forest")
        )
        made = McuRelease("digits", "2.0.0", FIRMWARE, str(image), golden, probe, program=program, holdout=holdout)
        return publish_mcu(str(self.directory / "repository"), made, KIND)


def test_a_forest_is_published_and_answers_on_the_board_as_its_source_does(
    tmp_path: Path, images: Images, figures: Figures
) -> None:
    forest = Forest(tmp_path)
    forest.build("forest", "forest.bin")
    image = sign(tmp_path / "forest.bin", tmp_path / "image", "2.0.0")
    published = forest.publish(image)
    assert published.facts["accuracy"] == forest.accuracy
    assert published.facts["compared_samples"] == 360
    made = read_release(tmp_path / "repository", "digits", "2.0.0")
    with Meter(tmp_path / "meter", images.firmware, images.model) as meter:
        result = answer_swap(request_of(meter, made), check_mode=False)
        assert (result.get("failed"), result["live"]) == (None, "2.0.0"), result
        read = answer_info(InfoRequest(model="digits", probe=True, store=meter.store.root, server=meter.address))
        labels = json.loads((tmp_path / "probe.json").read_text())["labels"]
        assert read["model"]["probe"]["accuracy"] >= forest.accuracy - 3 / len(labels)
        with meter.asked() as client:
            info = client.info()
            assert (info.firmware, info.model_loaded) == ("2.0.0+0", False)
            assert info.model_error == "model: the firmware has one of its own"
    size = image.stat().st_size
    figures.add(
        "forest of scikit-learn by emlearn", f"{size} bytes of firmware, accuracy {forest.accuracy} as its source"
    )


def request_of(meter: Meter, made: Made) -> SwapRequest:
    """The swap to a release."""
    blobs = {name: base64.b64encode(content).decode() for name, content in made.blobs.items()}
    return SwapRequest(**{**meter.request(made), "inline_blobs": blobs})


@pytest.mark.parametrize("change", WRONG.values(), ids=WRONG)
def test_what_emlearn_loses_is_refused(tmp_path: Path, figures: Figures, change: str) -> None:
    forest = Forest(tmp_path, change)
    forest.build("forest")
    image = sign(BUILT / "build" / "firmware.bin", tmp_path / "image", "2.0.0")
    with pytest.raises(RefusedError) as refused:
        forest.publish(image)
    (reason,) = [reason for reason in refused.value.reasons if reason.startswith("holdout: ")]
    assert "samples are answered otherwise than by the source; accuracy 0." in reason
    assert f"and {forest.accuracy:.3f} of the source" in reason
    assert not (tmp_path / "repository").exists()
    figures.add(f"emlearn, {change}", reason.partition(". Sample")[0])
