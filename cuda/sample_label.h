// The label at a place: of the nearest voxel, or of all eight.
//
// LINEAR_LABELS: each of the eight voxels around the place adds its trilinear weight to its label, and the label with the largest sum wins.
// Of equal sums that of the nearest voxel wins, else the lowest label: as batchgeneratorsv2 0.3.6 has it by default (seg_tiebreak).
// Voxels outside the volume have `outside_label`. Labels that do not survive count as 0 from the start.
//
// The same bits everywhere: a weight is (z y) x, and a label's sum is taken over the taps in their order in memory.
#pragma once

#include "sample.h"

// What runs seldom is not to fill a GPU's kernel.
#if defined(__CUDA_ARCH__)
#define AUG_ROLLED _Pragma("unroll 1")
#else
#define AUG_ROLLED
#endif

AUG_BEGIN

constexpr int TAPS = 8;   // in the order of memory: bit 0 of a tap's number is x, bit 1 y, bit 2 z

/// The weight of tap k, from how far the place lies from the lower voxel towards the next.
template <class L>
AUG_HOSTDEV typename L::Float weight_of(int k, typename L::Float z, typename L::Float y, typename L::Float x) {
    return ((k & 4 ? z : 1.0f - z) * (k & 2 ? y : 1.0f - y)) * (k & 1 ? x : 1.0f - x);
}

/// The sum of the weights of the taps with this label. Taps: label(k) and weight(k).
template <class L, class Taps>
AUG_HOSTDEV typename L::Float weigh_label(const Taps& taps, typename L::Int of) {
    typename L::Float sum{};
    AUG_ROLLED
    for (int k = 0; k < TAPS; k++) sum = sum + L::select(taps.label(k) == of, taps.weight(k), typename L::Float{});
    return sum;
}

/// The label with the largest sum; near: that of the nearest voxel, near_sum: its sum.
template <class L, class Taps>
AUG_HOSTDEV typename L::Int heaviest_label(const Taps& taps, typename L::Int near, typename L::Float near_sum) {
    typename L::Int best = near;
    typename L::Float largest{};
    AUG_ROLLED
    for (int k = 0; k < TAPS; k++) {
        const typename L::Int label = taps.label(k);
        const typename L::Float sum = weigh_label<L>(taps, label);
        best = L::select_int((sum > largest) | ((sum == largest) & (label < best)), label, best);
        largest = L::select(sum > largest, sum, largest);
    }
    return L::select_int(near_sum == largest, near, best);
}

/// What a stored label counts as.
AUG_HOSTDEV uint8_t kept_label(const Params& p, uint8_t label) {
    return (p.flags & KEEP_LABELS) && !((p.keep[label >> 5] >> (label & 31)) & 1) ? uint8_t{0} : label;
}

AUG_HOSTDEV uint8_t label_tap(const Params& p, int z, int y, int x) {
    bool inside;
    const uint8_t label = voxel_or(reinterpret_cast<const uint8_t*>(p.label), p.in_shape, p.flags & EDGE, z, y, x, uint8_t{0}, inside);
    return inside ? kept_label(p, label) : static_cast<uint8_t>(p.outside_label);
}

AUG_HOSTDEV uint8_t nearest_label(const Params& p, const Place& at) { return label_tap(p, nearest(at, 0), nearest(at, 1), nearest(at, 2)); }

/// The eight taps of one place, without an array: a GPU has its registers alone.
struct PackedTaps {
    uint64_t labels;   // byte k: tap k
    const Place& at;
    AUG_HOSTDEV int32_t label(int k) const { return static_cast<int32_t>(labels >> 8 * k & 255); }
    AUG_HOSTDEV float weight(int k) const { return weight_of<Scalar>(k, at.part[0], at.part[1], at.part[2]); }
};

AUG_HOSTDEV uint8_t linear_label(const Params& p, const Place& at) {
    const uint8_t near = nearest_label(p, at);
    if (!(p.flags & EDGE) && is_outside(p.in_shape, at)) return near;
    PackedTaps taps{0, at};
    AUG_ROLLED
    for (int k = 0; k < TAPS; k++) {
        const uint64_t label = label_tap(p, at.index[0] + (k >> 2), at.index[1] + (k >> 1 & 1), at.index[2] + (k & 1));
        taps.labels |= label << 8 * k;
    }
    if (taps.labels == near * 0x0101010101010101u) return near;
    return static_cast<uint8_t>(heaviest_label<Scalar>(taps, int32_t{near}, weigh_label<Scalar>(taps, near)));
}

AUG_HOSTDEV uint8_t sample_label(const Params& p, const Place& at) {
    return (p.flags & LINEAR_LABELS) ? linear_label(p, at) : nearest_label(p, at);
}

AUG_END
