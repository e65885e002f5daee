# Copyright (c) 2026, The edgeml.fleet authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Update a microcontroller by PyPI's smpclient, and say in JSON what it answered.

A program for the environment of tools/mcu: `python smpclient_update.py TTY IMAGE-NUMBER IMAGE`.
"""

from __future__ import annotations

import asyncio
import json
import sys
import time
from pathlib import Path
from typing import Any

from smpclient import SMPClient
from smpclient.generics import success
from smpclient.requests.image_management import ImageStatesRead, ImageStatesWrite
from smpclient.requests.os_management import EchoWrite, ResetWrite
from smpclient.transport.serial import SMPSerialTransport


async def answer(client: Any, request: Any) -> Any:
    """The answer to a request, which is no error."""
    response = await client.request(request, timeout_s=60)
    assert success(response), response
    return response


async def after_start(client: Any) -> Any:
    """The images, once the microcontroller answers again."""
    for _ in range(60):
        try:
            return (await client.request(ImageStatesRead(), timeout_s=2)).images
        except TimeoutError:
            continue
    raise TimeoutError("it does not start")


async def update(tty: str, number: int, content: bytes) -> dict[str, Any]:
    """Upload, test, reset, confirm."""
    async with SMPClient(SMPSerialTransport(), tty, timeout_s=60) as client:
        echo = (await answer(client, EchoWrite(d="hello"))).r
        begun = time.monotonic()
        offsets = [offset async for offset in client.upload(content, slot=number, first_timeout_s=60)]
        seconds = time.monotonic() - begun
        images = (await answer(client, ImageStatesRead())).images
        new = next(image for image in images if image.image == number and not image.active)
        await answer(client, ImageStatesWrite(hash=new.hash))
        await answer(client, ResetWrite())
        trial = await after_start(client)
        confirmed = (await answer(client, ImageStatesWrite(hash=new.hash, confirm=True))).images
        return {
            "echo": echo,
            "uploaded": offsets[-1],
            "seconds": round(seconds, 2),
            "trial": [image.version for image in trial if image.active],
            "confirmed": [image.version for image in confirmed if image.confirmed],
        }


if __name__ == "__main__":
    print(json.dumps(asyncio.run(update(sys.argv[1], int(sys.argv[2]), Path(sys.argv[3]).read_bytes()))))
