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

/// Voxels 4 block .. 4 block + 3 of the sample's grid in C order, all channels and the label. T: int16_t, float, or see Source.
/// runs: stage 0 of each channel's program; null: the sample has no programs.
template <class T>
AUG_HOSTDEV void augment_block(const Params& p, uint64_t block, const ChannelRun* runs = nullptr) {
    const int64_t width = p.out_shape[2], height = p.out_shape[1];
    const int64_t voxels = width * height * p.out_shape[0];
    const int64_t first = static_cast<int64_t>(block) * BLOCK;
    const int64_t row = first / width;
    int x = static_cast<int>(first - row * width), y = static_cast<int>(row % height), z = static_cast<int>(row / height);

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
        if (p.out_label && first + i < voxels) {
            const bool painted = hidden[i] && p.occlusion_label != KEEP_OCCLUDED_LABEL;
            uint8_t label = static_cast<uint8_t>(p.occlusion_label);
            if (!painted || p.ignore_label != NO_LABEL) {
                const uint8_t here = sample_label(p, at[i]);
                if (!painted || here == p.ignore_label) label = here;
            }
            reinterpret_cast<uint8_t*>(p.out_label)[first + i] = label;
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
            if (runs) {
                const int64_t index = first + i, line = index / width;
                finish_stage_on_voxel(runs[channel], index, voxels, static_cast<int>(line / height), static_cast<int>(line % height),
                                      static_cast<int>(index % width), v);
                continue;
            }
            store_voxel(p.out_image, p.out_type, static_cast<uint64_t>(channel * voxels + first + i), v);
        }
    }
}

AUG_END
