#!/usr/bin/python
# Copyright (c) 2026, The edgeml.fleet authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: image_release
short_description: Build the inference server's image for containers, and publish it as a release
version_added: 0.2.0
description:
  - Runs on the controller, as C(edgeml-publish image) does, and connects to no device.
  - Builds an image for each architecture from Debian's packages, the locked wheels and the collection's own server. It
    needs Debian's mirror, apt with Debian's keys, and pip; no root, no container engine, no registry, and no emulation.
  - Publishes the images as one release of the kind C(image) in a model repository, writes archives of them for engines
    and for the variable C(inference_service_image) of the role P(edgeml.fleet.inference_service#role), or both.
  - C(docs/images.md) explains what is in an image, and how devices take it.
options:
  version:
    description: Version of the image.
    type: str
    required: true
  name:
    description: Name of its releases.
    type: str
    default: edgeml-inference
  architectures:
    description: What images are built for, as C(uname -m) says.
    type: list
    elements: str
    choices: [aarch64, x86_64]
    default: [aarch64, x86_64]
  runtimes:
    description: The runtimes in the images.
    type: list
    elements: str
    choices: [onnxruntime, ai-edge-litert, ncnn]
    default: [onnxruntime]
  repository:
    description:
      - Directory of the model repository.
      - One of O(repository) and O(archives) is required.
    type: path
  archives:
    description: Directory for an archive of each image, named by its name, its version and Debian's architecture.
    type: path
  mirror:
    description: Where Debian's packages are.
    type: str
    default: http://deb.debian.org
  cache:
    description: Directory that keeps what was downloaded.
    type: path
    default: ~/.cache/edgeml-fleet/image
attributes:
  check_mode:
    support: full
    description: Builds the images, and writes nothing but the cache.
  diff_mode:
    support: full
    description: Shows the manifest.
  idempotent:
    support: full
    description: >-
      The same packages, wheels and server are the same bytes, so that a release that is there is not published again.
      A version that was published with other content is refused. The variable C(SOURCE_DATE_EPOCH) of the
      environment is in the images where it is set.
author:
  - The edgeml.fleet authors (@edgeml)
"""

EXAMPLES = r"""
- name: Publish the server's image
  edgeml.fleet.image_release:
    version: 1.0.0
    repository: /srv/models
  delegate_to: localhost
  run_once: true

- name: Build an archive for the role inference_service
  edgeml.fleet.image_release:
    version: 1.0.0
    architectures: [aarch64]
    archives: "{{ playbook_dir }}/images"
  delegate_to: localhost
  run_once: true
"""

RETURN = r"""
published:
  description: Whether this task published the release.
  returned: success
  type: bool
  sample: true
images:
  description: The image of each architecture.
  returned: success
  type: list
  elements: dict
  sample: [{architecture: aarch64, bytes: 132730880, layers: 28, image: "localhost/edgeml-inference:e6..."}]
archives:
  description: Paths of the archives; empty without O(archives).
  returned: success
  type: list
  elements: str
  sample: [/srv/images/edgeml-inference-1.0.0-arm64.tar]
manifest:
  description: The release's manifest.
  returned: success
  type: dict
  sample: {schema: 2, kind: image, model: edgeml-inference, version: 1.0.0, variants: []}
digest:
  description: SHA-256 of the manifest's canonical JSON; it identifies the release.
  returned: success
  type: str
  sample: 0d3e...
needs_signature:
  description: Whether the repository is signed. Then a change is in force once C(edgeml-publish sign) was run.
  returned: success
  type: bool
  sample: true
"""
