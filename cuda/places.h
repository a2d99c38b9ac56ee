// Where the taps of an output row lie in memory, for the stretch whose taps are all inside the volume.
#pragma once

#include "lanes.h"
#include "row_clip.h"
#include "strips.h"

AUG_BEGIN

constexpr int PLANES_AHEAD = 2;    // prefetch distance

/// Working memory of one segment; 16 KB of it is used for int16, 48 KB for float32.
struct RowScratch {
    alignas(64) int32_t lower[SEGMENT + N];      // index of the lower tap in a channel
    alignas(64) int32_t nearest[SEGMENT + N];
    alignas(64) float part[3][SEGMENT + N];
    alignas(64) uint64_t taps[4][SEGMENT + N];   // x neighbours side by side: rows (z, y), (z, y+1), (z+1, y), (z+1, y+1)
};

/// What all rows of a sample share.
struct Walk {
    int32_t stride_y, stride_z;
    int64_t channel_stride;      // voxels
    int64_t ahead;               // voxels from a tap to the same tap PLANES_AHEAD output planes on: constant under an affine map
    double inverse_step_x[3];    // of the steps that are not 0
    explicit AUG_HOSTDEV Walk(const Params& p) {
        stride_y = p.in_shape[2];
        stride_z = p.in_shape[1] * p.in_shape[2];
        channel_stride = static_cast<int64_t>(p.in_shape[0]) * stride_z;
        int64_t planes[3];
        for (int d = 0; d < 3; d++) inverse_step_x[d] = p.step_x[d] != 0.0f ? 1.0 / p.step_x[d] : 0.0;
        for (int d = 0; d < 3; d++) planes[d] = (p.step[0][d] * PLANES_AHEAD + (int64_t{1} << 31)) >> 32;
        ahead = planes[0] * stride_z + planes[1] * stride_y + planes[2] + stride_z;
    }
};

/// Fills lower, nearest and part for x in [clip.inner0, clip.inner1); element 0 is x = first, a multiple of N.
AUG_STAGE void find_places(const Params& p, const Walk& walk, int z, int y, const RowClip& clip, int first, RowScratch& s) {
    const auto lane = lanes_of<Wide::Float>([](int i) { return static_cast<float>(i); });
    const int32_t up_z = clip.upper[0] ? walk.stride_z : 0, up_y = clip.upper[1] ? walk.stride_y : 0;
    for (int block = first / X_BLOCK * X_BLOCK; block < clip.inner1; block += X_BLOCK) {
        const Anchor anchor = anchor_of(p, z, y, block);
        const int end = block + X_BLOCK < clip.inner1 ? block + X_BLOCK : clip.inner1;
        for (int x = block > first ? block : first; x < end; x += N) {
            const Wide::Float offset = lane + static_cast<float>(x - block);
            Wide::Int index[3];
            Wide::Float part[3];
            for (int d = 0; d < 3; d++) place<Wide>(anchor, d, p.step_x[d], offset, index[d], part[d]);
            const Wide::Int lower = index[0] * walk.stride_z + index[1] * walk.stride_y + index[2];
            const Wide::Int near = lower + ((part[0] >= 0.5f) & up_z) + ((part[1] >= 0.5f) & up_y) + ((part[2] >= 0.5f) & 1);
            const int i = x - first;
            store(s.lower + i, lower);
            store(s.nearest + i, near);
            for (int d = 0; d < 3; d++) store(s.part[d] + i, part[d]);
        }
    }
}

AUG_END
