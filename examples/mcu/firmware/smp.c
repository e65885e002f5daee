// Copyright (c) 2026, The edgeml.fleet authors
// GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
// SPDX-License-Identifier: GPL-3.0-or-later
#include "smp.h"

#include "serial.h"

#define HEADER 8U
#define OP_READ 0U
#define OP_WRITE 2U
#define OP_MASK 7U
#define VERSION_MASK 0x18U

#define GROUP_OS 0U
#define GROUP_IMAGE 1U
#define GROUP_APPLICATION 64U

bool smp_fields(const struct smp_request *request, struct cbor_field *fields, uint32_t count) {
    return (request->length == 0U) || cbor_read_map(request->payload, request->length, fields, count);
}

static enum smp_code dispatch(const struct smp_request *request, struct cbor_writer *reply) {
    switch (request->group) {
    case GROUP_OS:
        return os_group(request, reply);
    case GROUP_IMAGE:
        return image_group(request, reply);
    case GROUP_APPLICATION:
        return application_group(request, reply);
    default:
        return SMP_NOT_SUPPORTED;
    }
}

static struct cbor_writer begin(uint8_t *reply) {
    struct cbor_writer writer = {.bytes = &reply[HEADER], .capacity = FRAME_MAX - HEADER};
    cbor_begin_map(&writer);
    return writer;
}

uint32_t smp_answer(const uint8_t *frame, uint32_t length, uint8_t *reply) {
    if (length < HEADER) {
        return 0;
    }
    uint32_t op = frame[0] & OP_MASK;
    uint32_t payload = ((uint32_t)frame[2] << 8U) | frame[3];
    // Replies are not answered: two devices would never end.
    if (((op != OP_READ) && (op != OP_WRITE)) || (payload != (length - HEADER))) {
        return 0;
    }
    struct smp_request request = {
        .write = op == OP_WRITE,
        .group = ((uint32_t)frame[4] << 8U) | frame[5],
        .command = frame[7],
        .payload = &frame[HEADER],
        .length = payload,
    };
    struct cbor_writer writer = begin(reply);
    enum smp_code code = dispatch(&request, &writer);
    if ((code == SMP_OK) && writer.full) {
        code = SMP_TOO_LONG;
    }
    if (code != SMP_OK) {
        writer = begin(reply);
        cbor_pair_uint(&writer, "rc", (uint32_t)code);
    }
    cbor_end(&writer);
    reply[0] = (uint8_t)((frame[0] & VERSION_MASK) | (op + 1U));
    reply[1] = 0;
    reply[2] = (uint8_t)(writer.length >> 8U);
    reply[3] = (uint8_t)writer.length;
    reply[4] = frame[4];
    reply[5] = frame[5];
    reply[6] = frame[6];
    reply[7] = frame[7];
    return HEADER + writer.length;
}
