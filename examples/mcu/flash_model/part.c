// Copyright (c) 2026, The edgeml.fleet authors
// GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
// SPDX-License-Identifier: GPL-3.0-or-later
#include "part.h"

#define PAGE 256U

static struct part_counters counters;
static uint32_t cut_at;
static uint32_t random_state;

static uint32_t random_bits(void) {
    // Marsaglia's xorshift: any bits will do, and the same ones each time.
    random_state ^= random_state << 13U;
    random_state ^= random_state >> 17U;
    random_state ^= random_state << 5U;
    return random_state;
}

bool part_open(uint32_t cut, uint32_t seed, bool start) {
    cut_at = cut;
    random_state = seed + 0x9e3779b9U;
    if (!part_load(PART_COUNTERS, &counters, sizeof counters)) {
        return false;
    }
    counters.starts += start ? 1U : 0U;
    return !start || part_store(PART_COUNTERS, &counters, sizeof counters);
}

uint32_t part_starts(void) {
    return counters.starts;
}

struct flash_wear flash_wear(void) {
    return counters.wear;
}

static bool within(uint32_t address, uint32_t length) {
    return (address <= FLASH_SIZE) && (length <= (FLASH_SIZE - address));
}

// How many operations are still whole.
static uint32_t operations_left(void) {
    uint32_t done = (counters.wear.written / FLASH_WORD) + counters.wear.erased;
    if (cut_at == 0U) {
        return UINT32_MAX;
    }
    return (cut_at > done) ? (cut_at - done - 1U) : 0U;
}

bool flash_read(uint32_t address, void *target, uint32_t length) {
    return within(address, length) && part_load(address, target, length);
}

// Clear the bits that are 0 in `source`; of the last word, if `torn`, only some of them.
static bool clear_bits(uint32_t address, const uint8_t *source, uint32_t length, bool torn) {
    uint8_t page[PAGE];
    if (!part_load(address, page, length)) {
        return false;
    }
    for (uint32_t i = 0; i < length; i++) {
        uint32_t kept = (torn && ((length - i) <= FLASH_WORD)) ? random_bits() : 0U;
        page[i] = (uint8_t)(page[i] & (source[i] | kept));
    }
    counters.wear.written += length;
    return part_store(address, page, length) && part_store(PART_COUNTERS, &counters, sizeof counters);
}

bool flash_program(uint32_t address, const void *source, uint32_t length) {
    const uint8_t *bytes = source;
    if (!within(address, length) || ((address % FLASH_WORD) != 0U) || ((length % FLASH_WORD) != 0U)) {
        return false;
    }
    for (uint32_t done = 0; done < length;) {
        uint32_t part = length - done;
        part = (part < PAGE) ? part : PAGE;
        bool torn = (part / FLASH_WORD) > operations_left();
        if (torn) {
            part = (operations_left() + 1U) * FLASH_WORD;
        }
        if (!clear_bits(address + done, &bytes[done], part, torn)) {
            return false;
        }
        if (torn) {
            part_power_off();
            return false;
        }
        done += part;
    }
    return true;
}

bool flash_erase(uint32_t address) {
    uint8_t page[PAGE];
    bool torn = operations_left() == 0U;
    if (!within(address, FLASH_SECTOR) || ((address % FLASH_SECTOR) != 0U)) {
        return false;
    }
    for (uint32_t done = 0; done < FLASH_SECTOR; done += PAGE) {
        if (torn && !part_load(address + done, page, sizeof page)) {
            return false;
        }
        for (uint32_t i = 0; i < PAGE; i++) {
            uint32_t set = torn ? (random_bits() & random_bits()) : 0xffU;
            page[i] = (uint8_t)((torn ? page[i] : 0U) | set);
        }
        if (!part_store(address + done, page, sizeof page)) {
            return false;
        }
    }
    counters.wear.erased++;
    bool counted = part_store(PART_COUNTERS, &counters, sizeof counters);
    if (torn) {
        part_power_off();
        return false;
    }
    return counted;
}
