// Copyright (c) 2026, The edgeml.fleet authors
// GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
// SPDX-License-Identifier: GPL-3.0-or-later
//
// Reading FlatBuffers, as far as TensorFlow Lite's schema needs it. A read outside of the file gives 0 and marks the file
// as broken: who reads looks at that once, at the end.
#ifndef TFLITE_H
#define TFLITE_H

#include <stdbool.h>
#include <stdint.h>

struct flat {
    const uint8_t *bytes;
    uint32_t length;
    bool broken;
};

// Places are offsets into the file; 0 is none, since the file begins with something else.
uint32_t flat_u8(struct flat *flat, uint32_t at);
uint32_t flat_u32(struct flat *flat, uint32_t at);
float flat_float(struct flat *flat, uint32_t at);

// The place of the root table, 0 if the file is not one of TensorFlow Lite.
uint32_t flat_root(struct flat *flat);

// The place of a table's field by its number in the schema, 0 if it is left out.
uint32_t flat_field(struct flat *flat, uint32_t table, uint32_t number);

// A field that is a number, or what the schema says where it is left out.
uint32_t flat_field_u8(struct flat *flat, uint32_t table, uint32_t number, uint32_t otherwise);
uint32_t flat_field_u32(struct flat *flat, uint32_t table, uint32_t number, uint32_t otherwise);

// The place of the table that a field refers to, 0 if it is left out.
uint32_t flat_field_table(struct flat *flat, uint32_t table, uint32_t number);

// A vector that a field refers to: where its elements of `size` bytes are, all of them within the file.
struct flat_vector {
    uint32_t at;
    uint32_t count;
};
struct flat_vector flat_field_vector(struct flat *flat, uint32_t table, uint32_t number, uint32_t size);

// The place of a table in a vector of tables.
uint32_t flat_element_table(struct flat *flat, const struct flat_vector *vector, uint32_t index);

#endif
