// Copyright (c) 2026, The edgeml.fleet authors
// GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
// SPDX-License-Identifier: GPL-3.0-or-later
//
// The integer arithmetic of quantised models, as TensorFlow Lite defines it: rounding included, so that results are equal
// bit for bit. Nothing here overflows, whatever the arguments.
#ifndef FIXED_POINT_H
#define FIXED_POINT_H

#include <stdint.h>

// A real number above 0 as a 31-bit fraction and a power of two. Without a use for it (too small), the fraction is 0.
struct multiplier {
    int32_t fraction;
    int32_t shift; // above 0: to the left
};

struct multiplier fixed_multiplier(double real);

// x times the real number, rounded twice: after the fraction, and after the shift.
int32_t fixed_multiply(int32_t x, int32_t fraction, int32_t shift);

int32_t fixed_clamp(int32_t x, int32_t least, int32_t most);

// Softmax of one row of int8. `least_difference`: what is further below the greatest has no share.
struct softmax {
    struct multiplier beta; // of a difference, to a number with 5 bits before the point
    int32_t least_difference;
};
struct softmax fixed_softmax_of(float beta, float scale);
void fixed_softmax(const struct softmax *softmax, const int8_t *input, int8_t *output, uint32_t length);

#endif
