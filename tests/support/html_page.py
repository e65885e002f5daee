# Copyright (c) 2026, The edgeml.fleet authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""An HTML page as a test reads it: its tags, its text, and whether it needs anything else."""

from __future__ import annotations

from html.parser import HTMLParser

VOID = ("meta", "link", "img", "br")


class Page(HTMLParser):
    """The tags of a page and its text; complains about tags that do not match."""

    def __init__(self, page: str) -> None:
        super().__init__(convert_charrefs=True)
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.text = ""
        self.open: list[str] = []
        self.feed(page)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.text += data

    def check_whole(self) -> None:
        """It runs nothing and loads nothing, and what it refers to is there, once."""
        names = {tag for tag, _attributes in self.tags}
        assert not names & {"script", "img", "iframe", "object", "embed", "form", "base"}
        for tag, attributes in self.tags:
            assert not [attribute for attribute in attributes if attribute.startswith("on") or attribute == "style"]
            assert not {"src", "action", "xlink:href"} & set(attributes)
            assert attributes.get("href") in (None, "data:,"), tag
        ids = [attributes["id"] for _tag, attributes in self.tags if "id" in attributes]
        assert len(ids) == len(set(ids))
        labels = {label for _tag, found in self.tags for label in (found.get("aria-labelledby") or "").split()}
        assert labels <= set(ids)
