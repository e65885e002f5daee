# Copyright (c) 2026, The edgeml.fleet authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# PRIVATE to the collection edgeml.fleet: no stable interface.

"""``python3 …/plugins/plugin_utils/_publish`` is ``edgeml-publish``, without Ansible and wherever the collection is."""

from __future__ import annotations

import os
import sys
import types

_FLEET = "ansible_collections.edgeml.fleet"


def _make_importable() -> None:
    """Have the collection's own name lead to the directory that this file is in."""
    root = os.path.dirname(os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__)))))
    parts = _FLEET.split(".")
    for length in range(1, len(parts) + 1):
        name = ".".join(parts[:length])
        module = types.ModuleType(name)
        module.__path__ = [root] if name == _FLEET else []
        sys.modules[name] = module


if __name__ == "__main__":
    # What Python put first is this directory, whose files would hide others of the same name.
    sys.path.pop(0)
    _make_importable()
    from ansible_collections.edgeml.fleet.plugins.plugin_utils._publish.cli import main

    sys.exit(main())
