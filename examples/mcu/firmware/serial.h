// Copyright (c) 2026, The edgeml.fleet authors
// GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
// SPDX-License-Identifier: GPL-3.0-or-later
//
// SMP's framing on a serial line: lines of base64 that begin with two bytes, a length before the frame, a CRC behind it.
#ifndef SERIAL_H
#define SERIAL_H

#include <stdbool.h>
#include <stdint.h>

// The longest frame. MCUmgr's parameters tell it to clients.
#define FRAME_MAX 2048U
#define LINE_MAX 126U // without its newline

struct serial {
    uint8_t line[LINE_MAX];
    uint32_t line_length;
    bool in_line; // a line has begun
    uint8_t frame[FRAME_MAX + 4U]; // length, frame, CRC
    uint32_t frame_length;         // bytes that have come
    bool in_frame;                 // the first of its lines has come
};

// Take the next byte from the line. True: a whole frame is there, at *frame. Whatever is lost or altered on the line costs
// the frame that it is in, and none after it.
bool serial_take(struct serial *serial, uint8_t byte, const uint8_t **frame, uint32_t *length);

// Hand `frame` over to `send`, as lines.
void serial_put(const uint8_t *frame, uint32_t length, void (*send)(const uint8_t *bytes, uint32_t length));

#endif
