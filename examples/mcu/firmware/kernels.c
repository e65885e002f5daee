// Copyright (c) 2026, The edgeml.fleet authors
// GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
// SPDX-License-Identifier: GPL-3.0-or-later
#include "kernels.h"

#include <string.h>

#include "bytes.h"

static const int8_t *input_of(const struct model *model, const struct step *step, uint32_t index) {
    const struct tensor *tensor = &model->tensors[step->inputs[index]];
    const uint8_t *bytes = (tensor->content != NULL) ? tensor->content : &model->arena[tensor->place];
    return (const int8_t *)bytes;
}

static int8_t *output_of(const struct model *model, const struct step *step) {
    return (int8_t *)&model->arena[model->tensors[step->output].place];
}

static const struct tensor *input_tensor(const struct model *model, const struct step *step) {
    return &model->tensors[step->inputs[0]];
}

static const struct tensor *output_tensor(const struct model *model, const struct step *step) {
    return &model->tensors[step->output];
}

static uint32_t bias_of(const struct model *model, const struct step *step, uint32_t channel) {
    if (step->inputs[2] == NO_TENSOR) {
        return 0;
    }
    return bytes_u32(&model->tensors[step->inputs[2]].content[channel * 4U]);
}

// What a sum of products becomes in the output.
static int8_t rescaled(const struct model *model, const struct step *step, uint32_t channel, uint32_t sum) {
    const struct multiplier *multipliers = (const struct multiplier *)(const void *)&model->arena[step->multipliers];
    const struct multiplier *of = &multipliers[channel];
    int64_t value = (int64_t)fixed_multiply((int32_t)sum, of->fraction, of->shift) +
                    output_tensor(model, step)->zero_point;
    value = (value > INT8_MAX) ? INT8_MAX : ((value < INT8_MIN) ? INT8_MIN : value);
    return (int8_t)fixed_clamp((int32_t)value, step->least, step->most);
}

// The part of a window that is within the input, along one axis (0: rows, 1: columns): filter elements begin to end.
struct span {
    int32_t origin; // the input's row or column of filter element 0
    int32_t begin;
    int32_t end;
};

static struct span span_of(const struct step *step, uint32_t axis, int32_t at, int32_t size) {
    struct span span = {(at * step->stride[axis]) - step->padding[axis], 0, step->filter[axis]};
    while ((span.begin < span.end) && ((span.origin + (span.begin * step->dilation[axis])) < 0)) {
        span.begin++;
    }
    while ((span.end > span.begin) && ((span.origin + ((span.end - 1) * step->dilation[axis])) >= size)) {
        span.end--;
    }
    return span;
}

// One output of a kernel that moves a window over rows and columns.
struct window {
    const struct model *model;
    const struct step *step;
    const int8_t *image; // one of the batch
    int32_t width;
    int32_t depth; // channels of the input
    struct span rows;
    struct span columns;
};

typedef int8_t window_kernel(const struct window *window, int32_t channel);

static const int8_t *pixel(const struct window *window, int32_t row, int32_t column) {
    int32_t y = window->rows.origin + (row * window->step->dilation[0]);
    int32_t x = window->columns.origin + (column * window->step->dilation[1]);
    return &window->image[((y * window->width) + x) * window->depth];
}

static void move_window(const struct model *model, const struct step *step, window_kernel *compute) {
    const int32_t *in = input_tensor(model, step)->shape;
    const int32_t *out = output_tensor(model, step)->shape;
    struct window window = {.model = model, .step = step, .width = in[2], .depth = in[3]};
    int8_t *output = output_of(model, step);
    for (int32_t batch = 0; batch < out[0]; batch++) {
        window.image = &input_of(model, step, 0)[batch * in[1] * in[2] * in[3]];
        for (int32_t y = 0; y < out[1]; y++) {
            window.rows = span_of(step, 0, y, in[1]);
            for (int32_t x = 0; x < out[2]; x++) {
                window.columns = span_of(step, 1, x, in[2]);
                for (int32_t channel = 0; channel < out[3]; channel++) {
                    *output = compute(&window, channel);
                    output++;
                }
            }
        }
    }
}

static int8_t convolve(const struct window *window, int32_t channel) {
    const struct step *step = window->step;
    const int8_t *weights = input_of(window->model, step, 1);
    int32_t zero_point = input_tensor(window->model, step)->zero_point;
    uint32_t sum = 0;
    for (int32_t row = window->rows.begin; row < window->rows.end; row++) {
        for (int32_t column = window->columns.begin; column < window->columns.end; column++) {
            const int8_t *in = pixel(window, row, column);
            const int8_t *weight =
                &weights[((((channel * step->filter[0]) + row) * step->filter[1]) + column) * window->depth];
            for (int32_t i = 0; i < window->depth; i++) {
                sum += (uint32_t)((in[i] - zero_point) * weight[i]);
            }
        }
    }
    return rescaled(window->model, step, (uint32_t)channel, sum + bias_of(window->model, step, (uint32_t)channel));
}

static int8_t convolve_depthwise(const struct window *window, int32_t channel) {
    const struct step *step = window->step;
    const int8_t *weights = input_of(window->model, step, 1);
    int32_t zero_point = input_tensor(window->model, step)->zero_point;
    int32_t channels = output_tensor(window->model, step)->shape[3];
    int32_t source = channel / (channels / window->depth);
    uint32_t sum = 0;
    for (int32_t row = window->rows.begin; row < window->rows.end; row++) {
        for (int32_t column = window->columns.begin; column < window->columns.end; column++) {
            int32_t weight = weights[(((row * step->filter[1]) + column) * channels) + channel];
            sum += (uint32_t)((pixel(window, row, column)[source] - zero_point) * weight);
        }
    }
    return rescaled(window->model, step, (uint32_t)channel, sum + bias_of(window->model, step, (uint32_t)channel));
}

static int8_t greatest(const struct window *window, int32_t channel) {
    int32_t most = INT8_MIN;
    for (int32_t row = window->rows.begin; row < window->rows.end; row++) {
        for (int32_t column = window->columns.begin; column < window->columns.end; column++) {
            int32_t value = pixel(window, row, column)[channel];
            most = (value > most) ? value : most;
        }
    }
    return (int8_t)fixed_clamp(most, window->step->least, window->step->most);
}

static int8_t average(const struct window *window, int32_t channel) {
    int32_t sum = 0;
    int32_t count = (window->rows.end - window->rows.begin) * (window->columns.end - window->columns.begin);
    for (int32_t row = window->rows.begin; row < window->rows.end; row++) {
        for (int32_t column = window->columns.begin; column < window->columns.end; column++) {
            sum += pixel(window, row, column)[channel];
        }
    }
    // To the nearest, ties away from 0. A window that covers nothing of the input is not let through by operators.c.
    int32_t mean = (sum > 0) ? ((sum + (count / 2)) / count) : ((sum - (count / 2)) / count);
    return (int8_t)fixed_clamp(mean, window->step->least, window->step->most);
}

void kernel_convolution(struct model *model, const struct step *step) {
    move_window(model, step, convolve);
}

void kernel_depthwise(struct model *model, const struct step *step) {
    move_window(model, step, convolve_depthwise);
}

void kernel_max_pool(struct model *model, const struct step *step) {
    move_window(model, step, greatest);
}

void kernel_average_pool(struct model *model, const struct step *step) {
    move_window(model, step, average);
}

void kernel_fully_connected(struct model *model, const struct step *step) {
    const struct tensor *in = input_tensor(model, step);
    const struct tensor *weights = &model->tensors[step->inputs[1]];
    uint32_t width = (uint32_t)weights->shape[1];
    uint32_t units = (uint32_t)weights->shape[0];
    const int8_t *row = input_of(model, step, 0);
    int8_t *output = output_of(model, step);
    for (uint32_t batch = 0; batch < (in->elements / width); batch++) {
        for (uint32_t unit = 0; unit < units; unit++) {
            const int8_t *weight = &input_of(model, step, 1)[unit * width];
            uint32_t sum = bias_of(model, step, unit);
            for (uint32_t i = 0; i < width; i++) {
                sum += (uint32_t)((row[i] - in->zero_point) * weight[i]);
            }
            *output = rescaled(model, step, (step->channels > 1U) ? unit : 0U, sum);
            output++;
        }
        row = &row[width];
    }
}

void kernel_rescale(struct model *model, const struct step *step) {
    const int8_t *input = input_of(model, step, 0);
    int8_t *output = output_of(model, step);
    for (uint32_t i = 0; i < output_tensor(model, step)->elements; i++) {
        output[i] = rescaled(model, step, 0, (uint32_t)(input[i] - input_tensor(model, step)->zero_point));
    }
}

void kernel_reshape(struct model *model, const struct step *step) {
    (void)memmove(output_of(model, step), input_of(model, step, 0), output_tensor(model, step)->elements);
}

void kernel_softmax(struct model *model, const struct step *step) {
    const struct tensor *in = input_tensor(model, step);
    uint32_t length = (uint32_t)in->shape[in->rank - 1U];
    for (uint32_t at = 0; at < in->elements; at += length) {
        fixed_softmax(&step->softmax, &input_of(model, step, 0)[at], &output_of(model, step)[at], length);
    }
}
