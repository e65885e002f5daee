// Copyright (c) 2026, The edgeml.fleet authors
// GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
// SPDX-License-Identifier: GPL-3.0-or-later
//
// From reset to main(), and what happens when the program fails: it starts anew, and a trial is over.
#include <stdint.h>
#include <string.h>

#include "board.h"
#include "flash_map.h"

extern uint32_t stack_top;
extern uint32_t data_source;
extern uint32_t data_start;
extern uint32_t data_end;
extern uint32_t bss_start;
extern uint32_t bss_end;

int main(void);
void reset_handler(void);
void nmi_handler(void);
void fault_handler(void);

void reset_handler(void) {
    (void)memcpy(&data_start, &data_source, (size_t)((uintptr_t)&data_end - (uintptr_t)&data_start));
    (void)memset(&bss_start, 0, (size_t)((uintptr_t)&bss_end - (uintptr_t)&bss_start));
    (void)main();
    fault_handler();
}

// The watchdog was not fed. Nothing here feeds it: what resets the board is the watchdog itself.
void nmi_handler(void) {
    *(volatile uint32_t *)RAM_RESET_CAUSE = (uint32_t)RESET_WATCHDOG;
    for (;;) {
    }
}

void fault_handler(void) {
    board_reset(RESET_FAULT);
}

typedef void handler(void);

// The core's own exceptions: interrupts are never taken.
__attribute__((section(".vectors"), used)) static handler *const vectors[16] = {
    (handler *)&stack_top, reset_handler, nmi_handler,   fault_handler, fault_handler, fault_handler,
    fault_handler,         fault_handler, fault_handler, fault_handler, fault_handler, fault_handler,
    fault_handler,         fault_handler, fault_handler, fault_handler,
};
