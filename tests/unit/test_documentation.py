# Copyright (c) 2026, The edgeml.fleet authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The pages in ``docs/`` name what the code has."""

from __future__ import annotations

import re
from collections import Counter
from pathlib import Path

import pytest
import yaml

from ansible_collections.edgeml.fleet.plugins.module_utils._release.manifest import parse_release_json
from ansible_collections.edgeml.fleet.plugins.module_utils._release.release import (
    Entry,
    File,
    Part,
    SequenceLimits,
    Variant,
)
from ansible_collections.edgeml.fleet.plugins.plugin_utils._rollout.report import words

ROOT = Path(__file__).parents[2]
DOCS = ROOT / "docs"
PLAYBOOKS = sorted((ROOT / "playbooks").glob("*.yml"))


def section(page: str, title: str) -> str:
    """The text below a heading of the second level."""
    parts = page.split(f"\n## {title}\n")
    assert len(parts) == 2, f"expected one section {title}, found {len(parts) - 1}"
    return parts[1].split("\n## ")[0]


@pytest.mark.parametrize("path", PLAYBOOKS, ids=lambda path: path.stem)
def test_each_playbook_has_its_variables_documented(path: Path) -> None:
    documented = section((DOCS / "playbooks.md").read_text(), f"`edgeml.fleet.{path.stem}`")
    hosts = r"(?<![.\w])([a-z]\w*) \| default\('(?:edge|caches|mailbox|brokers|models)'(?:, true)?\)"
    used = set(re.findall(hosts, path.read_text()))
    used |= set(re.findall(r"\{\{ (model_\w+|\w+_probe|enroll_(?!result)\w+)\b", path.read_text()))
    assert used
    assert [name for name in sorted(used) if f"`{name}`" not in documented] == []


def test_the_rollback_variables_are_documented() -> None:
    documented = section((DOCS / "playbooks.md").read_text(), "`edgeml.fleet.rollback`")
    named = set(re.findall(r"\brollback_(?!plan\b)[a-z]+\b", (ROOT / "playbooks/rollback.yml").read_text()))
    assert {"rollback_rollout", "rollback_wave", "rollback_reason"} <= named
    assert [name for name in sorted(named) if f"`{name}`" not in documented] == []


def test_each_outcome_is_documented() -> None:
    documented = section((ROOT / "roles/rollout/README.md").read_text(), "Outcomes")
    assert "failed before" in words.OUTCOMES
    assert [outcome for outcome in words.OUTCOMES if f"`{outcome}`" not in documented] == []


def test_each_message_that_has_advice_is_one_that_is_printed() -> None:
    page = (DOCS / "troubleshooting.md").read_text()
    sources = [*ROOT.glob("plugins/**/*.py"), *ROOT.glob("roles/rollout/tasks/*.yml")]
    # A long message is broken into several texts.
    printed = re.sub(r'"\s+f?"|\s+', " ", " ".join(path.read_text() for path in sources))
    printed = re.sub(r"\{[^{}]*\}", "…", printed).replace("  ", " ")
    for title in ("What a run says", "What a device says"):
        for cell in re.findall(r"^\| (`.+?`) \|", section(page, title), re.MULTILINE):
            for message in re.findall(r"`([^`]+)`", cell):
                for part in (part.strip(" ;:.()") for part in message.split("…")):
                    assert part in printed, f"{message}: nobody says {part!r}"


def test_the_index_names_each_page() -> None:
    index = (DOCS / "README.md").read_text()
    pages = [path.name for path in DOCS.glob("*.md") if path.name != "README.md"]
    assert [name for name in sorted(pages) if f"({name})" not in index] == []


def test_the_index_names_each_decision() -> None:
    index = (DOCS / "decisions/README.md").read_text()
    records = sorted(path for path in (DOCS / "decisions").glob("*.md") if path.name != "README.md")
    numbers = [path.name[:4] for path in records]
    assert numbers == [f"{number:04}" for number in range(1, len(records) + 1)]
    for path in records:
        title = path.read_text().splitlines()[0].removeprefix(f"# {path.name[:4]} ")
        assert f"| [{path.name[:4]}]({path.name}) | {title} |" in index.splitlines()


def test_the_readme_names_each_playbook_module_and_role() -> None:
    tables = section((ROOT / "README.md").read_text(), "What is in it")
    first = " ".join(re.findall(r"^\| (.+?) \| ", tables, re.MULTILINE))
    named = set(re.findall(r"`(?:edgeml\.fleet\.)?([a-z0-9_]+)`|\[([a-z0-9_]+)\]", first))
    modules = [path for path in (ROOT / "plugins/modules").glob("*.py") if path.stem != "__init__"]
    there = {path.stem for path in (*PLAYBOOKS, *modules, *(ROOT / "roles").iterdir())}
    assert there - {playbook or role for playbook, role in named} == set()


def test_the_glossary_says_each_word_once() -> None:
    words = re.findall(r"^\| \*\*(.+?)\*\* \|", (DOCS / "glossary.md").read_text(), re.MULTILINE)
    assert words
    single = Counter(word for entry in words for word in entry.split(", "))
    assert [word for word, times in single.items() if times > 1] == []


def test_the_collection_names_its_pages() -> None:
    galaxy = yaml.safe_load((ROOT / "galaxy.yml").read_text())
    assert all(galaxy[key].startswith("https://") for key in ("repository", "documentation", "homepage", "issues"))


def test_the_release_page_names_each_field_of_a_manifest() -> None:
    page = (DOCS / "release.md").read_text()
    fields = {*Variant._fields, *Entry._fields, *Part._fields, *SequenceLimits._fields, *File._fields}
    fields = fields - {"runtime_minimum", "entries", "inputs", "outputs"} | {"tensors"}
    fields |= {"schema", "model", "version", "created", "description", "variants", "parts", "documents"}
    assert [name for name in sorted(fields) if f"`{name}`" not in page] == []
    example = re.split(r"^```\w*$", section(page, "manifest.json"), flags=re.MULTILINE)[1].replace("…", "0" * 56)
    example = re.sub(r'"0{56}"', f'"{"0" * 64}"', example)
    assert parse_release_json(example.encode(), "docs/release.md").model == "digits"
