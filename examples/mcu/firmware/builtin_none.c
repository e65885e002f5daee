// Copyright (c) 2026, The edgeml.fleet authors
// GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
// SPDX-License-Identifier: GPL-3.0-or-later
#include "builtin.h"

bool builtin_open(struct model *model) {
    (void)model;
    return false;
}

void builtin_run(const uint8_t *input, uint8_t *output) {
    (void)input;
    (void)output;
}
