// Gaussian noise that is a function of (key, output voxel, channel) alone: Philox4x32-10 and Box-Muller.
//
// To compute the noise of a voxel again: let i be its index in the patch, C order over (Z, Y, X). The counter is
// (low 32 bits of i / 4, high 32 bits of i / 4, channel, number), number 0 but for a step's second normal, the key is (low, high) half of noise_key. The four output words w give
// four normals, for the voxels 4 (i / 4) + 0, 1, 2, 3:
//     n0 = r(w0) cos(2 pi w1 / 2^32), n1 = r(w0) sin(2 pi w1 / 2^32), n2, n3 likewise of w2 and w3,
//     r(w) = sqrt(-2 ln u), u = ((w >> 1) + 1/2) / 2^31, so that |n| reaches 6.66.
// Neighbouring voxels share a counter because one CUDA thread makes four voxels, and a vector register transposes them cheaply.
// Source: Salmon et al., "Parallel random numbers: as easy as 1, 2, 3", SC 2011; tests/kernel/philox4x32_10_kat.txt has their vectors.
#pragma once

#include "elementary.h"

AUG_BEGIN

/// Ten rounds, in place.
template <class L>
AUG_HOSTDEV void philox4x32_10(typename L::Word (&c)[4], uint32_t key0, uint32_t key1) {
    using Word = typename L::Word;
#if defined(__CUDA_ARCH__)
#pragma unroll
#else
#pragma GCC unroll 10
#endif
    for (int round = 0; round < 10; round++) {
        Word high0, low0, high2, low2;
        L::multiply(c[0], 0xD2511F53u, high0, low0);
        L::multiply(c[2], 0xCD9E8D57u, high2, low2);
        c[0] = high2 ^ c[1] ^ key0;
        c[1] = low2;
        c[2] = high0 ^ c[3] ^ key1;
        c[3] = low0;
        key0 += 0x9E3779B9u;
        key1 += 0xBB67AE85u;
    }
}

/// Two standard normals of two random words.
template <class L>
AUG_HOSTDEV void normal_pair(typename L::UInt size, typename L::UInt turn, typename L::Float& first, typename L::Float& second) {
    using Float = typename L::Float;
    using Int = typename L::Int;
    const Float u = (L::to_float((Int)(size >> 1)) + 0.5f) * 0x1p-31f;
    const Float radius = L::sqrt(ln<L>(u) * -2.0f);
    Float sine, cosine;
    sincos_turn<L>(turn, sine, cosine);
    first = radius * cosine;
    second = radius * sine;
}

/// The noise of voxels 4 block .. 4 block + 3; `number` tells apart several normals of a voxel.
AUG_HOSTDEV void normals_of_block(const uint32_t (&key)[2], uint32_t channel, uint64_t block, float (&out)[4], uint32_t number = 0) {
    uint32_t words[4] = {static_cast<uint32_t>(block), static_cast<uint32_t>(block >> 32), channel, number};
    philox4x32_10<Scalar>(words, key[0], key[1]);
    normal_pair<Scalar>(words[0], words[1], out[0], out[1]);
    normal_pair<Scalar>(words[2], words[3], out[2], out[3]);
}

AUG_END
