// Copyright (c) 2026, The edgeml.fleet authors
// GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
// SPDX-License-Identifier: GPL-3.0-or-later
//
// Make the flash of a new microcontroller: erased, with a firmware and perhaps a model in slot 0, both confirmed.
//
// usage: manufacture FLASH FIRMWARE [MODEL]
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "memory_part.h"
#include "slots.h"

static void fail(const char *path, const char *problem) {
    (void)fprintf(stderr, "error: %s: %s\n", path, problem);
    exit(1);
}

static void put_image(uint32_t image, const char *path) {
    static uint8_t bytes[IMAGE_MAX + 1];
    static const uint8_t unnamed[DIGEST_SIZE];
    memset(bytes, 0xff, sizeof bytes);
    uint32_t length = memory_read_file(path, bytes, sizeof bytes);
    if (length > IMAGE_MAX) {
        fail(path, "it does not fit a slot (IMAGE_MAX in flash_map.h)");
    }
    uint32_t whole = ((length + FLASH_WORD - 1U) / FLASH_WORD) * FLASH_WORD;
    if (!slot_begin_upload(image, 0, length, unnamed) || !flash_program(slot_address(image, 0), bytes, whole) ||
        !slot_confirm(image, 0)) {
        fail(path, "the flash does not take it");
    }
}

int main(int count, char **arguments) {
    if ((count != 3) && (count != 4)) {
        (void)fprintf(stderr, "usage: manufacture FLASH FIRMWARE [MODEL]\n");
        return 2;
    }
    memset(memory_part, 0xff, FLASH_SIZE);
    (void)part_open(0, 0, false);
    for (int image = 0; image < (count - 2); image++) {
        put_image((uint32_t)image, arguments[image + 2]);
    }
    // What the microcontroller goes through is counted from here.
    memset(&memory_part[PART_COUNTERS], 0, PART_SIZE - PART_COUNTERS);
    FILE *file = fopen(arguments[1], "wb");
    if (file == NULL) {
        fail(arguments[1], strerror(errno));
    }
    if ((fwrite(memory_part, 1, PART_SIZE, file) != PART_SIZE) || (fclose(file) != 0)) {
        fail(arguments[1], strerror(errno));
    }
    return 0;
}
