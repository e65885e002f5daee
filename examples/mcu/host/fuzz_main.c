// Copyright (c) 2026, The edgeml.fleet authors
// GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
// SPDX-License-Identifier: GPL-3.0-or-later
//
// A fuzzer that needs nothing but gcc: it changes known inputs at random, and keeps what reaches new code. The same seed
// gives the same inputs. What is wrong ends the program by the sanitizers; the input is then in crash-input.
//
// usage: fuzz_… SEED RUNS INPUT…
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "fuzz.h"
#include "memory_part.h"

#define MAP_SIZE 65536U
#define CORPUS_MAX 4096U
#define INPUT_MAX 0x8000U

struct input {
    uint8_t *bytes;
    uint32_t size;
};

static uint8_t reached[MAP_SIZE]; // in this run
static uint8_t known[MAP_SIZE];   // in any run
static struct input corpus[CORPUS_MAX];
static uint32_t corpus_size;
static uint64_t state;

void __sanitizer_cov_trace_pc(void);
void __sanitizer_cov_trace_pc(void) {
    static uintptr_t last;
    uintptr_t here = (uintptr_t)__builtin_return_address(0);
    reached[(here ^ (last << 1U)) % MAP_SIZE] = 1;
    last = here;
}

static uint32_t random_below(uint32_t limit) {
    state ^= state << 13U;
    state ^= state >> 7U;
    state ^= state << 17U;
    return (uint32_t)((state >> 32U) % limit);
}

static void keep(const uint8_t *bytes, uint32_t size) {
    if (corpus_size < CORPUS_MAX) {
        corpus[corpus_size].bytes = malloc(size + 1U);
        memcpy(corpus[corpus_size].bytes, bytes, size);
        corpus[corpus_size].size = size;
        corpus_size++;
    }
}

static uint32_t change(uint8_t *bytes, uint32_t size) {
    static const uint32_t numbers[] = {0, 1, 4, 0x7f, 0x80, 0xff, 0x7fff, 0xffff, 0x10000, 0x7fffffff, 0x80000000, 0xffffffff};
    uint32_t at = random_below((size > 0U) ? size : 1U);
    uint32_t rest = size - at;
    switch (random_below(7)) {
    case 0:
        bytes[at] ^= (uint8_t)(1U << random_below(8));
        break;
    case 1:
        bytes[at] = (uint8_t)random_below(256);
        break;
    case 2: // a number, as little-endian or big-endian
        if (rest >= 4U) {
            uint32_t number = numbers[random_below(sizeof numbers / sizeof numbers[0])];
            number = (random_below(2) == 0U) ? number : __builtin_bswap32(number);
            memcpy(&bytes[at], &number, 1U << random_below(3));
        }
        break;
    case 3: // a little more or less
        bytes[at] = (uint8_t)(bytes[at] + random_below(9) - 4U);
        break;
    case 4: // left out
        if (size > 1U) {
            uint32_t count = 1U + random_below((rest < 16U) ? rest : 16U);
            memmove(&bytes[at], &bytes[at + count], rest - count);
            return size - count;
        }
        break;
    case 5: // twice
        if ((size + 16U) < INPUT_MAX) {
            uint32_t count = random_below((rest < 16U) ? (rest + 1U) : 16U);
            memmove(&bytes[at + count], &bytes[at], rest);
            return size + count;
        }
        break;
    default: // a piece of another input
        if (rest > 0U) {
            const struct input *other = &corpus[random_below(corpus_size)];
            uint32_t from = random_below(other->size + 1U);
            uint32_t count = random_below(64);
            count = (count < rest) ? count : rest;
            count = (count < (other->size - from)) ? count : (other->size - from);
            memcpy(&bytes[at], &other->bytes[from], count);
        }
        break;
    }
    return size;
}

static void write_input(const uint8_t *bytes, uint32_t size) {
    FILE *file = fopen("crash-input", "wb");
    if (file != NULL) {
        (void)fwrite(bytes, 1, size, file);
        (void)fclose(file);
    }
}

static uint8_t current[INPUT_MAX + 64U];
static uint32_t current_size;

void __asan_on_error(void);
void __asan_on_error(void) {
    write_input(current, current_size);
}

// Run one input, in memory of exactly its size. Returns whether it reached new code.
static int run(void) {
    uint8_t *exact = malloc((current_size > 0U) ? current_size : 1U);
    int found = 0;
    memcpy(exact, current, current_size);
    memset(reached, 0, sizeof reached);
    (void)LLVMFuzzerTestOneInput(exact, current_size);
    free(exact);
    for (uint32_t i = 0; i < MAP_SIZE; i++) {
        if ((reached[i] != 0U) && (known[i] == 0U)) {
            known[i] = 1;
            found = 1;
        }
    }
    return found;
}

int main(int count, char **arguments) {
    if (count < 4) {
        (void)fprintf(stderr, "usage: fuzz_… SEED RUNS INPUT…\n");
        return 2;
    }
    state = strtoull(arguments[1], NULL, 10) * 0x9e3779b97f4a7c15ULL + 1U;
    uint32_t runs = (uint32_t)strtoul(arguments[2], NULL, 10);
    for (int i = 3; i < count; i++) {
        current_size = memory_read_file(arguments[i], current, INPUT_MAX);
        (void)run();
        keep(current, current_size);
    }
    uint32_t given = corpus_size;
    for (uint32_t i = 0; i < runs; i++) {
        const struct input *from = &corpus[random_below(corpus_size)];
        memcpy(current, from->bytes, from->size);
        current_size = from->size;
        for (uint32_t changes = 1U + random_below(6); changes > 0U; changes--) {
            current_size = change(current, current_size);
        }
        if (run() != 0) {
            keep(current, current_size);
        }
    }
    uint32_t places = 0;
    for (uint32_t i = 0; i < MAP_SIZE; i++) {
        places += known[i];
    }
    (void)printf("%u runs, %u inputs reached new code, %u places\n", (unsigned)runs, (unsigned)(corpus_size - given),
                 (unsigned)places);
    for (uint32_t i = 0; i < corpus_size; i++) {
        free(corpus[i].bytes);
    }
    return 0;
}
