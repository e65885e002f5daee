// Copyright (c) 2026, The edgeml.fleet authors
// GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
// SPDX-License-Identifier: GPL-3.0-or-later
#include "cbor.h"

#include <string.h>

#define MAJOR_UINT 0U
#define MAJOR_NEGATIVE 1U
#define MAJOR_BYTES 2U
#define MAJOR_TEXT 3U
#define MAJOR_ARRAY 4U
#define MAJOR_MAP 5U
#define MAJOR_TAG 6U
#define MAJOR_SIMPLE 7U
#define INDEFINITE 31U
#define FALSE_BYTE 0xf4U
#define TRUE_BYTE 0xf5U
#define FLOAT32_BYTE 0xfaU
#define BREAK_BYTE 0xffU

struct reader {
    const uint8_t *at;
    uint32_t left;
};

// The beginning of an item: its major type, and its argument, which is a number or a length.
struct head {
    uint32_t major;
    uint32_t info;
    uint32_t argument;
};

static bool read_head(struct reader *reader, struct head *head) {
    if (reader->left == 0U) {
        return false;
    }
    head->major = (uint32_t)reader->at[0] >> 5U;
    head->info = reader->at[0] & 31U;
    head->argument = head->info;
    reader->at++;
    reader->left--;
    if ((head->info < 24U) || (head->info == INDEFINITE)) {
        return true;
    }
    if (head->info > 27U) {
        return false;
    }
    uint32_t size = 1UL << (head->info - 24U);
    if (reader->left < size) {
        return false;
    }
    uint64_t number = 0;
    for (uint32_t i = 0; i < size; i++) {
        number = (number << 8U) | reader->at[i];
    }
    reader->at += size;
    reader->left -= size;
    head->argument = (uint32_t)number;
    // The bits of a long float are passed over, so their value does not matter.
    return (number <= UINT32_MAX) || (head->major == MAJOR_SIMPLE) || (head->major == MAJOR_NEGATIVE);
}

static bool is_string(const struct head *head) {
    return ((head->major == MAJOR_BYTES) || (head->major == MAJOR_TEXT)) && (head->info != INDEFINITE);
}

// Pass over one item, with what is in it. Nothing recurses: what counts is how many items are still to come.
static bool skip(struct reader *reader) {
    uint32_t items = 1;
    while (items > 0U) {
        struct head head;
        if (!read_head(reader, &head) || (head.info == INDEFINITE)) {
            return false;
        }
        items--;
        uint32_t within = 0;
        if (is_string(&head)) {
            if (head.argument > reader->left) {
                return false;
            }
            reader->at += head.argument;
            reader->left -= head.argument;
        } else if (head.major == MAJOR_ARRAY) {
            within = head.argument;
        } else if (head.major == MAJOR_MAP) {
            within = (head.argument > reader->left) ? UINT32_MAX : (head.argument * 2U);
        } else if (head.major == MAJOR_TAG) {
            within = 1;
        } else {
            // A number or a simple value, which the head is all of.
        }
        // Each item has a byte at least, so more of them than bytes cannot be there.
        if ((within > reader->left) || (items > (reader->left - within))) {
            return false;
        }
        items += within;
    }
    return true;
}

static bool take_value(struct reader *reader, struct cbor_field *field) {
    struct head head;
    if (field->present || !read_head(reader, &head) || (head.info == INDEFINITE)) {
        return false;
    }
    field->present = true;
    field->number = head.argument;
    if (field->kind == CBOR_UINT) {
        return head.major == MAJOR_UINT;
    }
    if (field->kind == CBOR_BOOL) {
        field->number = (head.info == (TRUE_BYTE & 31U)) ? 1U : 0U;
        return (head.major == MAJOR_SIMPLE) &&
               ((head.info == (TRUE_BYTE & 31U)) || (head.info == (FALSE_BYTE & 31U)));
    }
    uint32_t major = (field->kind == CBOR_BYTES) ? MAJOR_BYTES : MAJOR_TEXT;
    if ((head.major != major) || (head.argument > reader->left)) {
        return false;
    }
    field->bytes = reader->at;
    field->length = head.argument;
    reader->at += head.argument;
    reader->left -= head.argument;
    return true;
}

static bool read_entry(struct reader *reader, struct cbor_field *fields, uint32_t count) {
    struct head key;
    if (!read_head(reader, &key) || (key.major != MAJOR_TEXT) || !is_string(&key) || (key.argument > reader->left)) {
        return false;
    }
    const uint8_t *name = reader->at;
    reader->at += key.argument;
    reader->left -= key.argument;
    for (uint32_t i = 0; i < count; i++) {
        if ((strlen(fields[i].name) == key.argument) && (memcmp(fields[i].name, name, key.argument) == 0)) {
            return take_value(reader, &fields[i]);
        }
    }
    return skip(reader);
}

bool cbor_read_map(const uint8_t *bytes, uint32_t length, struct cbor_field *fields, uint32_t count) {
    struct reader reader = {bytes, length};
    struct head map;
    if (!read_head(&reader, &map) || (map.major != MAJOR_MAP)) {
        return false;
    }
    bool indefinite = map.info == INDEFINITE;
    for (uint32_t entry = 0; indefinite || (entry < map.argument); entry++) {
        if (indefinite && (reader.left > 0U) && (reader.at[0] == BREAK_BYTE)) {
            return reader.left == 1U;
        }
        if (!read_entry(&reader, fields, count)) {
            return false;
        }
    }
    return reader.left == 0U;
}

static void put_raw(struct cbor_writer *writer, const uint8_t *bytes, uint32_t length) {
    if (writer->full || (length > (writer->capacity - writer->length))) {
        writer->full = true;
        return;
    }
    if (length > 0U) {
        (void)memcpy(&writer->bytes[writer->length], bytes, length);
    }
    writer->length += length;
}

static void put_byte(struct cbor_writer *writer, uint32_t byte) {
    const uint8_t bytes[1] = {(uint8_t)byte};
    put_raw(writer, bytes, 1);
}

static void put_bits(struct cbor_writer *writer, uint32_t bits) {
    const uint8_t bytes[4] = {(uint8_t)(bits >> 24U), (uint8_t)(bits >> 16U), (uint8_t)(bits >> 8U), (uint8_t)bits};
    put_raw(writer, bytes, sizeof bytes);
}

static void put_head(struct cbor_writer *writer, uint32_t major, uint32_t argument) {
    if (argument < 24U) {
        put_byte(writer, (major << 5U) | argument);
    } else if (argument <= UINT8_MAX) {
        put_byte(writer, (major << 5U) | 24U);
        put_byte(writer, argument);
    } else if (argument <= UINT16_MAX) {
        put_byte(writer, (major << 5U) | 25U);
        put_byte(writer, argument >> 8U);
        put_byte(writer, argument & 0xffU);
    } else {
        put_byte(writer, (major << 5U) | 26U);
        put_bits(writer, argument);
    }
}

void cbor_begin_map(struct cbor_writer *writer) {
    put_byte(writer, (MAJOR_MAP << 5U) | INDEFINITE);
}

void cbor_begin_array(struct cbor_writer *writer) {
    put_byte(writer, (MAJOR_ARRAY << 5U) | INDEFINITE);
}

void cbor_end(struct cbor_writer *writer) {
    put_byte(writer, BREAK_BYTE);
}

void cbor_put_string(struct cbor_writer *writer, const uint8_t *text, uint32_t length) {
    put_head(writer, MAJOR_TEXT, length);
    put_raw(writer, text, length);
}

void cbor_put_text(struct cbor_writer *writer, const char *text) {
    cbor_put_string(writer, (const uint8_t *)text, (uint32_t)strlen(text));
}

void cbor_put_uint(struct cbor_writer *writer, uint32_t number) {
    put_head(writer, MAJOR_UINT, number);
}

void cbor_put_int(struct cbor_writer *writer, int32_t number) {
    if (number < 0) {
        put_head(writer, MAJOR_NEGATIVE, (uint32_t)(-(number + 1)));
    } else {
        put_head(writer, MAJOR_UINT, (uint32_t)number);
    }
}

void cbor_put_bytes(struct cbor_writer *writer, const uint8_t *bytes, uint32_t length) {
    put_head(writer, MAJOR_BYTES, length);
    put_raw(writer, bytes, length);
}

void cbor_put_bool(struct cbor_writer *writer, bool value) {
    put_byte(writer, value ? TRUE_BYTE : FALSE_BYTE);
}

void cbor_put_float(struct cbor_writer *writer, float value) {
    uint32_t bits;
    (void)memcpy(&bits, &value, sizeof bits);
    put_byte(writer, FLOAT32_BYTE);
    put_bits(writer, bits);
}

void cbor_pair_text(struct cbor_writer *writer, const char *key, const char *text) {
    cbor_put_text(writer, key);
    cbor_put_text(writer, text);
}

void cbor_pair_uint(struct cbor_writer *writer, const char *key, uint32_t number) {
    cbor_put_text(writer, key);
    cbor_put_uint(writer, number);
}

void cbor_pair_bytes(struct cbor_writer *writer, const char *key, const uint8_t *bytes, uint32_t length) {
    cbor_put_text(writer, key);
    cbor_put_bytes(writer, bytes, length);
}

void cbor_pair_bool(struct cbor_writer *writer, const char *key, bool value) {
    cbor_put_text(writer, key);
    cbor_put_bool(writer, value);
}
