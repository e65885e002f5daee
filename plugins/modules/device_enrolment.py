#!/usr/bin/python
# Copyright (c) 2026, The edgeml.fleet authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: device_enrolment
short_description: Sign the certificates of devices in pull mode
version_added: 0.2.0
description:
  - Signs certificates with the fleet's authority, whose key is on the controller. It connects to no device.
  - A device makes its key itself. What an operator accepts is the fingerprint of that key, the SHA-256 of its public
    key in hexadecimal, which C(edgeml enroll) prints on the device.
options:
  authority:
    description: Directory of the authority on the controller, with C(ca.pem) and C(ca.key).
    type: path
    required: true
  create:
    description: Whether to make the authority where there is none.
    type: bool
    default: false
  days:
    description: For how many days certificates are valid.
    type: int
    default: 90
  source:
    description: Where requests are, a directory or the address of the mailbox of reports.
    type: str
  reader:
    description:
      - File with the certificate of a reader of the mailbox and its key. Without it the one that O(reader_name) makes
        is used.
    type: path
  ca_file:
    description: File with the authority of the mailbox's certificate. Without it those of the controller count.
    type: path
  accept:
    description: The fingerprints that an operator accepts, by the names of their devices.
    type: dict
    default: {}
  replace:
    description: Whether a device that has a certificate of another key gets one of this key.
    type: bool
    default: false
  renew:
    description:
      - Whether devices whose certificates have two thirds of their life behind them get other ones of the same key. A
        certificate that has expired is not renewed.
    type: bool
    default: false
  device:
    description: Name of the device that O(request) is of.
    type: str
  request:
    description:
      - A request for a certificate, in PEM, that came over a connection to the device itself. It is accepted, and
        signed if the device has no certificate of this key, or an old one.
    type: str
  reader_name:
    description: Makes a certificate of a reader of the mailbox by this name, with its key, in O(authority).
    type: str
attributes:
  check_mode:
    support: full
    description: Signs nothing, and says what it would sign.
  diff_mode:
    support: full
    description: Shows for each device the key and the end of the certificate that it had, and of the one that it gets.
  platform:
    support: full
    platforms: posix
    description: Works on the controller, with C(cryptography).
author: The edgeml.fleet authors (@edgeml)
"""

EXAMPLES = r"""
- name: Accept a device that was flashed in a factory
  edgeml.fleet.device_enrolment:
    authority: ~/.config/edgeml/authority
    source: https://mailbox.example:8443
    reader_name: controller
    accept:
      edge-17: 3f0c1f6f0f7a2a3b8a3e2d0c9b8a7f6e5d4c3b2a190807060504030201000fff
"""

RETURN = r"""
signed:
  description: What was signed, or in check mode would be.
  returned: always
  type: list
  elements: dict
  contains:
    device:
      description: Name of the device.
      type: str
      returned: always
    fingerprint:
      description: The key's fingerprint.
      type: str
      returned: always
waiting:
  description: Requests that nobody has accepted.
  returned: always
  type: list
  elements: dict
  contains:
    fingerprint:
      description: The key's fingerprint.
      type: str
      returned: always
    device:
      description: The name that the device gives itself.
      type: str
      returned: always
    problem:
      description: Why it cannot be accepted; empty if it can.
      type: str
      returned: always
certificate:
  description: The certificate for O(request), in PEM; empty in check mode where it would be signed.
  returned: always
  type: str
reader:
  description: Path of the certificate that O(reader_name) asked for.
  returned: with O(reader_name)
  type: str
"""
