# Copyright (c) 2026, The edgeml.fleet authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""When what a device has ends: certificates as cryptography makes them, and the state of pull mode."""

from __future__ import annotations

import contextlib
import datetime
import ssl
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from hypothesis import given
from hypothesis import strategies as st

from ansible_collections.edgeml.fleet.plugins.module_utils._device.expiry import (
    certificate_expiry,
    expiries,
    expiry_texts,
)

KEY = ec.generate_private_key(ec.SECP256R1())
# In the year 9998.
LAST = 253_370_764_800
END = datetime.datetime(2027, 2, 1, 12, 30, 5, tzinfo=datetime.UTC)


def certificate(end: datetime.datetime = END, subject: str = "edge") -> bytes:
    """A certificate that ends at a time."""
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, subject)])
    made = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(KEY.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(datetime.datetime(1960, 1, 1, tzinfo=datetime.UTC))
        .not_valid_after(end)
        .sign(KEY, hashes.SHA256())
    )
    return made.public_bytes(serialization.Encoding.PEM)


@given(st.integers(0, LAST))
def test_any_time_is_read(end: int) -> None:
    assert certificate_expiry(certificate(datetime.datetime.fromtimestamp(end, datetime.UTC)).decode()) == end


def test_the_first_certificate_of_a_chain_counts() -> None:
    later = certificate(END + datetime.timedelta(days=900), "authority" * 7)
    text = b"A comment.\n" + certificate() + later
    assert certificate_expiry(text.decode()) == END.timestamp()


@pytest.mark.parametrize(
    "text", ["", "-----BEGIN CERTIFICATE-----", "-----END CERTIFICATE----------BEGIN CERTIFICATE-----"]
)
def test_what_is_no_certificate_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="found none"):
        certificate_expiry(text)


@given(st.integers(0, 90), st.binary(max_size=3))
def test_a_damaged_certificate_is_an_error_and_nothing_else(at: int, noise: bytes) -> None:
    der = x509.load_pem_x509_certificate(certificate()).public_bytes(serialization.Encoding.DER)
    for damaged in (der[:at], der[:at] + noise + der[at + len(noise) :]):
        with contextlib.suppress(ValueError):
            assert isinstance(certificate_expiry(ssl.DER_cert_to_PEM_cert(damaged)), float)


def test_only_what_the_device_has_is_named(tmp_path: Path) -> None:
    (tmp_path / "server.pem").write_bytes(certificate())
    (tmp_path / "damaged.pem").write_bytes(b"\xff")
    (tmp_path / "state.json").write_text('{"expires": 1800000000.5}')
    paths = {name: str(tmp_path / f"{name}.pem") for name in ("server", "damaged", "absent")}
    found = expiries(paths, str(tmp_path / "state.json"))
    assert found == {"server": END.timestamp(), "damaged": 0.0, "metadata": 1800000000.5}
    assert expiry_texts(found)["server"] == "2027-02-01T12:30:05Z"


@pytest.mark.parametrize("state", ["{", "[]", "{}", '{"expires": 0}', '{"expires": "soon"}', None])
def test_a_device_that_has_followed_nothing_yet_has_no_metadata(tmp_path: Path, state: str | None) -> None:
    if state is not None:
        (tmp_path / "state.json").write_text(state)
    assert expiries({}, str(tmp_path / "state.json")) == {}
