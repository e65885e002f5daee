// Copyright (c) 2026, The edgeml.fleet authors
// GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
// SPDX-License-Identifier: GPL-3.0-or-later
//
// Little-endian numbers at any address.
#ifndef BYTES_H
#define BYTES_H

#include <stdint.h>

static inline uint16_t bytes_u16(const uint8_t *at) {
    return (uint16_t)(at[0] | ((uint32_t)at[1] << 8U));
}

static inline uint32_t bytes_u32(const uint8_t *at) {
    return at[0] | ((uint32_t)at[1] << 8U) | ((uint32_t)at[2] << 16U) | ((uint32_t)at[3] << 24U);
}

#endif
