// One output row (or 1024 voxels of it): from positions to sampled values and labels, in vector registers where all taps lie inside.
//
// The vector loops run over whole registers, aligned to multiples of N along x. Lanes outside [inner0, inner1) compute on leftovers and
// are overwritten afterwards; no tap is fetched for them.
#pragma once

#include "taps_copied.h"
#if defined(AUG_GATHER)
#include "taps_gathered.h"
#endif
#include "taps_label.h"

AUG_BEGIN

constexpr int PREFETCH_EVERY_IMAGE = 4, PREFETCH_EVERY_LABEL = 8;   // voxels per prefetch

/// Asks for the cache lines that the same row needs PLANES_AHEAD planes on; a rotated walk waits for memory otherwise.
/// Inline, or the compiler takes it for a function without effect and drops the call.
template <int EVERY, class T>
AUG_HOSTDEV void prefetch(const T* volume, int64_t ahead, const int32_t* __restrict index, int from, int to) {
    const char* base = reinterpret_cast<const char*>(volume);   // may point outside the volume: never read
    for (int i = from; i < to; i += EVERY) __builtin_prefetch(base + (index[i] + ahead) * static_cast<int64_t>(sizeof(T)), 0, 2);
}

/// The row's voxels [from, to), whose places find_places or find_places_clamped has found: one channel of the image.
template <bool CLAMPED, class T>
AUG_HOSTDEV void sample_row(const Params& p, int c, const RowClip& clip, const Walk& walk, int from, int to, RowScratch& s, float* out) {
    const T* channel = reinterpret_cast<const T*>(p.image) + c * walk.channel_stride;
    const auto sample = [&](auto voxel) {
        if constexpr (CLAMPED) interpolate_clamped(channel, from, to, s, voxel, out);
        else interpolate(channel, clip, walk, from, to, s, voxel, out);
    };
    const WithinLimits limits{p.limit_low[c], p.limit_high[c]};
    if (!CLAMPED) prefetch<PREFETCH_EVERY_IMAGE>(channel, walk.ahead, s.lower, from, to);
    if (p.flags & NEAREST) {
        copy_nearest(channel, s.nearest, from, to, out);
        for (int i = from; (p.flags & LIMITS) && i < to; i++) out[i] = clamp<Scalar>(out[i], limits.low, limits.high);
    } else if (p.flags & LIMITS) {
        sample(limits);
    } else {
        sample(Unchanged{});
    }
}

/// The labels of the same voxels.
template <bool CLAMPED>
AUG_HOSTDEV void sample_labels(const Params& p, const RowClip& clip, const Walk& walk, int from, int to, RowScratch& s, uint8_t* out) {
    const uint8_t* labels = reinterpret_cast<const uint8_t*>(p.label);
    if (!CLAMPED) prefetch<PREFETCH_EVERY_LABEL>(labels, walk.ahead, s.lower, from, to);
    if (!(p.flags & LINEAR_LABELS)) copy_nearest(labels, s.nearest, from, to, out);
    else if constexpr (CLAMPED) linear_labels_clamped(p, labels, from, to, s, out);
    else linear_labels(p, labels, clip, walk, from, to, s, out);
    for (int i = from; (p.flags & KEEP_LABELS) && i < to; i++) out[i] = kept_label(p, out[i]);
}

/// Voxels [x0, x1) of the row under EDGE, wherever their places lie; value and label as of sample_segment, for voxel x0.
template <class T>
AUG_STAGE void sample_edge(const Params& p, const Walk& walk, const RowClip& clip, int z, int y, int x0, int x1, RowScratch& s,
                           float* value, int value_stride, uint8_t* label) {
    if (x0 >= x1) return;
    const int first = x0 / N * N, from = x0 - first, to = x1 - first;
    find_places_clamped(p, walk, z, y, first, x1, s);
    for (int c = 0; value && c < p.channels; c++) {   // by way of s.value: whole registers would overwrite what lies beside the stretch
        sample_row<true, T>(p, c, clip, walk, from, to, s, s.value);
        __builtin_memcpy(value + static_cast<int64_t>(c) * value_stride, s.value + from, sizeof(float) * (x1 - x0));
    }
    if (label) sample_labels<true>(p, clip, walk, from, to, s, label - from);
}

/// One segment [xa, xb) of output row (z, y).
///
/// value: where channel 0 of voxel xa goes, channel c at value + c value_stride; null skips the image. It may be written up to N elements
/// past xb - xa. label: where the label of xa goes, or null.
template <class T>
AUG_STAGE void sample_segment(const Params& p, const Walk& walk, int z, int y, int xa, int xb, RowScratch& s, float* value,
                                int value_stride, uint8_t* label) {
    const RowClip clip = clip_row(p, walk.inverse_step_x, z, y, xa, xb);
    const int first = clip.inner0 / N * N, from = clip.inner0 - first, to = clip.inner1 - first;

    if (to > from) {
        find_places(p, walk, z, y, clip, first, s);
        for (int c = 0; value && c < p.channels; c++)
            sample_row<false, T>(p, c, clip, walk, from, to, s, value + static_cast<int64_t>(c) * value_stride + (first - xa));
        if (label) sample_labels<false>(p, clip, walk, from, to, s, label + (first - xa));
    }
    if (p.flags & EDGE) {
        sample_edge<T>(p, walk, clip, z, y, xa, clip.inner0, s, value, value_stride, label);
        const int done = clip.inner1 - xa;
        sample_edge<T>(p, walk, clip, z, y, clip.inner1, xb, s, value ? value + done : nullptr, value_stride,
                       label ? label + done : nullptr);
        return;
    }
    if (label) {
        __builtin_memset(label, p.outside_label, clip.outer0 - xa);
        __builtin_memset(label + (clip.outer1 - xa), p.outside_label, xb - clip.outer1);
    }
    if (value) {
        for (int c = 0; c < p.channels; c++) {
            float* out = value + static_cast<int64_t>(c) * value_stride;
            for (int x = xa; x < clip.outer0; x++) out[x - xa] = p.fill[c];
            for (int x = clip.outer1; x < xb; x++) out[x - xa] = p.fill[c];
        }
    }
    for (int x = clip.outer0; x < clip.outer1; x++) {
        if (x == clip.inner0) x = clip.inner1;
        if (x >= clip.outer1) break;
        const Place at = place_of(p, anchor_of(p, z, y, x / X_BLOCK * X_BLOCK), x % X_BLOCK);
        if (label) label[x - xa] = sample_label(p, at);
        if (!value) continue;
        for (int c = 0; c < p.channels; c++) {
            const T* channel = reinterpret_cast<const T*>(p.image) + c * walk.channel_stride;
            value[static_cast<int64_t>(c) * value_stride + (x - xa)] = sample_channel(p, c, channel, at);
        }
    }
}

AUG_END
