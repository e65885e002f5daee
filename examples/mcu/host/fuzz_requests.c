// Copyright (c) 2026, The edgeml.fleet authors
// GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
// SPDX-License-Identifier: GPL-3.0-or-later
//
// Requests: the bytes are what comes by the line, if the first one is even; otherwise they are frames, each behind its
// length in two bytes. FUZZ_FLASH names the microcontroller's flash.
#include <stdlib.h>
#include <string.h>

#include "application.h"
#include "fuzz.h"
#include "memory_part.h"
#include "serial.h"
#include "smp.h"

static void discard(const uint8_t *bytes, uint32_t length) {
    (void)bytes;
    (void)length;
}

static void answer(const uint8_t *frame, uint32_t length) {
    static uint8_t reply[FRAME_MAX];
    uint32_t size = smp_answer(frame, length, reply);
    serial_put(reply, size, discard);
}

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t size) {
    static uint8_t beginning[PART_SIZE];
    static uint8_t firmware[IMAGE_MAX];
    static uint8_t model[IMAGE_MAX];
    static struct serial serial;
    static struct boot_info info;
    if (info.magic != BOOT_INFO_MAGIC) {
        const char *path = getenv("FUZZ_FLASH");
        (void)memory_read_file((path != NULL) ? path : "flash", beginning, PART_SIZE);
        memcpy(memory_part, beginning, PART_SIZE);
        boot_select(&info, firmware, model);
    }
    memcpy(memory_part, beginning, PART_SIZE);
    (void)part_open(0, 0, false);
    (void)application_start(&info, &model[HEADER_SIZE]);
    memset(&serial, 0, sizeof serial);
    uint32_t at = 1;
    while (at < size) {
        const uint8_t *frame;
        uint32_t length;
        if ((bytes[0] % 2U) == 0U) {
            if (serial_take(&serial, bytes[at], &frame, &length)) {
                answer(frame, length);
            }
            at++;
        } else {
            uint32_t rest = (uint32_t)size - at;
            length = (rest >= 2U) ? ((((uint32_t)bytes[at] << 8U) | bytes[at + 1U]) % FRAME_MAX) : 0U;
            at += 2U;
            length = (rest < (length + 2U)) ? ((rest > 2U) ? (rest - 2U) : 0U) : length;
            answer((at <= size) ? &bytes[at] : bytes, length);
            at += length;
        }
    }
    return 0;
}
