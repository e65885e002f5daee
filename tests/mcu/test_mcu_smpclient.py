# Copyright (c) 2026, The edgeml.fleet authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""A client that others wrote, smpclient of PyPI, updates a microcontroller by a terminal."""

from __future__ import annotations

import json
import re
import subprocess
from pathlib import Path

import microcontroller
import pytest
from mcu_images import Images
from microcontrollers import BUILT, FIRMWARE, MODEL, Microcontroller


@pytest.mark.parametrize("number", [FIRMWARE, MODEL])
def test_smpclient_updates_firmware_and_model(tmp_path: Path, images: Images, number: int) -> None:
    device = Microcontroller(tmp_path / "device", images.firmware, images.model)
    command = microcontroller.command(BUILT / "build", device.flash, "pty")
    image = (images.new_firmware, images.new_model)[number]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout is not None
            tty = re.search(r"/dev/pts/\d+", process.stdout.readline())
            assert tty is not None
            program = Path(__file__).parents[1] / "support" / "smpclient_update.py"
            client = [str(BUILT / "venv" / "bin" / "python"), str(program), tty[0], str(number), str(image)]
            run = subprocess.run(client, capture_output=True, text=True, timeout=600)
        finally:
            process.kill()
    assert run.returncode == 0, run.stderr
    answers = json.loads(run.stdout)
    versions = ["1.0.0+0", "1.0.0+0"]
    versions[number] = "1.1.0+0"
    assert answers["echo"] == "hello"
    assert answers["uploaded"] == image.stat().st_size
    assert answers["trial"] == answers["confirmed"] == versions
    print(f"smpclient: {answers['uploaded']} bytes in {answers['seconds']} s")
