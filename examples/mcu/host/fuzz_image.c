// Copyright (c) 2026, The edgeml.fleet authors
// GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
// SPDX-License-Identifier: GPL-3.0-or-later
//
// Images: the bytes are in the spare slots of both, and their last 64 are records of the slots' logs; then it boots.
#include <stdlib.h>
#include <string.h>

#include "application.h"
#include "fuzz.h"
#include "memory_part.h"
#include "slots.h"

#define RECORDS 64U

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t size) {
    static uint8_t firmware[IMAGE_MAX];
    static uint8_t model[IMAGE_MAX];
    struct boot_info info;
    uint32_t records = (size < RECORDS) ? (uint32_t)size : RECORDS;
    uint32_t length = (uint32_t)size - records;
    memset(memory_part, 0xff, FLASH_SIZE);
    memset(&memory_part[PART_COUNTERS], 0, PART_SIZE - PART_COUNTERS);
    (void)part_open(0, 0, false);
    for (uint32_t number = 0; number < IMAGES; number++) {
        uint32_t slot = (length / 2U) % SLOTS;
        memcpy(&memory_part[slot_address(number, slot)], bytes, (length < IMAGE_MAX) ? length : IMAGE_MAX);
        memcpy(&memory_part[slot_address(number, slot) + IMAGE_MAX + 64U], &bytes[length], records);
    }
    boot_select(&info, firmware, model);
    (void)application_start(&info, &model[HEADER_SIZE]);
    return 0;
}
