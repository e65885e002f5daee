// Copyright (c) 2026, The edgeml.fleet authors
// GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
// SPDX-License-Identifier: GPL-3.0-or-later
#include "slots.h"

#include <string.h>

#include "flash.h"
#include "flash_map.h"

// The log: what is uploaded, with a word that is programmed last and says that the rest is whole; then the records.
#define UPLOAD_WORDS 10U // length, its inverse, digest
#define UPLOAD_MAGIC 0x55504c44U
#define RECORDS_AT 64U
#define RECORD_SIZE 8U
#define RECORD_MARK 0xa0U
#define ERASED 0xffffffffU

uint32_t slot_address(uint32_t image, uint32_t slot) {
    return ((image * SLOTS) + slot) * SLOT_SIZE;
}

static uint32_t log_address(uint32_t image, uint32_t slot) {
    return slot_address(image, slot) + IMAGE_MAX;
}

bool slot_read(void *context, uint32_t offset, void *target, uint32_t length) {
    const uint32_t *address = context;
    if ((offset > IMAGE_MAX) || (length > (IMAGE_MAX - offset))) {
        return false;
    }
    return flash_read(*address + offset, target, length);
}

static void take_record(struct slot_log *log, uint32_t word) {
    uint32_t event = (word >> 24U) - RECORD_MARK;
    uint32_t number = word & 0xffffU;
    if ((event < (uint32_t)SLOT_TEST) || (event > (uint32_t)SLOT_REFUSED)) {
        return;
    }
    log->last = (enum slot_event)event;
    log->reason = (enum image_error)((word >> 16U) & 0xffU);
    log->highest = (number > log->highest) ? number : log->highest;
    if (log->last == SLOT_CONFIRMED) {
        log->confirmed = number;
    }
}

void slot_log_read(uint32_t image, uint32_t slot, struct slot_log *log) {
    uint32_t address = log_address(image, slot);
    uint32_t upload[UPLOAD_WORDS + 1U];
    (void)memset(log, 0, sizeof *log);
    log->next = FLASH_SECTOR;
    if (!flash_read(address, upload, sizeof upload)) {
        return;
    }
    log->uploading = (upload[UPLOAD_WORDS] == UPLOAD_MAGIC) && (upload[0] == ~upload[1]) && (upload[0] <= IMAGE_MAX);
    if (log->uploading) {
        log->upload_length = upload[0];
        (void)memcpy(log->upload_digest, &upload[2], DIGEST_SIZE);
    }
    for (uint32_t at = RECORDS_AT; at < FLASH_SECTOR; at += RECORD_SIZE) {
        uint32_t record[2];
        if (!flash_read(address + at, record, sizeof record)) {
            return;
        }
        if ((record[0] == ERASED) && (record[1] == ERASED)) {
            log->next = at;
            return;
        }
        if (record[0] == ~record[1]) {
            take_record(log, record[0]);
        }
    }
}

uint32_t slot_image_limit(const struct slot_log *log) {
    return log->uploading ? log->upload_length : (uint32_t)IMAGE_MAX;
}

bool slot_log_append(uint32_t image, uint32_t slot, struct slot_log *log, enum slot_event event,
                     enum image_error reason) {
    uint32_t number = log->highest;
    uint32_t word = ((RECORD_MARK + (uint32_t)event) << 24U) | ((uint32_t)reason << 16U) | number;
    const uint32_t record[2] = {word, ~word};
    if ((log->next >= FLASH_SECTOR) || !flash_program(log_address(image, slot) + log->next, record, sizeof record)) {
        return false;
    }
    slot_log_read(image, slot, log);
    return (log->last == event) && (log->reason == reason);
}

bool slot_confirm(uint32_t image, uint32_t slot) {
    struct slot_log log;
    struct slot_log other;
    slot_log_read(image, slot, &log);
    slot_log_read(image, 1U - slot, &other);
    log.highest = ((other.highest > log.highest) ? other.highest : log.highest) + 1U;
    return slot_log_append(image, slot, &log, SLOT_CONFIRMED, IMAGE_OK);
}

bool slot_erase(uint32_t image, uint32_t slot) {
    // The header first: a log that is erased in part might say again that the image is to be tried.
    return flash_erase(slot_address(image, slot)) && flash_erase(log_address(image, slot));
}

bool slot_begin_upload(uint32_t image, uint32_t slot, uint32_t length, const uint8_t digest[DIGEST_SIZE]) {
    uint32_t upload[UPLOAD_WORDS] = {length, ~length};
    const uint32_t magic = UPLOAD_MAGIC;
    bool done = (length <= IMAGE_MAX) && slot_erase(image, slot);
    for (uint32_t at = FLASH_SECTOR; done && (at < length); at += FLASH_SECTOR) {
        done = flash_erase(slot_address(image, slot) + at);
    }
    (void)memcpy(&upload[2], digest, DIGEST_SIZE);
    return done && flash_program(log_address(image, slot), upload, sizeof upload) &&
           flash_program(log_address(image, slot) + (uint32_t)sizeof upload, &magic, sizeof magic);
}

uint32_t slot_upload_offset(uint32_t image, uint32_t slot, const struct slot_log *log) {
    uint32_t address = slot_address(image, slot);
    uint32_t at = ((log->upload_length + FLASH_WORD - 1U) / FLASH_WORD) * FLASH_WORD;
    // The last word that is not erased may have been programmed in part: programming it again completes it.
    while (at > 0U) {
        uint32_t word;
        at -= FLASH_WORD;
        if (!flash_read(address + at, &word, sizeof word)) {
            return 0;
        }
        if (word != ERASED) {
            return at;
        }
    }
    return 0;
}
