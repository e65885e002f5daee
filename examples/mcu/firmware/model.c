// Copyright (c) 2026, The edgeml.fleet authors
// GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
// SPDX-License-Identifier: GPL-3.0-or-later
#include "model.h"

#include <math.h>
#include <string.h>

#include "bytes.h"
#include "operators.h"
#include "tflite.h"

// Numbers of TensorFlow Lite's schema: its version, types of tensors, and fields by their order in a table.
#define SCHEMA_VERSION 3U
#define TYPE_INT32 2U
#define TYPE_INT8 9U
#define MODEL_VERSION 0U
#define MODEL_OPERATOR_CODES 1U
#define MODEL_SUBGRAPHS 2U
#define MODEL_BUFFERS 4U
#define CODE_SHORT 0U
#define CODE_NUMBER 3U
#define GRAPH_TENSORS 0U
#define GRAPH_INPUTS 1U
#define GRAPH_OUTPUTS 2U
#define GRAPH_OPERATORS 3U
#define TENSOR_SHAPE 0U
#define TENSOR_TYPE 1U
#define TENSOR_BUFFER 2U
#define TENSOR_QUANTISATION 4U
#define TENSOR_VARIABLE 5U
#define TENSOR_SPARSITY 6U
#define QUANTISATION_SCALE 2U
#define QUANTISATION_ZERO_POINT 3U
#define BUFFER_DATA 0U
#define OPERATOR_CODE 0U
#define OPERATOR_INPUTS 1U
#define OPERATOR_OUTPUTS 2U
#define OPERATOR_OPTIONS 4U

// No tensor has more elements, so that sums of sizes do not overflow.
#define ELEMENTS_MAX 0x100000U
#define ALIGNMENT 8U

struct reading {
    struct flat flat;
    uint32_t root;
    uint32_t graph;
    struct model *model;
};

static bool take_shape(struct reading *reading, uint32_t table, struct tensor *tensor) {
    struct flat_vector shape = flat_field_vector(&reading->flat, table, TENSOR_SHAPE, 4);
    if (shape.count > MODEL_DIMENSIONS) {
        return false;
    }
    tensor->rank = (uint8_t)shape.count;
    tensor->elements = 1;
    for (uint32_t i = 0; i < shape.count; i++) {
        uint32_t size = flat_u32(&reading->flat, shape.at + (i * 4U));
        if ((size == 0U) || (size > (ELEMENTS_MAX / tensor->elements))) {
            return false;
        }
        tensor->shape[i] = (int32_t)size;
        tensor->elements *= size;
    }
    return true;
}

static bool take_quantisation(struct reading *reading, uint32_t table, struct tensor *tensor) {
    struct flat *flat = &reading->flat;
    uint32_t quantisation = flat_field_table(flat, table, TENSOR_QUANTISATION);
    tensor->scale = 0.0F;
    if (quantisation == 0U) {
        return tensor->wide;
    }
    struct flat_vector scales = flat_field_vector(flat, quantisation, QUANTISATION_SCALE, 4);
    struct flat_vector zeros = flat_field_vector(flat, quantisation, QUANTISATION_ZERO_POINT, 8);
    if (scales.count == 0U) {
        return tensor->wide;
    }
    tensor->channels = scales.count;
    tensor->scales = &flat->bytes[scales.at];
    tensor->scale = flat_float(flat, scales.at);
    for (uint32_t i = 0; i < zeros.count; i++) {
        int32_t zero = (int32_t)flat_u32(flat, zeros.at + (i * 8U));
        // The points of channels are all 0.
        if ((zero < INT8_MIN) || (zero > INT8_MAX) || ((zeros.count > 1U) && (zero != 0))) {
            return false;
        }
        tensor->zero_point = zero;
    }
    return isfinite(tensor->scale) && (tensor->scale > 0.0F);
}

static bool take_content(struct reading *reading, uint32_t table, struct tensor *tensor) {
    struct flat *flat = &reading->flat;
    uint32_t index = flat_field_u32(flat, table, TENSOR_BUFFER, 0);
    struct flat_vector buffers = flat_field_vector(flat, reading->root, MODEL_BUFFERS, 4);
    uint32_t buffer = flat_element_table(flat, &buffers, index);
    if (flat->broken) {
        return false;
    }
    struct flat_vector data = flat_field_vector(flat, buffer, BUFFER_DATA, 1);
    if (flat->broken || (data.count == 0U)) {
        return !flat->broken;
    }
    tensor->content = &flat->bytes[data.at];
    return data.count == (tensor->elements * (tensor->wide ? 4U : 1U));
}

static bool take_tensor(struct reading *reading, uint32_t table, struct tensor *tensor) {
    struct flat *flat = &reading->flat;
    uint32_t type = flat_field_u8(flat, table, TENSOR_TYPE, 0);
    tensor->wide = type == TYPE_INT32;
    tensor->producer = NO_TENSOR;
    return ((type == TYPE_INT8) || (type == TYPE_INT32)) && !flat->broken &&
           (flat_field_u8(flat, table, TENSOR_VARIABLE, 0) == 0U) &&
           (flat_field_table(flat, table, TENSOR_SPARSITY) == 0U) && take_shape(reading, table, tensor) &&
           take_quantisation(reading, table, tensor) && take_content(reading, table, tensor) && !flat->broken;
}

static bool take_tensors(struct reading *reading) {
    struct flat_vector tensors = flat_field_vector(&reading->flat, reading->graph, GRAPH_TENSORS, 4);
    if (tensors.count > MODEL_TENSORS) {
        return false;
    }
    reading->model->tensor_count = tensors.count;
    for (uint32_t i = 0; i < tensors.count; i++) {
        uint32_t table = flat_element_table(&reading->flat, &tensors, i);
        if ((table == 0U) || !take_tensor(reading, table, &reading->model->tensors[i])) {
            return false;
        }
    }
    return true;
}

// The only element of the graph's list of inputs or outputs: an int8 tensor that is computed, or set.
static bool take_end(struct reading *reading, uint32_t field, uint8_t *index) {
    struct flat_vector ends = flat_field_vector(&reading->flat, reading->graph, field, 4);
    uint32_t tensor = (ends.count == 1U) ? flat_u32(&reading->flat, ends.at) : UINT32_MAX;
    if (tensor >= reading->model->tensor_count) {
        return false;
    }
    *index = (uint8_t)tensor;
    return !reading->model->tensors[tensor].wide && (reading->model->tensors[tensor].content == NULL);
}

static uint32_t operator_number(struct reading *reading, uint32_t table) {
    struct flat *flat = &reading->flat;
    struct flat_vector codes = flat_field_vector(flat, reading->root, MODEL_OPERATOR_CODES, 4);
    uint32_t code = flat_element_table(flat, &codes, flat_field_u32(flat, table, OPERATOR_CODE, 0));
    if (flat->broken) {
        return UINT32_MAX;
    }
    // The number was a byte once, which is still written.
    uint32_t number = flat_field_u32(flat, code, CODE_NUMBER, 0);
    uint32_t shorter = flat_field_u8(flat, code, CODE_SHORT, 0);
    return (number > shorter) ? number : shorter;
}

// Whether a tensor has its content by the time that this step needs it; note that it does.
static bool available(struct model *model, uint32_t index, uint32_t step) {
    struct tensor *tensor = &model->tensors[index];
    tensor->last_step = (uint8_t)step;
    return (tensor->content != NULL) || (index == model->input) || (tensor->producer != NO_TENSOR);
}

static bool take_inputs(struct reading *reading, uint32_t table, uint32_t number, uint32_t *count) {
    struct step *step = &reading->model->steps[number];
    struct flat_vector inputs = flat_field_vector(&reading->flat, table, OPERATOR_INPUTS, 4);
    *count = inputs.count;
    if ((inputs.count == 0U) || (inputs.count > MODEL_STEP_INPUTS)) {
        return false;
    }
    (void)memset(step->inputs, (int)NO_TENSOR, sizeof step->inputs);
    for (uint32_t i = 0; i < inputs.count; i++) {
        uint32_t index = flat_u32(&reading->flat, inputs.at + (i * 4U));
        bool left_out = (index == UINT32_MAX) && (i > 0U);
        if (!left_out) {
            if ((index >= reading->model->tensor_count) || !available(reading->model, index, number)) {
                return false;
            }
            step->inputs[i] = (uint8_t)index;
        }
    }
    return !reading->model->tensors[step->inputs[0]].wide;
}

static bool take_output(struct reading *reading, uint32_t table, uint32_t number) {
    struct model *model = reading->model;
    struct flat_vector outputs = flat_field_vector(&reading->flat, table, OPERATOR_OUTPUTS, 4);
    uint32_t index = (outputs.count == 1U) ? flat_u32(&reading->flat, outputs.at) : UINT32_MAX;
    if ((index >= model->tensor_count) || (index == model->input)) {
        return false;
    }
    struct tensor *tensor = &model->tensors[index];
    if ((tensor->content != NULL) || (tensor->producer != NO_TENSOR) || tensor->wide) {
        return false;
    }
    tensor->producer = (uint8_t)number;
    tensor->last_step = (uint8_t)number;
    model->steps[number].output = (uint8_t)index;
    return true;
}

static enum image_error take_steps(struct reading *reading, uint32_t *place, uint32_t arena_size) {
    struct model *model = reading->model;
    struct flat_vector operators = flat_field_vector(&reading->flat, reading->graph, GRAPH_OPERATORS, 4);
    if ((operators.count == 0U) || (operators.count > MODEL_STEPS)) {
        return IMAGE_MODEL;
    }
    for (uint32_t i = 0; i < operators.count; i++) {
        struct preparation preparation = {
            .flat = &reading->flat, .model = model, .step = &model->steps[i], .place = place, .arena_size = arena_size};
        uint32_t table = flat_element_table(&reading->flat, &operators, i);
        if ((table == 0U) || !take_inputs(reading, table, i, &preparation.input_count) ||
            !take_output(reading, table, i)) {
            return IMAGE_MODEL;
        }
        uint32_t number = operator_number(reading, table);
        preparation.options = flat_field_table(&reading->flat, table, OPERATOR_OPTIONS);
        enum image_error error = reading->flat.broken ? IMAGE_MODEL : operator_prepare(number, &preparation);
        if (error != IMAGE_OK) {
            return error;
        }
    }
    model->step_count = operators.count;
    return IMAGE_OK;
}

// The first and last step at which a tensor must have its content; the input has it before the first.
static bool overlap(const struct model *model, uint32_t one, uint32_t other) {
    const struct tensor *a = &model->tensors[one];
    const struct tensor *b = &model->tensors[other];
    uint32_t a_first = (one == model->input) ? 0U : a->producer;
    uint32_t b_first = (other == model->input) ? 0U : b->producer;
    return (a_first <= b->last_step) && (b_first <= a->last_step);
}

static bool in_arena(const struct model *model, uint32_t index) {
    return (index == model->input) || (model->tensors[index].producer != NO_TENSOR);
}

static uint32_t aligned(uint32_t size) {
    return (size + ALIGNMENT - 1U) & ~(ALIGNMENT - 1U);
}

// Whether a place is free of all placed tensors that live at the same time; if not, *place becomes the end of one.
static bool is_free(const struct model *model, uint32_t index, const bool *placed, uint32_t *place) {
    for (uint32_t i = 0; i < model->tensor_count; i++) {
        const struct tensor *other = &model->tensors[i];
        uint32_t end = other->place + aligned(other->elements);
        if (placed[i] && overlap(model, index, i) && (*place < end) &&
            (other->place < (*place + aligned(model->tensors[index].elements)))) {
            *place = end;
            return false;
        }
    }
    return true;
}

// Give each tensor the lowest place that is free while it lives, the largest tensors first. Returns the arena's end.
static uint32_t place_tensors(struct model *model, uint32_t from) {
    bool placed[MODEL_TENSORS] = {false};
    uint32_t needed = from;
    for (uint32_t turn = 0; turn < model->tensor_count; turn++) {
        uint32_t largest = MODEL_TENSORS;
        for (uint32_t i = 0; i < model->tensor_count; i++) {
            if (in_arena(model, i) && !placed[i] &&
                ((largest == MODEL_TENSORS) || (model->tensors[i].elements > model->tensors[largest].elements))) {
                largest = i;
            }
        }
        if (largest == MODEL_TENSORS) {
            break;
        }
        uint32_t place = from;
        while (!is_free(model, largest, placed, &place)) {
            // It only ever moves up, past one tensor after the other.
        }
        model->tensors[largest].place = place;
        placed[largest] = true;
        uint32_t end = place + aligned(model->tensors[largest].elements);
        needed = (end > needed) ? end : needed;
    }
    return needed;
}

static enum image_error read_model(struct reading *reading, uint32_t arena_size) {
    struct flat *flat = &reading->flat;
    struct model *model = reading->model;
    reading->root = flat_root(flat);
    if (flat->broken || (flat_field_u32(flat, reading->root, MODEL_VERSION, 0) != SCHEMA_VERSION)) {
        return IMAGE_MODEL;
    }
    struct flat_vector graphs = flat_field_vector(flat, reading->root, MODEL_SUBGRAPHS, 4);
    reading->graph = (graphs.count == 1U) ? flat_element_table(flat, &graphs, 0) : 0U;
    if ((reading->graph == 0U) || !take_tensors(reading) || !take_end(reading, GRAPH_INPUTS, &model->input) ||
        !take_end(reading, GRAPH_OUTPUTS, &model->output)) {
        return IMAGE_MODEL;
    }
    uint32_t place = 0;
    enum image_error error = take_steps(reading, &place, arena_size);
    if (error != IMAGE_OK) {
        return error;
    }
    if (model->tensors[model->output].producer == NO_TENSOR) {
        return IMAGE_MODEL;
    }
    model->tensors[model->output].last_step = (uint8_t)model->step_count;
    model->arena_needed = place_tensors(model, aligned(place));
    return (model->arena_needed <= arena_size) ? IMAGE_OK : IMAGE_ARENA;
}

enum image_error model_load(struct model *model, const uint8_t *bytes, uint32_t length, uint8_t *arena,
                            uint32_t arena_size) {
    struct reading reading = {.flat = {bytes, length, false}, .model = model};
    (void)memset(model, 0, sizeof *model);
    model->arena = arena;
    enum image_error error = read_model(&reading, arena_size);
    model->loaded = error == IMAGE_OK;
    return error;
}

void model_run(struct model *model, const uint8_t *input, uint8_t *output) {
    const struct tensor *in = &model->tensors[model->input];
    const struct tensor *out = &model->tensors[model->output];
    (void)memcpy(&model->arena[in->place], input, in->elements);
    for (uint32_t i = 0; i < model->step_count; i++) {
        model->steps[i].run(model, &model->steps[i]);
    }
    (void)memcpy(output, &model->arena[out->place], out->elements);
}
