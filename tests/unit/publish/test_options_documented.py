# Copyright (c) 2026, The edgeml.fleet authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Each option of a publication is declared once: the module, the playbook and the pages say the same of it."""

from __future__ import annotations

from typing import Any

import yaml
from links import REPOSITORY

from ansible_collections.edgeml.fleet.plugins.doc_fragments import release
from ansible_collections.edgeml.fleet.plugins.modules.model_release import DOCUMENTATION
from ansible_collections.edgeml.fleet.plugins.plugin_utils._publish.options import argument_spec

ALL = {
    **yaml.safe_load(release.ModuleDocFragment.DOCUMENTATION)["options"],
    **yaml.safe_load(DOCUMENTATION)["options"],
}
DOCUMENTED = {name: option for name, option in ALL.items() if name != "python"}


def test_the_module_documents_each_option_as_it_is() -> None:
    described = {
        name: {key: value for key, value in option.items() if key != "description"}
        for name, option in DOCUMENTED.items()
    }
    # A list that is empty without a choice is documented as [], and all else word for word.
    assert described == argument_spec()


def test_the_playbook_sets_each_option_by_a_documented_variable() -> None:
    (play,) = yaml.safe_load((REPOSITORY / "playbooks" / "publish.yml").read_text())
    name = "edgeml.fleet.model_release"
    task: dict[str, Any] = next(task[name] for task in play["tasks"] if name in task)
    assert set(task) == {*argument_spec(), "python"}
    page = (REPOSITORY / "docs" / "playbooks.md").read_text()
    for option, value in task.items():
        name = value.split()[1]
        assert f"| `{name}` |" in page, f"{option} is set by {name}, which the page does not name"
