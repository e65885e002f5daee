// Copyright (c) 2026, The edgeml.fleet authors
// GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
// SPDX-License-Identifier: GPL-3.0-or-later
#include "semihosting.h"

#include <stddef.h>
#include <string.h>

#include "part.h"

#define SYS_OPEN 0x01U
#define SYS_WRITE 0x05U
#define SYS_READ 0x06U
#define SYS_SEEK 0x0aU
#define SYS_GET_CMDLINE 0x15U
#define SYS_EXIT 0x18U
#define MODE_READ_WRITE 3U // "r+b"
#define STOPPED_APPLICATION_EXIT 0x20026U

static char command_line[256];
static uint32_t file;

static uint32_t call(uint32_t operation, const void *arguments) {
    register uint32_t r0 __asm__("r0") = operation;
    register const void *r1 __asm__("r1") = arguments;
    __asm__ volatile("bkpt 0xab" : "+r"(r0) : "r"(r1) : "memory");
    return r0;
}

static uint32_t word_of(const void *pointer) {
    return (uint32_t)(uintptr_t)pointer;
}

static uint32_t next_number(const char **at) {
    uint32_t number = 0;
    while ((**at >= '0') && (**at <= '9')) {
        number = (number * 10U) + (uint32_t)(**at - '0');
        (*at)++;
    }
    *at += (**at == ' ') ? 1 : 0;
    return number;
}

bool flash_part_open(bool start) {
    const uint32_t line[2] = {word_of(command_line), sizeof command_line};
    if (call(SYS_GET_CMDLINE, line) != 0U) {
        return false;
    }
    const char *at = command_line;
    uint32_t cut = next_number(&at);
    uint32_t seed = next_number(&at);
    const uint32_t open[3] = {word_of(at), MODE_READ_WRITE, (uint32_t)strlen(at)};
    file = call(SYS_OPEN, open);
    return (file != UINT32_MAX) && part_open(cut, seed, start);
}

static bool transfer(uint32_t operation, uint32_t address, const void *bytes, uint32_t length) {
    const uint32_t seek[2] = {file, address};
    const uint32_t move[3] = {file, word_of(bytes), length};
    // Reads and writes return how many bytes were left over.
    return (call(SYS_SEEK, seek) == 0U) && (call(operation, move) == 0U);
}

bool part_load(uint32_t address, void *target, uint32_t length) {
    return (length == 0U) || transfer(SYS_READ, address, target, length);
}

bool part_store(uint32_t address, const void *source, uint32_t length) {
    return (length == 0U) || transfer(SYS_WRITE, address, source, length);
}

void part_power_off(void) {
    // For a 32-bit machine the reason is the argument itself.
    (void)call(SYS_EXIT, (const void *)(uintptr_t)STOPPED_APPLICATION_EXIT);
    for (;;) {
    }
}
