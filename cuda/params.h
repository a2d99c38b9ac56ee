// Everything the kernel reads about one sample: a plain struct that host and device share, filled by augserver/kernel/params.py.
//
// A batch is an array of these. The layout has no padding; numpy's dtype is made of the same list of fields, by way of the compiled
// module. Addresses are of memory that the executing device can read.
#pragma once

#include <cstdint>

namespace aug {

constexpr int MAX_CHANNELS = 8;

enum class InputType : int32_t { INT16 = 0, FLOAT32 = 1 };
enum class OutputType : int32_t { FLOAT32 = 0, FLOAT16 = 1, UINT8 = 2 };

enum Flags : uint32_t {
    WINDOW = 1,         // map [window_low, window_low + 1 / window_inverse] to [0, 1] and clamp
    GAMMA = 2,          // needs WINDOW
    NOISE = 4,
    KEEP_LABELS = 8,    // labels whose bit in `keep` is not set become 0
    NEAREST = 16,       // the image takes its nearest voxel instead of eight
    LINEAR_LABELS = 32, // labels take the arg-max of the weights of equal labels among eight voxels instead of the nearest voxel
    EDGE = 64,          // what lies outside the volume is the nearest voxel inside, of image and label
    LIMITS = 128,       // voxels are clamped to [limit_low, limit_high] of their channel before they are interpolated
};

constexpr int32_t KEEP_OCCLUDED_LABEL = -1;
constexpr int16_t NO_LABEL = -1;

/// One step of a channel's program.
struct Op {
    uint32_t step;     // its code, of _cpu.steps()
    uint32_t values;   // where its numbers begin in Params::values
    uint32_t key[2];   // of Philox: low and high half
};

struct Params {
#define AUG_FIELD(type, name, extents) type name extents;
#include "params_fields.h"
};

static_assert(sizeof(Params) % 8 == 0, "no padding");

}  // namespace aug
