// Copyright (c) 2026, The edgeml.fleet authors
// GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
// SPDX-License-Identifier: GPL-3.0-or-later
//
// Arm semihosting: files of the machine that emulates the board. It stands in for the wires to a flash part.
#ifndef SEMIHOSTING_H
#define SEMIHOSTING_H

#include <stdbool.h>
#include <stdint.h>

// Open the part that the command line names: "CUT SEED PATH". `start`: see part_open.
bool flash_part_open(bool start);

#endif
