# Copyright (c) 2026, The edgeml.fleet authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""docs/signing.md, followed literally by people who have nothing in common but the files that they hand on.

Each has a home, a directory to work in and a passphrase. Between two commands only public keys and requests are
copied, as the page says that they are handed over. What comes of it is judged by a client that pinned the first root.
"""

from __future__ import annotations

import re
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from links import REPOSITORY
from releases import make_release, publish

from ansible_collections.edgeml.fleet.plugins.module_utils._trust.client import Client

pytestmark = pytest.mark.end_to_end

PAGE = (REPOSITORY / "docs" / "signing.md").read_text()
COMMANDS = REPOSITORY / "bin"
DONE, ATTENTION, INCOMPLETE = 0, 1, 3


def commands(heading: str) -> Iterator[tuple[str, str]]:
    """Who types what below a heading of the page, in order."""
    section = re.split(r"\n## ", PAGE.split(f"\n## {heading}\n", 1)[1])[0]
    for block in re.findall(r"```console\n(.*?)```", section, re.DOTALL):
        for found in re.finditer(r"^([a-z]+)\$ ((?:.*\\\n)*.*)$", block, re.MULTILINE):
            yield found[1], found[2]


class Site:
    """The repository, and the people around it."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.models = directory / "srv" / "models"
        self.said = ""
        self._handed: dict[str, str] = {}
        publish(make_release("1.0.0"), self.models)

    def desk(self, who: str) -> Path:
        """Where somebody works."""
        path = self.directory / who
        (path / "home").mkdir(parents=True, exist_ok=True)
        return path

    def key(self, who: str, name: str) -> Path:
        """A file of somebody's keys."""
        return self.desk(who) / "home" / ".config" / "edgeml" / "keys" / name

    def types(self, who: str, command: str) -> int:
        """Have somebody run a command; return its exit code."""
        desk = self.desk(who)
        request = re.search(r"--request ([^ ]+)", command)
        if request is not None and request[1] in self._handed:
            shutil.copy(self.desk(self._handed[request[1]]) / request[1], desk / request[1])
        environment = {
            "HOME": str(desk / "home"),
            "PATH": f"{COMMANDS}:{REPOSITORY}/.venv/bin:/usr/bin:/bin",
            "EDGEML_PASSPHRASE": f"five random words of {who}",
            "LC_ALL": "C.UTF-8",
        }
        local = command.replace("/srv/models", str(self.models))
        done = subprocess.run(
            ["/bin/sh", "-c", local], cwd=desk, env=environment, capture_output=True, text=True, check=False
        )
        self.said = done.stdout + done.stderr
        if request is not None:
            self._handed[request[1]] = who
            if not (desk / request[1]).exists():
                del self._handed[request[1]]
        return done.returncode

    def follow(self, heading: str) -> None:
        """Do what a section of the page says. Each command names the next, until one brings it into force."""
        for who, command in commands(heading):
            code = self.types(who, command)
            last = "--online-key" in command or " keys new " in command
            assert code == (DONE if last else INCOMPLETE), f"{who}$ {command}\n{self.said}"
            if " keys new " in command:
                # "hands the .pub file over"
                shutil.copy(self.key(who, f"{who}.pub"), self.desk("ops") / f"{who}.pub")

    def believed(self) -> dict[str, str | None]:
        """What a client believes of each release that pinned the first root on the first day, and never since."""
        root = (self.models / "metadata" / "1.root.json").read_bytes()
        client = Client(str(self.models), root, str(self.directory / "state"))
        return {release.version: release.withdrawn for release in client.releases()}


@pytest.fixture
def site(tmp_path: Path) -> Site:
    return Site(tmp_path)


def test_three_people_and_the_page(site: Site) -> None:
    site.follow("The first day")
    assert site.believed() == {"1.0.0": None}
    (renew,) = re.findall(r"^17 \* \* \* \* (edgeml-publish .*)$", PAGE, re.MULTILINE)
    assert site.types("ops", renew.replace("/etc/edgeml/online.pem", str(site.key("ops", "online.pem")))) == DONE
    assert site.said == ""

    publish(make_release("1.2.0"), site.models)
    assert site.believed() == {"1.0.0": None}
    site.follow("Each release")
    assert site.believed() == {"1.0.0": None, "1.2.0": None}

    (withdraw,) = re.findall(r"\*\*To withdraw a release\*\*: `(edgeml-publish [^`]*)`", PAGE)
    assert site.types("ops", withdraw) == DONE
    assert site.types("ops", "edgeml-publish status --repository /srv/models") == ATTENTION
    site.follow("Each release")
    assert site.believed() == {"1.0.0": None, "1.2.0": "labels were permuted"}

    site.follow("A key is lost, or stolen")
    assert site.types("ops", "edgeml-publish status --repository /srv/models") == DONE
    for role in ("root", "targets"):
        (holders,) = re.findall(rf"^keys of {role}: (.*)$", site.said, re.MULTILINE)
        assert re.findall(r"[a-z]+(?= \()", holders) == ["ann", "cy", "dee"]
    assert site.believed() == {"1.0.0": None, "1.2.0": "labels were permuted"}

    # Whoever finds Bob's key can do nothing with it.
    publish(make_release("1.3.0"), site.models)
    assert site.types("ops", "edgeml-publish sign --repository /srv/models --request next.json") == INCOMPLETE
    assert site.types("bob", "edgeml-publish sign --request next.json --key ~/.config/edgeml/keys/bob.pem") == 2
    assert "key bob: it may sign nothing of this" in site.said
    assert site.believed() == {"1.0.0": None, "1.2.0": "labels were permuted"}


def test_the_online_key_is_replaced_as_the_table_says(site: Site) -> None:
    site.follow("The first day")
    (row,) = re.findall(r"^\| the online key \|(.*)\|.*\|$", PAGE, re.MULTILINE)
    new, rotate, option = re.findall(r"`([a-z][^`]*-.*?|--[^`]*)`", row)[:3]
    assert site.types("ops", f"edgeml-publish {new}") == DONE
    shutil.copy(site.key("ops", "online-2.pub"), site.desk("ops"))
    changed = "edgeml-publish sign --request online.json"
    assert site.types("ops", f"edgeml-publish {rotate} --repository /srv/models --request online.json") == INCOMPLETE
    assert site.types("cy", f"{changed} --key ~/.config/edgeml/keys/cy.pem") == INCOMPLETE
    assert site.types("bob", f"{changed} --key ~/.config/edgeml/keys/bob.pem") == INCOMPLETE
    shutil.copy(site.key("ops", "online-2.pem"), site.desk("ops"))
    assert site.types("ops", f"{changed} --repository /srv/models {option}") == DONE
    assert site.types("ops", "edgeml-publish status --repository /srv/models") == DONE
    assert re.search(r"^timestamp +2 +1 of 1 +online-2 ", site.said, re.MULTILINE)
    assert site.believed() == {"1.0.0": None}
