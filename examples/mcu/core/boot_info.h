// Copyright (c) 2026, The edgeml.fleet authors
// GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
// SPDX-License-Identifier: GPL-3.0-or-later
//
// What the bootloader leaves in memory for the firmware, at RAM_BOOT_INFO.
#ifndef BOOT_INFO_H
#define BOOT_INFO_H

#include <stdint.h>

#include "flash_map.h"
#include "image.h"

#define BOOT_INFO_MAGIC 0x45444745U
#define NO_SLOT 0xffU

struct boot_image {
    uint8_t slot;                // NO_SLOT: none
    uint8_t trial;               // 1: it is not confirmed, so the next boot goes back
    uint8_t refused;             // enum image_error: why another image was not taken; IMAGE_OK if none was refused
    uint32_t payload;            // bytes
    uint32_t counter;            // security counter
    struct image_version version;
    struct image_version needed; // of the firmware, by the image that was refused for it
};

struct boot_info {
    uint32_t magic;
    struct boot_image images[IMAGES];
};

// Choose, check and load both images, with their headers, to `firmware` and `model` (IMAGE_MAX bytes each). Trials that
// begin, and trials that are refused, are noted in the slots' logs.
void boot_select(struct boot_info *info, uint8_t *firmware, uint8_t *model);

#endif
