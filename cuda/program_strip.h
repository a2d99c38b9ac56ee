// A stage of a program on one strip, in vector registers, while the strip is in the first-level cache.
#pragma once

#include "program_voxel.h"
#include "strip.h"

AUG_BEGIN

/// A strip of one channel of a sample, on its way through a stage.
struct StripOfChannel {
    const Params& p;
    const ChannelProgram& program;
    const Strip& strip;
    int channel;
    float* value;       // strip.count of them, and room for a register more
    float* normal[2];   // room for the strip's normals
};

constexpr int KEPT_VALUES = 16;

/// The numbers of an op: copied, so that a store to a strip cannot be taken for a change of them.
template <class S>
struct OpValues {
    float kept[KEPT_VALUES];
    const float* v;
    explicit AUG_HOSTDEV OpValues(const float* from) : v(from) {
        if constexpr (!S::LIST && static_cast<int>(S::VALUES) <= KEPT_VALUES) {
            for (int i = 0; i < static_cast<int>(S::VALUES); i++) kept[i] = from[i];
            v = kept;
        }
    }
};

/// The phase at `at`, of pointwise step S.
template <class S>
AUG_STAGE void apply_to_strip(const StripOfChannel& on, const Cursor& at) {
    if constexpr (!S::NEIGHBOURHOOD) {
        const Op& op = on.program.ops[at.op];
        const OpValues<S> values(on.program.values + op.values);
        const int phase = at.phase, count = on.strip.count, skipped = static_cast<int>(on.strip.first % BLOCK);
        Here<Wide> here{};
        here.shape = on.p.out_shape;
        here.statistics = on.program.statistics + at.statistics;
        here.z = on.strip.z;
        for (int k = 0; k < S::NORMALS; k++)
            fill_noise(op.key, static_cast<uint32_t>(on.channel), on.strip.first / BLOCK, (skipped + count + BLOCK - 1) / BLOCK, on.normal[k],
                       static_cast<uint32_t>(k));
        const uint8_t* labels = S::LABELS && on.p.out_label ? reinterpret_cast<const uint8_t*>(on.p.out_label) + on.strip.first : nullptr;
        const int row = S::COORDINATES ? on.strip.width() : count;
        for (int begin = 0; begin < count; begin += row) {
            if constexpr (S::COORDINATES) here.y = on.strip.y0 + begin / row;
            for (int i = 0; i < row; i += N) {
                float* to = on.value + begin + i;
                for (int k = 0; k < S::NORMALS; k++) here.normal[k] = load<Wide::Float>(on.normal[k] + skipped + begin + i);
                if constexpr (S::COORDINATES) here.x = Wide::lane_numbers() + (on.strip.xa + i);
                if constexpr (S::LABELS) {
                    if (labels)
                        for (int lane = 0; lane < N; lane++) here.label[lane] = begin + i + lane < count ? labels[begin + i + lane] : 0;
                }
                const Wide::Float done = S::template apply<Wide>(values.v, phase, load<Wide::Float>(to), here);
                if (S::COORDINATES && row - i < N) __builtin_memcpy(to, &done, sizeof(float) * (row - i));   // the next row is not done yet
                else store(to, done);
            }
        }
    }
}

/// The phase at `at`, of neighbourhood step S, from the channel's buffer to the strip.
template <class S>
AUG_STAGE void gather_strip(const StripOfChannel& on, const Cursor& at, const float* source) {
    if constexpr (S::NEIGHBOURHOOD) {
        const OpValues<S> values(on.program.values + on.program.ops[at.op].values);
        const int width = on.strip.width();
        for (int y = on.strip.y0; y < on.strip.y1; y++) {
            float* to = on.value + (y - on.strip.y0) * width;   // what runs over a row's end is overwritten by the next row
            for (int i = 0; i < width; i += N)
                store(to + i, S::template gather<Wide>(values.v, at.phase, Around<Wide>{source, on.p.out_shape, on.strip.z, y, on.strip.xa + i}));
        }
    }
}

AUG_STAGE void run_stage_on_strip(const StripOfChannel& on, const Stage& stage, const float* source) {
    const Op* ops = on.program.ops;
    Cursor at = stage.first;
    if (stage.gathers) {
        switch (ops[at.op].step) {
#define AUG_STEP(name) \
    case STEP_##name: gather_strip<steps::name>(on, at, source); break;
#include "step_list.h"
        }
        at = following(ops, on.program.values, at, stage.taken);
    }
    while (at.op != stage.end.op || at.phase != stage.end.phase) {
        switch (ops[at.op].step) {
#define AUG_STEP(name) \
    case STEP_##name: apply_to_strip<steps::name>(on, at); break;
#include "step_list.h"
        }
        at = following(ops, on.program.values, at, stage.taken);
    }
}

/// The sums of a strip, lane by lane as statistics.h says.
AUG_STAGE StripSums measure_strip(const float* value, int count) {
    typedef double Doubles __attribute__((vector_size(64)));
    typedef float Eight __attribute__((vector_size(32)));
    Doubles sum[2] = {}, squares[2] = {};
    Eight low[2], high[2];
    for (int h = 0; h < 2; h++) {
        low[h] = Eight{} + __builtin_inff();
        high[h] = Eight{} - __builtin_inff();
    }
    const int whole = count / LANES * LANES;
    for (int i = 0; i < whole; i += LANES) {
        for (int h = 0; h < 2; h++) {
            const Eight v = load<Eight>(value + i + 8 * h);
            const Doubles wide = __builtin_convertvector(v, Doubles);
            sum[h] += wide;
            squares[h] += wide * wide;
            low[h] = v < low[h] ? v : low[h];
            high[h] = v > high[h] ? v : high[h];
        }
    }
    StripSums lanes[LANES];
    for (int i = 0; i < LANES; i++) lanes[i] = {sum[i / 8][i % 8], squares[i / 8][i % 8], low[i / 8][i % 8], high[i / 8][i % 8]};
    for (int i = whole; i < count; i++) add_voxel(lanes[i - whole], value[i]);
    return sums_of_strip(lanes);
}

/// What a stage leaves of a strip: its sums where it measures, and its values in the buffer or the output. Strips count from the first plane.
AUG_STAGE void hand_on(const StripOfChannel& on, const ChannelRun& run, int strip_number) {
    if (run.stage.measures) run.sums[strip_number] = measure_strip(on.value, on.strip.count);
    if (!run.stage.last) {
        __builtin_memcpy(run.target + on.strip.first, on.value, sizeof(float) * on.strip.count);
        return;
    }
    const int64_t voxels = static_cast<int64_t>(on.p.out_shape[0]) * on.p.out_shape[1] * on.p.out_shape[2];
    const OutputType type = on.p.out_type;
    const uint64_t base = static_cast<uint64_t>(on.channel * voxels + on.strip.first);
    for (int i = 0; i < on.strip.count; i += N)
        store_lanes(on.p.out_image, type, base + i, output_value<Wide>(type, load<Wide::Float>(on.value + i)), on.strip.count - i);
}

/// Planes [z0, z1) of one channel in a stage after the first.
AUG_STAGE void run_planes(const ChannelRun& run, int z0, int z1, StripScratch& s) {
    const Params& p = *run.params;
    const ChannelProgram program(p, run.channel, run.statistics);
    const Strips strips(p.out_shape);
    for (int z = z0; z < z1; z++) {
        for (int k = 0; k < strips.per_plane(); k++) {
            const Strip strip = strips.at(z, k);
            const StripOfChannel on{p, program, strip, run.channel, s.value[0], {s.noise, s.more_noise}};
            if (!run.stage.gathers) __builtin_memcpy(on.value, run.source + strip.first, sizeof(float) * strip.count);
            run_stage_on_strip(on, run.stage, run.source);
            hand_on(on, run, z * strips.per_plane() + k);
        }
    }
}

AUG_END
