# Copyright (c) 2026, The edgeml.fleet authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What is found in certificates and keys before a device gets them."""

from __future__ import annotations

import datetime
from pathlib import Path

import pytest
from certificates import Authority
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import rsa

from ansible_collections.edgeml.fleet.plugins.filter.tls_problems import FilterModule, tls_problems


@pytest.fixture
def authority(tmp_path: Path) -> Authority:
    return Authority(tmp_path, "authority")


def texts(paths: tuple[Path, Path]) -> tuple[str, str]:
    return paths[0].read_text(), paths[1].read_text()


def test_the_plugin_names_its_filter() -> None:
    assert FilterModule().filters() == {"tls_problems": tls_problems}


def test_a_pair_that_can_be_used(authority: Authority) -> None:
    certificate, key = texts(authority.issue("server"))
    assert tls_problems(certificate, key) == []
    assert tls_problems(certificate + authority.path.read_text(), key, authority.path.read_text()) == []


def test_a_key_of_another_certificate(authority: Authority) -> None:
    certificate, _key = texts(authority.issue("server"))
    _certificate, key = texts(authority.issue("another"))
    assert tls_problems(certificate, key) == ["the key is not that of the first certificate, which is of CN=server"]


def test_certificates_in_the_wrong_order(authority: Authority, tmp_path: Path) -> None:
    certificate, key = texts(authority.issue("server"))
    problems = tls_problems(authority.path.read_text() + certificate, key)
    assert problems == [
        "the key is not that of the first certificate, which is of CN=authority",
        "after the certificate of CN=authority comes that of CN=server, expected that of its issuer, CN=authority",
    ]
    foreign = Authority(tmp_path, "foreign").path.read_text()
    assert tls_problems(certificate + foreign, key) == [
        "after the certificate of CN=server comes that of CN=foreign, expected that of its issuer, CN=authority"
    ]


@pytest.mark.parametrize(("first_day", "found"), [(-3, "expired at 20"), (1, "is not valid before 20")])
def test_a_certificate_out_of_its_time(authority: Authority, first_day: int, found: str) -> None:
    late, key = texts(authority.issue("server", first_day))
    assert [found in problem for problem in tls_problems(late, key)] == [True]
    # One that is between the server's and its authority counts, too; this one does not belong there, besides.
    good, key = texts(authority.issue("good"))
    assert [found in problem for problem in tls_problems(good + late, key)] == [False, True]
    # Of the clients' authorities one is enough: the old stays beside the new for a while.
    assert [found in problem for problem in tls_problems(good, key, late)] == [True]
    assert tls_problems(good, key, late + authority.path.read_text()) == []


def test_an_encrypted_key(authority: Authority) -> None:
    certificate, key = texts(authority.issue("server"))
    encrypted = serialization.load_pem_private_key(key.encode(), None).private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.BestAvailableEncryption(b"password"),
    )
    assert tls_problems(certificate, encrypted.decode()) == ["the key is encrypted"]


@pytest.mark.parametrize("text", ["", "text", "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n"])
def test_texts_that_are_not_pem(authority: Authority, text: str) -> None:
    certificate, key = texts(authority.issue("server"))
    (problem,) = tls_problems(text, key)
    assert problem.startswith("the certificate is not PEM")
    (problem,) = tls_problems(certificate, text)
    assert problem == "the key is not PEM, or of an unknown kind"
    if text:
        (problem,) = tls_problems(certificate, key, text)
        assert problem.startswith("the clients' authorities are not PEM")


def test_no_problem_quotes_the_key(authority: Authority) -> None:
    _certificate, key = texts(authority.issue("server"))
    for problems in (tls_problems(key, key), tls_problems(key, key[:-40]), tls_problems(key, key, key)):
        assert problems
        assert not any(line in problem for problem in problems for line in key.splitlines())


def joined(first: str, second: str) -> str:
    """What `cat` makes of files without an end of line."""
    return first.rstrip("\n") + second


def indented(text: str) -> str:
    """What a YAML block with the wrong indentation makes of a file."""
    return "".join(f"  {line}\n" for line in text.splitlines())


def test_pem_that_openssl_passes_over(authority: Authority) -> None:
    """`cryptography` reads these, and OpenSSL does not: the server would not start."""
    certificate, key = texts(authority.issue("server"))
    root = authority.path.read_text()
    for damaged in (joined(certificate, root), indented(certificate)):
        problems = tls_problems(damaged, key)
        assert problems
        assert all(problem.startswith("the certificate: line ") for problem in problems)
    assert [text.partition(":")[0] for text in tls_problems(certificate, key, joined(root, root))] == [
        "the clients' authorities"
    ]
    assert {text.partition(":")[0] for text in tls_problems(certificate, indented(key))} == {"the key"}


def test_pem_with_other_line_ends_and_words_between(authority: Authority) -> None:
    certificate, key = texts(authority.issue("server"))
    assert tls_problems(certificate.replace("\n", "\r\n"), key) == []
    assert tls_problems(f"subject=CN = server\n{certificate}", key) == []


def test_a_key_that_openssl_refuses(authority: Authority) -> None:
    """1024 bits of RSA: `cryptography` takes them, OpenSSL's security level of Debian and Ubuntu does not."""
    key = rsa.generate_private_key(public_exponent=65537, key_size=1024)
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "small")])
    begin = datetime.datetime.now(datetime.UTC) - datetime.timedelta(days=1)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(1)
        .not_valid_before(begin)
        .not_valid_after(begin + datetime.timedelta(days=9))
        .sign(key, hashes.SHA256())
    )
    written = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    ).decode()
    (problem,) = tls_problems(certificate.public_bytes(serialization.Encoding.PEM).decode(), written)
    assert problem == "OpenSSL refuses the certificate with the key: EE_KEY_TOO_SMALL"
