// Copyright (c) 2026, The edgeml.fleet authors
// GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
// SPDX-License-Identifier: GPL-3.0-or-later
#include "application.h"

#include <bearssl.h>
#include <string.h>

#include "builtin.h"
#include "flash.h"
#include "serial.h"
#include "slots.h"
#include "smp.h"

#define INFO 0U
#define INFER 1U

// What the build says it is.
#define DEVICE_CLASS "mps2-an385"
#define RUNTIME "edgeml-mcu 1"

struct application application;
static _Alignas(8) uint8_t arena[ARENA_SIZE];
static uint8_t output[FRAME_MAX];

static char *put_number(char *at, uint32_t number) {
    char digits[10];
    uint32_t count = 0;
    do {
        digits[count] = (char)('0' + (char)(number % 10U));
        number /= 10U;
        count++;
    } while (number > 0U);
    while (count > 0U) {
        count--;
        *at = digits[count];
        at++;
    }
    return at;
}

void version_text(const struct image_version *version, char text[VERSION_TEXT]) {
    char *at = put_number(text, version->major);
    *at++ = '.';
    at = put_number(at, version->minor);
    *at++ = '.';
    at = put_number(at, version->revision);
    *at++ = '+';
    at = put_number(at, version->build);
    *at = '\0';
}

bool application_start(const struct boot_info *boot, const uint8_t *model) {
    const struct boot_image *chosen = &boot->images[1];
    br_sha256_context sha;
    (void)memset(&application, 0, sizeof application);
    application.boot = *boot;
    application.reset_cause = "";
    application.model_error = IMAGE_NONE;
    application.builtin = builtin_open(&application.model);
    if (application.builtin || (chosen->slot == NO_SLOT)) {
        return true;
    }
    br_sha256_init(&sha);
    br_sha256_update(&sha, model, chosen->payload);
    br_sha256_out(&sha, application.model_digest);
    enum image_error error = model_load(&application.model, model, chosen->payload, arena, sizeof arena);
    if ((error == IMAGE_OK) && (application.model.tensors[application.model.output].elements > sizeof output)) {
        error = IMAGE_MODEL;
    }
    application.model_error = error;
    if ((error == IMAGE_OK) || (chosen->trial == 0U)) {
        return true;
    }
    struct slot_log log;
    slot_log_read(1, chosen->slot, &log);
    // If the log is full, this trial goes on without a model: nobody will confirm it.
    return !slot_log_append(1, chosen->slot, &log, SLOT_REFUSED, error);
}

// Why an image other than the one in use was not taken, as far as that is known.
static const char *refusal(uint32_t image) {
    const struct boot_image *chosen = &application.boot.images[image];
    if (chosen->refused != (uint8_t)IMAGE_OK) {
        return image_error_text((enum image_error)chosen->refused);
    }
    for (uint32_t slot = 0; slot < SLOTS; slot++) {
        struct slot_log log;
        slot_log_read(image, slot, &log);
        if ((slot != chosen->slot) && (log.last == SLOT_TRIED)) {
            return "trial: it ended without a confirmation";
        }
    }
    return "";
}

static void put_model(struct cbor_writer *reply) {
    const struct boot_image *chosen = &application.boot.images[1];
    bool there = chosen->slot != NO_SLOT;
    char version[VERSION_TEXT] = "";
    if (there) {
        version_text(&chosen->version, version);
    }
    bool broken = there && (application.model_error != IMAGE_OK);
    cbor_put_text(reply, "model");
    cbor_begin_map(reply);
    cbor_pair_text(reply, "version", version);
    cbor_pair_bytes(reply, "sha", application.model_digest, there ? DIGEST_SIZE : 0U);
    // The one in the slot; the firmware's own is part of the firmware.
    cbor_pair_bool(reply, "loaded", application.model.loaded && !application.builtin);
    if (application.builtin) {
        cbor_pair_text(reply, "error", "model: the firmware has one of its own");
    } else {
        cbor_pair_text(reply, "error", broken ? image_error_text(application.model_error) : refusal(1));
    }
    cbor_end(reply);
}

static void put_tensor(struct cbor_writer *reply, const char *key, uint32_t index) {
    const struct tensor *tensor = &application.model.tensors[index];
    cbor_put_text(reply, key);
    cbor_begin_map(reply);
    if (application.model.loaded) {
        cbor_pair_text(reply, "type", "int8");
        cbor_put_text(reply, "shape");
        cbor_begin_array(reply);
        for (uint32_t i = 0; i < tensor->rank; i++) {
            cbor_put_int(reply, tensor->shape[i]);
        }
        cbor_end(reply);
        cbor_put_text(reply, "scale");
        cbor_put_float(reply, tensor->scale);
        cbor_put_text(reply, "zero");
        cbor_put_int(reply, tensor->zero_point);
    }
    cbor_end(reply);
}

static enum smp_code info(struct cbor_writer *reply) {
    const struct boot_image *firmware = &application.boot.images[0];
    char version[VERSION_TEXT];
    version_text(&firmware->version, version);
    cbor_pair_text(reply, "class", DEVICE_CLASS);
    cbor_pair_text(reply, "firmware", version);
    cbor_pair_text(reply, "runtime", RUNTIME);
    cbor_put_text(reply, "operators");
    cbor_begin_array(reply);
    for (uint32_t i = 0; model_operators[i] != NULL; i++) {
        cbor_put_text(reply, model_operators[i]);
    }
    cbor_end(reply);
    cbor_pair_uint(reply, "arena", ARENA_SIZE);
    cbor_pair_uint(reply, "arena_used", application.model.arena_needed);
    put_model(reply);
    put_tensor(reply, "input", application.model.input);
    put_tensor(reply, "output", application.model.output);
    cbor_pair_uint(reply, "security_counter", firmware->counter);
    cbor_pair_uint(reply, "model_counter", application.boot.images[1].counter);
    struct flash_wear wear = flash_wear();
    cbor_pair_uint(reply, "written", wear.written);
    cbor_pair_uint(reply, "erased", wear.erased);
    cbor_pair_uint(reply, "resets", application_starts());
    cbor_pair_text(reply, "reset", application.reset_cause);
    cbor_pair_text(reply, "error", refusal(0));
    cbor_pair_uint(reply, "inferences", application.inferences);
    cbor_pair_uint(reply, "errors", application.errors);
    cbor_pair_uint(reply, "uptime_ms", application_milliseconds());
    return SMP_OK;
}

static enum smp_code infer(const struct smp_request *request, struct cbor_writer *reply) {
    struct cbor_field input = {.name = "i", .kind = CBOR_BYTES};
    struct model *model = &application.model;
    if (!model->loaded) {
        return SMP_BAD_STATE;
    }
    // The whole input, every time: what is left of the last one is never computed with.
    if (!smp_fields(request, &input, 1) || !input.present ||
        (input.length != model->tensors[model->input].elements)) {
        return SMP_INVALID;
    }
    uint32_t begun = application_microseconds();
    if (application.builtin) {
        builtin_run(input.bytes, output);
    } else {
        model_run(model, input.bytes, output);
    }
    application.inferences++;
    cbor_pair_bytes(reply, "o", output, model->tensors[model->output].elements);
    cbor_pair_uint(reply, "us", application_microseconds() - begun);
    return SMP_OK;
}

enum smp_code application_group(const struct smp_request *request, struct cbor_writer *reply) {
    enum smp_code code = SMP_NOT_SUPPORTED;
    if ((request->command == INFO) && !request->write) {
        code = info(reply);
    } else if ((request->command == INFER) && request->write) {
        code = infer(request, reply);
        application.errors += (code == SMP_OK) ? 0U : 1U;
    } else {
        // There is no other.
    }
    return code;
}
