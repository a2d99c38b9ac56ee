// One output row (or 1024 voxels of it): from positions to sampled values and labels, in vector registers where all taps lie inside.
//
// The vector loops run over whole registers, aligned to multiples of N along x. Lanes outside [inner0, inner1) compute on leftovers and
// are overwritten afterwards; no tap is fetched for them.
#pragma once

#include "lanes.h"
#include "row_clip.h"
#include "sample.h"

AUG_BEGIN

constexpr int SEGMENT = 1024;      // longest stretch of a row that is worked on at once
constexpr int PLANES_AHEAD = 2;    // prefetch distance
constexpr int PREFETCH_EVERY = 3;  // voxels per prefetch

/// Working memory of one segment; 16 KB of it is used for int16, 48 KB for float32.
struct RowScratch {
    alignas(64) int32_t lower[SEGMENT + N];      // index of the lower tap in a channel
    alignas(64) int32_t nearest[SEGMENT + N];
    alignas(64) float part[3][SEGMENT + N];
    alignas(64) uint64_t taps[4][SEGMENT + N];   // x neighbours side by side: rows (z, y), (z, y+1), (z+1, y), (z+1, y+1)
};

/// What all rows of a sample share.
struct Source {
    int32_t stride_y, stride_z;
    int64_t channel_stride;      // voxels
    int64_t ahead;               // voxels from a tap to the same tap PLANES_AHEAD output planes on: constant under an affine map
    explicit AUG_HOSTDEV Source(const Params& p) {
        stride_y = p.in_shape[2];
        stride_z = p.in_shape[1] * p.in_shape[2];
        channel_stride = static_cast<int64_t>(p.in_shape[0]) * stride_z;
        int64_t planes[3];
        for (int d = 0; d < 3; d++) planes[d] = (p.step[0][d] * PLANES_AHEAD + (int64_t{1} << 31)) >> 32;
        ahead = planes[0] * stride_z + planes[1] * stride_y + planes[2] + stride_z;
    }
};

/// Fills lower, nearest and part for x in [clip.inner0, clip.inner1); element 0 is x = first, a multiple of N.
AUG_HOSTDEV void find_places(const Params& p, const Source& source, int z, int y, const RowClip& clip, int first, RowScratch& s) {
    const auto lane = lanes_of<Wide::Float>([](int i) { return static_cast<float>(i); });
    const int32_t up_z = clip.upper[0] ? source.stride_z : 0, up_y = clip.upper[1] ? source.stride_y : 0;
    for (int block = first / X_BLOCK * X_BLOCK; block < clip.inner1; block += X_BLOCK) {
        const Anchor anchor = anchor_of(p, z, y, block);
        const int end = block + X_BLOCK < clip.inner1 ? block + X_BLOCK : clip.inner1;
        for (int x = block > first ? block : first; x < end; x += N) {
            const Wide::Float offset = lane + static_cast<float>(x - block);
            Wide::Int index[3];
            Wide::Float part[3];
            for (int d = 0; d < 3; d++) place<Wide>(anchor, d, p.step_x[d], offset, index[d], part[d]);
            const Wide::Int lower = index[0] * source.stride_z + index[1] * source.stride_y + index[2];
            const Wide::Int near = lower + ((part[0] >= 0.5f) & up_z) + ((part[1] >= 0.5f) & up_y) + ((part[2] >= 0.5f) & 1);
            const int i = x - first;
            store(s.lower + i, lower);
            store(s.nearest + i, near);
            for (int d = 0; d < 3; d++) store(s.part[d] + i, part[d]);
        }
    }
}

/// Asks for the cache lines that the same row needs PLANES_AHEAD planes on; a rotated walk waits for memory otherwise.
template <class T>
AUG_HOSTDEV void prefetch(const T* volume, int64_t ahead, const int32_t* __restrict index, int from, int to) {
    const char* base = reinterpret_cast<const char*>(volume);   // may point outside the volume: never read
    for (int i = from; i < to; i += PREFETCH_EVERY) __builtin_prefetch(base + (index[i] + ahead) * static_cast<int64_t>(sizeof(T)), 0, 2);
}

/// Copies the eight taps of voxels [from, to). Pair: two values of T.
template <class T, class Pair>
AUG_HOSTDEV void fetch_pairs(const T* volume, const RowClip& clip, const Source& source, int from, int to, RowScratch& s) {
    const int64_t up_y = clip.upper[1] ? source.stride_y : 0, up_z = clip.upper[0] ? source.stride_z : 0;
    const T* __restrict row00 = volume;
    const T* __restrict row01 = volume + up_y;
    const T* __restrict row10 = volume + up_z;
    const T* __restrict row11 = volume + up_z + up_y;
    const int32_t* __restrict index = s.lower;
    char* __restrict to00 = reinterpret_cast<char*>(s.taps[0]);
    char* __restrict to01 = reinterpret_cast<char*>(s.taps[1]);
    char* __restrict to10 = reinterpret_cast<char*>(s.taps[2]);
    char* __restrict to11 = reinterpret_cast<char*>(s.taps[3]);
#pragma GCC unroll 4
    for (int i = from; i < to; i++) {
        const int64_t k = index[i];
        __builtin_memcpy(to00 + i * sizeof(Pair), row00 + k, sizeof(Pair));
        __builtin_memcpy(to01 + i * sizeof(Pair), row01 + k, sizeof(Pair));
        __builtin_memcpy(to10 + i * sizeof(Pair), row10 + k, sizeof(Pair));
        __builtin_memcpy(to11 + i * sizeof(Pair), row11 + k, sizeof(Pair));
    }
}

/// The x neighbours of lanes i .. i + N - 1, as floats.
AUG_HOSTDEV void unpack(const int16_t*, const uint64_t* taps, int i, Wide::Float& left, Wide::Float& right) {
    const Wide::Int pair = load<Wide::Int>(reinterpret_cast<const uint32_t*>(taps) + i);   // little endian: left is the low half
    left = Wide::to_float((pair << 16) >> 16);
    right = Wide::to_float(pair >> 16);
}
AUG_HOSTDEV void unpack(const float*, const uint64_t* taps, int i, Wide::Float& left, Wide::Float& right) {
    const auto a = load<Wide::Float>(taps + i), b = load<Wide::Float>(taps + i + N / 2);
    left = shuffled<even_lanes>(a, b);
    right = shuffled<odd_lanes>(a, b);
}

template <class T> struct PairOf;
template <> struct PairOf<int16_t> { using Type = uint32_t; };
template <> struct PairOf<float> { using Type = uint64_t; };

/// Trilinear values of voxels [from, to) into value[from ..], in whole registers from 0 on.
template <class T>
AUG_HOSTDEV void interpolate(const T* volume, const RowClip& clip, const Source& source, int from, int to, RowScratch& s, float* value) {
    fetch_pairs<T, typename PairOf<T>::Type>(volume, clip, source, from, to, s);
    for (int i = 0; i < to; i += N) {
        const auto tz = load<Wide::Float>(s.part[0] + i), ty = load<Wide::Float>(s.part[1] + i), tx = load<Wide::Float>(s.part[2] + i);
        Wide::Float row[4];
        for (int k = 0; k < 4; k++) {
            Wide::Float left, right;
            unpack(volume, s.taps[k], i, left, right);
            row[k] = lerp<Wide>(left, right, tx);
        }
        store(value + i, lerp<Wide>(lerp<Wide>(row[0], row[1], ty), lerp<Wide>(row[2], row[3], ty), tz));
    }
}

template <class T, class U>
AUG_HOSTDEV void copy_nearest(const T* __restrict volume, const int32_t* __restrict index, int from, int to, U* __restrict out) {
#pragma GCC unroll 4
    for (int i = from; i < to; i++) out[i] = static_cast<U>(volume[index[i]]);
}

/// One segment [xa, xb) of output row (z, y).
///
/// value: where channel 0 of voxel xa goes, channel c at value + c value_stride; null skips the image. It may be written up to N elements
/// past xb - xa. label: where the label of xa goes, or null.
template <class T>
AUG_HOSTDEV void sample_segment(const Params& p, const Source& source, int z, int y, int xa, int xb, RowScratch& s, float* value,
                                int value_stride, uint8_t* label) {
    const RowClip clip = clip_row(p, z, y, xa, xb);
    const T* volume = reinterpret_cast<const T*>(p.image);
    const uint8_t* labels = reinterpret_cast<const uint8_t*>(p.label);
    const int first = clip.inner0 / N * N, from = clip.inner0 - first, to = clip.inner1 - first;

    if (to > from) {
        find_places(p, source, z, y, clip, first, s);
        if (value) {
            for (int c = 0; c < p.channels; c++) {
                const T* channel = volume + c * source.channel_stride;
                float* out = value + static_cast<int64_t>(c) * value_stride + (first - xa);
                prefetch(channel, source.ahead, s.lower, from, to);
                if (p.flags & NEAREST) copy_nearest(channel, s.nearest, from, to, out);
                else interpolate(channel, clip, source, from, to, s, out);
            }
        }
        if (label) {
            prefetch(labels, source.ahead, s.lower, from, to);
            copy_nearest(labels, s.nearest, from, to, label + (first - xa));
        }
    }
    if (label) {
        if (p.flags & KEEP_LABELS) {
            for (int x = clip.inner0; x < clip.inner1; x++) {
                const uint8_t l = label[x - xa];
                label[x - xa] = (p.keep[l >> 5] >> (l & 31)) & 1 ? l : 0;
            }
        }
        __builtin_memset(label, 0, clip.outer0 - xa);
        __builtin_memset(label + (clip.outer1 - xa), 0, xb - clip.outer1);
    }
    if (value) {
        for (int c = 0; c < p.channels; c++) {
            float* out = value + static_cast<int64_t>(c) * value_stride;
            for (int x = xa; x < clip.outer0; x++) out[x - xa] = p.fill;
            for (int x = clip.outer1; x < xb; x++) out[x - xa] = p.fill;
        }
    }
    for (int x = clip.outer0; x < clip.outer1; x++) {
        if (x == clip.inner0) x = clip.inner1;
        if (x >= clip.outer1) break;
        const Place at = place_of(p, anchor_of(p, z, y, x / X_BLOCK * X_BLOCK), x % X_BLOCK);
        if (label) label[x - xa] = sample_label(p, at);
        if (!value) continue;
        for (int c = 0; c < p.channels; c++) {
            const T* channel = volume + c * source.channel_stride;
            value[static_cast<int64_t>(c) * value_stride + (x - xa)] =
                (p.flags & NEAREST) ? sample_nearest(channel, p.in_shape, at, p.fill) : sample_trilinear(channel, p.in_shape, at, p.fill);
        }
    }
}

AUG_END
