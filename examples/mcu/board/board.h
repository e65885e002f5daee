// Copyright (c) 2026, The edgeml.fleet authors
// GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
// SPDX-License-Identifier: GPL-3.0-or-later
//
// The board: MPS2 with the AN385 image, a Cortex-M3 at 25 MHz. Interrupts stay disabled: the core sleeps until one is
// pending, and the main loop asks the peripherals.
#ifndef BOARD_H
#define BOARD_H

#include <stdbool.h>
#include <stdint.h>

#define WATCHDOG_SECONDS 10U

// Why the microcontroller started. In memory the number survives a reset, and not a loss of power.
enum reset_cause {
    RESET_POWER = 0,
    RESET_REQUESTED = 0x52455131,
    RESET_WATCHDOG = 0x57415431,
    RESET_FAULT = 0x46415531,
};

void board_init(void);

// The next byte from the line, or -1.
int board_receive(void);
void board_send(const uint8_t *bytes, uint32_t length);

// Sleep until a byte has come or a tenth of a second is over.
void board_sleep(void);

uint32_t board_milliseconds(void);
uint32_t board_microseconds(void);

// Start the watchdog, or tell it that all is well: it resets after WATCHDOG_SECONDS to twice as many without.
void board_watchdog(void);

void board_reset(enum reset_cause cause) __attribute__((noreturn));

// Why this run began; the next one is by power unless something else is noted.
enum reset_cause board_take_reset_cause(void);

#endif
