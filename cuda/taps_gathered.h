// Fetching taps by AVX-512 gathers: faster than scalar copies on Intel's cores from Sapphire Rapids on. Overloads taps_copied.h.
#pragma once

#include "taps_copied.h"

AUG_BEGIN

/// The first `left` lanes, at most all 16.
AUG_HOSTDEV __mmask16 first_lanes(int left) { return left >= N ? 0xffff : static_cast<__mmask16>((1u << left) - 1); }

/// x neighbours at row[index] and row[index + 1] of the lanes in `mask`.
AUG_HOSTDEV void gather_pairs(const int16_t* row, __m512i index, __mmask16 mask, Wide::Float& left, Wide::Float& right) {
    const Wide::Int pair = (Wide::Int)_mm512_mask_i32gather_epi32(_mm512_setzero_si512(), mask, index, row, 2);
    left = Wide::to_float((pair << 16) >> 16);
    right = Wide::to_float(pair >> 16);
}
AUG_HOSTDEV void gather_pairs(const float* row, __m512i index, __mmask16 mask, Wide::Float& left, Wide::Float& right) {
    const __m512d zero = _mm512_setzero_pd();
    const auto low = static_cast<__mmask8>(mask), high = static_cast<__mmask8>(mask >> 8);
    const auto a = (Wide::Float)_mm512_mask_i32gather_pd(zero, low, _mm512_castsi512_si256(index), row, 4);
    const auto b = (Wide::Float)_mm512_mask_i32gather_pd(zero, high, _mm512_extracti64x4_epi64(index, 1), row, 4);
    left = shuffled<even_lanes>(a, b);
    right = shuffled<odd_lanes>(a, b);
}

template <class T, class Voxel>
AUG_HOSTDEV void gather_trilinear(const T* volume, const RowClip& clip, const Walk& walk, int from, int to, const RowScratch& s,
                                  Voxel voxel, float* value) {
    const int64_t up_y = clip.upper[1] ? walk.stride_y : 0, up_z = clip.upper[0] ? walk.stride_z : 0;
    const T* const rows[4] = {volume, volume + up_y, volume + up_z, volume + up_z + up_y};
    for (int i = from; i < to; i += N) {
        const __mmask16 mask = first_lanes(to - i);
        const auto index = load<__m512i>(s.lower + i);
        const auto tz = load<Wide::Float>(s.part[0] + i), ty = load<Wide::Float>(s.part[1] + i), tx = load<Wide::Float>(s.part[2] + i);
        Wide::Float row[4];
        for (int k = 0; k < 4; k++) {
            Wide::Float left, right;
            gather_pairs(rows[k], index, mask, left, right);
            row[k] = lerp<Wide>(voxel(left), voxel(right), tx);
        }
        store(value + i, lerp<Wide>(lerp<Wide>(row[0], row[1], ty), lerp<Wide>(row[2], row[3], ty), tz));
    }
}
/// As in taps_copied.h, whose template gives way to these.
template <class Voxel>
AUG_STAGE void interpolate(const int16_t* volume, const RowClip& clip, const Walk& walk, int from, int to, RowScratch& s, Voxel voxel,
                           float* value) {
    gather_trilinear(volume, clip, walk, from, to, s, voxel, value);
}
template <class Voxel>
AUG_STAGE void interpolate(const float* volume, const RowClip& clip, const Walk& walk, int from, int to, RowScratch& s, Voxel voxel,
                           float* value) {
    gather_trilinear(volume, clip, walk, from, to, s, voxel, value);
}

/// Labels: a gather reads 32 bits, so it takes the aligned word around each byte, which lies on the same page as the byte.
AUG_STAGE void copy_nearest(const uint8_t* volume, const int32_t* index, int from, int to, uint8_t* out) {
    const uint64_t misaligned = reinterpret_cast<uint64_t>(volume) & 3;
    const uint8_t* words = volume - misaligned;
    for (int i = from; i < to; i += N) {
        const __mmask16 mask = first_lanes(to - i);
        const Wide::UInt byte = load<Wide::UInt>(index + i) + static_cast<uint32_t>(misaligned);
        const auto word = (Wide::UInt)_mm512_mask_i32gather_epi32(_mm512_setzero_si512(), mask, (__m512i)(byte >> 2), words, 4);
        _mm512_mask_cvtepi32_storeu_epi8(out + i, mask, (__m512i)(word >> ((byte & 3) << 3)));
    }
}

AUG_END
