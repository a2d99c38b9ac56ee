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

/// The lanes of a strip while it is read.
struct StripLanes {
    double sum[LANES], squares[LANES];
    float low[LANES], high[LANES];
    AUG_HOSTDEV StripLanes() {
        for (int i = 0; i < LANES; i++) {
            sum[i] = squares[i] = 0.0;
            low[i] = __builtin_inff();
            high[i] = -__builtin_inff();
        }
    }
    AUG_HOSTDEV void add(int lane, float v) {
        const double wide = v;
        sum[lane] += wide;
        squares[lane] += wide * wide;
        low[lane] = v < low[lane] ? v : low[lane];
        high[lane] = v > high[lane] ? v : high[lane];
    }
    AUG_HOSTDEV StripSums total() {
        for (int half = LANES / 2; half > 0; half /= 2) {
            for (int i = 0; i < half; i++) {
                sum[i] += sum[i + half];
                squares[i] += squares[i + half];
                low[i] = low[i + half] < low[i] ? low[i + half] : low[i];
                high[i] = high[i + half] > high[i] ? high[i + half] : high[i];
            }
        }
        return {sum[0], squares[0], low[0], high[0]};
    }
};

/// All strips of a channel, `strips` of them.
AUG_HOSTDEV PatchStatistics statistics_of(const StripSums* of_strips, int64_t strips, double voxels) {
    StripSums all = of_strips[0];
    for (int64_t k = 1; k < strips; k++) {
        all.sum += of_strips[k].sum;
        all.squares += of_strips[k].squares;
        all.low = of_strips[k].low < all.low ? of_strips[k].low : all.low;
        all.high = of_strips[k].high > all.high ? of_strips[k].high : all.high;
    }
    const double mean = all.sum / voxels, variance = all.squares / voxels - mean * mean;
    return {voxels, mean, variance > 0.0 ? variance : 0.0, all.low, all.high};
}

AUG_END
