# Copyright (c) 2026, The edgeml.fleet authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""TLS on the TCP listener: the server's certificate and, if wanted, that of each client."""

from __future__ import annotations

import ssl


class TlsError(Exception):
    """Certificate or key cannot be used; the text names the file."""


def make_context(certificate: str, key: str, client_ca: str) -> ssl.SSLContext:
    """Return a server's context with the files as they are now. ``client_ca`` empty: clients need no certificate.

    Raises TlsError.
    """
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
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
    return context


def _no_password() -> str:
    raise ValueError("the key is encrypted")
