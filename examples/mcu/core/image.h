// Copyright (c) 2026, The edgeml.fleet authors
// GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
// SPDX-License-Identifier: GPL-3.0-or-later
//
// Images as imgtool 2.5 signs them: a header, the payload, protected fields that the signature covers, and the rest.
#ifndef IMAGE_H
#define IMAGE_H

#include <stdbool.h>
#include <stdint.h>

#define DIGEST_SIZE 32U

// Why an image is not booted or loaded. The numbers are kept in flash: none is ever used for something else.
enum image_error {
    IMAGE_OK = 0,
    IMAGE_NONE = 1,       // there is no header
    IMAGE_FORMAT = 2,     // the header or the fields contradict each other
    IMAGE_TRUNCATED = 3,  // more bytes are announced than have come
    IMAGE_HASH = 4,       // the bytes are not those that were signed
    IMAGE_SIGNATURE = 5,  // signed by another key
    IMAGE_COUNTER = 6,    // the security counter is lower than that of the confirmed image
    IMAGE_DEPENDENCY = 7, // needs another version of the firmware
    IMAGE_ADDRESS = 8,    // a firmware that was not linked for where it is loaded
    IMAGE_MODEL = 9,      // the interpreter cannot read the model
    IMAGE_OPERATOR = 10,  // the model has an operator that the firmware does not have
    IMAGE_ARENA = 11,     // the model's tensors need more memory than there is
    IMAGE_LOG_FULL = 12,  // the slot's log has no room for another trial
};

struct image_version {
    uint8_t major;
    uint8_t minor;
    uint16_t revision;
    uint32_t build;
};

struct image {
    uint32_t payload;            // bytes
    uint32_t length;             // of all: header, payload, fields
    uint32_t signed_length;      // the part that the hash is of
    uint32_t counter;            // security counter, 0 without one
    bool depends;                // on a version of the firmware
    struct image_version needed; // that version
    struct image_version version;
    uint8_t hash[DIGEST_SIZE];
    uint8_t key_hash[DIGEST_SIZE];
    uint32_t signature; // offset of its DER form
    uint32_t signature_length;
};

// How to read an image: `context` is the reader's own.
typedef bool image_reader(void *context, uint32_t offset, void *target, uint32_t length);

// Read the header and the fields. `limit`: no image is longer.
enum image_error image_parse(image_reader *read, void *context, uint32_t limit, struct image *image);

// Hash what is signed, and compare.
enum image_error image_check_hash(image_reader *read, void *context, const struct image *image);

// Whether the image's hash is signed by the key that the bootloader has.
enum image_error image_check_signature(image_reader *read, void *context, const struct image *image);

// -1, 0, 1: by major, minor, revision and build, in this order.
int image_compare(const struct image_version *one, const struct image_version *other);

const char *image_error_text(enum image_error error);

#endif
