# Copyright (c) 2026, The edgeml.fleet authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# PRIVATE to the collection edgeml.fleet: no stable interface.

"""What devices have reported: each report verified before it counts, and the newest of each kept beside the ledger.

A report counts once: its number has to be above the last one that the same key has signed.
"""

from __future__ import annotations

import contextlib
import datetime
import json
import os
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Mapping, Sequence
from urllib.parse import quote

from ansible_collections.edgeml.fleet.plugins.module_utils._common.errors import ArgumentError, EdgemlError
from ansible_collections.edgeml.fleet.plugins.module_utils._common.records import is_whole
from ansible_collections.edgeml.fleet.plugins.module_utils._pull.report import (
    Report,
    read_envelope,
    read_report,
    signed_bytes,
)

if TYPE_CHECKING:
    from cryptography import x509

# Clocks of devices and authorities differ by less.
_CLOCK = datetime.timedelta(days=1)


class ReportError(EdgemlError):
    """A report does not count: forged, replayed, or another device's. The text says which, and why."""


class StaleReportError(ReportError):
    """A report was there before."""


@dataclass(frozen=True)
class Answer:
    """The last word of a device on a model. ``question``: the number of the question that it answers."""

    question: int
    desired_version: int
    written_at: str
    state: str = ""
    version: str = ""
    result: Mapping[str, Any] | None = None
    info: Mapping[str, Any] | None = None
    problem: str = ""


@dataclass
class DeviceReports:
    """What a device has reported. ``seen`` has the numbers of those that are in the mailbox and were read;
    ``sequences`` the last number for each of its keys, by the key's fingerprint,
    ``begun`` the last question by model that it began with, ``answers`` its last word by model, ``problem`` what keeps
    it from following."""

    sequences: dict[str, int] = field(default_factory=dict)
    begun: dict[str, int] = field(default_factory=dict)
    answers: dict[str, Answer] = field(default_factory=dict)
    problem: str = ""
    seen: set[int] = field(default_factory=set)

    def add(self, report: Report, key: str) -> None:
        """Take a report that was verified. Raises StaleReportError for one that was there before."""
        last = self.sequences.get(key, 0)
        if report.sequence <= last:
            raise StaleReportError(f"report {report.sequence}: replayed: report {last} was accepted already")
        self.sequences[key] = report.sequence
        self.problem = report.problem or ""
        if not report.model:
            return
        if report.begun:
            self.begun[report.model] = report.question
            return
        self.answers[report.model] = Answer(
            question=report.question,
            desired_version=report.desired_version,
            written_at=report.written_at,
            state=report.state,
            version=report.version,
            result=report.result,
            info=report.info,
            problem=report.problem or "",
        )

    def answer_to(self, model: str, question: int) -> Answer | None:
        """The answer to a question about a model, if there is one."""
        answer = self.answers.get(model)
        return answer if answer is not None and answer.question == question else None


class Book:
    """The directory of what the devices of one fleet have reported."""

    def __init__(self, directory: str) -> None:
        self._directory = directory

    def read(self, device: str) -> DeviceReports:
        """What a device has reported; nothing where the file is gone or damaged: the mailbox has its reports still."""
        try:
            with open(self._path(device), encoding="utf-8") as file:
                document = json.load(file)
            return DeviceReports(
                sequences={str(key): int(number) for key, number in document["sequences"].items() if is_whole(number)},
                begun={str(model): int(number) for model, number in document["begun"].items()},
                answers={str(model): Answer(**answer) for model, answer in document["answers"].items()},
                problem=str(document["problem"]),
                seen={int(number) for number in document["seen"]},
            )
        except FileNotFoundError:
            return DeviceReports()
        except (ValueError, TypeError, KeyError, AttributeError, RecursionError):
            return DeviceReports()

    def write(self, device: str, reports: DeviceReports) -> None:
        """Keep what a device has reported, whole or not at all. Not brought to the disk at once: there are many."""
        document = {
            "sequences": reports.sequences,
            "begun": reports.begun,
            "answers": {model: vars(answer) for model, answer in reports.answers.items()},
            "problem": reports.problem,
            "seen": sorted(reports.seen),
        }
        os.makedirs(self._directory, exist_ok=True)
        path = self._path(device)
        part = f"{path}.{os.getpid()}"
        try:
            with open(part, "w", encoding="utf-8") as file:
                json.dump(document, file)
            os.replace(part, path)
        except BaseException:
            with contextlib.suppress(FileNotFoundError):
                os.unlink(part)
            raise

    def _path(self, device: str) -> str:
        return os.path.join(self._directory, f"{quote(device, safe='')}.json")


class Verifier:
    """Who may report: devices with a certificate of the fleet's authority. ``ca_file`` has one or more of them,
    ``crl_file`` what one of them has revoked; empty: nothing."""

    def __init__(self, fleet: str, ca_file: str, crl_file: str = "") -> None:
        from cryptography import x509

        self._fleet = fleet
        self._ca_file = ca_file
        try:
            with open(ca_file, "rb") as file:
                self._authorities = x509.load_pem_x509_certificates(file.read())
        except (OSError, ValueError) as error:
            raise ArgumentError(
                f"rollout_pull: ca_file: {ca_file}: expected the certificate that issued the devices' ones; {error}"
            ) from error
        self._revoked = _revoked_serials(crl_file, self._authorities) if crl_file else frozenset()

    def verify(self, content: bytes, device: str, sequence: int) -> tuple[Report, str]:
        """Return the report that a device wrote under a number, and its key's fingerprint. Raises ReportError."""
        from cryptography import x509
        from cryptography.exceptions import InvalidSignature
        from cryptography.hazmat.primitives import hashes
        from cryptography.hazmat.primitives.asymmetric import ec

        name = f"{device}: report {sequence}"
        try:
            envelope = read_envelope(content)
            certificate = x509.load_pem_x509_certificate(envelope.certificate)
            key = certificate.public_key()
            if not isinstance(key, ec.EllipticCurvePublicKey):
                raise ReportError(f"{name}: forged: expected an ECDSA key in its certificate; found another kind")
            self._check_certificate(certificate, device, name)
            key.verify(envelope.signature, signed_bytes(envelope.payload), ec.ECDSA(hashes.SHA256()))
            report = read_report(envelope.payload)
        except (ArgumentError, ValueError) as error:
            raise ReportError(f"{name}: {error}") from error
        except InvalidSignature as error:
            raise ReportError(f"{name}: forged: its signature is not of the key in its certificate") from error
        for field_name, found, expected in (
            ("device", report.device, device),
            ("fleet", report.fleet, self._fleet),
            ("sequence", report.sequence, sequence),
        ):
            if found != expected:
                raise ReportError(f"{name}: foreign: {field_name}: expected {expected}; found {found}")
        return report, certificate.fingerprint(hashes.SHA256()).hex()[:32]

    def _check_certificate(self, certificate: x509.Certificate, device: str, name: str) -> None:
        from cryptography import x509
        from cryptography.exceptions import InvalidSignature

        for authority in self._authorities:
            try:
                certificate.verify_directly_issued_by(authority)
                break
            except (ValueError, TypeError, InvalidSignature):
                continue
        else:
            raise ReportError(f"{name}: forged: its certificate is of none of the authorities in {self._ca_file}")
        owners = certificate.subject.get_attributes_for_oid(x509.NameOID.COMMON_NAME)
        if [owner.value for owner in owners] != [device]:
            found = ", ".join(str(owner.value) for owner in owners)
            raise ReportError(f"{name}: foreign: expected the certificate of {device}; found that of {found}")
        if certificate.serial_number in self._revoked:
            raise ReportError(f"{name}: its certificate was revoked. Enrol the device again, with another key")
        now = datetime.datetime.now(datetime.timezone.utc)
        if not certificate.not_valid_before_utc - _CLOCK <= now <= certificate.not_valid_after_utc:
            raise ReportError(
                f"{name}: its certificate is valid from {certificate.not_valid_before_utc:%Y-%m-%d} to "
                f"{certificate.not_valid_after_utc:%Y-%m-%d}. Enrol the device again"
            )


def _revoked_serials(path: str, authorities: Sequence[x509.Certificate]) -> frozenset[int]:
    """The serial numbers of a revocation list. Raises ArgumentError for one that none of the authorities signed."""
    from ansible_collections.edgeml.fleet.plugins.module_utils._enrolment.certificate import read_crls

    try:
        with open(path, "rb") as file:
            # While one authority follows another, there is a list of each.
            crls = read_crls(file.read())
        keys: list[Any] = [authority.public_key() for authority in authorities]
        if not crls or not all(any(crl.is_signature_valid(key) for key in keys) for crl in crls):
            raise ValueError("none of the authorities in ca_file signed it")
    except (OSError, ValueError, TypeError) as error:
        raise ArgumentError(f"rollout_pull: crl_file: {path}: expected the authority's crl.pem; {error}") from error
    return frozenset(entry.serial_number for crl in crls for entry in crl)
