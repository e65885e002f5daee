// Copyright (c) 2026, The edgeml.fleet authors
// GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
// SPDX-License-Identifier: GPL-3.0-or-later
#include "memory_part.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "application.h"

static uint8_t content[PART_SIZE];
uint8_t *memory_part = content;
void (*memory_power_off)(void) = abort;

bool part_load(uint32_t address, void *target, uint32_t length) {
    memcpy(target, &memory_part[address], length);
    return true;
}

bool part_store(uint32_t address, const void *source, uint32_t length) {
    memcpy(&memory_part[address], source, length);
    return true;
}

void part_power_off(void) {
    memory_power_off();
}

uint32_t application_milliseconds(void) {
    return 0;
}

uint32_t application_microseconds(void) {
    return 0;
}

uint32_t application_starts(void) {
    return part_starts();
}

uint32_t memory_read_file(const char *path, uint8_t *bytes, uint32_t size) {
    FILE *file = fopen(path, "rb");
    if (file == NULL) {
        (void)fprintf(stderr, "error: %s: %s\n", path, strerror(errno));
        exit(2);
    }
    uint32_t length = (uint32_t)fread(bytes, 1, size, file);
    (void)fclose(file);
    return length;
}
