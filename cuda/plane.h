// A plane of a sample on one CPU thread, from the volume to what its first stage leaves of it: the output, where there is no second one.
#pragma once

#include "program_strip.h"

AUG_BEGIN

/// runs: the first stage of each channel's program; null: the sample has no programs.
template <class T>
AUG_STAGE void augment_plane(const Params& p, const Walk& walk, const Tone& tone, const ChannelRun* runs, int z, StripScratch& s) {
    const int height = p.out_shape[1], width = p.out_shape[2];
    const int64_t plane = static_cast<int64_t>(height) * width, voxels = plane * p.out_shape[0];
    uint8_t* labels = reinterpret_cast<uint8_t*>(p.out_label);
    const bool hidden = is_occluded(p, z), painted = hidden && p.occlusion_label != KEEP_OCCLUDED_LABEL;
    if (hidden) {
        for (int c = 0; c < p.channels; c++) paint(p, tone, p.fill[c], c * voxels + z * plane, plane);
        if (labels && painted && p.ignore_label == NO_LABEL) __builtin_memset(labels + z * plane, p.occlusion_label, plane);
        if (!labels || (painted && p.ignore_label == NO_LABEL)) return;
    }
    const Strips strips(p.out_shape);
    for (int k = 0; k < strips.per_plane(); k++) {
        const Strip strip = strips.at(z, k);
        for (int y = strip.y0; y < strip.y1; y++) {
            const int64_t at = z * plane + static_cast<int64_t>(y) * width + strip.xa;
            sample_segment<T>(p, walk, z, y, strip.xa, strip.xb, s.row, hidden ? nullptr : s.value[0] + (y - strip.y0) * strip.width(), STRIP + 2 * N,
                              labels ? labels + at : nullptr);
            for (int i = 0; painted && i < strip.width(); i++)
                if (labels[at + i] != p.ignore_label) labels[at + i] = static_cast<uint8_t>(p.occlusion_label);
        }
        if (hidden) continue;
        for (int c = 0; c < p.channels; c++) {
            if (runs) {
                const ChannelProgram program(p, c, nullptr);
                const StripOfChannel on{p, program, strip, c, s.value[c], {s.noise, s.more_noise}};
                run_stage_on_strip(on, runs[c].stage, nullptr);
                hand_on(on, runs[c], z * strips.per_plane() + k);
            } else {
                finish(p, tone, c, voxels, strip.first, strip.count, s.value[c], s.noise);
            }
        }
    }
}

AUG_END
