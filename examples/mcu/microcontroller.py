# Copyright (c) 2026, The edgeml.fleet authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Emulated microcontrollers: QEMU's mps2-an385, with its flash in a file and its serial line on a socket.

As a command it makes one and runs it until it is ended: `microcontroller.py run --build DIRECTORY --flash FILE --serial
unix:PATH`. To kill it is to cut its power; started again with the same flash, it goes on from there.
"""

from __future__ import annotations

import argparse
import os
import re
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

HERE = Path(__file__).resolve().parent


def flash_map() -> Mapping[str, int]:
    """The numbers of core/flash_map.h by their names."""
    text = (HERE / "core" / "flash_map.h").read_text(encoding="utf-8")
    return {name: int(number, 0) for name, number in re.findall(r"^#define (\w+) (\w+)$", text, re.MULTILINE)}


def manufacture(build: Path, flash: Path, firmware: Path, model: Path | None = None) -> None:
    """Write the flash of a new microcontroller: signed images in the first slots, confirmed.

    Raises subprocess.CalledProcessError, with what was said about it in `stderr`.
    """
    images = [firmware] if model is None else [firmware, model]
    subprocess.run([build / "manufacture", flash, *images], check=True, capture_output=True, text=True)


def command(build: Path, flash: Path, serial: str, cut: int = 0, seed: int = 0) -> list[str]:
    """The command of a microcontroller. `serial`: where its line is, as QEMU's -serial has it, unix:PATH for a socket.

    `cut`: the operation of the flash's life, a word programmed or a sector erased, in the middle of which the power
    goes off (0: none); `seed` decides which bits of it are done.
    """
    if serial.startswith("unix:"):
        serial += ",server=on,wait=off"
    # A comma in a value is written twice.
    arguments = [str(cut), str(seed), str(flash.resolve()).replace(",", ",,")]
    return [
        "qemu-system-arm", "-machine", "mps2-an385", "-kernel", str(build / "bootloader.elf"), "-display", "none",
        "-monitor", "none", "-serial", serial, "-semihosting-config",
        ",".join(["enable=on,target=native", *(f"arg={argument}" for argument in arguments)]),
    ]  # fmt: skip


def main() -> None:
    """Make a microcontroller, or become one."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    actions = parser.add_subparsers(dest="action", required=True)
    make = actions.add_parser("manufacture", help="write the flash of a new microcontroller")
    run = actions.add_parser("run", help="run it until it is ended")
    for action in (make, run):
        action.add_argument("--build", type=Path, required=True, help="directory that tools/mcu built into")
        action.add_argument("--flash", type=Path, required=True, help="file that holds the flash")
    make.add_argument("--firmware", type=Path, required=True, help="signed image of the firmware")
    make.add_argument("--model", type=Path, help="signed image of a model")
    run.add_argument("--serial", required=True, help="unix:PATH of the socket to listen on, or pty")
    options = parser.parse_args()
    if options.action == "manufacture":
        try:
            manufacture(options.build, options.flash, options.firmware, options.model)
        except subprocess.CalledProcessError as error:
            sys.exit(error.stderr)
    else:
        arguments = command(options.build, options.flash, options.serial)
        os.execvp(arguments[0], arguments)


if __name__ == "__main__":
    main()
