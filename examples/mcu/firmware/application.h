// Copyright (c) 2026, The edgeml.fleet authors
// GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
// SPDX-License-Identifier: GPL-3.0-or-later
//
// What the firmware knows of itself, for the groups that answer requests.
#ifndef APPLICATION_H
#define APPLICATION_H

#include <stdbool.h>
#include <stdint.h>

#include "boot_info.h"
#include "model.h"

struct application {
    struct boot_info boot; // what the bootloader chose; a confirmation ends the trial in it
    struct model model;
    bool builtin; // it is the firmware's own
    enum image_error model_error; // why the chosen model is not loaded
    uint8_t model_digest[DIGEST_SIZE];
    uint32_t inferences;
    uint32_t errors;
    const char *reset_cause;
    bool reset_wanted;
};

extern struct application application;

// Take over what the bootloader found, and load the model that it chose. False: the model was on trial and cannot be used,
// which is noted, and another start brings the confirmed one back.
bool application_start(const struct boot_info *boot, const uint8_t *model);

// The text of a version: "1.2.0+0".
#define VERSION_TEXT 32U
void version_text(const struct image_version *version, char text[VERSION_TEXT]);

// What the board does for them.
uint32_t application_milliseconds(void);
uint32_t application_microseconds(void);
uint32_t application_starts(void);

#endif
