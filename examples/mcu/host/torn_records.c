// Copyright (c) 2026, The edgeml.fleet authors
// GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
// SPDX-License-Identifier: GPL-3.0-or-later
//
// Cut the power while a slot's log is written or erased, many times: it must say what it said before, or what was to be
// written, and never what nobody wrote.
//
// usage: torn_records TIMES
#include <setjmp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "memory_part.h"
#include "slots.h"

static jmp_buf powered;

static void power_off(void) {
    longjmp(powered, 1);
}

static uint32_t operations(void) {
    struct flash_wear wear = flash_wear();
    return (wear.written / FLASH_WORD) + wear.erased;
}

static bool same(const struct slot_log *one, const struct slot_log *other) {
    return (one->last == other->last) && (one->reason == other->reason) && (one->confirmed == other->confirmed) &&
           (one->highest == other->highest);
}

// A log with some events, which stays the same for a seed.
static void fill(uint32_t seed, struct slot_log *log) {
    static const enum slot_event events[] = {SLOT_CONFIRMED, SLOT_TEST, SLOT_TRIED, SLOT_REFUSED};
    memset(memory_part, 0xff, FLASH_SIZE);
    (void)part_open(0, seed, false);
    slot_log_read(0, 0, log);
    for (uint32_t i = 0; i < (seed % 5U); i++) {
        log->highest = (seed / 7U) % 300U;
        (void)slot_log_append(0, 0, log, events[(seed >> i) % 4U], IMAGE_OK);
    }
}

// Append one more event, with the power cut at its first or its second word. False: the log says something else.
static bool append_torn(uint32_t seed) {
    struct slot_log before;
    struct slot_log wanted;
    struct slot_log found;
    enum slot_event event = (enum slot_event)(1U + (seed % 4U));
    fill(seed, &before);
    wanted = before;
    (void)slot_log_append(0, 0, &wanted, event, IMAGE_OK);
    fill(seed, &before);
    (void)part_open(operations() + 1U + (seed % 2U), seed, false);
    if (setjmp(powered) == 0) {
        struct slot_log log = before;
        (void)slot_log_append(0, 0, &log, event, IMAGE_OK);
    }
    (void)part_open(0, 0, false);
    slot_log_read(0, 0, &found);
    return same(&found, &before) || same(&found, &wanted);
}

// Erase the log, with the power cut meanwhile. False: a confirmation is in it that never was.
static bool erase_torn(uint32_t seed) {
    struct slot_log before;
    struct slot_log found;
    fill(seed, &before);
    (void)part_open(operations() + 1U, seed, false);
    if (setjmp(powered) == 0) {
        (void)flash_erase(slot_address(0, 0) + IMAGE_MAX);
    }
    (void)part_open(0, 0, false);
    slot_log_read(0, 0, &found);
    return (found.highest <= before.highest) && (found.confirmed <= before.highest) && !found.uploading;
}

int main(int count, char **arguments) {
    uint32_t times = (count == 2) ? (uint32_t)strtoul(arguments[1], NULL, 10) : 0U;
    memory_power_off = power_off;
    for (uint32_t seed = 1; seed <= times; seed++) {
        if (!append_torn(seed) || !erase_torn(seed)) {
            (void)fprintf(stderr, "error: with seed %u the log says what nobody wrote\n", (unsigned)seed);
            return 1;
        }
    }
    (void)printf("%u\n", (unsigned)times);
    return (times > 0U) ? 0 : 2;
}
