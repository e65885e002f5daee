// Copyright (c) 2026, The edgeml.fleet authors
// GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
// SPDX-License-Identifier: GPL-3.0-or-later
//
// The operators: what each needs of its tensors and its options, checked once, when a model is loaded.
#ifndef OPERATORS_H
#define OPERATORS_H

#include "model.h"
#include "tflite.h"

// What an operator is checked with.
struct preparation {
    struct flat *flat;
    struct model *model;
    struct step *step; // its inputs and its output are set
    uint32_t options;  // place of the options' table, 0 without
    uint32_t *place;   // the next free one in the arena, for multipliers; it may be behind the arena's end
    uint32_t arena_size;
    uint32_t input_count;
};

// Fill in the step for the operator with this number in the schema. IMAGE_OPERATOR: there is no such operator here;
// IMAGE_MODEL: its tensors or options are not what it can work with.
enum image_error operator_prepare(uint32_t number, struct preparation *preparation);

#endif
