// The value of a volume at a place, with bounds: what lies outside is the channel's fill, or `outside_label`, or with EDGE the nearest
// voxel inside.
#pragma once

#include "warp.h"

AUG_BEGIN

/// How the voxels of one image channel are read: as they are, with fill outside.
struct AsStored {
    float fill;
    static constexpr bool edge = false, limited = false;
    static constexpr float low = 0.0f, high = 0.0f;
};
/// The same with EDGE or LIMITS: of another type, so that the taps of the usual case have no branches.
struct EdgeOrLimits {
    float fill;
    bool edge, limited;
    float low, high;
    AUG_HOSTDEV EdgeOrLimits(const Params& p, int channel)
        : fill(p.fill[channel]), edge(p.flags & EDGE), limited(p.flags & LIMITS), low(p.limit_low[channel]), high(p.limit_high[channel]) {}
};

/// v within [low, high]; NaN becomes low.
template <class L>
AUG_HOSTDEV typename L::Float clamp(typename L::Float v, float low, float high) {
    const typename L::Float least = typename L::Float{} + low, most = typename L::Float{} + high;
    const typename L::Float above = L::select(v > least, v, least);
    return L::select(above < most, above, most);
}

AUG_HOSTDEV int clamp_index(int i, int size) { return i < 0 ? 0 : i < size ? i : size - 1; }

/// One voxel, or `outside`.
template <class T>
AUG_HOSTDEV T voxel_or(const T* volume, const int32_t (&shape)[3], bool edge, int z, int y, int x, T outside, bool& inside) {
    if (edge) {
        z = clamp_index(z, shape[0]);
        y = clamp_index(y, shape[1]);
        x = clamp_index(x, shape[2]);
    }
    inside = static_cast<uint32_t>(z) < static_cast<uint32_t>(shape[0]) && static_cast<uint32_t>(y) < static_cast<uint32_t>(shape[1]) &&
             static_cast<uint32_t>(x) < static_cast<uint32_t>(shape[2]);
    return inside ? volume[(static_cast<int64_t>(z) * shape[1] + y) * shape[2] + x] : outside;
}

template <class T, class How>
AUG_HOSTDEV float tap(const T* volume, const int32_t (&shape)[3], int z, int y, int x, const How& how) {
    bool inside;
    const T value = voxel_or(volume, shape, how.edge, z, y, x, T{}, inside);
    if (!inside) return how.fill;
    const float v = static_cast<float>(value);
    return how.limited ? clamp<Scalar>(v, how.low, how.high) : v;
}

/// Index of the nearest voxel along one axis; of two equally near ones the upper.
AUG_HOSTDEV int nearest(const Place& at, int axis) { return at.index[axis] + (at.part[axis] >= 0.5f ? 1 : 0); }

/// Whether all eight taps lie outside.
AUG_HOSTDEV bool is_outside(const int32_t (&shape)[3], const Place& at) {
    for (int d = 0; d < 3; d++)
        if (at.index[d] < -1 || at.index[d] >= shape[d]) return true;
    return false;
}

/// The value within one plane, from two rows.
template <class T, class How>
AUG_HOSTDEV float sample_bilinear(const T* volume, const int32_t (&shape)[3], int z, const Place& at, const How& how) {
    const int y = at.index[1], x = at.index[2];
    const float row0 = lerp<Scalar>(tap(volume, shape, z, y, x, how), tap(volume, shape, z, y, x + 1, how), at.part[2]);
    const float row1 = lerp<Scalar>(tap(volume, shape, z, y + 1, x, how), tap(volume, shape, z, y + 1, x + 1, how), at.part[2]);
    return lerp<Scalar>(row0, row1, at.part[1]);
}

/// Trilinear value: along x first, then y, then z. Taps outside count as fill and are blended (SciPy's mode "grid-constant"); with EDGE
/// they are the nearest voxels inside (SciPy's mode "nearest").
template <class T, class How>
AUG_HOSTDEV float sample_trilinear(const T* volume, const int32_t (&shape)[3], const Place& at, const How& how) {
    if (!how.edge && is_outside(shape, at)) return how.fill;
    const int z = at.index[0];
    return lerp<Scalar>(sample_bilinear(volume, shape, z, at, how), sample_bilinear(volume, shape, z + 1, at, how), at.part[0]);
}

template <class T, class How>
AUG_HOSTDEV float sample_nearest(const T* volume, const int32_t (&shape)[3], const Place& at, const How& how) {
    return tap(volume, shape, nearest(at, 0), nearest(at, 1), nearest(at, 2), how);
}

template <class Image, class How>
AUG_HOSTDEV float sample_as(const Params& p, const Image& image, const Place& at, const How& how) {
    return (p.flags & NEAREST) ? sample_nearest(image, p.in_shape, at, how) : sample_trilinear(image, p.in_shape, at, how);
}

/// The value of a channel, before any intensity.
template <class T>
AUG_HOSTDEV float sample_channel(const Params& p, int channel, const T* volume, const Place& at) {
    if (p.flags & (EDGE | LIMITS)) return sample_as(p, volume, at, EdgeOrLimits(p, channel));
    return sample_as(p, volume, at, AsStored{p.fill[channel]});
}

AUG_END
