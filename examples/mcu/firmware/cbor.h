// Copyright (c) 2026, The edgeml.fleet authors
// GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
// SPDX-License-Identifier: GPL-3.0-or-later
//
// As much of CBOR (RFC 8949) as requests and replies need: maps with text keys.
#ifndef CBOR_H
#define CBOR_H

#include <stdbool.h>
#include <stdint.h>

enum cbor_kind {
    CBOR_UINT,
    CBOR_BOOL,
    CBOR_BYTES,
    CBOR_TEXT,
};

// A field that a request may have. `kind` and `name` are given, the rest is what was found.
struct cbor_field {
    const char *name;
    enum cbor_kind kind;
    bool present;
    uint32_t number;      // of CBOR_UINT, and 0 or 1 of CBOR_BOOL
    const uint8_t *bytes; // of CBOR_BYTES and CBOR_TEXT: within what was read
    uint32_t length;
};

// Read one map that fills all `length` bytes. Fields of other names are passed over. False: it is no such map, a field is
// of another kind or there twice, or a number is above 32 bits.
bool cbor_read_map(const uint8_t *bytes, uint32_t length, struct cbor_field *fields, uint32_t count);

// Writes to `bytes`, of `capacity`. If that is not enough, `full` is set and the content is worthless.
struct cbor_writer {
    uint8_t *bytes;
    uint32_t capacity;
    uint32_t length;
    bool full;
};

// Maps and arrays of a length that is not written in front: they end with cbor_end.
void cbor_begin_map(struct cbor_writer *writer);
void cbor_begin_array(struct cbor_writer *writer);
void cbor_end(struct cbor_writer *writer);

void cbor_put_text(struct cbor_writer *writer, const char *text);
void cbor_put_string(struct cbor_writer *writer, const uint8_t *text, uint32_t length);
void cbor_put_uint(struct cbor_writer *writer, uint32_t number);
void cbor_put_int(struct cbor_writer *writer, int32_t number);
void cbor_put_bytes(struct cbor_writer *writer, const uint8_t *bytes, uint32_t length);
void cbor_put_bool(struct cbor_writer *writer, bool value);
void cbor_put_float(struct cbor_writer *writer, float value);

// The same, after a key.
void cbor_pair_text(struct cbor_writer *writer, const char *key, const char *text);
void cbor_pair_uint(struct cbor_writer *writer, const char *key, uint32_t number);
void cbor_pair_bytes(struct cbor_writer *writer, const char *key, const uint8_t *bytes, uint32_t length);
void cbor_pair_bool(struct cbor_writer *writer, const char *key, bool value);

#endif
