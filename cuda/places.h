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
    // only of stretches that reach over the edge of a volume with EDGE
    alignas(64) int32_t up[3][SEGMENT + N];      // from the lower tap to the upper one along z, y, x: 0 where they are the same voxel
    alignas(64) float value[SEGMENT + N];
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

/// Calls take(i, index, part) for whole registers of places, x in [first + i, first + i + N), until x1; first is a multiple of N.
template <class Take>
AUG_HOSTDEV void each_place(const Params& p, int z, int y, int first, int x1, Take take) {
    const auto lane = lanes_of<Wide::Float>([](int i) { return static_cast<float>(i); });
    for (int block = first / X_BLOCK * X_BLOCK; block < x1; block += X_BLOCK) {
        const Anchor anchor = anchor_of(p, z, y, block);
        const int end = block + X_BLOCK < x1 ? block + X_BLOCK : x1;
        for (int x = block > first ? block : first; x < end; x += N) {
            const Wide::Float offset = lane + static_cast<float>(x - block);
            Wide::Int index[3];
            Wide::Float part[3];
            for (int d = 0; d < 3; d++) place<Wide>(anchor, d, p.step_x[d], offset, index[d], part[d]);
            take(x - first, index, part);
        }
    }
}

/// Fills lower, nearest and part for x in [clip.inner0, clip.inner1); element 0 is x = first, a multiple of N.
AUG_STAGE void find_places(const Params& p, const Walk& walk, int z, int y, const RowClip& clip, int first, RowScratch& s) {
    const int32_t up_z = clip.upper[0] ? walk.stride_z : 0, up_y = clip.upper[1] ? walk.stride_y : 0;
    each_place(p, z, y, first, clip.inner1, [&](int i, const Wide::Int (&index)[3], const Wide::Float (&part)[3]) {
        const Wide::Int lower = index[0] * walk.stride_z + index[1] * walk.stride_y + index[2];
        const Wide::Int near = lower + ((part[0] >= 0.5f) & up_z) + ((part[1] >= 0.5f) & up_y) + ((part[2] >= 0.5f) & 1);
        store(s.lower + i, lower);
        store(s.nearest + i, near);
        for (int d = 0; d < 3; d++) store(s.part[d] + i, part[d]);
    });
}

/// Fills lower, nearest, part and up for x in [first, x1), wherever the places lie: taps outside become the nearest voxels inside.
AUG_STAGE void find_places_clamped(const Params& p, const Walk& walk, int z, int y, int first, int x1, RowScratch& s) {
    const int32_t stride[3] = {walk.stride_z, walk.stride_y, 1};
    each_place(p, z, y, first, x1, [&](int i, const Wide::Int (&index)[3], const Wide::Float (&part)[3]) {
        const Wide::Int zero{};
        Wide::Int lower{}, near{};
        for (int d = 0; d < 3; d++) {
            const Wide::Int last = zero + (p.in_shape[d] - 1);
            const Wide::Int above = Wide::select_int(index[d] > zero, index[d], zero);
            const Wide::Int up = ((index[d] >= zero) & (index[d] < last)) & stride[d];
            lower = lower + Wide::select_int(above < last, above, last) * stride[d];
            near = near + ((part[d] >= 0.5f) & up);
            store(s.up[d] + i, up);
            store(s.part[d] + i, part[d]);
        }
        store(s.lower + i, lower);
        store(s.nearest + i, lower + near);
    });
}

AUG_END
