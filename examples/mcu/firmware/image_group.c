// Copyright (c) 2026, The edgeml.fleet authors
// GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
// SPDX-License-Identifier: GPL-3.0-or-later
//
// Group 1: what is in the slots, which image is tried or kept, and uploads.
#include <bearssl.h>
#include <string.h>

#include "application.h"
#include "bytes.h"
#include "flash.h"
#include "slots.h"
#include "smp.h"

#define STATE 0U
#define UPLOAD 1U
#define ERASE 5U
#define IMAGE_MAGIC 0x96f3b83dU

// The upload that goes on, as long as the microcontroller is not reset; after that, what is in flash says where it was.
static struct {
    bool begun;
    uint32_t image;
    uint32_t slot;
    uint32_t length;
    uint32_t offset;
    bool named; // by a digest of the whole file
    uint8_t digest[DIGEST_SIZE];
} upload;

static uint32_t active_slot(uint32_t image) {
    return application.boot.images[image].slot;
}

static bool on_trial(uint32_t image) {
    return application.boot.images[image].trial != 0U;
}

// The slot that is not in use.
static uint32_t spare_slot(uint32_t image) {
    return (active_slot(image) == 0U) ? 1U : 0U;
}

static bool parse(uint32_t image, uint32_t slot, struct image *parsed) {
    uint32_t address = slot_address(image, slot);
    struct slot_log log;
    slot_log_read(image, slot, &log);
    return image_parse(slot_read, &address, slot_image_limit(&log), parsed) == IMAGE_OK;
}

// Whether this is what a boot without a trial takes.
static bool is_confirmed(uint32_t image, uint32_t slot) {
    struct slot_log log;
    struct slot_log other;
    slot_log_read(image, slot, &log);
    slot_log_read(image, 1U - slot, &other);
    return log.confirmed > other.confirmed;
}

static void put_state(uint32_t image, uint32_t slot, struct cbor_writer *reply) {
    struct image parsed;
    struct slot_log log;
    char version[VERSION_TEXT];
    if (!parse(image, slot, &parsed)) {
        return;
    }
    slot_log_read(image, slot, &log);
    version_text(&parsed.version, version);
    cbor_begin_map(reply);
    cbor_pair_uint(reply, "image", image);
    cbor_pair_uint(reply, "slot", slot);
    cbor_pair_text(reply, "version", version);
    cbor_pair_bytes(reply, "hash", parsed.hash, DIGEST_SIZE);
    cbor_pair_bool(reply, "bootable", true);
    cbor_pair_bool(reply, "pending", log.last == SLOT_TEST);
    cbor_pair_bool(reply, "confirmed", is_confirmed(image, slot));
    cbor_pair_bool(reply, "active", slot == active_slot(image));
    cbor_pair_bool(reply, "permanent", false);
    cbor_end(reply);
}

static enum smp_code put_states(struct cbor_writer *reply) {
    cbor_put_text(reply, "images");
    cbor_begin_array(reply);
    for (uint32_t image = 0; image < IMAGES; image++) {
        for (uint32_t slot = 0; slot < SLOTS; slot++) {
            put_state(image, slot, reply);
        }
    }
    cbor_end(reply);
    return SMP_OK;
}

// Find the image with a hash, the one in use before another copy.
static bool find(const uint8_t *hash, uint32_t *image, uint32_t *slot) {
    for (*image = 0; *image < IMAGES; (*image)++) {
        for (uint32_t turn = 0; turn < SLOTS; turn++) {
            struct image parsed;
            *slot = (turn == 0U) ? (1U - spare_slot(*image)) : spare_slot(*image);
            if (parse(*image, *slot, &parsed) && (memcmp(parsed.hash, hash, DIGEST_SIZE) == 0)) {
                return true;
            }
        }
    }
    return false;
}

static enum smp_code confirm(uint32_t image, uint32_t slot) {
    // What never ran is not confirmed, and a model not before the firmware that it may need.
    if ((slot != active_slot(image)) || ((image != 0U) && on_trial(0))) {
        return SMP_BAD_STATE;
    }
    if (on_trial(image)) {
        if (!slot_confirm(image, slot)) {
            return SMP_UNKNOWN;
        }
        application.boot.images[image].trial = 0;
    }
    return SMP_OK;
}

static enum smp_code test(uint32_t image, uint32_t slot) {
    uint32_t address = slot_address(image, slot);
    struct image parsed;
    struct slot_log log;
    if ((slot == active_slot(image)) || on_trial(image)) {
        return SMP_BAD_STATE;
    }
    if (!parse(image, slot, &parsed) || (image_check_hash(slot_read, &address, &parsed) != IMAGE_OK)) {
        return SMP_CORRUPT;
    }
    slot_log_read(image, slot, &log);
    if (log.last == SLOT_TEST) {
        return SMP_OK;
    }
    return slot_log_append(image, slot, &log, SLOT_TEST, IMAGE_OK) ? SMP_OK : SMP_NO_MEMORY;
}

static enum smp_code write_state(const struct smp_request *request, struct cbor_writer *reply) {
    struct cbor_field fields[] = {{.name = "hash", .kind = CBOR_BYTES}, {.name = "confirm", .kind = CBOR_BOOL}};
    if (!smp_fields(request, fields, 2)) {
        return SMP_INVALID;
    }
    bool confirming = fields[1].present && (fields[1].number != 0U);
    uint32_t image = 0;
    uint32_t slot = active_slot(0);
    if (!fields[0].present) {
        // The running firmware, as the protocol has it.
        if (!confirming) {
            return SMP_INVALID;
        }
    } else if (fields[0].length != DIGEST_SIZE) {
        return SMP_INVALID;
    } else if (!find(fields[0].bytes, &image, &slot)) {
        return SMP_NO_ENTRY;
    } else {
        // Found.
    }
    enum smp_code code = confirming ? confirm(image, slot) : test(image, slot);
    return (code == SMP_OK) ? put_states(reply) : code;
}

// Whether the file that was uploaded is the one that was announced.
static bool matches(void) {
    uint32_t address = slot_address(upload.image, upload.slot);
    br_sha256_context sha;
    uint8_t digest[DIGEST_SIZE];
    br_sha256_init(&sha);
    for (uint32_t offset = 0; offset < upload.length;) {
        uint8_t part[256];
        uint32_t length = upload.length - offset;
        length = (length < sizeof part) ? length : sizeof part;
        if (!slot_read(&address, offset, part, length)) {
            return false;
        }
        br_sha256_update(&sha, part, length);
        offset += length;
    }
    br_sha256_out(&sha, digest);
    return memcmp(digest, upload.digest, sizeof digest) == 0;
}

// Go on with the upload of the same file that flash knows of. False: there is none, or what came of it is not that file.
static bool resume(void) {
    struct slot_log log;
    slot_log_read(upload.image, upload.slot, &log);
    if (!upload.named || !log.uploading || (log.upload_length != upload.length) ||
        (memcmp(log.upload_digest, upload.digest, DIGEST_SIZE) != 0)) {
        return false;
    }
    upload.offset = slot_upload_offset(upload.image, upload.slot, &log);
    bool complete = (upload.length - upload.offset) <= FLASH_WORD;
    if (complete && matches()) {
        upload.offset = upload.length;
    }
    return !complete || (upload.offset == upload.length);
}

enum upload_field { UPLOAD_OFF, UPLOAD_DATA, UPLOAD_IMAGE, UPLOAD_LEN, UPLOAD_SHA, UPLOAD_UPGRADE, UPLOAD_FIELDS };

static enum smp_code begin_upload(const struct cbor_field fields[UPLOAD_FIELDS]) {
    uint32_t image = fields[UPLOAD_IMAGE].present ? fields[UPLOAD_IMAGE].number : 0U;
    const struct cbor_field *data = &fields[UPLOAD_DATA];
    if (!fields[UPLOAD_LEN].present || (image >= IMAGES) || (data->length < sizeof(uint32_t)) ||
        (bytes_u32(data->bytes) != IMAGE_MAGIC) ||
        (fields[UPLOAD_SHA].present && (fields[UPLOAD_SHA].length != DIGEST_SIZE))) {
        return SMP_INVALID;
    }
    if (fields[UPLOAD_UPGRADE].number != 0U) {
        return SMP_NOT_SUPPORTED; // versions are the publisher's to judge, the security counter the bootloader's
    }
    if (fields[UPLOAD_LEN].number > IMAGE_MAX) {
        return SMP_NO_MEMORY;
    }
    // In a trial the spare slot has what the next boot goes back to.
    if (on_trial(image)) {
        return SMP_BAD_STATE;
    }
    (void)memset(&upload, 0, sizeof upload);
    upload.image = image;
    upload.slot = spare_slot(image);
    upload.length = fields[UPLOAD_LEN].number;
    upload.named = fields[UPLOAD_SHA].present;
    if (upload.named) {
        (void)memcpy(upload.digest, fields[UPLOAD_SHA].bytes, DIGEST_SIZE);
    }
    upload.begun = resume();
    if (!upload.begun) {
        upload.offset = 0;
        upload.begun = slot_begin_upload(upload.image, upload.slot, upload.length, upload.digest);
    }
    return upload.begun ? SMP_OK : SMP_UNKNOWN;
}

// Program what has come, in whole words: the rest is asked for again.
static enum smp_code store(const struct cbor_field *data) {
    uint32_t address = slot_address(upload.image, upload.slot) + upload.offset;
    if (data->length > (upload.length - upload.offset)) {
        return SMP_INVALID;
    }
    uint32_t whole = (data->length / FLASH_WORD) * FLASH_WORD;
    uint32_t rest = data->length - whole;
    if (!flash_program(address, data->bytes, whole)) {
        return SMP_UNKNOWN;
    }
    upload.offset += whole;
    if ((rest > 0U) && ((upload.length - upload.offset) == rest)) {
        uint8_t last[FLASH_WORD] = {0xff, 0xff, 0xff, 0xff};
        (void)memcpy(last, &data->bytes[whole], rest);
        if (!flash_program(address + whole, last, sizeof last)) {
            return SMP_UNKNOWN;
        }
        upload.offset += rest;
    }
    return SMP_OK;
}

static enum smp_code take_upload(const struct smp_request *request, struct cbor_writer *reply) {
    struct cbor_field fields[UPLOAD_FIELDS] = {
        [UPLOAD_OFF] = {.name = "off", .kind = CBOR_UINT},     [UPLOAD_DATA] = {.name = "data", .kind = CBOR_BYTES},
        [UPLOAD_IMAGE] = {.name = "image", .kind = CBOR_UINT}, [UPLOAD_LEN] = {.name = "len", .kind = CBOR_UINT},
        [UPLOAD_SHA] = {.name = "sha", .kind = CBOR_BYTES},    [UPLOAD_UPGRADE] = {.name = "upgrade", .kind = CBOR_BOOL},
    };
    if (!smp_fields(request, fields, UPLOAD_FIELDS) || !fields[UPLOAD_OFF].present || !fields[UPLOAD_DATA].present) {
        return SMP_INVALID;
    }
    enum smp_code code = SMP_OK;
    if (fields[UPLOAD_OFF].number == 0U) {
        code = begin_upload(fields);
    } else if (!upload.begun) {
        code = SMP_BAD_STATE; // after a reset: begin at 0, and the reply says where to go on
    } else {
        // It goes on.
    }
    if ((code == SMP_OK) && (fields[UPLOAD_OFF].number == upload.offset)) {
        code = store(&fields[UPLOAD_DATA]);
    }
    if (code == SMP_OK) {
        cbor_pair_uint(reply, "off", upload.offset);
        if (upload.named && (upload.offset == upload.length)) {
            cbor_pair_bool(reply, "match", matches());
        }
    }
    return code;
}

static enum smp_code erase(const struct smp_request *request) {
    struct cbor_field field = {.name = "slot", .kind = CBOR_UINT};
    if (!smp_fields(request, &field, 1)) {
        return SMP_INVALID;
    }
    // Slots are numbered through: 0 and 1 of image 0, 2 and 3 of image 1.
    uint32_t number = field.present ? field.number : 1U;
    uint32_t image = number / SLOTS;
    if (number >= (IMAGES * SLOTS)) {
        return SMP_INVALID;
    }
    if (((number % SLOTS) == active_slot(image)) || on_trial(image)) {
        return SMP_BAD_STATE;
    }
    upload.begun = upload.begun && (upload.image != image);
    return slot_erase(image, number % SLOTS) ? SMP_OK : SMP_UNKNOWN;
}

enum smp_code image_group(const struct smp_request *request, struct cbor_writer *reply) {
    if (request->command == STATE) {
        return request->write ? write_state(request, reply) : put_states(reply);
    }
    if ((request->command == UPLOAD) && request->write) {
        return take_upload(request, reply);
    }
    if ((request->command == ERASE) && request->write) {
        return erase(request);
    }
    return SMP_NOT_SUPPORTED;
}
