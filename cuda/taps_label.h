// Labels by the weights of equal labels among eight taps, as sample_label.h has it, on rows.
//
// Most voxels lie inside one label: their eight taps, fetched as one 64-bit word, are eight equal bytes, and one of them is the label.
// The taps of the other voxels are listed, and their labels computed a whole register at a time. What that costs depends on how many voxels
// lie at a border, not on how many labels there are.
#pragma once

#include "places.h"
#include "sample_label.h"

AUG_BEGIN

/// The list of the voxels whose taps differ, in a row's memory.
struct Mixed {
    uint64_t* word;   // byte k: tap k
    int32_t* at;      // index of the voxel in the row
    int count = 0;
    explicit AUG_HOSTDEV Mixed(RowScratch& s) : word(s.taps[0]), at(reinterpret_cast<int32_t*>(s.taps[1])) {}

    AUG_HOSTDEV void add(uint64_t taps, int i, uint8_t* out) {
        out[i] = static_cast<uint8_t>(taps);
        word[count] = taps;
        at[count] = i;
        count += taps != (taps << 8 | taps >> 56);
    }
};

/// The eight taps of N places.
struct WideTaps {
    Wide::Int labels[TAPS];
    Wide::Float weights[TAPS];
    AUG_HOSTDEV Wide::Int label(int k) const { return labels[k]; }
    AUG_HOSTDEV Wide::Float weight(int k) const { return weights[k]; }
};

/// Computes the labels of the listed voxels.
AUG_STAGE void label_mixed(const Params& p, const Mixed& mixed, const RowScratch& s, uint8_t* out) {
    if (p.flags & KEEP_LABELS) {
        for (int i = 0; i < mixed.count; i++) {
            uint8_t taps[TAPS];
            __builtin_memcpy(taps, mixed.word + i, TAPS);
            for (uint8_t& label : taps) label = kept_label(p, label);
            __builtin_memcpy(mixed.word + i, taps, TAPS);
        }
    }
    for (int first = 0; first < mixed.count; first += N) {
        const int lanes = mixed.count - first < N ? mixed.count - first : N;
        Wide::Float part[3]{};
        for (int i = 0; i < lanes; i++)
            for (int d = 0; d < 3; d++) part[d][i] = s.part[d][mixed.at[first + i]];
        // memory behind `count` holds leftovers: those lanes are not stored
        const auto a = load<Wide::Int>(mixed.word + first), b = load<Wide::Int>(mixed.word + first + N / 2);
        const Wide::Int plane[2] = {shuffled<even_lanes>(a, b), shuffled<odd_lanes>(a, b)};   // little endian: the lower plane first
        const Wide::Int z = part[0] >= 0.5f, y = part[1] >= 0.5f, x = part[2] >= 0.5f;
        WideTaps taps;
        Wide::Int near{};
        for (int k = 0; k < TAPS; k++) {
            taps.labels[k] = (plane[k >> 2] >> 8 * (k & 3)) & 255;
            taps.weights[k] = weight_of<Wide>(k, part[0], part[1], part[2]);
            near = Wide::select_int((k & 4 ? z : ~z) & (k & 2 ? y : ~y) & (k & 1 ? x : ~x), taps.labels[k], near);
        }
        const Wide::Float near_sum = weigh_label<Wide>(taps, near);
        Wide::Int winner = near;
        for (int i = 0; i < lanes; i++) {
            if (near_sum[i] > 0.51f) continue;   // the others' sums are below 0.5
            winner = heaviest_label<Wide>(taps, near, near_sum);
            break;
        }
        for (int i = 0; i < lanes; i++) out[mixed.at[first + i]] = static_cast<uint8_t>(winner[i]);
    }
}

/// Labels of voxels [from, to), whose taps all lie inside.
AUG_STAGE void linear_labels(const Params& p, const uint8_t* volume, const RowClip& clip, const Walk& walk, int from, int to, RowScratch& s,
                             uint8_t* out) {
    const int64_t up_y = clip.upper[1] ? walk.stride_y : 0, up_z = clip.upper[0] ? walk.stride_z : 0;
    Mixed mixed(s);
    for (int i = from; i < to; i++) {
        const uint8_t* at = volume + s.lower[i];
        uint16_t row[4];
        __builtin_memcpy(row + 0, at, 2);
        __builtin_memcpy(row + 1, at + up_y, 2);
        __builtin_memcpy(row + 2, at + up_z, 2);
        __builtin_memcpy(row + 3, at + up_z + up_y, 2);
        mixed.add(row[0] | uint64_t{row[1]} << 16 | uint64_t{row[2]} << 32 | uint64_t{row[3]} << 48, i, out);
    }
    label_mixed(p, mixed, s, out);
}

/// The same where find_places_clamped has found the places.
AUG_STAGE void linear_labels_clamped(const Params& p, const uint8_t* volume, int from, int to, RowScratch& s, uint8_t* out) {
    Mixed mixed(s);
    for (int i = from; i < to; i++) {
        const uint8_t* at = volume + s.lower[i];
        uint64_t taps = 0;
        for (int k = TAPS - 1; k >= 0; k--)
            taps = taps << 8 | at[(k & 4 ? s.up[0][i] : 0) + (k & 2 ? s.up[1][i] : 0) + (k & 1 ? s.up[2][i] : 0)];
        mixed.add(taps, i, out);
    }
    label_mixed(p, mixed, s, out);
}

AUG_END
