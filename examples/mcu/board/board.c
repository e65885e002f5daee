// Copyright (c) 2026, The edgeml.fleet authors
// GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
// SPDX-License-Identifier: GPL-3.0-or-later
#include "board.h"

#include "flash_map.h"

#define CLOCK_MHZ 25U
#define REGISTER(address) (*(volatile uint32_t *)(address))

// CMSDK APB timers: 0 wakes the core ten times a second, 1 counts clock cycles down from all ones.
#define TIMER0 0x40000000U
#define TIMER1 0x40001000U
#define TIMER_CTRL 0x00U
#define TIMER_VALUE 0x04U
#define TIMER_RELOAD 0x08U
#define TIMER_INTCLEAR 0x0cU
#define TIMER_ENABLE 1U
#define TIMER_INTERRUPT 8U

// CMSDK APB UART 0.
#define UART 0x40004000U
#define UART_DATA 0x00U
#define UART_STATE 0x04U
#define UART_CTRL 0x08U
#define UART_INTCLEAR 0x0cU
#define UART_BAUDDIV 0x10U
#define UART_TX_FULL 1U
#define UART_RX_FULL 2U
#define UART_ENABLE 0x0bU // send, receive, interrupt when a byte has come
#define BAUD_RATE 115200U

// CMSDK APB watchdog: the first time it is not fed it raises the NMI, the second time it resets.
#define WATCHDOG 0x40008000U
#define WATCHDOG_LOAD 0x00U
#define WATCHDOG_CTRL 0x08U
#define WATCHDOG_INTCLEAR 0x0cU
#define WATCHDOG_LOCK 0xc00U
#define WATCHDOG_UNLOCK 0x1acce551U
#define WATCHDOG_ENABLE 3U

#define NVIC_ENABLE 0xe000e100U
#define NVIC_CLEAR_PENDING 0xe000e280U
#define IRQ_UART0_RX 0U
#define IRQ_TIMER0 8U
#define WAKING ((1UL << IRQ_UART0_RX) | (1UL << IRQ_TIMER0))
#define AIRCR 0xe000ed0cU
#define AIRCR_RESET 0x05fa0004U

static uint32_t last_cycles;
static uint32_t cycles_over;
static uint32_t milliseconds;

void board_init(void) {
    __asm__ volatile("cpsid i");
    REGISTER(UART + UART_BAUDDIV) = (CLOCK_MHZ * 1000000U) / BAUD_RATE;
    REGISTER(UART + UART_CTRL) = UART_ENABLE;
    REGISTER(TIMER0 + TIMER_RELOAD) = CLOCK_MHZ * 100000U;
    REGISTER(TIMER0 + TIMER_VALUE) = CLOCK_MHZ * 100000U;
    REGISTER(TIMER0 + TIMER_CTRL) = TIMER_ENABLE | TIMER_INTERRUPT;
    REGISTER(TIMER1 + TIMER_RELOAD) = UINT32_MAX;
    REGISTER(TIMER1 + TIMER_VALUE) = UINT32_MAX;
    REGISTER(TIMER1 + TIMER_CTRL) = TIMER_ENABLE;
    REGISTER(NVIC_ENABLE) = WAKING;
    last_cycles = UINT32_MAX;
}

int board_receive(void) {
    if ((REGISTER(UART + UART_STATE) & UART_RX_FULL) == 0U) {
        return -1;
    }
    return (int)(REGISTER(UART + UART_DATA) & 0xffU);
}

void board_send(const uint8_t *bytes, uint32_t length) {
    for (uint32_t i = 0; i < length; i++) {
        while ((REGISTER(UART + UART_STATE) & UART_TX_FULL) != 0U) {
        }
        REGISTER(UART + UART_DATA) = bytes[i];
    }
}

void board_sleep(void) {
    __asm__ volatile("wfi");
    REGISTER(TIMER0 + TIMER_INTCLEAR) = 1U;
    REGISTER(UART + UART_INTCLEAR) = 2U;
    REGISTER(NVIC_CLEAR_PENDING) = WAKING;
}

uint32_t board_microseconds(void) {
    return (UINT32_MAX - REGISTER(TIMER1 + TIMER_VALUE)) / CLOCK_MHZ;
}

uint32_t board_milliseconds(void) {
    // Called at least once in the 171 s that the counter takes to begin anew.
    uint32_t now = REGISTER(TIMER1 + TIMER_VALUE);
    cycles_over += last_cycles - now;
    last_cycles = now;
    milliseconds += cycles_over / (CLOCK_MHZ * 1000U);
    cycles_over %= CLOCK_MHZ * 1000U;
    return milliseconds;
}

void board_watchdog(void) {
    REGISTER(WATCHDOG + WATCHDOG_LOCK) = WATCHDOG_UNLOCK;
    REGISTER(WATCHDOG + WATCHDOG_LOAD) = WATCHDOG_SECONDS * CLOCK_MHZ * 1000000U;
    REGISTER(WATCHDOG + WATCHDOG_INTCLEAR) = 1U;
    REGISTER(WATCHDOG + WATCHDOG_CTRL) = WATCHDOG_ENABLE;
    REGISTER(WATCHDOG + WATCHDOG_LOCK) = 0U;
}

void board_reset(enum reset_cause cause) {
    REGISTER(RAM_RESET_CAUSE) = (uint32_t)cause;
    __asm__ volatile("dsb");
    REGISTER(AIRCR) = AIRCR_RESET;
    for (;;) {
    }
}

enum reset_cause board_take_reset_cause(void) {
    uint32_t cause = REGISTER(RAM_RESET_CAUSE);
    REGISTER(RAM_RESET_CAUSE) = (uint32_t)RESET_POWER;
    return (enum reset_cause)cause;
}
