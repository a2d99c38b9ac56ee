// Planes of one sample on one CPU thread: strips of rows go through sampling, noise and intensity while they are in the first-level cache.
//
//     plane z of the output        strip: whole rows, at most 2048 voxels, contiguous in the output
//     +---------------------+
//     |.....................|  --> sample_segment, row by row, into value[channel][voxel]
//     |.....................|      finish: noise of the strip's voxels, intensity, cast, straight into the caller's array
//     +---------------------+
#pragma once

#include "intensity.h"
#include "philox.h"
#include "row.h"
#include "strips.h"
#include "voxel.h"

AUG_BEGIN

struct StripScratch {
    RowScratch row;
    alignas(64) float value[MAX_CHANNELS][STRIP + 2 * N];
    alignas(64) float noise[STRIP + 8 * N], more_noise[STRIP + 8 * N];
};

/// The noise of voxels 4 block .. 4 (block + blocks) - 1 of a channel, rounded up to whole registers.
AUG_STAGE void fill_noise(const uint32_t (&key)[2], uint32_t channel, uint64_t block, int blocks, float* out, uint32_t number = 0) {
    // N counters make 4 N normals. Lane 4 g + k takes counter g + k N / 4, so that the 4x4 transposes leave the normals in order.
    typedef uint64_t Pairs __attribute__((vector_size(4 * N)));
    Pairs even, odd;
    for (int i = 0; i < N / 2; i++) {
        const int a = 2 * i, b = 2 * i + 1;
        even[i] = static_cast<uint64_t>(a / 4 + a % 4 * (N / 4));
        odd[i] = static_cast<uint64_t>(b / 4 + b % 4 * (N / 4));
    }
    for (int i = 0; i < blocks; i += N) {
        const Pairs counter_even = even + (block + i), counter_odd = odd + (block + i);
        const Wide::Word zero{Pairs{}, Pairs{}};
        Wide::Word words[4] = {{counter_even, counter_odd}, {counter_even >> 32, counter_odd >> 32}, zero ^ channel, zero ^ number};
        philox4x32_10<Wide>(words, key[0], key[1]);
        Wide::Float n[4];
        normal_pair<Wide>(Wide::joined(words[0]), Wide::joined(words[1]), n[0], n[1]);
        normal_pair<Wide>(Wide::joined(words[2]), Wide::joined(words[3]), n[2], n[3]);
        transpose_groups(n);
        for (int k = 0; k < 4; k++) store(out + 4 * i + k * N, n[k]);
    }
}

/// N output elements at array[at]; `count` of them are wanted.
AUG_HOSTDEV void store_lanes(uint64_t array, OutputType type, uint64_t at, Wide::Float v, int count) {
    alignas(64) char tail[4 * N];
    const int size = type == OutputType::FLOAT32 ? 4 : type == OutputType::FLOAT16 ? 2 : 1;
    char* target = reinterpret_cast<char*>(array) + at * size;
    if (type == OutputType::FLOAT32 && count >= N) return stream(target, v);
    char* to = count >= N ? target : tail;
    if (type == OutputType::FLOAT32) store(to, v);
    else if (type == OutputType::FLOAT16) store_halves(reinterpret_cast<uint16_t*>(to), v, half_bits<Wide>(v));
    else store_bytes(reinterpret_cast<uint8_t*>(to), byte_of<Wide>(v));
    if (count < N) __builtin_memcpy(target, tail, count * size);
}

/// Intensity, noise and cast of `count` voxels from index `first` of the patch on.
AUG_STAGE void finish(const Params& p, const Tone& tone, int channel, int64_t voxels, int64_t first, int count, const float* value, float* noise) {
    const int skipped = static_cast<int>(first % BLOCK);
    if (tone.flags & NOISE) fill_noise(p.key, static_cast<uint32_t>(channel), first / BLOCK, (skipped + count + BLOCK - 1) / BLOCK, noise);
    const uint64_t array = p.out_image;
    const OutputType type = p.out_type;
    const uint64_t base = static_cast<uint64_t>(channel * voxels + first);
    for (int i = 0; i < count; i += N) {
        Wide::Float n{};
        if (tone.flags & NOISE) n = load<Wide::Float>(noise + skipped + i);
        store_lanes(array, type, base + i, apply_tone<Wide>(tone, load<Wide::Float>(value + i), n), count - i);
    }
}

/// An occluded plane of one channel: fill through the window.
AUG_STAGE void paint(const Params& p, const Tone& tone, float fill, uint64_t first, int64_t count) {
    const Wide::Float v = Wide::Float{} + apply_window<Scalar>(tone, fill);
    for (int64_t i = 0; i < count; i += N) store_lanes(p.out_image, p.out_type, first + i, v, count - i < N ? static_cast<int>(count - i) : N);
}

AUG_END
