// Copyright (c) 2026, The edgeml.fleet authors
// GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
// SPDX-License-Identifier: GPL-3.0-or-later
//
// Run the interpreter on this machine: inputs from standard input, one after the other, outputs to standard output.
//
// usage: infer MODEL <inputs >outputs     (the arena that it needs goes to standard error)
#include <stdio.h>

#include "flash_map.h"
#include "model.h"

int main(int count, char **arguments) {
    static uint8_t bytes[IMAGE_MAX];
    static _Alignas(8) uint8_t arena[ARENA_SIZE];
    static uint8_t input[ARENA_SIZE];
    static uint8_t output[ARENA_SIZE];
    static struct model model;
    FILE *file = (count == 2) ? fopen(arguments[1], "rb") : NULL;
    if (file == NULL) {
        (void)fprintf(stderr, "usage: infer MODEL <inputs >outputs\n");
        return 2;
    }
    uint32_t length = (uint32_t)fread(bytes, 1, sizeof bytes, file);
    (void)fclose(file);
    enum image_error error = model_load(&model, bytes, length, arena, sizeof arena);
    (void)fprintf(stderr, "%u %s\n", (unsigned)model.arena_needed, image_error_text(error));
    if (error != IMAGE_OK) {
        return 1;
    }
    size_t in = model.tensors[model.input].elements;
    size_t out = model.tensors[model.output].elements;
    while (fread(input, 1, in, stdin) == in) {
        model_run(&model, input, output);
        (void)fwrite(output, 1, out, stdout);
    }
    return 0;
}
