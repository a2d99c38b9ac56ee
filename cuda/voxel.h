// The augmentation of four voxels: the body of the CUDA kernel, and the reference that the vector code of the CPU must equal.
#pragma once

#include "intensity.h"
#include "philox.h"
#include "program_voxel.h"
#include "sample_label.h"

AUG_BEGIN

/// Voxels that share a Philox counter; one CUDA thread makes them.
constexpr int BLOCK = 4;

/// Where a thread reads channel `channel` of its volume: T is the voxel type in memory here, TextureImage in texture.h.
template <class T>
struct Source {
    static AUG_HOSTDEV const T* of(const Params& p, int channel) {
        const int64_t voxels = static_cast<int64_t>(p.in_shape[0]) * p.in_shape[1] * p.in_shape[2];
        return reinterpret_cast<const T*>(p.image) + channel * voxels;
    }
};

AUG_HOSTDEV bool is_occluded(const Params& p, int z) { return z >= p.occlusion[0] && z < p.occlusion[1]; }

/// The labels of the block that begins with voxel `first`, at (z, y, x), however they are taken: one after the other.
AUG_HOSTDEV void label_block(const Params& p, int64_t first, int64_t voxels, int z, int y, int x) {
    AUG_ROLLED
    for (int i = 0; i < BLOCK; i++) {
        if (first + i >= voxels) return;
        const uint8_t label = sample_label(p, place_of(p, anchor_of(p, z, y, x / X_BLOCK * X_BLOCK), x % X_BLOCK));
        const bool painted = is_occluded(p, z) && p.occlusion_label != KEEP_OCCLUDED_LABEL && label != p.ignore_label;
        reinterpret_cast<uint8_t*>(p.out_label)[first + i] = painted ? static_cast<uint8_t>(p.occlusion_label) : label;
        if (++x == p.out_shape[2]) {
            x = 0;
            if (++y == p.out_shape[1]) { y = 0; z++; }
        }
    }
}

/// Writes a voxel: to the output, or what the first stage leaves of it. A function, or ptxas spills three registers of the caller.
AUG_HOSTDEV void finish_voxel(const Params& p, const ChannelRun* runs, int channel, int64_t index, float v) {
    const int64_t width = p.out_shape[2], height = p.out_shape[1], voxels = width * height * p.out_shape[0];
    if (runs) {
        const int64_t line = index / width;
        finish_stage_on_voxel(runs[channel], index, voxels, static_cast<int>(line / height), static_cast<int>(line % height),
                              static_cast<int>(index % width), v);
        return;
    }
    store_voxel(p.out_image, p.out_type, static_cast<uint64_t>(channel * voxels + index), v);
}

/// Voxels 4 block .. 4 block + 3 of the sample's grid in C order, all channels and the label. T: int16_t, float, or see Source.
/// runs: stage 0 of each channel's program; null: the sample has no programs.
template <class T>
AUG_HOSTDEV void augment_block(const Params& p, uint64_t block, const ChannelRun* runs = nullptr) {
    const int64_t width = p.out_shape[2], height = p.out_shape[1];
    const int64_t voxels = width * height * p.out_shape[0];
    const int64_t first = static_cast<int64_t>(block) * BLOCK;
    const int64_t row = first / width;
    int x = static_cast<int>(first - row * width), y = static_cast<int>(row % height), z = static_cast<int>(row / height);

    const bool labels_apart = (p.flags & LINEAR_LABELS) || p.ignore_label != NO_LABEL;
    if (p.out_label && labels_apart) label_block(p, first, voxels, z, y, x);

    Place at[BLOCK];
    bool hidden[BLOCK];
    Anchor anchor{};
#if defined(__CUDA_ARCH__)
#pragma unroll
#endif
    for (int i = 0; i < BLOCK; i++) {
        if (i == 0 || x % X_BLOCK == 0) anchor = anchor_of(p, z, y, x / X_BLOCK * X_BLOCK);
        at[i] = place_of(p, anchor, x % X_BLOCK);
        hidden[i] = is_occluded(p, z);
        if (p.out_label && !labels_apart && first + i < voxels) {
            const bool painted = hidden[i] && p.occlusion_label != KEEP_OCCLUDED_LABEL;
            reinterpret_cast<uint8_t*>(p.out_label)[first + i] =
                painted ? static_cast<uint8_t>(p.occlusion_label) : nearest_label(p, at[i]);
        }
        if (++x == width) {
            x = 0;
            if (++y == height) { y = 0; z++; }
        }
    }

    const Tone tone(p);
    for (int channel = 0; channel < p.channels; channel++) {
        const auto image = Source<T>::of(p, channel);
        float noise[BLOCK] = {0.0f, 0.0f, 0.0f, 0.0f};
        if (p.flags & NOISE) normals_of_block(p.key, static_cast<uint32_t>(channel), block, noise);
#if defined(__CUDA_ARCH__)
#pragma unroll
#endif
        for (int i = 0; i < BLOCK; i++) {
            if (first + i >= voxels) break;
            float v;
            if (hidden[i]) {
                v = apply_window<Scalar>(tone, p.fill[channel]);
            } else {
                v = sample_channel(p, channel, image, at[i]);
                if (!runs) v = apply_tone<Scalar>(tone, v, noise[i]);
            }
            finish_voxel(p, runs, channel, first + i, v);
        }
    }
}

AUG_END
