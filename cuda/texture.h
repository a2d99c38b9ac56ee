// The value of a volume at a place, from a card's texture units: opt-in, and not the same bits as memory gives.
//
// The units weigh taps with 8 fractional bits per axis (CUDA C++ Programming Guide, "Linear Filtering"), so that a value is off by at most
// 3/512 of the difference between the largest and the smallest of its eight taps (fill included), plus 2^-15 of an int16 volume's range.
// EDGE and LIMITS have no such sampler: augserver/kernel/checks.py refuses them.
#pragma once

#include "sample.h"
#include "voxel.h"

AUG_BEGIN

/// One channel as a texture object: linear filtering, voxel coordinates, 0 outside. Params.image is the address of a table of handles.
struct TextureImage {
    unsigned long long handle;
    float scale;   // int16 is read as v / 32767; -32768 as -32767
};

template <>
struct Source<TextureImage> {
    static AUG_HOSTDEV TextureImage of(const Params& p, int channel) {
        return {reinterpret_cast<const unsigned long long*>(p.image)[channel], p.in_type == InputType::INT16 ? 32767.0f : 1.0f};
    }
};

/// Weight of the taps inside the volume along one axis, with the units' 8 bits: the rest of 1 is fill's.
AUG_HOSTDEV float covered(int index, float part, int size) {
    const float upper = Scalar::to_float(Scalar::to_int(part * 256.0f + 0.5f)) * 0x1p-8f;
    if (index < -1 || index >= size) return 0.0f;
    return (index >= 0 ? 1.0f - upper : 0.0f) + (index + 1 < size ? upper : 0.0f);
}

AUG_HOSTDEV float fetch(const TextureImage& image, float z, float y, float x) {
#if defined(__CUDACC__) && !defined(__CUDA_ARCH__)
    return 0.0f * (z + y + x + image.scale);   // nvcc's host pass: never called
#else
    return tex3D<float>(image.handle, x + 0.5f, y + 0.5f, z + 0.5f) * image.scale;
#endif
}

AUG_HOSTDEV float sample_trilinear(const TextureImage& image, const int32_t (&shape)[3], const Place& at, const AsStored& how) {
    float inside = 1.0f, c[3];
    for (int d = 0; d < 3; d++) {
        inside *= covered(at.index[d], at.part[d], shape[d]);
        c[d] = static_cast<float>(at.index[d]) + at.part[d];
    }
    return inside == 0.0f ? how.fill : fetch(image, c[0], c[1], c[2]) + how.fill * (1.0f - inside);
}

AUG_HOSTDEV float sample_nearest(const TextureImage& image, const int32_t (&shape)[3], const Place& at, const AsStored& how) {
    int n[3];
    for (int d = 0; d < 3; d++) {
        n[d] = nearest(at, d);
        if (n[d] < 0 || n[d] >= shape[d]) return how.fill;
    }
    return fetch(image, static_cast<float>(n[0]), static_cast<float>(n[1]), static_cast<float>(n[2]));
}

AUG_HOSTDEV float sample_channel(const Params& p, int channel, const TextureImage& image, const Place& at) {
    return sample_as(p, image, at, AsStored{p.fill[channel]});
}

AUG_END
