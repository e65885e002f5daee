// Copyright (c) 2026, The edgeml.fleet authors
// GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
// SPDX-License-Identifier: GPL-3.0-or-later
//
// Group 0: echo, reset, MCUmgr's parameters.
#include <stddef.h>

#include "application.h"
#include "serial.h"
#include "smp.h"

#define ECHO 0U
#define RESET 5U
#define PARAMETERS 6U

static enum smp_code echo(const struct smp_request *request, struct cbor_writer *reply) {
    struct cbor_field text = {.name = "d", .kind = CBOR_TEXT};
    if (!smp_fields(request, &text, 1) || !text.present) {
        return SMP_INVALID;
    }
    cbor_put_text(reply, "r");
    cbor_put_string(reply, text.bytes, text.length);
    return SMP_OK;
}

enum smp_code os_group(const struct smp_request *request, struct cbor_writer *reply) {
    if ((request->command == ECHO) && request->write) {
        return echo(request, reply);
    }
    if ((request->command == RESET) && request->write) {
        if (!smp_fields(request, NULL, 0)) {
            return SMP_INVALID;
        }
        application.reset_wanted = true; // once the reply is out
        return SMP_OK;
    }
    if ((request->command == PARAMETERS) && !request->write) {
        cbor_pair_uint(reply, "buf_size", FRAME_MAX);
        cbor_pair_uint(reply, "buf_count", 1);
        return SMP_OK;
    }
    return SMP_NOT_SUPPORTED;
}
