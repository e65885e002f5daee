// Copyright (c) 2026, The edgeml.fleet authors
// GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
// SPDX-License-Identifier: GPL-3.0-or-later
//
// The firmware on the board: requests come in by the serial line, replies go out.
#include "application.h"
#include "board.h"
#include "part.h"
#include "semihosting.h"
#include "serial.h"
#include "smp.h"

static struct serial serial;
static uint8_t reply[FRAME_MAX];

uint32_t application_milliseconds(void) {
    return board_milliseconds();
}

uint32_t application_microseconds(void) {
    return board_microseconds();
}

uint32_t application_starts(void) {
    return part_starts();
}

static const char *reset_text(enum reset_cause cause) {
    switch (cause) {
    case RESET_REQUESTED:
        return "requested";
    case RESET_WATCHDOG:
        return "watchdog";
    case RESET_FAULT:
        return "fault";
    default:
        return "power";
    }
}

static void answer(const uint8_t *frame, uint32_t length) {
    uint32_t reply_length = smp_answer(frame, length, reply);
    if (reply_length > 0U) {
        serial_put(reply, reply_length, board_send);
    }
    if (application.reset_wanted) {
        board_reset(RESET_REQUESTED);
    }
}

int main(void) {
    const struct boot_info *boot = (const struct boot_info *)RAM_BOOT_INFO;
    board_init();
    board_watchdog();
    if (!flash_part_open(false)) {
        board_reset(RESET_FAULT);
    }
    if (!application_start(boot, (const uint8_t *)RAM_MODEL)) {
        board_reset(RESET_REQUESTED);
    }
    application.reset_cause = reset_text(board_take_reset_cause());
    for (;;) {
        const uint8_t *frame;
        uint32_t length;
        int byte = board_receive();
        board_watchdog();
        (void)board_milliseconds();
        if (byte < 0) {
            board_sleep();
        } else if (serial_take(&serial, (uint8_t)byte, &frame, &length)) {
            answer(frame, length);
        } else {
            // The frame is not complete yet.
        }
    }
}
