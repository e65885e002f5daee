// Copyright (c) 2026, The edgeml.fleet authors
// GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
// SPDX-License-Identifier: GPL-3.0-or-later
//
// The flash part in this machine's memory, and the board's clock, for programs that run the firmware's code here.
#ifndef MEMORY_PART_H
#define MEMORY_PART_H

#include <stdint.h>

#include "part.h"

// PART_SIZE bytes; a program that shares them with others sets this before anything else.
extern uint8_t *memory_part;

// What happens when the power goes; nobody asks for that unless this is set.
extern void (*memory_power_off)(void);

// Read a file of at most `size` bytes into memory; ends the program if it cannot. Returns how many it has.
uint32_t memory_read_file(const char *path, uint8_t *bytes, uint32_t size);

#endif
