// Copyright (c) 2026, The edgeml.fleet authors
// GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
// SPDX-License-Identifier: GPL-3.0-or-later
#include "operators.h"

#include <math.h>

#include "bytes.h"
#include "kernels.h"

// Numbers of TensorFlow Lite's schema.
#define AVERAGE_POOL_2D 1U
#define CONV_2D 3U
#define DEPTHWISE_CONV_2D 4U
#define FULLY_CONNECTED 9U
#define MAX_POOL_2D 17U
#define RELU 19U
#define RESHAPE 22U
#define SOFTMAX 25U
#define QUANTIZE 114U
#define PADDING_SAME 0U
#define PADDING_VALID 1U
#define ACTIVATION_NONE 0U
#define ACTIVATION_RELU 1U
#define ACTIVATION_RELU_N1_TO_1 2U
#define ACTIVATION_RELU6 3U
#define FORMAT_DEFAULT 0U

// A stride, a dilation or a filter is not larger: no product of two coordinates overflows.
#define WINDOW_MAX 1024U
// With 12 bits before the point, the sum of more shares than this could overflow.
#define SOFTMAX_MAX 4095

const char *const model_operators[] = {
    "AVERAGE_POOL_2D", "CONV_2D", "DEPTHWISE_CONV_2D", "FULLY_CONNECTED", "MAX_POOL_2D", "QUANTIZE",
    "RELU",            "RESHAPE", "SOFTMAX",           NULL,
};

static struct tensor *input(const struct preparation *preparation, uint32_t index) {
    return &preparation->model->tensors[preparation->step->inputs[index]];
}

static struct tensor *output(const struct preparation *preparation) {
    return &preparation->model->tensors[preparation->step->output];
}

static uint32_t option(const struct preparation *preparation, uint32_t number, uint32_t otherwise) {
    return (preparation->options == 0U) ? otherwise
                                        : flat_field_u32(preparation->flat, preparation->options, number, otherwise);
}

static uint32_t short_option(const struct preparation *preparation, uint32_t number) {
    return (preparation->options == 0U) ? 0U : flat_field_u8(preparation->flat, preparation->options, number, 0);
}

// A limit of an activation function as the output has it.
static int32_t quantised(const struct tensor *tensor, float value) {
    float steps = roundf(value / tensor->scale);
    return tensor->zero_point + ((steps > 1000.0F) ? 1000 : ((steps < -1000.0F) ? -1000 : (int32_t)steps));
}

static bool take_activation(const struct preparation *preparation, uint32_t activation) {
    const struct tensor *of = output(preparation);
    int32_t least = INT8_MIN;
    int32_t most = INT8_MAX;
    if (activation == ACTIVATION_RELU_N1_TO_1) {
        least = quantised(of, -1.0F);
        most = quantised(of, 1.0F);
    } else if (activation == ACTIVATION_RELU6) {
        least = quantised(of, 0.0F);
        most = quantised(of, 6.0F);
    } else if (activation == ACTIVATION_RELU) {
        least = quantised(of, 0.0F);
    } else {
        // None, or one that is refused below.
    }
    preparation->step->least = fixed_clamp(least, INT8_MIN, INT8_MAX);
    preparation->step->most = fixed_clamp(most, INT8_MIN, INT8_MAX);
    return activation <= ACTIVATION_RELU6;
}

// Reserve multipliers in the arena; what is behind its end is only counted.
static struct multiplier *reserve(struct preparation *preparation, uint32_t count) {
    uint32_t size = count * (uint32_t)sizeof(struct multiplier);
    uint32_t place = *preparation->place;
    preparation->step->channels = count;
    preparation->step->multipliers = place;
    *preparation->place += size;
    bool fits = (place <= preparation->arena_size) && (size <= (preparation->arena_size - place));
    return fits ? (struct multiplier *)(void *)&preparation->model->arena[place] : NULL;
}

static void reserve_one(struct preparation *preparation, double real) {
    struct multiplier *multiplier = reserve(preparation, 1);
    if (multiplier != NULL) {
        *multiplier = fixed_multiplier(real);
    }
}

// One multiplier for each of `count` channels of the weights, which may all have the same scale.
static bool take_multipliers(struct preparation *preparation, uint32_t count) {
    const struct tensor *weights = input(preparation, 1);
    double in_scale = (double)input(preparation, 0)->scale;
    double out_scale = (double)output(preparation)->scale;
    if ((weights->channels != 1U) && (weights->channels != count)) {
        return false;
    }
    struct multiplier *multipliers = reserve(preparation, count);
    for (uint32_t i = 0; (multipliers != NULL) && (i < count); i++) {
        const uint32_t at = (weights->channels == 1U) ? 0U : i;
        struct flat scales = {weights->scales, weights->channels * 4U, false};
        float scale = (at == 0U) ? weights->scale : flat_float(&scales, at * 4U);
        if (!(scale > 0.0F) || !isfinite(scale)) {
            return false;
        }
        multipliers[i] = fixed_multiplier((in_scale * (double)scale) / out_scale);
    }
    return true;
}

// The weights are constants, and the bias, if there is one, has a number for each channel.
static bool constants_fit(const struct preparation *preparation, uint32_t channels) {
    if ((preparation->input_count < 2U) || (preparation->step->inputs[1] == NO_TENSOR)) {
        return false;
    }
    const struct tensor *weights = input(preparation, 1);
    bool fit = (weights->content != NULL) && !weights->wide && (weights->zero_point == 0) && (channels > 0U);
    if (preparation->step->inputs[2] != NO_TENSOR) {
        const struct tensor *bias = input(preparation, 2);
        fit = fit && (bias->content != NULL) && bias->wide && (bias->elements == channels);
    }
    return fit;
}

// Along one axis: what the output's size must be, and how much of the first window is outside.
static bool take_axis(const struct preparation *preparation, uint32_t axis, uint32_t padding) {
    struct step *step = preparation->step;
    int32_t in = input(preparation, 0)->shape[1U + axis];
    int32_t out = output(preparation)->shape[1U + axis];
    int32_t stride = step->stride[axis];
    int32_t reach = ((step->filter[axis] - 1) * step->dilation[axis]) + 1;
    bool same = padding == PADDING_SAME;
    int32_t expected = same ? ((in + stride - 1) / stride) : ((in + stride - reach) / stride);
    int32_t outside = ((out - 1) * stride) + reach - in;
    step->padding[axis] = (same && (outside > 0)) ? (outside / 2) : 0;
    return (out == expected) && (out > 0) && (same || (reach <= in));
}

static bool small(uint32_t number) {
    return (number >= 1U) && (number <= WINDOW_MAX);
}

// Strides, filter and dilation of a window, rows before columns, all from 1 to WINDOW_MAX.
static bool take_window(const struct preparation *preparation, const uint32_t sizes[6], uint32_t padding) {
    struct step *step = preparation->step;
    const struct tensor *in = input(preparation, 0);
    const struct tensor *out = output(preparation);
    bool fits = (in->rank == 4U) && (out->rank == 4U) && (in->shape[0] == out->shape[0]) && (padding <= PADDING_VALID);
    for (uint32_t i = 0; i < 6U; i++) {
        fits = fits && small(sizes[i]);
    }
    if (!fits) {
        return false;
    }
    for (uint32_t axis = 0; axis < 2U; axis++) {
        step->stride[axis] = (int32_t)sizes[axis];
        step->filter[axis] = (int32_t)sizes[2U + axis];
        step->dilation[axis] = (int32_t)sizes[4U + axis];
        fits = fits && take_axis(preparation, axis, padding);
    }
    return fits;
}

static bool prepare_convolution(struct preparation *preparation, bool depthwise) {
    if ((preparation->input_count < 2U) || (preparation->step->inputs[1] == NO_TENSOR)) {
        return false;
    }
    const struct tensor *weights = input(preparation, 1);
    const struct tensor *in = input(preparation, 0);
    const struct tensor *out = output(preparation);
    // The options of both are the same, but for one in the middle.
    uint32_t more = depthwise ? 1U : 0U;
    const uint32_t sizes[6] = {
        option(preparation, 2, 0),        option(preparation, 1, 0),        (uint32_t)weights->shape[1],
        (uint32_t)weights->shape[2],      option(preparation, 5U + more, 1), option(preparation, 4U + more, 1),
    };
    if ((weights->rank != 4U) || !take_window(preparation, sizes, short_option(preparation, 0))) {
        return false;
    }
    int32_t channels = out->shape[3];
    bool fits = depthwise ? ((weights->shape[0] == 1) && (weights->shape[3] == channels) &&
                             ((channels % in->shape[3]) == 0))
                          : ((weights->shape[0] == channels) && (weights->shape[3] == in->shape[3]));
    preparation->step->run = depthwise ? kernel_depthwise : kernel_convolution;
    return fits && constants_fit(preparation, (uint32_t)channels) &&
           take_activation(preparation, short_option(preparation, 3U + more)) &&
           take_multipliers(preparation, (uint32_t)channels);
}

static bool same_quantisation(const struct preparation *preparation) {
    const struct tensor *in = input(preparation, 0);
    const struct tensor *out = output(preparation);
    return (in->scale == out->scale) && (in->zero_point == out->zero_point);
}

static bool prepare_pool(struct preparation *preparation, kernel *run) {
    const uint32_t sizes[6] = {
        option(preparation, 2, 0), option(preparation, 1, 0), option(preparation, 4, 0), option(preparation, 3, 0), 1, 1,
    };
    preparation->step->run = run;
    return take_window(preparation, sizes, short_option(preparation, 0)) && same_quantisation(preparation) &&
           (input(preparation, 0)->shape[3] == output(preparation)->shape[3]) &&
           take_activation(preparation, short_option(preparation, 5));
}

static bool prepare_fully_connected(struct preparation *preparation) {
    if ((preparation->input_count < 2U) || (preparation->step->inputs[1] == NO_TENSOR)) {
        return false;
    }
    const struct tensor *weights = input(preparation, 1);
    const struct tensor *in = input(preparation, 0);
    preparation->step->run = kernel_fully_connected;
    if ((weights->rank != 2U) || (short_option(preparation, 1) != FORMAT_DEFAULT)) {
        return false;
    }
    uint32_t units = (uint32_t)weights->shape[0];
    uint32_t width = (uint32_t)weights->shape[1];
    bool fits = ((in->elements % width) == 0U) && (output(preparation)->elements == ((in->elements / width) * units)) &&
                constants_fit(preparation, units) && take_activation(preparation, short_option(preparation, 0));
    if (fits && (weights->channels == 1U)) {
        // One scale for all: the reference multiplies the scales in single precision here.
        float product = in->scale * weights->scale;
        reserve_one(preparation, (double)product / (double)output(preparation)->scale);
        return true;
    }
    return fits && take_multipliers(preparation, units);
}

static bool prepare_rescale(struct preparation *preparation, uint32_t activation) {
    preparation->step->run = kernel_rescale;
    reserve_one(preparation, (double)input(preparation, 0)->scale / (double)output(preparation)->scale);
    return (input(preparation, 0)->elements == output(preparation)->elements) &&
           take_activation(preparation, activation);
}

static bool prepare_reshape(struct preparation *preparation) {
    preparation->step->run = kernel_reshape;
    return (input(preparation, 0)->elements == output(preparation)->elements) && same_quantisation(preparation);
}

static bool prepare_softmax(struct preparation *preparation) {
    const struct tensor *in = input(preparation, 0);
    const struct tensor *out = output(preparation);
    float beta = (preparation->options == 0U) ? 0.0F : 1.0F;
    uint32_t at = (preparation->options == 0U) ? 0U : flat_field(preparation->flat, preparation->options, 0);
    beta = (at == 0U) ? 0.0F : (beta * flat_float(preparation->flat, at));
    preparation->step->run = kernel_softmax;
    if (!(beta > 0.0F) || (in->rank == 0U) || (in->shape[in->rank - 1U] > SOFTMAX_MAX) ||
        (in->elements != out->elements) || (out->scale != (1.0F / 256.0F)) || (out->zero_point != INT8_MIN)) {
        return false;
    }
    preparation->step->softmax = fixed_softmax_of(beta, in->scale);
    // A scale so small that differences would have to be made smaller is not one of a softmax.
    return (preparation->step->softmax.beta.fraction > 0) && (preparation->step->softmax.beta.shift >= 0);
}

static bool prepare(uint32_t number, struct preparation *preparation, bool *known) {
    *known = true;
    switch (number) {
    case AVERAGE_POOL_2D:
        return prepare_pool(preparation, kernel_average_pool);
    case CONV_2D:
        return prepare_convolution(preparation, false);
    case DEPTHWISE_CONV_2D:
        return prepare_convolution(preparation, true);
    case FULLY_CONNECTED:
        return prepare_fully_connected(preparation);
    case MAX_POOL_2D:
        return prepare_pool(preparation, kernel_max_pool);
    case RELU:
        return prepare_rescale(preparation, ACTIVATION_RELU);
    case RESHAPE:
        return prepare_reshape(preparation);
    case SOFTMAX:
        return prepare_softmax(preparation);
    case QUANTIZE:
        return prepare_rescale(preparation, ACTIVATION_NONE);
    default:
        *known = false;
        return false;
    }
}

enum image_error operator_prepare(uint32_t number, struct preparation *preparation) {
    bool known;
    bool prepared = prepare(number, preparation, &known);
    if (!known) {
        return IMAGE_OPERATOR;
    }
    return (prepared && !preparation->flat->broken) ? IMAGE_OK : IMAGE_MODEL;
}
