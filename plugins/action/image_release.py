# Copyright (c) 2026, The edgeml.fleet authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The action ``image_release``: the server's image is built on the controller, and published."""

from __future__ import annotations

import os
from typing import Any, ClassVar

from ansible.utils.display import Display

from ansible_collections.edgeml.fleet.plugins.module_utils._release.image import ARCHITECTURES
from ansible_collections.edgeml.fleet.plugins.plugin_utils._controller_action import ControllerAction
from ansible_collections.edgeml.fleet.plugins.plugin_utils._image.command import EPOCH, source_date
from ansible_collections.edgeml.fleet.plugins.plugin_utils._image.publication import ImageOptions, publish_image
from ansible_collections.edgeml.fleet.plugins.plugin_utils._image.wheels import RUNTIMES
from ansible_collections.edgeml.fleet.plugins.plugin_utils._publish.signature_due import needs_signature
from ansible_collections.edgeml.fleet.plugins.plugin_utils._publish.writer import manifest_bytes

_DEFAULT = ImageOptions(version="")


class ActionModule(ControllerAction):
    """Builds images and publishes them, and shows each step as it begins."""

    arguments: ClassVar[dict[str, Any]] = {
        "version": {"type": "str", "required": True},
        "name": {"type": "str", "default": _DEFAULT.name},
        "architectures": {
            "type": "list",
            "elements": "str",
            "choices": list(ARCHITECTURES),
            "default": list(_DEFAULT.architectures),
        },
        "runtimes": {
            "type": "list",
            "elements": "str",
            "choices": list(RUNTIMES),
            "default": list(_DEFAULT.runtimes),
        },
        "repository": {"type": "path"},
        "archives": {"type": "path"},
        "mirror": {"type": "str", "default": _DEFAULT.mirror},
        "cache": {"type": "path", "default": _DEFAULT.cache},
    }
    required_one_of: ClassVar[list[list[str]]] = [["repository", "archives"]]

    def answer(self, args: dict[str, Any], task_vars: dict[str, Any]) -> dict[str, Any]:
        """Return the table of images, the manifest, its digest, and the archives."""
        display = Display()
        given = {name: value for name, value in args.items() if value is not None}
        options = ImageOptions(**given, created=source_date(os.environ.get(EPOCH)))
        result = publish_image(
            options, check=self._task.check_mode, say=lambda text: display.display(f"    {text}", stderr=True)
        )
        result["needs_signature"] = bool(options.repository) and needs_signature(options.repository)
        if self._task.diff and options.repository:
            path = os.path.join(options.repository, options.name, options.version, "manifest.json")
            after = manifest_bytes(result["manifest"]).decode()
            before = "" if result["published"] else after
            result["diff"] = {"before_header": path, "after_header": path, "before": before, "after": after}
        return result
