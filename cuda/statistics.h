// Statistics of a channel of a patch, with the same bits on every machine: 16 lanes per strip in float64, then the strips in order.
//
//     lane i of a strip takes its voxels i, i + 16, ..., in order;  lanes are added as a tree, i and i + 8, i + 4, i + 2, i + 1;
//     strips are added in the order of their planes.
#pragma once

#include "stage_types.h"
#include "strips.h"

AUG_BEGIN

constexpr int LANES = 16;

#if defined(__CUDA_ARCH__)
AUG_HOSTDEV double square_root(double v) { return __dsqrt_rn(v); }
#else
AUG_HOSTDEV double square_root(double v) { return __builtin_sqrt(v); }
#endif

/// The standard deviation of the patch's voxels, and that of a sample (n - 1).
AUG_HOSTDEV float deviation(const PatchStatistics& patch) { return static_cast<float>(square_root(patch.variance)); }
AUG_HOSTDEV float sample_deviation(const PatchStatistics& patch) {
    return patch.count > 1.0 ? static_cast<float>(square_root(patch.variance * (patch.count / (patch.count - 1.0)))) : 0.0f;
}

/// Takes in a voxel.
AUG_HOSTDEV void add_voxel(StripSums& sums, float v) {
    const double wide = v;
    sums.sum += wide;
    sums.squares += wide * wide;
    sums.low = v < sums.low ? v : sums.low;
    sums.high = v > sums.high ? v : sums.high;
}

AUG_HOSTDEV void add_sums(StripSums& to, const StripSums& more) {
    to.sum += more.sum;
    to.squares += more.squares;
    to.low = more.low < to.low ? more.low : to.low;
    to.high = more.high > to.high ? more.high : to.high;
}

/// One lane of a strip of `count` voxels.
AUG_HOSTDEV StripSums sums_of_lane(const float* value, int count, int lane) {
    StripSums sums{0.0, 0.0, __builtin_inff(), -__builtin_inff()};
    for (int i = lane; i < count; i += LANES) add_voxel(sums, value[i]);
    return sums;
}

template <int HALF>
AUG_HOSTDEV void fold_lanes(StripSums (&sums)[LANES]) {
#if defined(__CUDA_ARCH__)
#pragma unroll
#endif
    for (int i = 0; i < HALF; i++) add_sums(sums[i], sums[i + HALF]);
    if constexpr (HALF > 1) fold_lanes<HALF / 2>(sums);
}

/// A strip, of its lanes.
AUG_HOSTDEV StripSums sums_of_strip(const StripSums* of_lanes) {
    StripSums sums[LANES];
#if defined(__CUDA_ARCH__)
#pragma unroll
#endif
    for (int i = 0; i < LANES; i++) sums[i] = of_lanes[i];
    fold_lanes<LANES / 2>(sums);
    return sums[0];
}

/// All strips of a channel, `strips` of them.
AUG_HOSTDEV PatchStatistics statistics_of(const StripSums* of_strips, int64_t strips, double voxels) {
    StripSums all = of_strips[0];
#if defined(__CUDA_ARCH__)
#pragma unroll 8
#endif
    for (int64_t k = 1; k < strips; k++) add_sums(all, of_strips[k]);
    const double mean = all.sum / voxels, variance = all.squares / voxels - mean * mean;
    return {voxels, mean, variance > 0.0 ? variance : 0.0, all.low, all.high};
}

AUG_END
