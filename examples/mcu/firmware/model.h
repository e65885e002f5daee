// Copyright (c) 2026, The edgeml.fleet authors
// GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
// SPDX-License-Identifier: GPL-3.0-or-later
//
// An interpreter of int8 models in TensorFlow Lite's format. Its results are those of TensorFlow Lite's reference kernels,
// bit for bit. The model is read where it is, and not trusted: every offset, size and index is checked when it is loaded.
#ifndef MODEL_H
#define MODEL_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "fixed_point.h"
#include "image.h"

#define MODEL_DIMENSIONS 4U
#define MODEL_TENSORS 64U
#define MODEL_STEPS 32U
#define MODEL_STEP_INPUTS 3U
#define NO_TENSOR 0xffU

// The operators there are, by the schema's names; the list ends with NULL.
extern const char *const model_operators[];

struct tensor {
    bool wide; // int32 instead of int8
    uint8_t rank;
    uint8_t producer; // the step that computes it; NO_TENSOR: none does
    uint8_t last_step; // that needs it
    int32_t shape[MODEL_DIMENSIONS];
    uint32_t elements;
    float scale; // of all of it, or of its first channel
    int32_t zero_point;
    uint32_t channels;      // that have a scale of their own
    const uint8_t *scales;  // little-endian float32, one for each channel
    const uint8_t *content; // of a constant, within the model; NULL: it is computed
    uint32_t place;         // of one that is computed, in the arena
};

struct step;
struct model;
typedef void kernel(struct model *model, const struct step *step);

// One operator of the model, with all that can be computed before there is an input.
struct step {
    kernel *run;
    uint8_t inputs[MODEL_STEP_INPUTS];
    uint8_t output;
    int32_t stride[2]; // rows, columns; so are the following
    int32_t filter[2];
    int32_t dilation[2];
    int32_t padding[2]; // above, left
    int32_t least;      // what the activation function lets through
    int32_t most;
    uint32_t channels;
    uint32_t multipliers; // of each channel: struct multiplier, at this place in the arena
    struct softmax softmax;
};

struct model {
    bool loaded;
    uint8_t *arena;
    uint32_t arena_needed; // bytes; known also if it is more than there is
    uint8_t input;
    uint8_t output;
    uint32_t tensor_count;
    uint32_t step_count;
    struct tensor tensors[MODEL_TENSORS];
    struct step steps[MODEL_STEPS];
};

// Read a model of one int8 input and one int8 output, and lay its tensors out in the arena (aligned to 8 bytes).
enum image_error model_load(struct model *model, const uint8_t *bytes, uint32_t length, uint8_t *arena,
                            uint32_t arena_size);

// Run a loaded model: as many bytes as its input and its output have elements.
void model_run(struct model *model, const uint8_t *input, uint8_t *output);

#endif
