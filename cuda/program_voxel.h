// A stage of a program for one voxel: what a CUDA thread runs, and the reference that the vector code of the CPU must equal.
#pragma once

#include "intensity.h"
#include "philox.h"
#include "stages.h"

AUG_BEGIN

/// The bits of NaN differ between machines: every NaN becomes the same one.
template <class L>
AUG_HOSTDEV typename L::Float canonical(typename L::Float v) {
    return L::select(v == v, v, L::from_bits(typename L::Int{} + 0x7fc00000));
}

/// A program's value as it is stored: NaN is canonical, and what becomes bytes lies in [0, 1].
template <class L>
AUG_HOSTDEV typename L::Float output_value(OutputType type, typename L::Float v) {
    using Float = typename L::Float;
    if (type != OutputType::UINT8) return canonical<L>(v);
    const Float above = L::select(v > 0.0f, v, Float{});
    return L::select(above < 1.0f, above, Float{} + 1.0f);
}

/// What all stages of a sample share, and one channel of it.
struct ChannelProgram {
    const Op* ops;
    const float* values;
    const PatchStatistics* statistics;   // that the channel's stages took, in order
    int ops_end;

    AUG_HOSTDEV ChannelProgram(const Params& p, int channel, const PatchStatistics* taken)
        : ops(reinterpret_cast<const Op*>(p.ops)), values(reinterpret_cast<const float*>(p.values)), statistics(taken),
          ops_end(static_cast<int>(p.op_ends[channel + 1])) {}
};

/// The two standard normals of voxel `index` under a step's key.
AUG_HOSTDEV float normal_of_voxel(const uint32_t (&key)[2], int channel, int64_t index, uint32_t number) {
    float four[4];
    normals_of_block(key, static_cast<uint32_t>(channel), static_cast<uint64_t>(index) / 4, four, number);
    const int lane = static_cast<int>(index % 4);
    return lane == 0 ? four[0] : lane == 1 ? four[1] : lane == 2 ? four[2] : four[3];
}

/// The phase at `at`, of pointwise step S, on one voxel.
template <class S>
AUG_HOSTDEV float apply_to_voxel(const Params& p, const ChannelProgram& program, const Cursor& at, int channel, int64_t index, int z, int y, int x,
                                 float value) {
    if constexpr (S::NEIGHBOURHOOD) {
        return value;
    } else {
        const Op& op = program.ops[at.op];
        Here<Scalar> here{};
        here.shape = p.out_shape;
        here.statistics = program.statistics + at.statistics;
        if constexpr (S::COORDINATES) here.z = z, here.y = y, here.x = x;
        if constexpr (S::LABELS) here.label = p.out_label ? reinterpret_cast<const uint8_t*>(p.out_label)[index] : 0;
        for (int k = 0; k < S::NORMALS; k++) here.normal[k] = normal_of_voxel(op.key, channel, index, static_cast<uint32_t>(k));
        return S::template apply<Scalar>(program.values + op.values, at.phase, value, here);
    }
}

template <class S>
AUG_HOSTDEV float gather_for_voxel(const Params& p, const ChannelProgram& program, const Cursor& at, const float* source, int z, int y, int x) {
    if constexpr (S::NEIGHBOURHOOD) {
        const Op& op = program.ops[at.op];
        return S::template gather<Scalar>(program.values + op.values, at.phase, Around<Scalar>{source, p.out_shape, z, y, x});
    } else {
        return 0.0f;
    }
}

AUG_HOSTDEV Cursor following(const Op* ops, const float* values, const Cursor& at, int taken) {
    const Phase phase = phase_of(ops[at.op], values, at.phase);
    return at.phase + 1 < phase.phases ? Cursor{at.op, at.phase + 1, at.statistics} : Cursor{at.op + 1, 0, taken};
}

/// The value of a voxel after a stage. value: as it was sampled, or as it is in the buffer; source: the channel's buffer where the stage gathers.
AUG_HOSTDEV float stage_on_voxel(const Params& p, const ChannelProgram& program, const Stage& stage, int channel, int64_t index, int z, int y, int x,
                                 float value, const float* source) {
    Cursor at = stage.first;
    if (stage.gathers) {
        switch (program.ops[at.op].step) {
#define AUG_STEP(name) \
    case STEP_##name: value = gather_for_voxel<steps::name>(p, program, at, source, z, y, x); break;
#include "step_list.h"
        }
        at = following(program.ops, program.values, at, stage.taken);
    }
    while (at.op != stage.end.op || at.phase != stage.end.phase) {
        switch (program.ops[at.op].step) {
#define AUG_STEP(name) \
    case STEP_##name: value = apply_to_voxel<steps::name>(p, program, at, channel, index, z, y, x, value); break;
#include "step_list.h"
        }
        at = following(program.ops, program.values, at, stage.taken);
    }
    return value;
}

/// A voxel after its stage: to the channel's buffer, or the output. sampled: its value in stage 0.
AUG_HOSTDEV void finish_stage_on_voxel(const ChannelRun& run, int64_t index, int64_t voxels, int z, int y, int x, float value) {
    const Params& p = *run.params;
    const ChannelProgram program(p, run.channel, run.statistics);
    const float done = stage_on_voxel(p, program, run.stage, run.channel, index, z, y, x, value, run.source);
    if (run.stage.last) store_voxel(p.out_image, p.out_type, static_cast<uint64_t>(run.channel * voxels + index), output_value<Scalar>(p.out_type, done));
    else run.target[index] = done;
}

/// A voxel in a stage after the first.
AUG_HOSTDEV void run_stage_on_voxel(const ChannelRun& run, int64_t index, int64_t voxels, int z, int y, int x) {
    finish_stage_on_voxel(run, index, voxels, z, y, x, run.stage.gathers ? 0.0f : run.source[index]);
}

AUG_END
