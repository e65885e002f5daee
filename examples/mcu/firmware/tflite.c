// Copyright (c) 2026, The edgeml.fleet authors
// GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
// SPDX-License-Identifier: GPL-3.0-or-later
#include "tflite.h"

#include <string.h>

#include "bytes.h"

#define REFERENCE 4U // bytes of an offset to somewhere else
#define IDENTIFIER_AT 4U

static bool within(struct flat *flat, uint32_t at, uint32_t length) {
    if ((at == 0U) || (at > flat->length) || (length > (flat->length - at))) {
        flat->broken = true;
        return false;
    }
    return true;
}

static uint32_t u16_at(struct flat *flat, uint32_t at) {
    return within(flat, at, 2) ? bytes_u16(&flat->bytes[at]) : 0U;
}

uint32_t flat_u8(struct flat *flat, uint32_t at) {
    return within(flat, at, 1) ? flat->bytes[at] : 0U;
}

uint32_t flat_u32(struct flat *flat, uint32_t at) {
    return within(flat, at, 4) ? bytes_u32(&flat->bytes[at]) : 0U;
}

float flat_float(struct flat *flat, uint32_t at) {
    uint32_t bits = flat_u32(flat, at);
    float value;
    (void)memcpy(&value, &bits, sizeof value);
    return value;
}

// Where the offset at a place leads to: forward, within the file.
static uint32_t follow(struct flat *flat, uint32_t at) {
    uint32_t distance = flat_u32(flat, at);
    if (flat->broken || (distance == 0U) || (distance >= (flat->length - at))) {
        flat->broken = true;
        return 0;
    }
    return at + distance;
}

uint32_t flat_root(struct flat *flat) {
    if ((flat->length < (IDENTIFIER_AT + 4U)) || (memcmp(&flat->bytes[IDENTIFIER_AT], "TFL3", 4) != 0)) {
        flat->broken = true;
        return 0;
    }
    uint32_t root = bytes_u32(flat->bytes);
    return within(flat, root, REFERENCE) ? root : 0U;
}

uint32_t flat_field(struct flat *flat, uint32_t table, uint32_t number) {
    // The table begins with the distance back to the list of its fields.
    uint32_t list = table - flat_u32(flat, table);
    uint32_t size = u16_at(flat, list);
    uint32_t entry = 4U + (2U * number);
    if (flat->broken || (size < (entry + 2U))) {
        return 0;
    }
    uint32_t distance = u16_at(flat, list + entry);
    return ((distance == 0U) || !within(flat, table + distance, 1)) ? 0U : (table + distance);
}

uint32_t flat_field_u8(struct flat *flat, uint32_t table, uint32_t number, uint32_t otherwise) {
    uint32_t at = flat_field(flat, table, number);
    return (at == 0U) ? otherwise : flat_u8(flat, at);
}

uint32_t flat_field_u32(struct flat *flat, uint32_t table, uint32_t number, uint32_t otherwise) {
    uint32_t at = flat_field(flat, table, number);
    return (at == 0U) ? otherwise : flat_u32(flat, at);
}

uint32_t flat_field_table(struct flat *flat, uint32_t table, uint32_t number) {
    uint32_t at = flat_field(flat, table, number);
    return (at == 0U) ? 0U : follow(flat, at);
}

struct flat_vector flat_field_vector(struct flat *flat, uint32_t table, uint32_t number, uint32_t size) {
    struct flat_vector vector = {0, 0};
    uint32_t at = flat_field_table(flat, table, number);
    if (at != 0U) {
        uint32_t count = flat_u32(flat, at);
        if (!flat->broken && (count <= ((flat->length - at - REFERENCE) / size))) {
            vector.at = at + REFERENCE;
            vector.count = count;
        } else {
            flat->broken = true;
        }
    }
    return vector;
}

uint32_t flat_element_table(struct flat *flat, const struct flat_vector *vector, uint32_t index) {
    if (index >= vector->count) {
        flat->broken = true;
        return 0;
    }
    return follow(flat, vector->at + (index * REFERENCE));
}
