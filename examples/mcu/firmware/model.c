// Copyright (c) 2026, The edgeml.fleet authors
// GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
// SPDX-License-Identifier: GPL-3.0-or-later
#include "model.h"
const char *const model_operators[] = {NULL};
enum image_error model_load(struct model *model, const uint8_t *bytes, uint32_t length, uint8_t *arena, uint32_t arena_size) {
    (void)model; (void)bytes; (void)length; (void)arena; (void)arena_size;
    return IMAGE_MODEL;
}
void model_run(struct model *model, const uint8_t *input, uint8_t *output) { (void)model; (void)input; (void)output; }
