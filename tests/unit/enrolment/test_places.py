# Copyright (c) 2026, The edgeml.fleet authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Credentials of a machine: a key that is made there, files that a service takes, and files that it refuses."""

from __future__ import annotations

import json
import stat
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from links import REPOSITORY

from ansible_collections.edgeml.fleet.plugins.module_utils._enrolment import places
from ansible_collections.edgeml.fleet.plugins.module_utils._enrolment.places import (
    PLACES,
    Place,
    PlaceError,
    change_place,
    read_place,
    read_places,
    request_certificate,
)
from ansible_collections.edgeml.fleet.plugins.module_utils._enrolment.request import (
    fingerprint,
    have_key,
    make_request,
    read_request,
)
from ansible_collections.edgeml.fleet.plugins.plugin_utils._enrolment.authority import Authority


class Machine:
    """A service with a certificate in a directory. What it is told is in ``told``."""

    def __init__(self, directory: Path, **changes: Any) -> None:
        self.directory = directory
        self.authority = Authority.create(str(directory / "authority"))
        key = have_key(str(directory / "key.pem"))
        digest = fingerprint(key.public_key())
        (directory / "certificate.pem").write_text(
            self.authority.sign(make_request(key, "edge-1"), "edge-1", digest, days=30)
        )
        (directory / "ca.pem").write_bytes(self.authority.pem)
        (directory / "ca.pem").chmod(0o640)
        values: dict[str, Any] = {
            "check": ("true",),
            "reload": ("sh", "-c", f"echo told >> {directory}/told"),
            **changes,
        }
        certificate_path, key_path, authorities = (
            str(directory / f"{name}.pem") for name in ("certificate", "key", "ca")
        )
        self.place = Place("service", certificate_path, key_path, (authorities,), **values)

    def files(self) -> dict[str, str]:
        """The files of the service."""
        return {path.name: path.read_text() for path in self.directory.iterdir() if path.is_file()}

    def next_certificate(self) -> str:
        """Another certificate, of the key that waits."""
        before = x509.load_pem_x509_certificate((self.directory / "certificate.pem").read_bytes())
        return self.authority.reissue(before, request_certificate(self.place).encode())


@pytest.fixture
def machine(tmp_path: Path) -> Machine:
    return Machine(tmp_path)


def test_a_key_is_made_here_and_waits(machine: Machine) -> None:
    before = machine.files()
    first = read_request(request_certificate(machine.place).encode())
    again = read_request(request_certificate(machine.place).encode())
    assert first.public_key() == again.public_key()
    assert isinstance(first.public_key(), ec.EllipticCurvePublicKey)
    waits = machine.directory / "key.pem.next"
    assert stat.S_IMODE(waits.stat().st_mode) == 0o600
    assert {name: text for name, text in machine.files().items() if name != "key.pem.next"} == before


def test_a_certificate_and_its_key_take_their_places(machine: Machine) -> None:
    certificate = machine.next_certificate()
    waiting = (machine.directory / "key.pem.next").read_text()
    change_place(machine.place, {}, certificate)
    after = machine.files()
    assert (after["certificate.pem"], after["key.pem"], after["told"]) == (certificate, waiting, "told\n")
    assert sorted(after) == ["ca.pem", "certificate.pem", "key.pem", "told"]
    assert stat.S_IMODE((machine.directory / "key.pem").stat().st_mode) == 0o600
    found = read_place(machine.place)
    assert (found["certificate"], found["key_fits"], found["changing"]) == (certificate, True, False)
    assert waiting not in json.dumps(found)


def test_authorities_keep_the_mode_of_their_file(machine: Machine) -> None:
    path = str(machine.directory / "ca.pem")
    change_place(machine.place, {path: "another\n"}, "")
    assert machine.files()["ca.pem"] == "another\n"
    assert stat.S_IMODE(Path(path).stat().st_mode) == 0o640


@pytest.mark.parametrize("refusal", ["check", "reload"])
def test_a_service_that_refuses_keeps_what_it_had(tmp_path: Path, refusal: str) -> None:
    machine = Machine(tmp_path, **{refusal: ("sh", "-c", "echo no >&2; exit 3")})
    certificate = machine.next_certificate()
    before = machine.files()
    with pytest.raises(PlaceError, match=r"service: sh -c .*: ended with 3: no"):
        change_place(machine.place, {str(tmp_path / "ca.pem"): "another\n"}, certificate)
    after = machine.files()
    after.pop("told", None)
    assert after == before


def test_a_certificate_of_another_key_is_refused(machine: Machine) -> None:
    before = machine.files()
    request_certificate(machine.place)
    with pytest.raises(PlaceError, match=r"service: .*certificate.pem with .*key.pem"):
        change_place(machine.place, {}, before["certificate.pem"])
    assert machine.files()["key.pem"] == before["key.pem"]


@pytest.mark.parametrize("cut", [1, 2, 3, 4])
def test_an_interruption_is_seen_and_continued(machine: Machine, monkeypatch: pytest.MonkeyPatch, cut: int) -> None:
    """The power goes before one of the writes, or before the service is told."""
    certificate = machine.next_certificate()
    calls = 0

    class PowerCutError(BaseException):
        pass

    def cut_off(real: Any) -> Any:
        def step(*args: Any, **named: Any) -> Any:
            nonlocal calls
            calls += 1
            if calls == cut:
                raise PowerCutError
            return real(*args, **named)

        return step

    with monkeypatch.context() as patch:
        patch.setattr(places, "_write", cut_off(places._write))
        patch.setattr(places, "_run", cut_off(places._run))
        with pytest.raises(PowerCutError):
            change_place(machine.place, {}, certificate)
    found = read_place(machine.place)
    # Of the first write is only the mark.
    assert found["changing"] == (cut > 1)
    assert found["key_fits"] == (cut != 3)
    change_place(machine.place, {}, machine.next_certificate())
    found = read_place(machine.place)
    assert (found["changing"], found["key_fits"]) == (False, True)
    assert "key.pem.next" not in machine.files()


def test_files_that_are_none_of_the_place(machine: Machine) -> None:
    with pytest.raises(PlaceError, match="service: expected files with authorities or revocations; found /etc/passwd"):
        change_place(machine.place, {"/etc/passwd": "x"}, "")


def test_a_place_that_the_machine_has_not_is_passed_over(machine: Machine, tmp_path: Path) -> None:
    other = machine.place._replace(name="other", certificate=str(tmp_path / "none"), authorities=())
    assert [place["name"] for place in read_places([other, machine.place])] == ["service"]


def test_a_file_that_is_no_text(machine: Machine) -> None:
    (machine.directory / "ca.pem").write_bytes(b"\xff\xfe")
    with pytest.raises(PlaceError, match=r"ca.pem: expected texts in PEM"):
        read_place(machine.place)


def test_a_program_that_is_missing_is_named(tmp_path: Path) -> None:
    machine = Machine(tmp_path, reload=("/nonexistent/reload",))
    with pytest.raises(PlaceError, match="service: /nonexistent/reload: "):
        change_place(machine.place, {}, "")


def test_the_places_of_the_roles_are_where_the_roles_put_them() -> None:
    """Each path is written by a role: a name that is no longer there would be passed over silently."""
    for place in PLACES:
        role = "site_cache" if place.name == "site_cache_origin" else place.name
        texts = "".join(path.read_text() for path in (REPOSITORY / "roles" / role).glob("*/*.yml"))
        for path in [*place.paths, place.key]:
            file = path.rsplit("/", 1)[1]
            if file == "device.pem":
                continue
            if not (file == "client-crl.pem" and role in ("model_repository", "site_cache")):
                assert file in texts, (place.name, path)
