# Copyright (c) 2026, The edgeml.fleet authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# PRIVATE to the collection edgeml.fleet: no stable interface.

"""Runs a recipe, in the Python of the framework that trained the model. It is started as a program and imports nothing
of the collection.

usage: recipe_runner.py RECIPE DIRECTORY SAMPLES OUTPUTS ABOUT

RECIPE is a Python file with ``export(directory)``, which writes the model there, and perhaps ``reference(inputs)``,
which returns the outputs by name that the source framework computes from the samples.
"""

from __future__ import annotations

import importlib.util
import json
import sys
import zipfile
from importlib import metadata
from typing import Any


def main() -> None:
    """Run the recipe; what it prints is shown if it fails."""
    recipe, directory, samples, outputs, about = sys.argv[1:]
    spec = importlib.util.spec_from_file_location("recipe", recipe)
    if spec is None or spec.loader is None:
        sys.exit(f"{recipe}: expected a Python file")
    module = importlib.util.module_from_spec(spec)
    sys.modules["recipe"] = module
    spec.loader.exec_module(module)
    if not callable(getattr(module, "export", None)):
        sys.exit(f"{recipe}: expected a function export(directory)")
    module.export(directory)
    if callable(getattr(module, "reference", None)):
        import numpy

        with numpy.load(samples, allow_pickle=False) as archive:
            inputs = {name: archive[name] for name in archive.files}
        found = {name: _whole(numpy, name, values) for name, values in module.reference(inputs).items()}
        # numpy.savez takes an output called "file" for an argument of its own.
        with zipfile.ZipFile(outputs, "w") as archive:
            for name, values in found.items():
                with archive.open(f"{name}.npy", "w", force_zip64=True) as member:
                    numpy.lib.format.write_array(member, values, allow_pickle=False)
    packages = {item.metadata["Name"]: item.version for item in metadata.distributions() if item.metadata["Name"]}
    with open(about, "w", encoding="utf-8") as file:
        json.dump({"python": sys.version.split()[0], "packages": packages}, file)


def _whole(numpy: Any, name: str, values: Any) -> Any:
    """An output as an array; ends the program where that would be another output than the framework's."""
    listed = isinstance(values, (list, tuple, numpy.ma.MaskedArray))
    masked = int(numpy.ma.count_masked(numpy.ma.asarray(values))) if listed else 0
    if masked:
        sys.exit(
            f"reference: {name}: expected no masked values; found {masked}, behind which anything may be. "
            "Return values.filled(…) with what the model gives in their place"
        )
    array = numpy.asarray(values)
    if array.dtype != object:
        return array
    for value in array.flat:
        if not isinstance(value, str):
            sys.exit(f"reference: {name}: expected numbers or texts; found an array of objects with {value!r:.80}")
    return array.astype(str)


if __name__ == "__main__":
    main()
