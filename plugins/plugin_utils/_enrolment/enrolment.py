# Copyright (c) 2026, The edgeml.fleet authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# PRIVATE to the collection edgeml.fleet: no stable interface.

"""What an operator does about certificates of devices: accept requests, and have old ones renewed."""

from __future__ import annotations

import contextlib
import datetime
import os
from typing import Any, Mapping

from ansible_collections.edgeml.fleet.plugins.module_utils._enrolment.certificate import is_due, valid_until
from ansible_collections.edgeml.fleet.plugins.module_utils._enrolment.request import (
    EnrolmentError,
    fingerprint,
    read_request,
    subject_name,
)

from .authority import AUTHORITY_DAYS, Authority
from .desk import Desk, DirectoryDesk, MailboxDesk

with contextlib.suppress(ImportError):
    from cryptography import x509


class Enrolment:
    """The authority in ``directory`` at the time ``now``. In check mode it says what it would do."""

    def __init__(self, directory: str, *, days: int, check_mode: bool, now: datetime.datetime) -> None:
        if not 1 <= days <= 3650:
            raise EnrolmentError(f"days: expected 1 to 3650; found {days}")
        self._directory = directory
        self._days = days
        self._check_mode = check_mode
        self._now = now
        self._loaded: Authority | None = None
        self._before: dict[str, str] = {}
        self._after: dict[str, str] = {}

    def diff(self) -> dict[str, str]:
        """What was changed, or in check mode would be, for Ansible's diff mode: a line for each certificate."""
        return {
            side: "".join(f"{name}: {text}\n" for name, text in sorted(found.items()) if text)
            for side, found in (("before", self._before), ("after", self._after))
        }

    @property
    def _authority(self) -> Authority:
        if self._loaded is None:
            self._loaded = Authority(self._directory)
        return self._loaded

    def create(self) -> bool:
        """Have an authority; return whether one was made."""
        if os.path.exists(os.path.join(self._directory, "ca.pem")):
            return False
        self._before["authority"], self._after["authority"] = "", f"for {AUTHORITY_DAYS} days"
        if not self._check_mode:
            self._loaded = Authority.create(self._directory)
        return True

    def have_reader(self, name: str, path: str) -> bool:
        """Have a certificate of a reader in a file, with its key; return whether it was made, or renewed."""
        before = ""
        if os.path.exists(path):
            with open(path, "rb") as file:
                content_before = file.read()
            if not is_due(x509.load_pem_x509_certificate(content_before), self._now):
                return False
            before = _described(content_before)
        self._before[f"reader {name}"], self._after[f"reader {name}"] = before, f"another key, for {self._days} days"
        if not self._check_mode:
            self._authority.write_reader(name, path, days=self._days)
        return True

    def sign_request(self, name: str, request: str, replace: bool) -> dict[str, Any]:
        """Have a certificate of a request that came over a connection to the device itself: that accepts it."""
        digest = fingerprint(read_request(request.encode()).public_key())
        if not self._exists() or not self._authority.is_wanted(name, digest, self._now):
            return {"certificate": self._authority.given(name)} if self._exists() else {}
        signed = [{"device": name, "fingerprint": digest}]
        self._note(name, digest)
        if self._check_mode:
            return {"signed": signed}
        certificate = self._authority.sign(request.encode(), name, digest, days=self._days, replace=replace)
        return {"signed": signed, "certificate": certificate}

    def desk(self, source: str, reader: str | None, ca_file: str | None) -> Desk:
        """Where the requests are: a directory, or a mailbox by its address."""
        if "://" not in source:
            return DirectoryDesk(source)
        if not reader:
            raise EnrolmentError("reader: expected the certificate of a reader of the mailbox with its key; found none")
        return MailboxDesk(source, reader, ca_file)

    def accept(self, desk: Desk, accepted: Mapping[str, Any], replace: bool) -> list[dict[str, Any]]:
        """Sign certificates of the keys that an operator accepted, by the names of the devices.

        A request that is not there was signed before, or has not come. Raises EnrolmentError.
        """
        found = set(desk.waiting()) if accepted else set()
        signed = []
        for name, digest in sorted(accepted.items()):
            digest = str(digest).replace(":", "").lower()
            if digest not in found:
                if not self._exists() or self._authority.is_wanted(name, digest, self._now):
                    raise EnrolmentError(f"{name}: nobody asks for a certificate of the key {digest}")
                continue
            request = desk.request(digest)
            claimed = subject_name(read_request(request).subject)
            if claimed != name:
                raise EnrolmentError(f"{name}: the request of the key {digest} is of the device {claimed}")
            self._note(name, digest)
            if not self._check_mode:
                certificate = self._authority.sign(request, name, digest, days=self._days, replace=replace)
                desk.answer(digest, certificate)
            signed.append({"device": name, "fingerprint": digest})
        return signed

    def renew(self, desk: Desk) -> list[dict[str, Any]]:
        """Sign other certificates for the devices whose certificates are old, of the keys that they have."""
        signed = []
        for name in self._authority.devices() if self._exists() else []:
            given = x509.load_pem_x509_certificate(self._authority.given(name).encode())
            # Who has been without a valid one is asked about anew.
            if not is_due(given, self._now) or valid_until(given) < self._now:
                continue
            digest = fingerprint(given.public_key())
            self._note(name, digest)
            if not self._check_mode:
                desk.answer(digest, self._authority.renew(name, days=self._days))
            signed.append({"device": name, "fingerprint": digest})
        return signed

    def waiting(self, desk: Desk, answered: set[str]) -> list[dict[str, Any]]:
        """The requests that nobody has accepted: fingerprint, device, and what is wrong with it."""
        found = []
        for digest in desk.waiting():
            if digest in answered:
                continue
            entry = {"fingerprint": digest, "device": "", "problem": ""}
            try:
                request = read_request(desk.request(digest))
                if fingerprint(request.public_key()) != digest:
                    raise EnrolmentError("it is of another key than its name says")
                entry["device"] = subject_name(request.subject)
                if self._exists() and self._authority.is_revoked(str(entry["device"])):
                    raise EnrolmentError("the device was decommissioned")
            except EnrolmentError as error:
                entry["problem"] = str(error)
            found.append(entry)
        return found

    def _note(self, name: str, digest: str) -> None:
        """Note for ``diff`` that the device gets a certificate of the key with a fingerprint."""
        given = self._authority.given(name) if self._exists() else ""
        self._before[name] = _described(given.encode()) if given else ""
        self._after[name] = f"key {digest}, for {self._days} days"

    def _exists(self) -> bool:
        return not self._check_mode or os.path.exists(os.path.join(self._directory, "ca.pem"))


def _described(content: bytes) -> str:
    certificate = x509.load_pem_x509_certificate(content)
    return f"key {fingerprint(certificate.public_key())}, until {valid_until(certificate):%Y-%m-%d}"
