// Copyright (c) 2026, The edgeml.fleet authors
// GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
// SPDX-License-Identifier: GPL-3.0-or-later
//
// The bootloader: choose and check the images, then run the firmware. It cannot be updated, and it does not listen.
#include "board.h"
#include "boot_info.h"
#include "semihosting.h"

static void run(uint32_t vectors) __attribute__((noreturn));

static void run(uint32_t vectors) {
    const uint32_t *table = (const uint32_t *)vectors;
    *(volatile uint32_t *)0xe000ed08U = vectors; // VTOR: faults go to the firmware's own handlers
    __asm__ volatile("msr msp, %0\n\tbx %1" : : "r"(table[0]), "r"(table[1]) : "memory");
    for (;;) {
    }
}

int main(void) {
    struct boot_info *info = (struct boot_info *)RAM_BOOT_INFO;
    board_init();
    board_watchdog();
    if (flash_part_open(true)) {
        boot_select(info, (uint8_t *)(RAM_FIRMWARE - HEADER_SIZE), (uint8_t *)(RAM_MODEL - HEADER_SIZE));
        board_watchdog();
        if (info->images[0].slot != NO_SLOT) {
            run(RAM_FIRMWARE);
        }
    }
    // There is nothing to run. The watchdog has this tried again: a part that did not answer may do so later.
    for (;;) {
        board_sleep();
    }
}
