// Copyright (c) 2026, The edgeml.fleet authors
// GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
// SPDX-License-Identifier: GPL-3.0-or-later
//
// A model of a serial NOR flash: what its user sees is flash.h. It also counts what it goes through, and loses its power
// in the middle of the operation that it is told.
#ifndef PART_H
#define PART_H

#include <stdbool.h>
#include <stdint.h>

#include "flash.h"
#include "flash_map.h"

// What holds the part's content, and behind it, at PART_COUNTERS, what it counts. Each returns false if it cannot.
bool part_load(uint32_t address, void *target, uint32_t length);
bool part_store(uint32_t address, const void *source, uint32_t length);
// Ends the run: the power is gone.
void part_power_off(void);

#define PART_COUNTERS FLASH_SIZE
struct part_counters {
    struct flash_wear wear;
    uint32_t starts; // how often the microcontroller has started
};
#define PART_SIZE (FLASH_SIZE + 12)

// Begin. `cut`: the operation of the part's life (a word programmed or a sector erased, from 1) that is cut, 0: none;
// `seed` decides what is left of it. `start`: the microcontroller starts.
bool part_open(uint32_t cut, uint32_t seed, bool start);

uint32_t part_starts(void);

#endif
