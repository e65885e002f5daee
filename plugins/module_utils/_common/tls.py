# Copyright (c) 2026, The edgeml.fleet authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# PRIVATE to the collection edgeml.fleet: no stable interface.

"""How a client of TLS verifies a server, and shows its own certificate."""

from __future__ import annotations

import ssl


def client_context(ca_file: str | None, certificate: str | None = None, key: str | None = None) -> ssl.SSLContext:
    """What a connection by TLS 1.2 or later is made with.

    ``ca_file`` has the authorities that are believed, in PEM; None: those of the system. ``certificate`` and ``key``
    are the client's own, None without one; a ``key`` of None is in the certificate's file. Raises OSError or
    ValueError for files that cannot be used.
    """
    context = ssl.create_default_context(cafile=ca_file)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    if certificate is not None:
        context.load_cert_chain(certificate, key)
    return context
