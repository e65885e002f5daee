# Copyright (c) 2026, The edgeml.fleet authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# PRIVATE to the collection edgeml.fleet: no stable interface.

"""What is installed on a device or in an image: components with package URLs, each with its own distribution. Pure."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any, Iterable, Mapping
from urllib.parse import quote, unquote

from ansible_collections.edgeml.fleet.plugins.module_utils._common.errors import EdgemlError
from ansible_collections.edgeml.fleet.plugins.module_utils._release.packages import source_of

DEB = "deb"
PYPI = "pypi"
# What a device is asked for, a line for each package, behind this word.
PACKAGE_LINE = "package"
SYSTEM_LINE = "system"
WHEEL_LINE = "wheel"


class InventoryError(EdgemlError):
    """What is said to be installed cannot be read; the text says of what, and what was expected."""


@dataclass(frozen=True)
class PackageUrl:
    """A package URL: ``pkg:type/namespace/name@version?qualifiers``. Namespace and version may be empty."""

    type: str
    namespace: str
    name: str
    version: str = ""
    qualifiers: tuple[tuple[str, str], ...] = ()

    @classmethod
    def parse(cls, text: str) -> PackageUrl:
        """Read a package URL. Raises ValueError."""
        scheme, colon, rest = text.partition(":")
        rest, _mark, query = rest.partition("#")[0].partition("?")
        path, _at, version = rest.lstrip("/").partition("@")
        kind, *names = [unquote(part) for part in path.split("/") if part] or [""]
        if scheme != "pkg" or not colon or not names:
            raise ValueError(f"expected a package URL, such as pkg:deb/debian/openssl; found {text!r:.200}")
        pairs = (part.partition("=") for part in query.split("&") if part)
        qualifiers = tuple(sorted((name.lower(), unquote(value)) for name, _equals, value in pairs))
        return cls(kind.lower(), "/".join(names[:-1]).lower(), names[-1].lower(), unquote(version), qualifiers)

    def __str__(self) -> str:
        """Return it as text."""
        namespace = f"{quote(self.namespace, safe='/')}/" if self.namespace else ""
        version = f"@{quote(self.version, safe='.~-')}" if self.version else ""
        query = "&".join(f"{name}={quote(value, safe='.~-')}" for name, value in self.qualifiers)
        return f"pkg:{self.type}/{namespace}{quote(self.name, safe='.+-')}{version}{f'?{query}' if query else ''}"


@dataclass(frozen=True)
class Component:
    """A package that is installed, and the source package that it was built from; of a wheel these are the same."""

    url: PackageUrl
    source: str
    source_version: str


@dataclass(frozen=True)
class Root:
    """A device or an image: its ``name``, its distribution (``debian``), the suite of that (``bookworm``), both empty
    where it does not say, and what is installed."""

    name: str
    distribution: str
    suite: str
    components: tuple[Component, ...]


def device_root(name: str, text: str) -> Root:
    """Read what a device printed: a line with its system, and one for each package and each wheel, in fields that tabs
    separate. Raises InventoryError."""
    distribution = suite = ""
    packages: list[list[str]] = []
    wheels: list[list[str]] = []
    for line in text.splitlines():
        word, *fields = line.rstrip("\n").split("\t")
        if word == SYSTEM_LINE and len(fields) == 2:
            distribution, suite = fields[0].lower(), fields[1].lower()
        elif word == PACKAGE_LINE and len(fields) == 5:
            packages.append(fields)
        elif word == WHEEL_LINE and len(fields) == 2:
            wheels.append(fields)
        elif line.strip():
            raise InventoryError(f"{name}: expected a package, a wheel or the system; found {line!r:.200}")
    found = [
        debian_component(distribution, suite, package, version, architecture, source, source_version)
        for package, version, architecture, source, source_version in packages
    ]
    found += [wheel_component(wheel, version) for wheel, version in wheels]
    return Root(name, distribution, suite, tuple(found))


def bill_root(document: bytes, origin: str) -> Root:
    """Read a bill of materials in CycloneDX's form (JSON). Raises InventoryError, which begins with ``origin``."""
    try:
        bill: Mapping[str, Any] = json.loads(document)
        if bill["bomFormat"] != "CycloneDX":
            raise ValueError(f"bomFormat: expected CycloneDX; found {bill['bomFormat']!r}")
        about = bill["metadata"]["component"]
        found = [_bill_component(item) for item in bill["components"] if "purl" in item]
        name = f"{about['name']} {about['version']}"
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise InventoryError(f"{origin}: expected a bill of materials in CycloneDX's form; {error!r:.300}") from error
    systems = sorted(
        {(each.url.namespace, dict(each.url.qualifiers).get("distro", "")) for each in found if each.url.type == DEB}
    )
    if len(systems) > 1:
        raise InventoryError(f"{origin}: expected packages of one distribution; found {systems}")
    distribution, suite = systems[0] if systems else ("", "")
    architecture = next((dict(each.url.qualifiers).get("arch", "") for each in found if each.url.type == DEB), "")
    return Root(f"{name} {architecture}".rstrip(), distribution, suite, tuple(found))


def debian_component(
    distribution: str, suite: str, package: str, version: str, architecture: str, source: str, source_version: str
) -> Component:
    """A package of Debian's, or of a distribution like it: its package URL names that, and never Debian instead."""
    given = {"Package": package, "Version": version, "Source": f"{source} ({source_version})"}
    name, built_from = source_of(given) if source and source_version else (source or package, version)
    qualifiers = (("arch", architecture), ("distro", suite), ("upstream", f"{name}@{built_from}"))
    url = PackageUrl(DEB, distribution, package, version, tuple((key, value) for key, value in qualifiers if value))
    return Component(url, name, built_from)


def wheel_component(name: str, version: str) -> Component:
    """A wheel, by the normalised form of its name."""
    normalised = "-".join(part for part in name.lower().replace("_", "-").replace(".", "-").split("-") if part)
    return Component(PackageUrl(PYPI, "", normalised, version), normalised, version)


def purls(components: Iterable[Component]) -> list[str]:
    """The package URLs of components, sorted."""
    return sorted(str(component.url) for component in components)


def _bill_component(item: Mapping[str, Any]) -> Component:
    url = PackageUrl.parse(item["purl"])
    if url.type == PYPI:
        return wheel_component(url.name, url.version)
    upstream = dict(url.qualifiers).get("upstream", "")
    source, _at, version = upstream.partition("@")
    return Component(url, source or url.name, version or url.version)
