// Fetching taps by scalar loads into row buffers, for any machine: no instruction set's gathers are needed, and many are slow.
#pragma once

#include "places.h"
#include "sample.h"

AUG_BEGIN

/// Copies the eight taps of voxels [from, to). Pair: two values of T.
template <class T, class Pair>
AUG_STAGE void fetch_pairs(const T* volume, const RowClip& clip, const Walk& walk, int from, int to, RowScratch& s) {
    const int64_t up_y = clip.upper[1] ? walk.stride_y : 0, up_z = clip.upper[0] ? walk.stride_z : 0;
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

/// The same where find_places_clamped has found the places.
template <class T>
AUG_STAGE void fetch_clamped(const T* volume, int from, int to, RowScratch& s) {
    for (int i = from; i < to; i++) {
        const T* at = volume + s.lower[i];
        for (int k = 0; k < 4; k++) {
            const T* row = at + (k & 2 ? s.up[0][i] : 0) + (k & 1 ? s.up[1][i] : 0);
            const T pair[2] = {row[0], row[s.up[2][i]]};
            __builtin_memcpy(reinterpret_cast<char*>(s.taps[k]) + i * sizeof pair, pair, sizeof pair);
        }
    }
}

/// What becomes of a voxel before it is interpolated: nothing.
struct Unchanged {
    AUG_HOSTDEV Wide::Float operator()(Wide::Float v) const { return v; }
};
struct WithinLimits {
    float low, high;
    AUG_HOSTDEV Wide::Float operator()(Wide::Float v) const { return clamp<Wide>(v, low, high); }
};

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

/// Trilinear values of the fetched taps up to voxel `to`.
template <class T, class Voxel>
AUG_HOSTDEV void interpolate_fetched(const T* volume, int to, const RowScratch& s, Voxel voxel, float* value) {
    for (int i = 0; i < to; i += N) {
        const auto tz = load<Wide::Float>(s.part[0] + i), ty = load<Wide::Float>(s.part[1] + i), tx = load<Wide::Float>(s.part[2] + i);
        Wide::Float row[4];
        for (int k = 0; k < 4; k++) {
            Wide::Float left, right;
            unpack(volume, s.taps[k], i, left, right);
            row[k] = lerp<Wide>(voxel(left), voxel(right), tx);
        }
        store(value + i, lerp<Wide>(lerp<Wide>(row[0], row[1], ty), lerp<Wide>(row[2], row[3], ty), tz));
    }
}

/// Trilinear values of voxels [from, to) into value[from ..], in whole registers from 0 on: up to N - 1 leftovers at both ends.
template <class T, class Voxel>
AUG_STAGE void interpolate(const T* volume, const RowClip& clip, const Walk& walk, int from, int to, RowScratch& s, Voxel voxel,
                           float* value) {
    fetch_pairs<T, typename PairOf<T>::Type>(volume, clip, walk, from, to, s);
    interpolate_fetched(volume, to, s, voxel, value);
}

/// The same where find_places_clamped has found the places.
template <class T, class Voxel>
AUG_STAGE void interpolate_clamped(const T* volume, int from, int to, RowScratch& s, Voxel voxel, float* value) {
    fetch_clamped(volume, from, to, s);
    interpolate_fetched(volume, to, s, voxel, value);
}

/// out[i] = volume[index[i]] for i in [from, to).
template <class T, class U>
AUG_STAGE void copy_nearest(const T* __restrict volume, const int32_t* __restrict index, int from, int to, U* __restrict out) {
#pragma GCC unroll 4
    for (int i = from; i < to; i++) out[i] = static_cast<U>(volume[index[i]]);
}

AUG_END
