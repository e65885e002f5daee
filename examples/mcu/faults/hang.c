// Copyright (c) 2026, The edgeml.fleet authors
// GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
// SPDX-License-Identifier: GPL-3.0-or-later
//
// A bad firmware: it is signed and it starts, and then it hangs. The watchdog ends its trial.
#include "board.h"

int main(void) {
    board_init();
    board_watchdog();
    for (;;) {
    }
}
