// Copyright (c) 2026, The edgeml.fleet authors
// GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
// SPDX-License-Identifier: GPL-3.0-or-later
#include "requests.h"

#include <string.h>

#include "smp.h"

#define HEADER 8U
#define GROUP_IMAGE 1U
#define STATE 0U
#define UPLOAD 1U
#define CHUNK 1900U

void request_begin(struct requested *request, uint32_t group, uint32_t command) {
    memset(request, 0, sizeof *request);
    request->frame[0] = 10; // write, the protocol's second version
    request->frame[5] = (uint8_t)group;
    request->frame[7] = (uint8_t)command;
    request->fields.bytes = &request->frame[HEADER];
    request->fields.capacity = FRAME_MAX - HEADER;
    cbor_begin_map(&request->fields);
}

uint32_t request_send(struct requested *request, struct cbor_field *fields, uint32_t count) {
    static uint8_t reply[FRAME_MAX];
    struct cbor_field code = {.name = "rc", .kind = CBOR_UINT};
    cbor_end(&request->fields);
    request->frame[2] = (uint8_t)(request->fields.length >> 8U);
    request->frame[3] = (uint8_t)request->fields.length;
    uint32_t length = smp_answer(request->frame, HEADER + request->fields.length, reply);
    if (length < HEADER) {
        return SMP_UNKNOWN;
    }
    // A code is the only entry of its map.
    if (cbor_read_map(&reply[HEADER], length - HEADER, &code, 1) && code.present) {
        return code.number;
    }
    bool read = (count == 0U) || cbor_read_map(&reply[HEADER], length - HEADER, fields, count);
    return read ? (uint32_t)SMP_OK : (uint32_t)SMP_UNKNOWN;
}

uint32_t request_upload(uint32_t number, const uint8_t *image, uint32_t length, const uint8_t digest[32]) {
    static struct requested request;
    uint32_t code = SMP_OK;
    for (uint32_t offset = 0; (code == (uint32_t)SMP_OK) && (offset < length);) {
        struct cbor_field off = {.name = "off", .kind = CBOR_UINT};
        uint32_t part = ((length - offset) < CHUNK) ? (length - offset) : CHUNK;
        request_begin(&request, GROUP_IMAGE, UPLOAD);
        cbor_pair_uint(&request.fields, "off", offset);
        cbor_pair_bytes(&request.fields, "data", &image[offset], part);
        if (offset == 0U) {
            cbor_pair_uint(&request.fields, "image", number);
            cbor_pair_uint(&request.fields, "len", length);
            cbor_pair_bytes(&request.fields, "sha", digest, 32);
        }
        code = request_send(&request, &off, 1);
        offset = off.number;
    }
    return code;
}

uint32_t request_state(const uint8_t hash[32], bool confirm) {
    static struct requested request;
    request_begin(&request, GROUP_IMAGE, STATE);
    cbor_pair_bytes(&request.fields, "hash", hash, 32);
    cbor_pair_bool(&request.fields, "confirm", confirm);
    return request_send(&request, NULL, 0);
}
