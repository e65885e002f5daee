# Copyright (c) 2026, The edgeml.fleet authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Who may import whom: the layers of the device's code and of the controller's (docs/architecture.md)."""

from __future__ import annotations

import ast
import functools
import subprocess
import sys
import tarfile
from collections.abc import Iterator
from graphlib import TopologicalSorter
from pathlib import Path

import pytest
from links import REPOSITORY

from ansible_collections.edgeml.fleet.plugins.plugin_utils._setup.plan import PROGRAM

PLUGINS = REPOSITORY / "plugins"
COLLECTION = "ansible_collections.edgeml.fleet.plugins."
STANDARD_LIBRARY = sys.stdlib_module_names

# What a package of the collection may import of the others, by the first part of the path that fits.
LAYERS: dict[str, tuple[str, ...]] = {
    "module_utils._common": (),
    "module_utils._release": ("module_utils._common",),
    "module_utils._fetch": ("module_utils._common", "module_utils._release"),
    # Whether a repository is to be trusted is decided by itself: for the controller, and for a device that pulls.
    "module_utils._trust": ("module_utils._common", "module_utils._release", "module_utils._fetch"),
    # A device's key and certificate: the device makes and takes them, the controller signs.
    "module_utils._enrolment": ("module_utils._common",),
    "module_utils._device": (
        "module_utils._common",
        "module_utils._release",
        "module_utils._fetch",
        "module_utils._smp",
    ),
    # A microcontroller's port and protocol, whatever is asked through it.
    "module_utils._smp": ("module_utils._common",),
    "module_utils._pull": (
        "module_utils._common",
        "module_utils._release",
        "module_utils._fetch",
        "module_utils._trust",
        "module_utils._device",
    ),
    # What a device says of itself is read from everywhere on it.
    "module_utils._watch": (
        "module_utils._common",
        "module_utils._device",
        "module_utils._pull.memory",
    ),
    # What is forwarded is what is watched; a device that reaches nobody tries less often, as one that pulls.
    "module_utils._forward": (
        "module_utils._common",
        "module_utils._device",
        "module_utils._pull.backoff",
        "module_utils._watch",
    ),
    # Presence and telemetry of a device, and its triggers.
    "module_utils._mqtt": ("module_utils._common", "module_utils._device.describe", "module_utils._device.request"),
    # What a device is asked and what it answers is the contract of both programs.
    "plugin_utils._call": ("module_utils._common", "module_utils._device.request", "plugin_utils._links"),
    # The desk scores answers as a device does.
    "plugin_utils._publish": (
        "module_utils._common",
        "module_utils._release",
        "module_utils._device.probe_scores",
        "plugin_utils._rollout.gate",
        # What the ledger needs stays in the repository.
        "plugin_utils._rollout.ledger",
        "plugin_utils._rollout.report",
        # What a rollout will not be able to compare is said when publishing.
        "plugin_utils._rollout.comparable",
        "module_utils._trust",
        "plugin_utils._trust",
        "plugin_utils._profiles",
    ),
    # What a class was measured to cost is made when publishing, and read by a rollout.
    "plugin_utils._profiles": ("module_utils._common", "plugin_utils._trust"),
    # What microcontrollers get is signed and judged elsewhere, and published as any release is.
    "plugin_utils._mcu": (
        "module_utils._common",
        "module_utils._release",
        "plugin_utils._publish",
        # Whether a probe set is large enough is the gate's word.
        "plugin_utils._rollout.gate",
        "plugin_utils._rollout.report",
    ),
    # An image is published as any release is.
    "plugin_utils._image": ("module_utils._common", "module_utils._release", "plugin_utils._publish"),
    # So is a snapshot of packages.
    "plugin_utils._packages": ("module_utils._common", "module_utils._release", "plugin_utils._publish"),
    # Its page is one like the rollout's.
    "plugin_utils._vulnerabilities": ("module_utils._common", "module_utils._release", "plugin_utils._rollout.report"),
    # What a web server has of a repository is fetched as a device fetches it.
    "plugin_utils._trust": (
        "module_utils._common",
        "module_utils._release",
        "module_utils._fetch",
        "module_utils._trust",
    ),
    "plugin_utils._enrolment": ("module_utils._common", "module_utils._enrolment"),
    "plugin_utils._pull": (
        "module_utils._common",
        "module_utils._release",
        "module_utils._trust",
        # What a report is, is the contract of both programs.
        "module_utils._pull.report",
        "module_utils._enrolment.certificate",
        "plugin_utils._rollout",
        "plugin_utils._trust",
    ),
    "plugin_utils._watch": ("module_utils._watch.metrics",),
    "plugin_utils._broker": ("module_utils._common", "module_utils._mqtt.messages"),
    "plugin_utils": ("module_utils._common", "module_utils._release"),
    "modules": ("module_utils",),
    "action": ("module_utils", "plugin_utils"),
    "callback": ("module_utils._common", "module_utils._release", "plugin_utils"),
    # What is the address of a port is said once.
    "filter": ("module_utils._common", "module_utils._release", "module_utils._smp.address", "plugin_utils"),
    "lookup": ("module_utils._common", "plugin_utils"),
    "doc_fragments": (),
}
# What a package may import from outside the collection, beside the standard library.
OUTSIDE: dict[str, tuple[str, ...]] = {
    # In functions only; the interpreter is another Python's.
    "plugin_utils._mcu": ("ai_edge_litert", "numpy", "tflite_micro"),
    # In functions only, where they are used: Ansible imports none of them.
    "plugin_utils._publish": ("ai_edge_litert", "ai_edge_quantizer", "jinja2", "numpy", "onnx", "onnxruntime"),
    # A device has it where it pulls. Nothing else of its code imports what needs it, but in functions.
    "module_utils._trust": ("tuf",),
    "module_utils._pull.report": ("cryptography",),
    "module_utils._enrolment": ("cryptography",),
    "module_utils._mqtt": ("paho",),
    "module_utils": (),
    "modules": ("ansible.module_utils",),
    "doc_fragments": (),
    # The client, and so what a rollout needs, has python-tuf; who signs has also what makes keys.
    "plugin_utils._enrolment": ("cryptography",),
    "plugin_utils._pull.reports": ("cryptography",),
    # In a function, where a broker is named.
    "plugin_utils._broker": ("paho",),
    "plugin_utils._trust.repository": ("ansible",),
    "plugin_utils._trust": ("cryptography", "securesystemslib", "tuf"),
    # ansible-core and what ansible-core itself depends on.
    "plugin_utils._vulnerabilities.databases": ("packaging",),
    "plugin_utils": ("ansible", "jinja2", "yaml"),
    "action": ("ansible", "jinja2", "yaml"),
    "callback": ("ansible",),
    "filter": ("ansible", "cryptography"),
    "lookup": ("ansible", "yaml"),
}


def module_name(path: Path) -> str:
    """The name of a file below ``plugins/``: ``module_utils._device.swap``."""
    parts = path.relative_to(PLUGINS).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


FILES = sorted(PLUGINS.rglob("*.py"))
NAMES = {module_name(path) for path in FILES}


@functools.cache
def imports(path: Path) -> tuple[str, ...]:
    """The modules that a file imports; those of the collection as ``module_name`` gives them."""
    return tuple(_imports(path))


def _imports(path: Path) -> Iterator[str]:
    package = (*COLLECTION.rstrip(".").split("."), *path.parent.relative_to(PLUGINS).parts)
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            base = package[: len(package) - node.level + 1] if node.level else ()
            source = ".".join((*base, *([node.module] if node.module else [])))
            # "from package import module" imports the module.
            names = [f"{source}.{alias.name}" for alias in node.names]
            names = [name if name.removeprefix(COLLECTION) in NAMES else source for name in names]
        else:
            continue
        yield from (name.removeprefix(COLLECTION) for name in names)


def fits(name: str, packages: tuple[str, ...]) -> bool:
    return any(name == package or name.startswith(f"{package}.") for package in packages)


@pytest.mark.parametrize("path", FILES, ids=module_name)
def test_a_file_imports_only_what_its_layer_may(path: Path) -> None:
    name = module_name(path)
    layer = next((layer for layer in LAYERS if fits(name, (layer,))), name)
    allowed = (*LAYERS.get(layer, ()), layer)
    outside = next(packages for package, packages in OUTSIDE.items() if fits(name, (package,)))
    wrong = [
        imported
        for imported in imports(path)
        if not fits(imported, allowed if imported.split(".")[0] in OUTSIDE else outside)
        and imported.split(".")[0] not in STANDARD_LIBRARY
    ]
    assert wrong == [], f"{name} imports {', '.join(wrong)}"


def test_a_device_starts_programs_in_one_place() -> None:
    starting = [
        module_name(path)
        for path in FILES
        if module_name(path).startswith("module_utils.")
        and any(fits(imported, ("subprocess",)) for imported in imports(path))
    ]
    assert starting == ["module_utils._common.process"]


def test_the_layers_are_those_of_the_tree() -> None:
    kinds = {package for package in OUTSIDE if "." not in package}
    assert {path.name for path in PLUGINS.iterdir() if path.is_dir() and path.name != "__pycache__"} == kinds
    shared = {
        path.name for path in (PLUGINS / "module_utils").iterdir() if path.is_dir() and path.name != "__pycache__"
    }
    assert shared == {layer.split(".")[1] for layer in LAYERS if layer.startswith("module_utils.")}


def test_what_is_sent_to_a_device_as_text_imports_only_what_is_sent_before_it() -> None:
    directory = PLUGINS / "plugin_utils/_setup/device"
    assert {path.stem for path in directory.glob("*.py")} == {"__init__", *PROGRAM}
    sent = set(STANDARD_LIBRARY)
    for name in PROGRAM:
        found = {imported.removeprefix("plugin_utils._setup.device.") for imported in imports(directory / f"{name}.py")}
        assert {imported.split(".")[0] for imported in found} <= sent, name
        sent.add(name)


def test_no_import_goes_round_in_a_circle() -> None:
    graph = {module_name(path): {name for name in imports(path) if name in NAMES} for path in FILES}
    assert list(TopologicalSorter(graph).static_order())


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    """The names in the archive that a device installs from, without the wheels."""
    archive = tmp_path_factory.mktemp("bundle") / "bundle.tar.gz"
    files = REPOSITORY / "roles/inference_service/files"
    subprocess.run([files / "pack-app", archive, files, PLUGINS / "module_utils"], check=True)
    with tarfile.open(archive) as made:
        return [member.name.removeprefix("./") for member in made.getmembers() if member.isfile()]


def test_a_device_gets_module_utils_whole_and_nothing_of_the_controller(bundle: list[str]) -> None:
    """So no line of the gate, the report or a filter changes a device's bundle, nor restarts its server."""
    device = {path.relative_to(PLUGINS / "module_utils") for path in (PLUGINS / "module_utils").rglob("*.py")}
    assert {name for name in bundle if name.startswith("app/edgeml_device/")} == {
        f"app/edgeml_device/{path}" for path in device
    }
    # Beside the app, the bundle's own installer.
    assert {name.split("/", 1)[0] for name in bundle} == {"app", "install"}
    assert {name.split("/")[1] for name in bundle if name != "install"} == {
        "edgeml",
        "edgeml_device",
        "edgeml_server",
        "link-app",
        "systemd",
    }
