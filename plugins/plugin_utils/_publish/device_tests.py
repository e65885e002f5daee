# Copyright (c) 2026, The edgeml.fleet authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# PRIVATE to the collection edgeml.fleet: no stable interface.

"""What a device would say of a release: which variant it takes, and whether its tests pass there."""

from __future__ import annotations

from typing import Iterable, Sequence

from ansible_collections.edgeml.fleet.plugins.module_utils._common.errors import IncompatibleError
from ansible_collections.edgeml.fleet.plugins.module_utils._release.release import Release
from ansible_collections.edgeml.fleet.plugins.module_utils._release.variant_choice import choose_variant

from . import emulation
from .candidate import Candidate, draft
from .desk import Place, RunFailedError
from .document import ReleaseDocument
from .holdout import Holdout
from .options import ReleaseOptions
from .publication import Publication


def find_emulated_device(publication: Publication, formats: Iterable[str]) -> Place | None:
    """Where variants run as aarch64, if the release is for it and this machine is another; None, and a note, if not."""
    if "aarch64" not in publication.options.architectures or publication.desk.here.architecture == "aarch64":
        return None
    publication.progress.step("looking for an emulated aarch64 device, and for the packages that it runs")
    place, why = emulation.find(publication.options.device_image, publication.desk.work, formats)
    if place is None:
        publication.notes.append(f"not run as aarch64: {why}")
    return place


def run_emulated(
    publication: Publication, candidates: Sequence[Candidate], holdout: Holdout, place: Place | None
) -> None:
    """Run the variants that pass as aarch64, in one process, because it takes long to begin; refuse what fails."""
    passed = [candidate for candidate in candidates if candidate.refusal is None]
    if place is None or not passed:
        return
    names = ", ".join(candidate.model.name for candidate in passed)
    publication.progress.step(f"running {names} as aarch64, emulated")
    directories = [draft(publication, candidate) for candidate in passed]
    measured = publication.desk.measure_all(directories, holdout.samples_path, place)
    for candidate, found in zip(passed, measured, strict=True):
        if isinstance(found, RunFailedError):
            candidate.refusal = f"as aarch64: {found}"
        else:
            candidate.emulated = found


def reasons_against_devices(release: Release, options: ReleaseOptions) -> list[str]:
    """The variants that no declared device can take, and the devices that get none."""
    reasons = []
    for variant in release.variants:
        alone = release._replace(variants=(variant,))
        refusals = [(device["name"], _refusal(alone, device)) for device in options.devices]
        if refusals and all(refusal is not None for _name, refusal in refusals):
            told = "; ".join(f"{name}: {str(refusal).split(': ', 2)[-1]}" for name, refusal in refusals)
            reasons.append(f"{variant.name}: fits no declared device: {told}")
    for device in options.devices:
        refusal = _refusal(release, device)
        if refusal is not None:
            reasons.append(f"device class {device['name']}: {refusal}")
    return reasons


def _refusal(release: Release, device: dict[str, object]) -> IncompatibleError | None:
    try:
        choose_variant(release, device)
    except IncompatibleError as error:
        return error
    return None


def reasons_of_smoke_tests(
    publication: Publication, made: ReleaseDocument, passed: Sequence[Candidate], place: Place | None
) -> list[str]:
    """Run the server's own smoke test on each variant, with the files that a device will have; here and as aarch64."""
    reasons, directories = [], []
    for candidate in passed:
        variant = next(found for found in made.release.variants if found.name == candidate.model.name)
        files = made.release.files(variant)[len(variant.files) :]
        extra = {file.path: made.locations[file.sha256] for file in files}
        directory = publication.desk.version(variant.name, made.document, variant.name, candidate.model, **extra)
        directories.append(directory)
    publication.progress.step(f"smoke test of {', '.join(candidate.model.name for candidate in passed)}")
    for candidate, said in zip(passed, publication.desk.smoke_all(directories), strict=True):
        if isinstance(said, RunFailedError):
            reasons.append(f"{candidate.model.name}: smoke test: {said}")
    if place is not None:
        publication.progress.step("golden tests as aarch64, emulated")
        for candidate, found in zip(passed, publication.desk.measure_all(directories, None, place), strict=True):
            if isinstance(found, RunFailedError):
                reasons.append(f"{candidate.model.name}: as aarch64: {found}")
    return reasons
