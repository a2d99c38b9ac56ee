// The value of a volume at a place, with bounds: what lies outside counts as `fill`, or label 0.
#pragma once

#include "warp.h"

AUG_BEGIN

/// One voxel, or `outside`.
template <class T>
AUG_HOSTDEV T voxel_or(const T* volume, const int32_t (&shape)[3], int z, int y, int x, T outside, bool& inside) {
    inside = static_cast<uint32_t>(z) < static_cast<uint32_t>(shape[0]) && static_cast<uint32_t>(y) < static_cast<uint32_t>(shape[1]) &&
             static_cast<uint32_t>(x) < static_cast<uint32_t>(shape[2]);
    return inside ? volume[(static_cast<int64_t>(z) * shape[1] + y) * shape[2] + x] : outside;
}

template <class T>
AUG_HOSTDEV float tap(const T* volume, const int32_t (&shape)[3], int z, int y, int x, float fill) {
    bool inside;
    const T value = voxel_or(volume, shape, z, y, x, T{}, inside);
    return inside ? static_cast<float>(value) : fill;
}

/// Index of the nearest voxel along one axis; of two equally near ones the upper.
AUG_HOSTDEV int nearest(const Place& at, int axis) { return at.index[axis] + (at.part[axis] >= 0.5f ? 1 : 0); }

/// Trilinear value: along x first, then y, then z. Taps outside count as fill and are blended (SciPy's mode "grid-constant").
template <class T>
AUG_HOSTDEV float sample_trilinear(const T* volume, const int32_t (&shape)[3], const Place& at, float fill) {
    const int z = at.index[0], y = at.index[1], x = at.index[2];
    if (z < -1 || z >= shape[0] || y < -1 || y >= shape[1] || x < -1 || x >= shape[2]) return fill;
    float plane[2];
#if defined(__CUDA_ARCH__)
#pragma unroll
#endif
    for (int k = 0; k < 2; k++) {
        const float row0 = lerp<Scalar>(tap(volume, shape, z + k, y, x, fill), tap(volume, shape, z + k, y, x + 1, fill), at.part[2]);
        const float row1 = lerp<Scalar>(tap(volume, shape, z + k, y + 1, x, fill), tap(volume, shape, z + k, y + 1, x + 1, fill), at.part[2]);
        plane[k] = lerp<Scalar>(row0, row1, at.part[1]);
    }
    return lerp<Scalar>(plane[0], plane[1], at.part[0]);
}

template <class T>
AUG_HOSTDEV float sample_nearest(const T* volume, const int32_t (&shape)[3], const Place& at, float fill) {
    return tap(volume, shape, nearest(at, 0), nearest(at, 1), nearest(at, 2), fill);
}

/// Nearest label, 0 outside and for labels that do not survive.
AUG_HOSTDEV uint8_t sample_label(const Params& p, const Place& at) {
    bool inside;
    const uint8_t* volume = reinterpret_cast<const uint8_t*>(p.label);
    const uint8_t label = voxel_or(volume, p.in_shape, nearest(at, 0), nearest(at, 1), nearest(at, 2), uint8_t{0}, inside);
    return (p.flags & KEEP_LABELS) && !((p.keep[label >> 5] >> (label & 31)) & 1) ? uint8_t{0} : label;
}

AUG_END
