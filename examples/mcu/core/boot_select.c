// Copyright (c) 2026, The edgeml.fleet authors
// GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
// SPDX-License-Identifier: GPL-3.0-or-later
//
// Choose the images of this boot. Slots are equal: an image is loaded into memory from either, so nothing is ever swapped,
// and an update programs each of its bytes once. The confirmed image with the highest number is the one that stays; the
// other slot's is booted once if it is to be tried. What is checked is the copy in memory, which is what will run.
#include <string.h>

#include "boot_info.h"
#include "bytes.h"
#include "flash.h"
#include "slots.h"

struct choice {
    uint32_t image;
    uint8_t *memory;
    const struct image_version *firmware; // what a model is to run on; NULL for the firmware itself
    struct boot_image *result;
    struct slot_log logs[SLOTS];
};

struct memory {
    const uint8_t *bytes;
    uint32_t length;
};

static bool read_memory(void *context, uint32_t offset, void *target, uint32_t length) {
    const struct memory *memory = context;
    if ((offset > memory->length) || (length > (memory->length - offset))) {
        return false;
    }
    (void)memcpy(target, &memory->bytes[offset], length);
    return true;
}

// A firmware must have been linked for where it is loaded: its stack and its first instruction say so.
static enum image_error check_vectors(const uint8_t *payload, uint32_t length) {
    if (length < 8U) {
        return IMAGE_ADDRESS;
    }
    uint32_t stack = bytes_u32(payload);
    uint32_t entry = bytes_u32(&payload[4]);
    bool stack_fits = (stack > (uint32_t)RAM_DATA) && (stack <= ((uint32_t)RAM_DATA + RAM_DATA_SIZE));
    bool entry_fits = (entry > (uint32_t)RAM_FIRMWARE) && (entry < ((uint32_t)RAM_FIRMWARE + length));
    return (stack_fits && entry_fits) ? IMAGE_OK : IMAGE_ADDRESS;
}

static enum image_error load(const struct choice *choice, uint32_t slot, struct image *image) {
    uint32_t address = slot_address(choice->image, slot);
    enum image_error error = image_parse(slot_read, &address, slot_image_limit(&choice->logs[slot]), image);
    if (error != IMAGE_OK) {
        return error;
    }
    struct memory memory = {choice->memory, image->length};
    if (!slot_read(&address, 0, choice->memory, image->length)) {
        return IMAGE_TRUNCATED;
    }
    error = image_parse(read_memory, &memory, memory.length, image);
    if (error == IMAGE_OK) {
        error = image_check_hash(read_memory, &memory, image);
    }
    if (error == IMAGE_OK) {
        error = image_check_signature(read_memory, &memory, image);
    }
    if ((error == IMAGE_OK) && (choice->firmware == NULL)) {
        error = image->depends ? IMAGE_FORMAT : check_vectors(&choice->memory[HEADER_SIZE], image->payload);
    }
    return error;
}

static enum image_error check_dependency(const struct choice *choice, const struct image *image) {
    bool met = !image->depends || (choice->firmware == NULL) || (image_compare(choice->firmware, &image->needed) >= 0);
    return met ? IMAGE_OK : IMAGE_DEPENDENCY;
}

static void take(const struct choice *choice, uint32_t slot, const struct image *image) {
    choice->result->slot = (uint8_t)slot;
    choice->result->payload = image->payload;
    choice->result->counter = image->counter;
    choice->result->version = image->version;
}

static void refuse(const struct choice *choice, enum image_error error, const struct image *image) {
    choice->result->refused = (uint8_t)error;
    choice->result->needed = image->needed;
}

// Load what is confirmed, the newest first. Sets *counter to the security counter of the newest that is whole: also one
// that waits for another firmware says what may no longer follow it.
static void take_confirmed(struct choice *choice, uint32_t *counter) {
    uint32_t slot = (choice->logs[1].confirmed > choice->logs[0].confirmed) ? 1U : 0U;
    bool known = false;
    for (uint32_t tries = 0; (tries < SLOTS) && (choice->result->slot == NO_SLOT); tries++) {
        struct image image;
        if (choice->logs[slot].confirmed != 0U) {
            enum image_error error = load(choice, slot, &image);
            if ((error == IMAGE_OK) && !known) {
                *counter = image.counter;
                known = true;
            }
            if (error == IMAGE_OK) {
                error = check_dependency(choice, &image);
            }
            if (error == IMAGE_OK) {
                take(choice, slot, &image);
            } else {
                refuse(choice, error, &image);
            }
        }
        slot = 1U - slot;
    }
}

// Load the image of the slot that is to be tried, if there is one and it may be booted. False if memory no longer holds
// what take_confirmed loaded.
static bool take_trial(struct choice *choice, uint32_t counter) {
    uint32_t slot = 0;
    while ((slot < SLOTS) && (choice->logs[slot].last != SLOT_TEST)) {
        slot++;
    }
    if ((slot == SLOTS) || (slot == choice->result->slot)) {
        return true;
    }
    struct image image;
    enum image_error error = load(choice, slot, &image);
    if (error == IMAGE_OK) {
        error = (image.counter < counter) ? IMAGE_COUNTER : check_dependency(choice, &image);
    }
    // Noted before it runs: however it ends, it is not tried again.
    if ((error == IMAGE_OK) && !slot_log_append(choice->image, slot, &choice->logs[slot], SLOT_TRIED, IMAGE_OK)) {
        error = IMAGE_LOG_FULL;
    }
    if (error == IMAGE_OK) {
        take(choice, slot, &image);
        choice->result->trial = 1;
        choice->result->refused = (uint8_t)IMAGE_OK;
        return true;
    }
    (void)slot_log_append(choice->image, slot, &choice->logs[slot], SLOT_REFUSED, error);
    refuse(choice, error, &image);
    return false;
}

static void choose(struct choice *choice) {
    uint32_t counter = 0;
    struct boot_image *result = choice->result;
    (void)memset(result, 0, sizeof *result);
    result->slot = NO_SLOT;
    for (uint32_t slot = 0; slot < SLOTS; slot++) {
        slot_log_read(choice->image, slot, &choice->logs[slot]);
    }
    take_confirmed(choice, &counter);
    if (!take_trial(choice, counter)) {
        const struct boot_image refused = *result;
        result->slot = NO_SLOT;
        take_confirmed(choice, &counter);
        result->refused = refused.refused;
        result->needed = refused.needed;
    }
    // A refusal of an earlier boot is still the answer to why the other slot's image does not run.
    for (uint32_t slot = 0; (slot < SLOTS) && (result->refused == (uint8_t)IMAGE_OK); slot++) {
        if ((slot != result->slot) && (choice->logs[slot].last == SLOT_REFUSED)) {
            result->refused = (uint8_t)choice->logs[slot].reason;
        }
    }
}

void boot_select(struct boot_info *info, uint8_t *firmware, uint8_t *model) {
    struct choice choice = {.image = 0, .memory = firmware, .firmware = NULL, .result = &info->images[0]};
    choose(&choice);
    choice.image = 1;
    choice.memory = model;
    choice.firmware = &info->images[0].version;
    choice.result = &info->images[1];
    choose(&choice);
    info->magic = BOOT_INFO_MAGIC;
}
