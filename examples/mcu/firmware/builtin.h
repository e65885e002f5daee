// Copyright (c) 2026, The edgeml.fleet authors
// GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
// SPDX-License-Identifier: GPL-3.0-or-later
//
// A model that is part of the firmware, as code: it takes the place of one in a slot. builtin_none.c has none.
#ifndef BUILTIN_H
#define BUILTIN_H

#include <stdbool.h>
#include <stdint.h>

#include "model.h"

// Describe its input and its output, which are int8. False: there is none.
bool builtin_open(struct model *model);

// As many bytes as they have elements.
void builtin_run(const uint8_t *input, uint8_t *output);

#endif
