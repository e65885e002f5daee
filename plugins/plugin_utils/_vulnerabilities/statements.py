# Copyright (c) 2026, The edgeml.fleet authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# PRIVATE to the collection edgeml.fleet: no stable interface.

"""Statements about vulnerabilities that people answer for, kept in git: OpenVEX and CycloneDX VEX. Pure."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any, Iterator, Mapping, Sequence

from ansible_collections.edgeml.fleet.plugins.module_utils._common.errors import EdgemlError

from .inventory import Component, PackageUrl

# What of OpenVEX's states, and of CycloneDX's, says that nothing is to do.
_OPENVEX = {"not_affected": True, "fixed": True, "affected": False, "under_investigation": False}
_CYCLONEDX = {
    **dict.fromkeys(("not_affected", "false_positive", "resolved", "resolved_with_pedigree"), True),
    **dict.fromkeys(("exploitable", "in_triage"), False),
}


class StatementError(EdgemlError):
    """A statement cannot be read; the text names the file, what was expected and what was found."""


@dataclass(frozen=True)
class Statement:
    """What somebody says of a vulnerability in a product. ``accepts``: nothing is to do. ``origin`` is the file."""

    vulnerability: str
    product: PackageUrl
    status: str
    accepts: bool
    reason: str
    origin: str

    def is_about(self, component: Component) -> bool:
        """Whether it speaks of a component, by the name of the package or of its source package.

        What the product's package URL leaves open, version and qualifiers, may be any.
        """
        own, url = self.product, component.url
        if (own.type, own.namespace) != (url.type, url.namespace):
            return False
        if own.name not in (url.name, component.source):
            return False
        if own.version and own.version not in (url.version, component.source_version):
            return False
        return set(own.qualifiers) <= set(url.qualifiers)


def read_statements(path: str) -> list[Statement]:
    """Read a file of statements. Raises StatementError, OSError."""
    with open(path, encoding="utf-8") as file:
        text = file.read()
    try:
        document = json.loads(text)
        if str(document.get("@context", "")).startswith("https://openvex.dev/ns"):
            return list(_openvex(document, path))
        if document.get("bomFormat") == "CycloneDX":
            return list(_cyclonedx(document, path))
        raise ValueError("expected @context of OpenVEX, or bomFormat of CycloneDX; found neither")
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise StatementError(f"{path}: expected a VEX document; {error!r:.300}") from error


def _openvex(document: Mapping[str, Any], path: str) -> Iterator[Statement]:
    for item in document["statements"]:
        named = item["vulnerability"]
        names = [named] if isinstance(named, str) else [named["name"], *named.get("aliases", [])]
        reason = "; ".join(
            str(item[field])
            for field in ("justification", "impact_statement", "action_statement", "status_notes")
            if item.get(field)
        )
        status = item["status"]
        if status not in _OPENVEX:
            raise ValueError(f"status: expected one of {', '.join(_OPENVEX)}; found {status!r}")
        if status == "not_affected" and not (item.get("justification") or item.get("impact_statement")):
            raise ValueError(f"{names[0]}: not_affected: expected a justification or an impact_statement; found none")
        for product in item["products"]:
            for identifier in _identifiers(product):
                for name in names:
                    yield Statement(name, PackageUrl.parse(identifier), status, _OPENVEX[status], reason, path)


def _identifiers(product: Any) -> list[str]:
    """The package URLs that a statement is about: of a product with parts, these."""
    if isinstance(product, str):
        return [product]
    parts = product.get("subcomponents") or [product]
    return [part if isinstance(part, str) else part.get("identifiers", {}).get("purl") or part["@id"] for part in parts]


def _cyclonedx(document: Mapping[str, Any], path: str) -> Iterator[Statement]:
    urls = {item.get("bom-ref", ""): item["purl"] for item in document.get("components", []) if "purl" in item}
    for item in document.get("vulnerabilities", []):
        analysis = item["analysis"]
        status = analysis["state"]
        if status not in _CYCLONEDX:
            raise ValueError(f"analysis.state: expected one of {', '.join(_CYCLONEDX)}; found {status!r}")
        reason = "; ".join(str(analysis[field]) for field in ("justification", "detail") if analysis.get(field))
        for affected in item["affects"]:
            reference = affected["ref"]
            url = PackageUrl.parse(urls.get(reference, reference))
            yield Statement(item["id"], url, status, _CYCLONEDX[status], reason, path)


def statement_about(statements: Sequence[Statement], vulnerability: str, component: Component) -> Statement | None:
    """The last statement about a vulnerability of a component: a later one takes the place of an earlier one."""
    found = [each for each in statements if each.vulnerability == vulnerability and each.is_about(component)]
    return found[-1] if found else None
