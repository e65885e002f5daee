// Copyright (c) 2026, The edgeml.fleet authors
// GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
// SPDX-License-Identifier: GPL-3.0-or-later
//
// The flash, as the rest of the code sees it. Addresses count from the flash's first byte.
#ifndef FLASH_H
#define FLASH_H

#include <stdbool.h>
#include <stdint.h>

// What the part went through since it was made.
struct flash_wear {
    uint32_t written; // bytes programmed
    uint32_t erased;  // sectors erased
};

// Each returns false if the range is not within the flash, or not aligned as the operation needs it.
bool flash_read(uint32_t address, void *target, uint32_t length);

// Programming only clears bits: what a word holds afterwards is the old value AND the new one. A whole number of words.
bool flash_program(uint32_t address, const void *source, uint32_t length);

// Sets all bits of the sector that begins at the address.
bool flash_erase(uint32_t address);

struct flash_wear flash_wear(void);

#endif
