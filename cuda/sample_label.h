// The label at a place: of the nearest voxel, or of all eight.
//
// LINEAR_LABELS: each of the eight voxels around the place adds its trilinear weight to its label, and the label with the largest sum wins.
// Of equal sums that of the nearest voxel wins, else the lowest label: as batchgeneratorsv2 0.3.6 has it by default (seg_tiebreak).
// Voxels outside the volume have `outside_label`. Labels that do not survive count as 0 from the start.
//
// The same bits everywhere: a weight is (z y) x, and a label's sum is taken over the taps in their order in memory.
#pragma once

#include "sample.h"

AUG_BEGIN

constexpr int TAPS = 8;   // in the order of memory: bit 0 of a tap's number is x, bit 1 y, bit 2 z

/// The weights of the eight taps, from how far the place lies from the lower voxel towards the next.
template <class L>
AUG_HOSTDEV void weigh_taps(typename L::Float z, typename L::Float y, typename L::Float x, typename L::Float (&weight)[TAPS]) {
    const typename L::Float low_z = 1.0f - z, low_y = 1.0f - y, low_x = 1.0f - x;
    for (int k = 0; k < TAPS; k++) weight[k] = ((k & 4 ? z : low_z) * (k & 2 ? y : low_y)) * (k & 1 ? x : low_x);
}

/// The sum of the weights of the taps with this label.
template <class L>
AUG_HOSTDEV typename L::Float weigh_label(const typename L::Int (&label)[TAPS], const typename L::Float (&weight)[TAPS],
                                          typename L::Int of) {
    typename L::Float sum{};
    for (int k = 0; k < TAPS; k++) sum = sum + L::select(label[k] == of, weight[k], typename L::Float{});
    return sum;
}

/// The label with the largest sum; near: that of the nearest voxel, near_sum: its sum.
template <class L>
AUG_HOSTDEV typename L::Int heaviest_label(const typename L::Int (&label)[TAPS], const typename L::Float (&weight)[TAPS],
                                           typename L::Int near, typename L::Float near_sum) {
    typename L::Int best = label[0];
    typename L::Float largest = weigh_label<L>(label, weight, best);
    for (int k = 1; k < TAPS; k++) {
        const typename L::Float sum = weigh_label<L>(label, weight, label[k]);
        best = L::select_int((sum > largest) | ((sum == largest) & (label[k] < best)), label[k], best);
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

AUG_HOSTDEV uint8_t sample_label(const Params& p, const Place& at) {
    const int32_t near = label_tap(p, nearest(at, 0), nearest(at, 1), nearest(at, 2));
    if (!(p.flags & LINEAR_LABELS) || (!(p.flags & EDGE) && is_outside(p.in_shape, at))) return static_cast<uint8_t>(near);
    int32_t label[TAPS];
    bool equal = true;
#if defined(__CUDA_ARCH__)
#pragma unroll
#endif
    for (int k = 0; k < TAPS; k++) {
        label[k] = label_tap(p, at.index[0] + (k >> 2), at.index[1] + (k >> 1 & 1), at.index[2] + (k & 1));
        equal &= label[k] == near;
    }
    if (equal) return static_cast<uint8_t>(near);
    float weight[TAPS];
    weigh_taps<Scalar>(at.part[0], at.part[1], at.part[2], weight);
    return static_cast<uint8_t>(heaviest_label<Scalar>(label, weight, near, weigh_label<Scalar>(label, weight, near)));
}

AUG_END
