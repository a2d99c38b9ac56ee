// A channel's program falls into stages: within one, no voxel needs another one's new value.
//
//     stage 0:      sampling                 -> pointwise phases -> [statistics] -> buffer, or output
//     stage k > 0:  buffer, or a phase of a
//                   neighbourhood step on it -> pointwise phases -> [statistics] -> buffer, or output
//
// A stage ends where the next phase needs statistics of the patch, or its neighbours.
#pragma once

#include "all_steps.h"   // made by CMakeLists.txt: every header of steps/
#include "stage_types.h"

AUG_BEGIN

enum StepCode : uint32_t {
#define AUG_STEP(name) STEP_##name,
#include "step_list.h"   // made by CMakeLists.txt: AUG_STEP(name) of every header of steps/, in the order of the alphabet
    STEP_COUNT
};

struct Phase {
    int phases;
    bool neighbourhood, statistics;
};

/// What a phase of an op is.
AUG_HOSTDEV Phase phase_of(const Op& op, const float* values, int phase) {
    const float* v = values + op.values;
    switch (op.step) {
#define AUG_STEP(name) \
    case STEP_##name: return {steps::name::phases(v), steps::name::NEIGHBOURHOOD, steps::name::statistics(v, phase)};
#include "step_list.h"
    }
    return {1, false, false};
}

/// The stage that begins at `first`, of the program ops[first.op .. ops_end). taken: statistics before it.
AUG_HOSTDEV Stage stage_from(const Op* ops, const float* values, int ops_end, Cursor first, int taken, bool sampled) {
    Stage stage{sampled, false, false, false, first, first, taken};
    Cursor at = first;
    int counted = taken;                       // statistics taken before the phase at `at`, its own included where the stage before took them
    bool opening = !sampled;                   // the phase at `first` was waited for: its statistics are there
    while (at.op < ops_end) {
        const Phase phase = phase_of(ops[at.op], values, at.phase);
        if (!opening && (phase.neighbourhood || phase.statistics)) {
            stage.measures = phase.statistics;
            break;
        }
        if (opening) stage.gathers = phase.neighbourhood;
        opening = false;
        at.phase++;
        if (at.phase >= phase.phases) at = {at.op + 1, 0, counted};
    }
    stage.end = at;
    stage.last = at.op >= ops_end;
    return stage;
}

/// The first stage of a channel's program; the host or device that calls this can read the ops.
AUG_HOSTDEV Stage first_stage(const Params& p, int channel) {
    return stage_from(reinterpret_cast<const Op*>(p.ops), reinterpret_cast<const float*>(p.values), static_cast<int>(p.op_ends[channel + 1]),
                      {static_cast<int>(p.op_ends[channel]), 0, 0}, 0, true);
}

/// The stage after `stage`.
AUG_HOSTDEV Stage stage_after(const Params& p, int channel, const Stage& stage) {
    return stage_from(reinterpret_cast<const Op*>(p.ops), reinterpret_cast<const float*>(p.values), static_cast<int>(p.op_ends[channel + 1]),
                      stage.end, stage.taken + (stage.measures ? 1 : 0), false);
}

/// Goes on to a stage: what it reads is what was written, and where it gathers it writes the other buffer of the pair.
AUG_HOSTDEV void enter_stage(ChannelRun& run, const Stage& stage, float* first, float* second) {
    run.stage = stage;
    run.source = run.target;
    if (stage.gathers) run.target = run.target == first ? second : first;
}

AUG_END
