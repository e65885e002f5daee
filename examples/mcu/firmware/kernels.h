// Copyright (c) 2026, The edgeml.fleet authors
// GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
// SPDX-License-Identifier: GPL-3.0-or-later
//
// What the operators compute. Everything that they rely on was checked by operators.c.
#ifndef KERNELS_H
#define KERNELS_H

#include "model.h"

kernel kernel_average_pool;
kernel kernel_convolution;
kernel kernel_depthwise;
kernel kernel_fully_connected;
kernel kernel_max_pool;
kernel kernel_rescale; // QUANTIZE and RELU
kernel kernel_reshape;
kernel kernel_softmax;

#endif
