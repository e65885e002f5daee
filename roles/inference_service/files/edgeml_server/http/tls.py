# Copyright (c) 2026, The edgeml.fleet authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""TLS on the TCP listener: the server's certificate and, if wanted, that of each client."""

from __future__ import annotations

import ssl
from typing import Callable


class TlsError(Exception):
    """Certificate or key cannot be used; the text names the file."""


# OpenSSL's X509_V_FLAG_PARTIAL_CHAIN, which the module ssl has no name for before Python 3.10.
_PARTIAL_CHAIN = ssl.VerifyFlags(0x80000)


def make_context(
    certificate: str, key: str, client_ca: str, *, on_refused: Callable[[str], None] = lambda reason: None
) -> ssl.SSLContext:
    """Return a server's context with the files as they are now. ``client_ca`` empty: clients need no certificate.

    Each authority in ``client_ca`` admits the clients whose certificates it issued, and needs no authority above it.
    ``on_refused`` is called with OpenSSL's reason for each handshake that fails; it may not raise. Raises TlsError.
    """

    class Handshake(ssl.SSLObject):
        def do_handshake(self) -> None:
            try:
                super().do_handshake()
            except (ssl.SSLWantReadError, ssl.SSLWantWriteError):
                raise
            except ssl.SSLError as error:
                on_refused(
                    str(error.verify_message if isinstance(error, ssl.SSLCertVerificationError) else error.reason)
                )
                raise

    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.sslobject_class = Handshake
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    try:
        context.load_cert_chain(certificate, key, password=_no_password)
    except (OSError, ValueError) as error:
        raise TlsError(f"{certificate}, {key}: {error}") from error
    if client_ca:
        try:
            context.load_verify_locations(client_ca)
        except (OSError, ValueError) as error:
            raise TlsError(f"{client_ca}: {error}") from error
        context.verify_mode = ssl.CERT_REQUIRED
        context.verify_flags |= _PARTIAL_CHAIN
    return context


def _no_password() -> str:
    raise ValueError("the key is encrypted")
