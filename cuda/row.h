// One output row (or 1024 voxels of it): from positions to sampled values and labels, in vector registers where all taps lie inside.
//
// The vector loops run over whole registers, aligned to multiples of N along x. Lanes outside [inner0, inner1) compute on leftovers and
// are overwritten afterwards; no tap is fetched for them.
#pragma once

#include "sample.h"
#include "taps_copied.h"
#if defined(AUG_GATHER)
#include "taps_gathered.h"
#endif

AUG_BEGIN

constexpr int PREFETCH_EVERY_IMAGE = 4, PREFETCH_EVERY_LABEL = 8;   // voxels per prefetch

/// Asks for the cache lines that the same row needs PLANES_AHEAD planes on; a rotated walk waits for memory otherwise.
/// Inline, or the compiler takes it for a function without effect and drops the call.
template <int EVERY, class T>
AUG_HOSTDEV void prefetch(const T* volume, int64_t ahead, const int32_t* __restrict index, int from, int to) {
    const char* base = reinterpret_cast<const char*>(volume);   // may point outside the volume: never read
    for (int i = from; i < to; i += EVERY) __builtin_prefetch(base + (index[i] + ahead) * static_cast<int64_t>(sizeof(T)), 0, 2);
}

/// One segment [xa, xb) of output row (z, y).
///
/// value: where channel 0 of voxel xa goes, channel c at value + c value_stride; null skips the image. It may be written up to N elements
/// past xb - xa. label: where the label of xa goes, or null.
template <class T>
AUG_STAGE void sample_segment(const Params& p, const Walk& walk, int z, int y, int xa, int xb, RowScratch& s, float* value,
                                int value_stride, uint8_t* label) {
    const RowClip clip = clip_row(p, walk.inverse_step_x, z, y, xa, xb);
    const T* volume = reinterpret_cast<const T*>(p.image);
    const uint8_t* labels = reinterpret_cast<const uint8_t*>(p.label);
    const int first = clip.inner0 / N * N, from = clip.inner0 - first, to = clip.inner1 - first;

    if (to > from) {
        find_places(p, walk, z, y, clip, first, s);
        if (value) {
            for (int c = 0; c < p.channels; c++) {
                const T* channel = volume + c * walk.channel_stride;
                float* out = value + static_cast<int64_t>(c) * value_stride + (first - xa);
                prefetch<PREFETCH_EVERY_IMAGE>(channel, walk.ahead, s.lower, from, to);
                if (p.flags & NEAREST) copy_nearest(channel, s.nearest, from, to, out);
                else interpolate(channel, clip, walk, from, to, s, out);
            }
        }
        if (label) {
            prefetch<PREFETCH_EVERY_LABEL>(labels, walk.ahead, s.lower, from, to);
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
            const T* channel = volume + c * walk.channel_stride;
            value[static_cast<int64_t>(c) * value_stride + (x - xa)] =
                (p.flags & NEAREST) ? sample_nearest(channel, p.in_shape, at, p.fill) : sample_trilinear(channel, p.in_shape, at, p.fill);
        }
    }
}

AUG_END
