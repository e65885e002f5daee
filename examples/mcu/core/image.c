// Copyright (c) 2026, The edgeml.fleet authors
// GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
// SPDX-License-Identifier: GPL-3.0-or-later
#include "image.h"

#include <bearssl.h>
#include <string.h>

#include "bytes.h"
#include "flash_map.h"
#include "public_key.h"

#define HEADER_MAGIC 0x96f3b83dU
#define FIELDS_MAGIC 0x6907U
#define PROTECTED_MAGIC 0x6908U
#define FIELDS_INFO 4U // bytes before the fields: magic and total length
#define FIELD_INFO 4U  // bytes before each field: type and length
#define FIELDS_MAX 16U // more are not looked at

// What changes how an image is to be loaded, and is not supported: encrypted (2), position fixed elsewhere (4, 8), compressed.
#define FLAGS_KNOWN 0x10U // not bootable: imgtool's flag for images such as a model

#define FIELD_KEY_HASH 0x01U
#define FIELD_SHA256 0x10U
#define FIELD_ECDSA 0x22U
#define FIELD_DEPENDENCY 0x40U
#define FIELD_COUNTER 0x50U
#define DEPENDENCY_SIZE 12U
#define SIGNATURE_MAX 80U
#define READ_SIZE 256U

struct fields {
    image_reader *read;
    void *context;
    bool protected_ones;
};

static struct image_version version_at(const uint8_t *bytes) {
    struct image_version version;
    version.major = bytes[0];
    version.minor = bytes[1];
    version.revision = bytes_u16(&bytes[2]);
    version.build = bytes_u32(&bytes[4]);
    return version;
}

static enum image_error take_dependency(const struct fields *fields, uint32_t offset, struct image *image) {
    uint8_t value[DEPENDENCY_SIZE];
    // Only a model depends, only on the firmware, and only on one version of it.
    if (image->depends || !fields->read(fields->context, offset, value, sizeof value) || (value[0] != 0U)) {
        return IMAGE_FORMAT;
    }
    image->depends = true;
    image->needed = version_at(&value[4]);
    return IMAGE_OK;
}

static enum image_error take_digest(const struct fields *fields, uint32_t offset, uint32_t length, uint8_t *digest) {
    bool read = (length == DIGEST_SIZE) && fields->read(fields->context, offset, digest, DIGEST_SIZE);
    return read ? IMAGE_OK : IMAGE_FORMAT;
}

static enum image_error take_field(const struct fields *fields, uint16_t type, uint32_t offset, uint32_t length,
                                   struct image *image) {
    uint8_t value[4];
    enum image_error error = IMAGE_OK;
    if (fields->protected_ones) {
        // These change what is done with the image, so they count only where the signature covers them.
        if (type == FIELD_COUNTER) {
            error = IMAGE_FORMAT;
            if ((length == sizeof value) && fields->read(fields->context, offset, value, sizeof value)) {
                image->counter = bytes_u32(value);
                error = IMAGE_OK;
            }
        } else if (type == FIELD_DEPENDENCY) {
            error = (length == DEPENDENCY_SIZE) ? take_dependency(fields, offset, image) : IMAGE_FORMAT;
        } else {
            // Others, such as a note of the build, are for people.
        }
    } else if (type == FIELD_SHA256) {
        error = take_digest(fields, offset, length, image->hash);
    } else if (type == FIELD_KEY_HASH) {
        error = take_digest(fields, offset, length, image->key_hash);
    } else if (type == FIELD_ECDSA) {
        image->signature = offset;
        image->signature_length = length;
        error = (length <= SIGNATURE_MAX) ? IMAGE_OK : IMAGE_FORMAT;
    } else {
        // Unknown and not signed: nothing depends on it.
    }
    return error;
}

// Read one group of fields at *offset and move *offset behind it. `expected`: its length in bytes, 0 if that is not known.
static enum image_error parse_fields(const struct fields *fields, uint32_t *offset, uint32_t limit, uint32_t expected,
                                     struct image *image) {
    uint8_t info[FIELDS_INFO];
    if (((limit - *offset) < FIELDS_INFO) || !fields->read(fields->context, *offset, info, sizeof info)) {
        return IMAGE_TRUNCATED;
    }
    uint32_t magic = fields->protected_ones ? PROTECTED_MAGIC : FIELDS_MAGIC;
    uint32_t total = bytes_u16(&info[2]);
    if (bytes_u16(info) != magic) {
        return IMAGE_TRUNCATED; // the header says that they are here
    }
    if ((total < FIELDS_INFO) || (total > (limit - *offset)) || ((expected != 0U) && (total != expected))) {
        return IMAGE_FORMAT;
    }
    uint32_t end = *offset + total;
    uint32_t at = *offset + FIELDS_INFO;
    for (uint32_t count = 0; at < end; count++) {
        if ((count == FIELDS_MAX) || ((end - at) < FIELD_INFO) ||
            !fields->read(fields->context, at, info, sizeof info)) {
            return IMAGE_FORMAT;
        }
        at += FIELD_INFO;
        uint32_t length = bytes_u16(&info[2]);
        if (length > (end - at)) {
            return IMAGE_FORMAT;
        }
        enum image_error error = take_field(fields, bytes_u16(info), at, length, image);
        if (error != IMAGE_OK) {
            return error;
        }
        at += length;
    }
    *offset = end;
    return IMAGE_OK;
}

enum image_error image_parse(image_reader *read, void *context, uint32_t limit, struct image *image) {
    uint8_t header[HEADER_SIZE];
    (void)memset(image, 0, sizeof *image);
    if ((limit < HEADER_SIZE) || !read(context, 0, header, sizeof header)) {
        return IMAGE_TRUNCATED;
    }
    if (bytes_u32(header) != HEADER_MAGIC) {
        return IMAGE_NONE;
    }
    uint32_t header_size = bytes_u16(&header[8]);
    uint32_t protected_size = bytes_u16(&header[10]);
    image->payload = bytes_u32(&header[12]);
    image->version = version_at(&header[20]);
    if ((header_size != HEADER_SIZE) || ((bytes_u32(&header[16]) & ~FLAGS_KNOWN) != 0U) || (image->payload == 0U)) {
        return IMAGE_FORMAT;
    }
    if (image->payload > (limit - HEADER_SIZE)) {
        return IMAGE_TRUNCATED;
    }
    uint32_t offset = HEADER_SIZE + image->payload;
    struct fields fields = {read, context, true};
    enum image_error error = IMAGE_OK;
    if (protected_size != 0U) {
        error = parse_fields(&fields, &offset, limit, protected_size, image);
    }
    image->signed_length = offset;
    if (error == IMAGE_OK) {
        fields.protected_ones = false;
        error = parse_fields(&fields, &offset, limit, 0, image);
    }
    image->length = offset;
    if ((error == IMAGE_OK) && (image->signature_length == 0U)) {
        error = IMAGE_SIGNATURE;
    }
    return error;
}

enum image_error image_check_hash(image_reader *read, void *context, const struct image *image) {
    br_sha256_context sha;
    uint8_t part[READ_SIZE];
    uint8_t digest[DIGEST_SIZE];
    br_sha256_init(&sha);
    for (uint32_t offset = 0; offset < image->signed_length;) {
        uint32_t length = image->signed_length - offset;
        if (length > sizeof part) {
            length = sizeof part;
        }
        if (!read(context, offset, part, length)) {
            return IMAGE_TRUNCATED;
        }
        br_sha256_update(&sha, part, length);
        offset += length;
    }
    br_sha256_out(&sha, digest);
    return (memcmp(digest, image->hash, sizeof digest) == 0) ? IMAGE_OK : IMAGE_HASH;
}

enum image_error image_check_signature(image_reader *read, void *context, const struct image *image) {
    uint8_t signature[SIGNATURE_MAX];
    uint8_t point[PUBLIC_KEY_POINT];
    const br_ec_public_key key = {BR_EC_secp256r1, point, sizeof point};
    (void)memcpy(point, &ecdsa_pub_key[ecdsa_pub_key_len - sizeof point], sizeof point);
    if ((image->signature_length > sizeof signature) ||
        !read(context, image->signature, signature, image->signature_length)) {
        return IMAGE_TRUNCATED;
    }
    uint32_t valid = br_ecdsa_i31_vrfy_asn1(&br_ec_p256_m31, image->hash, DIGEST_SIZE, &key, signature,
                                            image->signature_length);
    return (valid == 1U) ? IMAGE_OK : IMAGE_SIGNATURE;
}

static int compare(uint32_t one, uint32_t other) {
    return (one > other) ? 1 : ((one < other) ? -1 : 0);
}

int image_compare(const struct image_version *one, const struct image_version *other) {
    int order = compare(one->major, other->major);
    order = (order != 0) ? order : compare(one->minor, other->minor);
    order = (order != 0) ? order : compare(one->revision, other->revision);
    return (order != 0) ? order : compare(one->build, other->build);
}

const char *image_error_text(enum image_error error) {
    static const char *const texts[] = {
        [IMAGE_OK] = "",
        [IMAGE_NONE] = "no image",
        [IMAGE_FORMAT] = "format: the header or the fields are not as imgtool writes them",
        [IMAGE_TRUNCATED] = "length: the image is shorter than its header says",
        [IMAGE_HASH] = "hash: the bytes are not those that were signed",
        [IMAGE_SIGNATURE] = "signature: not by the key of this device",
        [IMAGE_COUNTER] = "security counter: lower than that of the confirmed image",
        [IMAGE_DEPENDENCY] = "dependency: needs a newer firmware",
        [IMAGE_ADDRESS] = "address: not linked for this device",
        [IMAGE_MODEL] = "model: the interpreter cannot read it",
        [IMAGE_OPERATOR] = "operator: the firmware lacks one that the model has",
        [IMAGE_ARENA] = "arena: the model needs more memory than there is",
        [IMAGE_LOG_FULL] = "log: no room for another trial, upload the image again",
    };
    uint32_t index = (uint32_t)error;
    return (index < (sizeof texts / sizeof texts[0])) ? texts[index] : "unknown";
}
