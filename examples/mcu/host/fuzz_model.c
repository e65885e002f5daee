// Copyright (c) 2026, The edgeml.fleet authors
// GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
// SPDX-License-Identifier: GPL-3.0-or-later
//
// Models: load and run whatever the bytes are.
#include <string.h>

#include "flash_map.h"
#include "fuzz.h"
#include "model.h"

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t size) {
    static struct model model;
    static _Alignas(8) uint8_t arena[ARENA_SIZE];
    static uint8_t input[ARENA_SIZE];
    static uint8_t output[ARENA_SIZE];
    if (model_load(&model, bytes, (uint32_t)size, arena, sizeof arena) == IMAGE_OK) {
        memset(input, 0x55, sizeof input);
        model_run(&model, input, output);
    }
    return 0;
}
