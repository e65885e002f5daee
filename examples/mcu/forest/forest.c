// Copyright (c) 2026, The edgeml.fleet authors
// GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
// SPDX-License-Identifier: GPL-3.0-or-later
//
// A forest of decision trees as the firmware's own model: emlearn has written it, by forest.py. Its input are whole numbers
// from -128 to 127, its output is the share of each class, in 1/255.
#include <string.h>

#include "builtin.h"

// emlearn's code: what forest.py wrote. It is not held to this project's warnings.
#include <digits_forest.h>

#define STEPS 255.0f
#define ZERO (-128)

static void describe(struct tensor *tensor, uint32_t elements, float scale, int32_t zero) {
    (void)memset(tensor, 0, sizeof *tensor);
    tensor->rank = 2;
    tensor->shape[0] = 1;
    tensor->shape[1] = (int32_t)elements;
    tensor->elements = elements;
    tensor->scale = scale;
    tensor->zero_point = zero;
}

bool builtin_open(struct model *model) {
    model->input = 0;
    model->output = 1;
    model->tensor_count = 2;
    describe(&model->tensors[0], FOREST_FEATURES, 1.0f, 0);
    describe(&model->tensors[1], FOREST_CLASSES, 1.0f / STEPS, ZERO);
    model->loaded = true;
    return true;
}

void builtin_run(const uint8_t *input, uint8_t *output) {
    FOREST_FEATURE features[FOREST_FEATURES];
    float shares[FOREST_CLASSES];
    for (uint32_t i = 0; i < FOREST_FEATURES; i++) {
        features[i] = FOREST_VALUE((int8_t)input[i]);
    }
    (void)digits_forest_predict_proba(features, (int32_t)FOREST_FEATURES, shares, (int)FOREST_CLASSES);
    for (uint32_t i = 0; i < FOREST_CLASSES; i++) {
        int32_t steps = (int32_t)((shares[i] * STEPS) + 0.5f);
        steps = (steps > 255) ? 255 : steps;
        output[i] = (uint8_t)(int8_t)(steps + ZERO);
    }
}
