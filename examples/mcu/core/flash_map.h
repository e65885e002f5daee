// Copyright (c) 2026, The edgeml.fleet authors
// GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
// SPDX-License-Identifier: GPL-3.0-or-later
//
// The one table of sizes and addresses: of the flash, of its slots, and of the memory that images are loaded into.
// Linker scripts and the Python side read it too, so it has nothing but definitions of plain numbers.
#ifndef FLASH_MAP_H
#define FLASH_MAP_H

// Serial NOR flash: it erases by sector and programs by word. It is not executed from.
#define FLASH_SIZE 0x80000
#define FLASH_SECTOR 0x1000
#define FLASH_WORD 4

// Image 0 is the firmware, image 1 the model; each has two slots, one after the other.
// The last sector of a slot is its log (slots.h), so an image with its signature has IMAGE_MAX bytes at most.
#define IMAGES 2
#define SLOTS 2
#define SLOT_SIZE 0x20000
#define IMAGE_MAX 0x1f000

// imgtool's header, which every image begins with.
#define HEADER_SIZE 32

// Memory: the bootloader's own data; what it tells the firmware; the firmware as it is executed; the model as it is read;
// the firmware's own data. Images are loaded with their header, so that the payload begins at a round address.
#define RAM_BOOT 0x20000000
#define RAM_BOOT_SIZE 0xfe00
#define RAM_BOOT_INFO 0x2000fe00
#define RAM_RESET_CAUSE 0x2000ff00
#define RAM_FIRMWARE 0x20010000
#define RAM_MODEL 0x20030000
#define RAM_DATA 0x20050000
#define RAM_DATA_SIZE 0x20000

// What the interpreter has for the tensors of a model.
#define ARENA_SIZE 0x8000

#endif
