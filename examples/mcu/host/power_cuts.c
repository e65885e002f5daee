// Copyright (c) 2026, The edgeml.fleet authors
// GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
// SPDX-License-Identifier: GPL-3.0-or-later
//
// Cut the power at operations of the flash during an update, one after the other, each time from the same beginning; half
// of the times cut it once more at a random operation of what follows. Each start of the microcontroller is a process of
// its own, so that nothing but the flash outlives it. Every start must find the old image or the new one, and the update
// must come to its end without further help.
//
// usage: power_cuts FLASH IMAGE-NUMBER IMAGE STRIDE SEED     (every STRIDE-th word of the image is cut, and all else)
#include <bearssl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#include "application.h"
#include "memory_part.h"
#include "requests.h"

#define STARTS_MAX 20
enum { DONE = 0, RESET = 3, CUT = 4, FAILED = 5 };

static uint8_t image[IMAGE_MAX];
static uint32_t image_length;
static uint8_t image_digest[DIGEST_SIZE];
static uint8_t old_hash[DIGEST_SIZE];
static uint8_t new_hash[DIGEST_SIZE];
static uint32_t number;
static uint8_t loaded[IMAGES][IMAGE_MAX];

static void power_off(void) {
    _exit(CUT);
}

static void require(bool condition, const char *what) {
    if (!condition) {
        (void)fprintf(stderr, "error: %s\n", what);
        _exit(FAILED);
    }
}

static bool read_image(void *context, uint32_t offset, void *target, uint32_t length) {
    memcpy(target, (const uint8_t *)context + offset, length);
    return true;
}

static void hash_of(uint8_t *bytes, uint8_t hash[DIGEST_SIZE]) {
    struct image parsed;
    require(image_parse(read_image, bytes, IMAGE_MAX, &parsed) == IMAGE_OK, "an image cannot be read");
    memcpy(hash, parsed.hash, DIGEST_SIZE);
}

// One run of the microcontroller, with a client that wants the update to come to its end.
static void start(uint32_t cut, uint32_t seed) {
    struct boot_info info;
    uint8_t hash[DIGEST_SIZE];
    (void)part_open(cut, seed, false);
    boot_select(&info, loaded[0], loaded[1]);
    require((info.images[0].slot != NO_SLOT) && (info.images[1].slot != NO_SLOT), "there is no image to run");
    require(application_start(&info, &loaded[1][HEADER_SIZE]), "the model on trial cannot be used");
    require(application.model.loaded, "the model is not loaded");
    hash_of(loaded[number], hash);
    bool is_new = memcmp(hash, new_hash, DIGEST_SIZE) == 0;
    require(is_new || (memcmp(hash, old_hash, DIGEST_SIZE) == 0), "another image runs");
    if (is_new) {
        require(request_state(new_hash, true) == 0U, "the running image is not confirmed");
        _exit(DONE);
    }
    require(request_upload(number, image, image_length, image_digest) == 0U, "the upload is refused");
    require(request_state(new_hash, false) == 0U, "the test is refused");
    _exit(RESET);
}

static int run(uint32_t cut, uint32_t seed) {
    int status;
    pid_t child = fork();
    if (child == 0) {
        start(cut, seed);
    }
    require((child > 0) && (waitpid(child, &status, 0) == child) && WIFEXITED(status), "a run ended by a signal");
    return WEXITSTATUS(status);
}

static uint32_t operations(void) {
    struct part_counters counters;
    memcpy(&counters, &memory_part[PART_COUNTERS], sizeof counters);
    return (counters.wear.written / FLASH_WORD) + counters.wear.erased;
}

// Run until the update is done, with a cut of the power at one operation, and perhaps at another one. Returns the cuts.
static uint32_t update(uint32_t cut, uint32_t seed, bool again) {
    uint32_t cuts = 0;
    for (int starts = 0; starts < STARTS_MAX; starts++) {
        int result = run(cut, seed);
        require((result == DONE) || (result == RESET) || (result == CUT), "the update does not go on");
        if (result == DONE) {
            return cuts;
        }
        if (result == CUT) {
            cuts++;
            cut = (again && (cuts == 1U)) ? (operations() + 1U + ((seed * 2654435761U) % 64U)) : 0U;
        }
    }
    require(false, "the update does not come to its end");
    return 0;
}

int main(int count, char **arguments) {
    static uint8_t beginning[PART_SIZE];
    if (count != 6) {
        (void)fprintf(stderr, "usage: power_cuts FLASH IMAGE-NUMBER IMAGE STRIDE SEED\n");
        return 2;
    }
    memory_power_off = power_off;
    memory_part = mmap(NULL, PART_SIZE, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    require(memory_part != MAP_FAILED, "no memory");
    require(memory_read_file(arguments[1], beginning, sizeof beginning) == PART_SIZE, "the flash has another size");
    number = (uint32_t)strtoul(arguments[2], NULL, 10);
    image_length = memory_read_file(arguments[3], image, sizeof image);
    uint32_t stride = (uint32_t)strtoul(arguments[4], NULL, 10);
    uint32_t seed = (uint32_t)strtoul(arguments[5], NULL, 10);
    br_sha256_context sha;
    br_sha256_init(&sha);
    br_sha256_update(&sha, image, image_length);
    br_sha256_out(&sha, image_digest);
    hash_of(image, new_hash);
    hash_of(&beginning[number * SLOTS * SLOT_SIZE], old_hash);
    memcpy(memory_part, beginning, sizeof beginning);
    uint32_t first = operations();
    require(update(0, 0, false) == 0U, "an update without a cut was cut");
    uint32_t last = operations();
    uint32_t data = first + (image_length / FLASH_SECTOR) + 14U; // from here on, words of the image
    uint32_t cuts = 0;
    uint32_t updates = 0;
    for (uint32_t cut = first + 1U; cut <= last; cut++) {
        bool within = (cut > data) && (cut < (last - 16U));
        if (!within || ((cut % stride) == 0U)) {
            memcpy(memory_part, beginning, sizeof beginning);
            cuts += update(cut, seed + cut, (cut % 2U) == 0U);
            updates++;
        }
    }
    (void)printf("%u %u %u\n", (unsigned)(last - first), (unsigned)updates, (unsigned)cuts);
    return 0;
}
