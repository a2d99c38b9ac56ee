// Everything the kernel reads about one sample: a plain struct that host and device share, filled by augserver/kernel/params.py.
//
// A batch is an array of these. The layout has no padding; params.py describes it as a numpy dtype, and the module exports size and
// offsets so that a test finds any difference. Addresses are of memory that the executing device can read.
#pragma once

#include <cstdint>

namespace aug {

constexpr int MAX_CHANNELS = 8;

enum class InputType : int32_t { INT16 = 0, FLOAT32 = 1 };
enum class OutputType : int32_t { FLOAT32 = 0, FLOAT16 = 1, UINT8 = 2 };

enum Flags : uint32_t {
    WINDOW = 1,        // map [window_low, window_low + 1 / window_inverse] to [0, 1] and clamp
    GAMMA = 2,         // needs WINDOW
    NOISE = 4,
    KEEP_LABELS = 8,   // labels whose bit in `keep` is not set become 0
    NEAREST = 16,      // the image takes its nearest voxel instead of eight
};

constexpr int32_t KEEP_OCCLUDED_LABEL = -1;

struct Params {
    uint64_t image;             // int16 or float32 (C, Z, Y, X)
    uint64_t label;             // uint8 (Z, Y, X); 0: none
    uint64_t out_image;         // (C, Z, Y, X) of this sample
    uint64_t out_label;         // uint8 (Z, Y, X); 0: none
    int64_t origin[3];          // input coordinate (z, y, x) of output voxel 0, in 2^-32 voxels
    int64_t step[3][3];         // its change along output axis [0], in 2^-32 voxels: step[along][coordinate]
    float step_x[3];            // = step[2] in voxels, exactly the affine's float32 entries
    int32_t in_shape[3];        // z, y, x
    int32_t out_shape[3];
    int32_t channels;
    InputType in_type;
    OutputType out_type;
    uint32_t flags;
    float fill;                 // outside the volume, and inside the occluded slab
    float gain, shift;          // contrast, pivot and brightness: v -> v gain + shift
    float gamma;                // exponent
    float noise_std;
    float window_low, window_inverse, window_span;   // low, 1 / (high - low), high - low
    uint32_t key[2];            // of Philox: low and high half of noise_key
    int32_t occlusion[2];       // slab [0, 1) of output planes; empty if equal
    int32_t occlusion_label;    // inside the slab, or KEEP_OCCLUDED_LABEL
    uint32_t keep[8];           // bit l % 32 of word l / 32: label l survives
};

static_assert(sizeof(Params) == 264, "params.py describes this layout");

}  // namespace aug
