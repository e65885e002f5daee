# Copyright (c) 2026, The edgeml.fleet authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What is found in certificates and keys before a device gets them."""

from __future__ import annotations

from pathlib import Path

import pytest
from certificates import Authority
from cryptography.hazmat.primitives import serialization

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


def test_certificates_in_the_wrong_order(authority: Authority) -> None:
    certificate, key = texts(authority.issue("server"))
    problems = tls_problems(authority.path.read_text() + certificate, key)
    assert problems == ["the key is not that of the first certificate, which is of CN=authority"]


@pytest.mark.parametrize(("first_day", "found"), [(-3, "expired at 20"), (1, "is not valid before 20")])
def test_a_certificate_out_of_its_time(authority: Authority, first_day: int, found: str) -> None:
    late, key = texts(authority.issue("server", first_day))
    assert [found in problem for problem in tls_problems(late, key)] == [True]
    # One that is between the server's and its authority counts, too.
    good, key = texts(authority.issue("good"))
    assert [found in problem for problem in tls_problems(good + late, key)] == [True]
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
