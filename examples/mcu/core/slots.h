// Copyright (c) 2026, The edgeml.fleet authors
// GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
// SPDX-License-Identifier: GPL-3.0-or-later
//
// The slots of both images, and each slot's log: what happened to the image in it.
//
// A log is erased with its slot and otherwise only appended to, so an update costs no erase of its own. A record is a word
// and its inverse. If the power is cut while one is programmed or erased, some of its bits are 1 in both words: it is no
// record then, and what was true before still is.
#ifndef SLOTS_H
#define SLOTS_H

#include <stdbool.h>
#include <stdint.h>

#include "image.h"

enum slot_event {
    SLOT_NOTHING = 0,
    SLOT_TEST = 1,      // the next boot is to try it
    SLOT_TRIED = 2,     // it was booted on trial: once, whatever came of it
    SLOT_CONFIRMED = 3, // it is to stay
    SLOT_REFUSED = 4,   // it was not booted or loaded, for a reason
};

struct slot_log {
    enum slot_event last;
    enum image_error reason; // of the last event, if that is a refusal
    uint32_t confirmed;      // the number of its last confirmation; 0: it was never confirmed
    uint32_t highest;        // the highest number in the log
    uint32_t next;           // where the next record goes, in bytes from the log's beginning
    bool uploading;          // the fields below say what is or was uploaded
    uint32_t upload_length;
    uint8_t upload_digest[DIGEST_SIZE]; // of the whole file
};

uint32_t slot_address(uint32_t image, uint32_t slot);

// An image_reader; its context is a uint32_t, the slot's address.
bool slot_read(void *context, uint32_t offset, void *target, uint32_t length);

void slot_log_read(uint32_t image, uint32_t slot, struct slot_log *log);

// No image in the slot is longer: what was announced when it was uploaded.
uint32_t slot_image_limit(const struct slot_log *log);

// Append an event to the slot's log and bring `log` up to date. False if there is no room, or the flash does not hold it.
bool slot_log_append(uint32_t image, uint32_t slot, struct slot_log *log, enum slot_event event,
                     enum image_error reason);

// Append a confirmation, with a number above all that either slot has.
bool slot_confirm(uint32_t image, uint32_t slot);

// Make a slot ready for an upload of a file: what was in it is gone from the first erase on.
bool slot_begin_upload(uint32_t image, uint32_t slot, uint32_t length, const uint8_t digest[DIGEST_SIZE]);

// Where an upload that was broken off goes on: no byte from here on is surely in flash.
uint32_t slot_upload_offset(uint32_t image, uint32_t slot, const struct slot_log *log);

// Erase the slot's first sector, so that no image is in it, and its log.
bool slot_erase(uint32_t image, uint32_t slot);

#endif
