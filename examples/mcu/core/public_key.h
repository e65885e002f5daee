// Copyright (c) 2026, The edgeml.fleet authors
// GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
// SPDX-License-Identifier: GPL-3.0-or-later
//
// The public key that images are checked with, as `imgtool getpub --lang c` writes it: DER, P-256.
#ifndef PUBLIC_KEY_H
#define PUBLIC_KEY_H

extern const unsigned char ecdsa_pub_key[];
extern const unsigned int ecdsa_pub_key_len;

// The point is at the end of the DER form.
#define PUBLIC_KEY_POINT 65U

#endif
