// Copyright (c) 2026, The edgeml.fleet authors
// GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
// SPDX-License-Identifier: GPL-3.0-or-later
#include "serial.h"

#define FIRST_LINE 0x06U
#define FIRST_LINE_2 0x09U
#define NEXT_LINE 0x04U
#define NEXT_LINE_2 0x14U
#define BEFORE_FRAME 2U // length
#define BEHIND_FRAME 2U // CRC

static uint16_t crc16(const uint8_t *bytes, uint32_t length) {
    // CRC-16/XMODEM: polynomial 0x1021 from 0.
    uint32_t crc = 0;
    for (uint32_t i = 0; i < length; i++) {
        crc ^= (uint32_t)bytes[i] << 8U;
        for (uint32_t bit = 0; bit < 8U; bit++) {
            crc = ((crc & 0x8000U) != 0U) ? ((crc << 1U) ^ 0x1021U) : (crc << 1U);
        }
    }
    return (uint16_t)(crc & 0xffffU);
}

// The six bits of a base64 character, 64 for the padding, 65 for what is none.
static uint32_t bits_of(uint8_t character) {
    if ((character >= (uint8_t)'A') && (character <= (uint8_t)'Z')) {
        return (uint32_t)character - (uint32_t)'A';
    }
    if ((character >= (uint8_t)'a') && (character <= (uint8_t)'z')) {
        return (uint32_t)character - (uint32_t)'a' + 26U;
    }
    if ((character >= (uint8_t)'0') && (character <= (uint8_t)'9')) {
        return (uint32_t)character - (uint32_t)'0' + 52U;
    }
    if (character == (uint8_t)'+') {
        return 62;
    }
    if (character == (uint8_t)'/') {
        return 63;
    }
    return (character == (uint8_t)'=') ? 64U : 65U;
}

// Append what a line holds to the frame. Padding is only at the end of a line.
static bool decode_line(struct serial *serial) {
    for (uint32_t at = 2; at < serial->line_length; at += 4U) {
        uint32_t bits = 0;
        uint32_t bytes = 3;
        if ((serial->line_length - at) < 4U) {
            return false;
        }
        for (uint32_t i = 0; i < 4U; i++) {
            uint32_t value = bits_of(serial->line[at + i]);
            if (value == 64U) {
                if ((i < 2U) || ((at + 4U) != serial->line_length)) {
                    return false;
                }
                bytes = (bytes == 3U) ? (i - 1U) : bytes;
                value = 0;
            } else if ((value > 64U) || (bytes < 3U)) {
                return false;
            } else {
                // One of the 64.
            }
            bits = (bits << 6U) | value;
        }
        if (bytes > (sizeof serial->frame - serial->frame_length)) {
            return false;
        }
        for (uint32_t i = 0; i < bytes; i++) {
            serial->frame[serial->frame_length] = (uint8_t)(bits >> (16U - (8U * i)));
            serial->frame_length++;
        }
    }
    return true;
}

// A line is complete: true if a frame is, too.
static bool take_line(struct serial *serial, const uint8_t **frame, uint32_t *length) {
    bool first = (serial->line_length >= 2U) && (serial->line[0] == FIRST_LINE) && (serial->line[1] == FIRST_LINE_2);
    bool next = (serial->line_length >= 2U) && (serial->line[0] == NEXT_LINE) && (serial->line[1] == NEXT_LINE_2);
    if (first) {
        serial->frame_length = 0;
    }
    serial->in_frame = (first || (next && serial->in_frame)) && decode_line(serial);
    if (!serial->in_frame || (serial->frame_length < BEFORE_FRAME)) {
        return false;
    }
    uint32_t announced = ((uint32_t)serial->frame[0] << 8U) | serial->frame[1];
    uint32_t have = serial->frame_length - BEFORE_FRAME;
    if ((announced < BEHIND_FRAME) || (have > announced)) {
        serial->in_frame = false;
        return false;
    }
    if (have < announced) {
        return false;
    }
    serial->in_frame = false;
    *length = announced - BEHIND_FRAME;
    *frame = &serial->frame[BEFORE_FRAME];
    const uint8_t *sum = &serial->frame[BEFORE_FRAME + *length];
    return crc16(*frame, *length) == (((uint32_t)sum[0] << 8U) | sum[1]);
}

bool serial_take(struct serial *serial, uint8_t byte, const uint8_t **frame, uint32_t *length) {
    if (byte == (uint8_t)'\n') {
        bool complete = serial->in_line && take_line(serial, frame, length);
        serial->in_line = false;
        return complete;
    }
    // Base64 has no such byte: a line begins, whatever was lost of the one before.
    if ((byte == FIRST_LINE) || (byte == NEXT_LINE)) {
        serial->in_line = true;
        serial->line_length = 0;
    }
    if (serial->in_line && (byte != (uint8_t)'\r')) {
        serial->in_line = serial->line_length < LINE_MAX;
        if (serial->in_line) {
            serial->line[serial->line_length] = byte;
            serial->line_length++;
        }
    }
    return false;
}

struct sender {
    uint8_t line[LINE_MAX + 1U];
    uint32_t length;
    uint32_t bits;
    uint32_t bytes; // of the three that make four characters
    bool first;
    void (*send)(const uint8_t *bytes, uint32_t length);
};

static void end_line(struct sender *sender) {
    if (sender->length > 2U) {
        sender->line[sender->length] = (uint8_t)'\n';
        sender->send(sender->line, sender->length + 1U);
        sender->first = false;
    }
    sender->line[0] = sender->first ? FIRST_LINE : NEXT_LINE;
    sender->line[1] = sender->first ? FIRST_LINE_2 : NEXT_LINE_2;
    sender->length = 2;
}

static void put_group(struct sender *sender) {
    static const uint8_t characters[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    if ((sender->length + 4U) > LINE_MAX) {
        end_line(sender);
    }
    uint32_t bits = sender->bits << (8U * (3U - sender->bytes));
    for (uint32_t i = 0; i < 4U; i++) {
        bool there = i <= sender->bytes;
        sender->line[sender->length] = there ? characters[(bits >> (18U - (6U * i))) & 63U] : (uint8_t)'=';
        sender->length++;
    }
    sender->bits = 0;
    sender->bytes = 0;
}

static void put_byte(struct sender *sender, uint8_t byte) {
    sender->bits = (sender->bits << 8U) | byte;
    sender->bytes++;
    if (sender->bytes == 3U) {
        put_group(sender);
    }
}

void serial_put(const uint8_t *frame, uint32_t length, void (*send)(const uint8_t *bytes, uint32_t length)) {
    struct sender sender = {.first = true, .send = send};
    uint32_t announced = length + BEHIND_FRAME;
    uint16_t sum = crc16(frame, length);
    end_line(&sender);
    put_byte(&sender, (uint8_t)(announced >> 8U));
    put_byte(&sender, (uint8_t)announced);
    for (uint32_t i = 0; i < length; i++) {
        put_byte(&sender, frame[i]);
    }
    put_byte(&sender, (uint8_t)(sum >> 8U));
    put_byte(&sender, (uint8_t)sum);
    if (sender.bytes > 0U) {
        put_group(&sender);
    }
    end_line(&sender);
}
