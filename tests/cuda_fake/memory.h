// Device memory of the fake driver.
#pragma once

#include <cstddef>

#include "faults.h"

namespace fake {

/// Whether [pointer, pointer + bytes) lies in one allocation of the current context's device.
bool is_device_memory(CUdeviceptr pointer, size_t bytes);

/// Whether [pointer, pointer + bytes) lies in pinned or registered host memory.
bool is_pinned(const void* pointer, size_t bytes);

/// Takes `bytes` of the current device's memory; false: there is not as much left.
bool reserve_device_bytes(size_t bytes);
void release_device_bytes(int device, size_t bytes);

}  // namespace fake
