// Copyright (c) 2026, The edgeml.fleet authors
// GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
// SPDX-License-Identifier: GPL-3.0-or-later
//
// A bad firmware: it is signed and it starts, and then it reads where there is nothing. The fault ends its trial.
#include "board.h"

int main(void) {
    const volatile uint32_t *nowhere = (const volatile uint32_t *)0xf0000000U;
    board_init();
    return (int)*nowhere;
}
