// Copyright (c) 2026, The edgeml.fleet authors
// GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
// SPDX-License-Identifier: GPL-3.0-or-later
//
// MCUmgr's Simple Management Protocol: frames to the groups that answer them.
#ifndef SMP_H
#define SMP_H

#include <stdbool.h>
#include <stdint.h>

#include "cbor.h"

// The protocol's return codes.
enum smp_code {
    SMP_OK = 0,
    SMP_UNKNOWN = 1,
    SMP_NO_MEMORY = 2,
    SMP_INVALID = 3,
    SMP_NO_ENTRY = 5,
    SMP_BAD_STATE = 6,
    SMP_TOO_LONG = 7,
    SMP_NOT_SUPPORTED = 8,
    SMP_CORRUPT = 9,
};

struct smp_request {
    bool write;
    uint32_t group;
    uint32_t command;
    const uint8_t *payload; // CBOR
    uint32_t length;
};

// Each group writes the entries of the reply's map, and returns what becomes the reply's code.
enum smp_code os_group(const struct smp_request *request, struct cbor_writer *reply);
enum smp_code image_group(const struct smp_request *request, struct cbor_writer *reply);
enum smp_code application_group(const struct smp_request *request, struct cbor_writer *reply);

// Answer a frame. Returns the length of the reply in `reply` (FRAME_MAX bytes), 0 if nothing is to be said.
uint32_t smp_answer(const uint8_t *frame, uint32_t length, uint8_t *reply);

// Read the request's map, which may be left out where no field is needed.
bool smp_fields(const struct smp_request *request, struct cbor_field *fields, uint32_t count);

#endif
