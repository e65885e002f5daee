# Copyright (c) 2026, The edgeml.fleet authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The layers of the server: which package may import which."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import edgeml_server
import pytest

PACKAGE = Path(edgeml_server.__file__).parent

LAYERS = {
    "common": set[str](),
    "observe": {"common"},
    # What models report, what their answers are, the reference files that they are tested with, and shadows.
    "models": {"common", "observe.answers", "observe.model_observer", "observe.reference", "observe.shadow"},
    "http": {"common", "models", "observe"},
    "handover": {"common", "systemd"},
    "tools": {"common", "config", "handover", "models", "observe"},
    "": {"common", "handover", "http", "models", "observe"},
}
"""What the modules of each package may import beside their own; the root's, named "", are the process."""

DEVICE = (
    "_common.",
    "_release.",
    "_device.store.",
    "_device.version.",
    "_device.prepared.",
    "_device.facts.",
    "_device.accelerator.",
)
"""What the server may import of ``edgeml_device``, the package that it shares with the modules."""

ROOT_FOR_ALL = {"__version__"}
"""What every layer may import of the root."""


def imported(source: str, module: str, wanted: str = "edgeml_server") -> Iterator[str]:
    """Yield what ``source``, the text of ``module``, imports of the package ``wanted``, as names below it."""
    package = module.split(".")[:-1]
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            base = "" if node.level == 0 else ".".join(["edgeml_server", *package[: len(package) - node.level + 1]])
            origin = ".".join(filter(None, [base, node.module]))
            names = [f"{origin}.{alias.name}" for alias in node.names]
        else:
            continue
        for name in names:
            if name.split(".")[0] == wanted:
                yield name.partition(".")[2]


def violations(source: str, module: str) -> list[str]:
    """The imports in ``source`` that the layer of ``module`` does not allow."""
    layer = module.rpartition(".")[0]
    allowed = LAYERS[layer]
    return [
        name
        for name in imported(source, module)
        if not (
            name in ROOT_FOR_ALL
            or (layer and name.split(".")[0] == layer)
            or (not layer and name.split(".")[0] not in LAYERS)
            or any(name == prefix or name.startswith(f"{prefix}.") for prefix in allowed)
        )
    ]


MODULES = {
    ".".join(path.relative_to(PACKAGE).with_suffix("").parts): path
    for path in sorted(PACKAGE.rglob("*.py"))
    if path.name != "__init__.py"
}


@pytest.mark.parametrize("module", MODULES)
def test_a_module_imports_only_what_its_layer_may(module: str) -> None:
    assert violations(MODULES[module].read_text(), module) == []


@pytest.mark.parametrize("module", MODULES)
def test_of_the_devices_package_it_imports_only_what_it_shares(module: str) -> None:
    names = list(imported(MODULES[module].read_text(), module, "edgeml_device"))
    assert [name for name in names if not name.startswith(DEVICE)] == []


def test_packages_are_empty_and_known() -> None:
    packages = {path.parent.name: path.read_text() for path in PACKAGE.glob("*/__init__.py")}
    assert packages == dict.fromkeys(filter(None, LAYERS), "")


@pytest.mark.parametrize(
    ("module", "source"),
    [
        ("observe.metrics", "from edgeml_server.models import memory"),
        ("observe.metrics", "import edgeml_server.http.app"),
        ("observe.metrics", "def late():\n    from edgeml_server.http.app import Application"),
        ("models.loading", "from edgeml_server.observe.metrics import Metrics"),
        ("models.loading", "from ..http import app"),
        ("common.log", "from edgeml_server.observe.metrics import Metrics"),
        ("http.app", "from edgeml_server.server import InferenceServer"),
        ("tools.smoke", "from edgeml_server.http.app import Application"),
        ("models.loading", "from edgeml_server import server"),
    ],
)
def test_a_new_arrow_fails(module: str, source: str) -> None:
    assert len(violations(source, module)) == 1


@pytest.mark.parametrize(
    ("module", "source"),
    [
        ("server", "from .config import Config\nfrom .http.app import Application\nfrom . import __version__"),
        ("models.loading", "from .golden import check_golden\nfrom edgeml_server.observe.reference import Series"),
        (
            "http.app",
            "import edgeml_device\nfrom edgeml_server import __version__\nfrom edgeml_server.common import log",
        ),
    ],
)
def test_an_allowed_arrow_does_not(module: str, source: str) -> None:
    assert violations(source, module) == []
