// Copyright (c) 2026, The edgeml.fleet authors
// GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
// SPDX-License-Identifier: GPL-3.0-or-later
//
// Run the firmware's own model on this machine: inputs from standard input, one after the other, outputs to standard output.
#include <stdio.h>

#include "builtin.h"
#include "serial.h"

int main(void) {
    static struct model model;
    static uint8_t input[FRAME_MAX];
    static uint8_t output[FRAME_MAX];
    if (!builtin_open(&model)) {
        (void)fprintf(stderr, "the firmware has no model of its own\n");
        return 1;
    }
    size_t in = model.tensors[model.input].elements;
    size_t out = model.tensors[model.output].elements;
    if ((in > sizeof input) || (out > sizeof output)) {
        (void)fprintf(stderr, "a sample is larger than a frame\n");
        return 1;
    }
    while (fread(input, 1, in, stdin) == in) {
        builtin_run(input, output);
        (void)fwrite(output, 1, out, stdout);
    }
    return 0;
}
