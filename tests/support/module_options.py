# Copyright (c) 2026, The edgeml.fleet authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The options that a module documents, with those of the fragments that it names."""

from __future__ import annotations

from importlib import import_module
from typing import Any

import yaml
from links import REPOSITORY

_FRAGMENTS = "ansible_collections.edgeml.fleet.plugins.doc_fragments"


def documented_options(module: str) -> dict[str, Any]:
    """Each option's documentation, by its name."""
    text = (REPOSITORY / "plugins" / "modules" / f"{module}.py").read_text().split('r"""')[1].split('"""')[0]
    documentation = yaml.safe_load(text)
    documented: dict[str, Any] = documentation["options"]
    for name in documentation.get("extends_documentation_fragment", []):
        fragment = import_module(f"{_FRAGMENTS}.{name.split('.')[-1]}").ModuleDocFragment
        documented = {**yaml.safe_load(fragment.DOCUMENTATION).get("options", {}), **documented}
    return documented
