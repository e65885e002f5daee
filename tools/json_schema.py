# Copyright (c) 2026, The edgeml.fleet authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Parts of the JSON Schemas of documents, and of the reference pages that are made from them."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from ansible_collections.edgeml.fleet.plugins.module_utils._release.fields import FILE_BYTES_MAX

ROOT = Path(__file__).resolve().parents[1]
DIALECT = "https://json-schema.org/draft/2020-12/schema"


def pattern(text: str) -> str:
    """A pattern of the parser for every dialect: $ alone would let a line's end through in some."""
    return f"^{text}$(?!\\n)"


NAME = {"type": "string", "pattern": pattern("[A-Za-z0-9][A-Za-z0-9._+-]{0,63}")}
TEXT = {"type": "string", "maxLength": 4096}
COUNT = {"type": "integer", "minimum": 0, "maximum": FILE_BYTES_MAX}


def ref(name: str) -> dict[str, Any]:
    """A definition of the schema."""
    return {"$ref": f"#/$defs/{name}"}


def or_null(schema: dict[str, Any]) -> dict[str, Any]:
    """That, or null."""
    return {"anyOf": [schema, {"type": "null"}]}


def list_of(items: dict[str, Any], most: int, least: int = 1) -> dict[str, Any]:
    """A list of ``least`` to ``most`` items."""
    return {"type": "array", "items": items, **({"minItems": least} if least else {}), "maxItems": most}


def object_of(properties: dict[str, Any], required: list[str]) -> dict[str, Any]:
    """An object with these fields, and no others."""
    return {"type": "object", "properties": properties, "required": required, "additionalProperties": False}


def map_of(values: dict[str, Any], *, least: int = 0, most: int | None = None, **more: Any) -> dict[str, Any]:
    """An object with names of the author's choice, each with such a value."""
    sizes = {name: size for name, size in (("minProperties", least or None), ("maxProperties", most)) if size}
    return {"type": "object", "additionalProperties": values, **sizes, **more}


def about(schema: dict[str, Any], description: str) -> dict[str, Any]:
    """A field with what it is for."""
    return {"description": description, **schema}


def sections(document: dict[str, Any]) -> Iterator[str]:
    """The lines of a page about each of the schema's definitions."""
    for name, definition in document["$defs"].items():
        yield from ("", f"## {name}", "")
        yield from (definition["description"][0].upper() + definition["description"][1:] + ".", "")
        yield from table(definition)


def table(definition: dict[str, Any]) -> Iterator[str]:
    """The lines of a table of an object's fields."""
    yield "| field | | type | meaning |"
    yield "|---|---|---|---|"
    for name, item in definition["properties"].items():
        needed = "required" if name in definition["required"] else ""
        yield f"| `{name}` | {needed} | {type_of(item)} | {item.get('description', '')} |"


def type_of(item: dict[str, Any]) -> str:
    """A field's type, for people."""
    if "anyOf" in item:
        return type_of(item["anyOf"][0])
    if "$ref" in item:
        name = item["$ref"].rsplit("/", 1)[-1]
        return f"[{name}](#{name.lower()})"
    if "const" in item:
        return f"`{item['const']}`"
    if "enum" in item:
        return "one of " + ", ".join(f"`{value}`" for value in item["enum"])
    if item["type"] == "boolean":
        return "true or false"
    if item["type"] == "array":
        return f"list of {item.get('minItems', 0)} to {item['maxItems']}" + (
            f", each {type_of(item['items'])}" if "items" in item else ""
        )
    if item["type"] == "object":
        if isinstance(item.get("additionalProperties"), dict):
            return f"object by name, of {type_of(item['additionalProperties'])}"
        if "properties" not in item:
            return "object"
        return "object with " + ", ".join(f"`{name}`" for name in item["properties"])
    if item["type"] in ("integer", "number"):
        kind = "whole number" if item["type"] == "integer" else "number"
        least = f" above {item['exclusiveMinimum']}" if "exclusiveMinimum" in item else f" from {item['minimum']}"
        return kind + least + (f" to {item['maximum']}" if "maximum" in item else "")
    return "name" if item.get("pattern") == NAME["pattern"] else "text"


def write(name: str, document: dict[str, Any], page: str) -> None:
    """Write the schema and its page into ``docs``."""
    (ROOT / "docs" / f"{name}.schema.json").write_text(json.dumps(document, indent=2) + "\n", encoding="utf-8")
    (ROOT / "docs" / f"{name}.md").write_text(page, encoding="utf-8")
