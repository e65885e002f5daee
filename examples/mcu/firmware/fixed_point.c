// Copyright (c) 2026, The edgeml.fleet authors
// GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
// SPDX-License-Identifier: GPL-3.0-or-later
#include "fixed_point.h"

#include <math.h>
#include <stdbool.h>

// Numbers of softmax: bits before the point of a scaled difference, of the sum, and of what is between 0 and 1.
#define DIFFERENCE_BITS 5
#define SUM_BITS 12
#define DIFFERENCE_FRACTION (31 - DIFFERENCE_BITS)

static int32_t saturated(int64_t x) {
    return (x > INT32_MAX) ? INT32_MAX : ((x < INT32_MIN) ? INT32_MIN : (int32_t)x);
}

// Half the high word of the doubled product, rounded to the nearest.
static int32_t high_product(int32_t one, int32_t other) {
    int64_t product = (int64_t)one * other;
    int64_t nudge = (product >= 0) ? (1LL << 30) : (1 - (1LL << 30));
    return saturated((product + nudge) / (1LL << 31));
}

// x / 2^exponent, rounded to the nearest, ties away from 0.
static int32_t divide_by_power(int32_t x, int32_t exponent) {
    int64_t power = 1LL << exponent;
    int64_t half = power >> 1;
    int64_t wide = x;
    return (int32_t)((wide >= 0) ? ((wide + half) / power) : ((wide - half) / power));
}

// x times 2^exponent, not beyond what 32 bits hold.
static int32_t times_power(int32_t x, int32_t exponent) {
    return saturated((int64_t)x * (1LL << exponent));
}

int32_t fixed_clamp(int32_t x, int32_t least, int32_t most) {
    return (x < least) ? least : ((x > most) ? most : x);
}

struct multiplier fixed_multiplier(double real) {
    struct multiplier result = {0, 0};
    int exponent = 0;
    if (!(real > 0.0) || (real > 1e9)) {
        return result;
    }
    int64_t fraction = (int64_t)round(frexp(real, &exponent) * 2147483648.0);
    if (fraction == (1LL << 31)) {
        fraction /= 2;
        exponent++;
    }
    if (exponent >= -31) {
        result.fraction = (int32_t)fraction;
        result.shift = exponent;
    }
    return result;
}

int32_t fixed_multiply(int32_t x, int32_t fraction, int32_t shift) {
    int32_t left = (shift > 0) ? shift : 0;
    // What the shift would push out is pushed out, as in the reference: its sums are 32 bits wide.
    int32_t shifted = (int32_t)((uint32_t)x << (uint32_t)left);
    return divide_by_power(high_product(shifted, fraction), left - shift);
}

struct softmax fixed_softmax_of(float beta, float scale) {
    struct softmax softmax;
    double real = (double)beta * (double)scale * (double)(1LL << DIFFERENCE_FRACTION);
    softmax.beta = fixed_multiplier((real < 2147483647.0) ? real : 2147483647.0);
    softmax.least_difference = INT32_MIN;
    if ((softmax.beta.shift >= 0) && (softmax.beta.fraction > 0)) {
        double radius = (double)((1LL << DIFFERENCE_BITS) - 1) * (double)(1LL << DIFFERENCE_FRACTION);
        softmax.least_difference = -(int32_t)floor(radius / (double)(1LL << softmax.beta.shift));
    }
    return softmax;
}

// e^a for a in [-1/4, 0), both with no bit before the point: a Taylor series around -1/8.
static int32_t exp_of_quarter(int32_t a) {
    const int32_t exp_of_eighth = 1895147668; // e^(-1/8)
    const int32_t third = 715827883;
    int32_t x = saturated((int64_t)a + (1LL << 28));
    int32_t x2 = high_product(x, x);
    int32_t x3 = high_product(x2, x);
    int32_t x4 = high_product(x2, x2);
    int32_t cubic = high_product(saturated((int64_t)divide_by_power(x4, 2) + x3), third);
    int32_t terms = divide_by_power(saturated((int64_t)cubic + x2), 1);
    return saturated((int64_t)exp_of_eighth + high_product(exp_of_eighth, saturated((int64_t)x + terms)));
}

// e^a for a <= 0 with DIFFERENCE_BITS before the point; the result has none. The last quarter by the series, the rest by
// one factor e^(-2^n) for each bit that is set.
static int32_t exp_of_negative(int32_t a) {
    static const int32_t factors[] = {
        1672461947, 1302514674, 790015084, 290630308, 39332535, 720401, 242, // n from -2 to 4
    };
    const int32_t quarter = 1L << (DIFFERENCE_FRACTION - 2);
    if (a == 0) {
        return INT32_MAX;
    }
    int32_t last = (int32_t)((uint32_t)a & ((uint32_t)quarter - 1U)) - quarter;
    int32_t result = exp_of_quarter(times_power(last, DIFFERENCE_BITS));
    uint32_t rest = (uint32_t)last - (uint32_t)a;
    for (uint32_t i = 0; i < (sizeof factors / sizeof factors[0]); i++) {
        if ((rest & ((uint32_t)quarter << i)) != 0U) {
            result = high_product(result, factors[i]);
        }
    }
    return result;
}

// 1 / (1 + a) for a in [0, 1), by three steps of Newton's method with two bits before the point.
static int32_t reciprocal_of_one_plus(int32_t a) {
    const int32_t constant_48_over_17 = 1515870810;
    const int32_t constant_minus_32_over_17 = -1010580540;
    int32_t half = (int32_t)(((int64_t)a + INT32_MAX + 1) / 2);
    int32_t x = saturated((int64_t)constant_48_over_17 + high_product(half, constant_minus_32_over_17));
    for (uint32_t i = 0; i < 3U; i++) {
        int32_t error = saturated((1LL << 29) - high_product(half, x));
        x = saturated((int64_t)x + times_power(high_product(x, error), 2));
    }
    return times_power(x, 1);
}

static uint32_t leading_zeros(uint32_t x) {
    uint32_t count = 0;
    while ((count < 32U) && ((x & (0x80000000U >> count)) == 0U)) {
        count++;
    }
    return count;
}

// e^(difference) of a value that is not too far below the greatest.
static int32_t exp_of_difference(const struct softmax *softmax, int32_t difference) {
    int32_t shifted = (int32_t)((uint32_t)difference << (uint32_t)softmax->beta.shift);
    return exp_of_negative(fixed_clamp(high_product(shifted, softmax->beta.fraction), INT32_MIN, 0));
}

void fixed_softmax(const struct softmax *softmax, const int8_t *input, int8_t *output, uint32_t length) {
    int32_t greatest = INT8_MIN;
    int32_t sum = 0;
    for (uint32_t i = 0; i < length; i++) {
        greatest = (input[i] > greatest) ? input[i] : greatest;
    }
    for (uint32_t i = 0; i < length; i++) {
        int32_t difference = input[i] - greatest;
        if (difference >= softmax->least_difference) {
            sum = saturated((int64_t)sum + divide_by_power(exp_of_difference(softmax, difference), SUM_BITS));
        }
    }
    uint32_t zeros = leading_zeros((uint32_t)sum);
    int32_t over_unit = SUM_BITS - (int32_t)zeros;
    int32_t scale = reciprocal_of_one_plus((int32_t)(((uint32_t)sum << zeros) - 0x80000000U));
    for (uint32_t i = 0; i < length; i++) {
        int32_t difference = input[i] - greatest;
        output[i] = INT8_MIN;
        if (difference >= softmax->least_difference) {
            int32_t share = high_product(scale, exp_of_difference(softmax, difference));
            output[i] = (int8_t)fixed_clamp(divide_by_power(share, over_unit + 31 - 8) + INT8_MIN, INT8_MIN, INT8_MAX);
        }
    }
}
