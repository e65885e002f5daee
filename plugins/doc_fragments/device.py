# Copyright (c) 2026, The edgeml.fleet authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Documentation that the modules which run on a device share."""

from __future__ import annotations


class ModuleDocFragment:
    """Options of every module that works on a device's store and server."""

    DOCUMENTATION = r"""
options:
  store:
    description: Path of the device's store, as the role P(edgeml.fleet.provision#role) makes it.
    type: path
    default: /var/lib/edgeml/store
  server:
    description:
      - Where the inference server on the device answers the Open Inference Protocol, as the path of its Unix socket
        or C(http://host:port).
      - Of a microcontroller behind the device, its port. That is C(/dev/<path>), with C(@<bits per second>) behind it
        if they are not 115200, or C(udp://host:port).
    type: str
    default: /run/edgeml/server.sock
"""
