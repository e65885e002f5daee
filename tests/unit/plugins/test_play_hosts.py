# Copyright (c) 2026, The edgeml.fleet authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The hosts of a play: the pattern as it is, or another one where no host matches it, by itself or within a limit."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from ansible.parsing.dataloader import DataLoader

from ansible_collections.edgeml.fleet.plugins.lookup.play_hosts import LookupModule

GROUPS = {"all": ["cam1", "cam2", "watcher"], "edge": ["cam1", "cam2"], "watchers": ["watcher"]}
NOBODY = "all,localhost"


def looked_up(*patterns: str, limit: bool = False, **variables: Any) -> list[str]:
    return LookupModule(loader=DataLoader()).run(list(patterns), variables={"groups": GROUPS, **variables}, limit=limit)


def test_a_pattern_that_some_host_matches_stays() -> None:
    patterns = ["edge", "egde", "edge:!cam1", "cam1:&watchers", "cam*", "~watch.*"]
    assert looked_up(*patterns) == ["edge", NOBODY, "edge:!cam1", NOBODY, "cam*", "~watch.*"]
    assert looked_up("egde", awx_job_id=1) == ["all"]


@pytest.mark.parametrize(
    ("limit", "left"),
    [("cam1", True), ("watchers", False), ("watchers,cam2", True), ("edge:!cam*", False), ("not-there", False)],
)
def test_a_limit_counts_where_it_is_to(tmp_path: Path, limit: str, left: bool) -> None:
    assert looked_up("edge", ansible_limit=limit) == ["edge"]
    found = "edge" if left else NOBODY
    assert looked_up("edge", ansible_limit=limit, limit=True) == [found]
    # The same in a file, as Ansible writes one for who tries again.
    (tmp_path / "run.retry").write_text("\n".join(limit.split(",")) + "\n")
    assert looked_up("edge", ansible_limit=f"@{tmp_path / 'run.retry'}", limit=True) == [found]


def test_without_a_limit_all_are_left() -> None:
    assert looked_up("edge", "egde", limit=True) == ["edge", NOBODY]
