// Copyright (c) 2026, The edgeml.fleet authors
// GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
// SPDX-License-Identifier: GPL-3.0-or-later
//
// Requests to the firmware's code on this machine, without a line between.
#ifndef REQUESTS_H
#define REQUESTS_H

#include <stdint.h>

#include "cbor.h"
#include "serial.h"

struct requested {
    uint8_t frame[FRAME_MAX];
    struct cbor_writer fields;
};

// Begin a request to write; its fields are put into `fields`.
void request_begin(struct requested *request, uint32_t group, uint32_t command);

// Send it. Returns the reply's code; `fields` are those of the reply.
uint32_t request_send(struct requested *request, struct cbor_field *fields, uint32_t count);

// Begin an upload, or go on with it, until all of the image is there. Returns the code of the last reply.
uint32_t request_upload(uint32_t number, const uint8_t *image, uint32_t length, const uint8_t digest[32]);

// Have the next boot try the image with a hash, or have the running one stay. Returns the reply's code.
uint32_t request_state(const uint8_t hash[32], bool confirm);

#endif
