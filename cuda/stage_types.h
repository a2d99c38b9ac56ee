// What the builds of the kernel and the code that runs them tell each other about stages; stages.h says what a stage is.
#pragma once

#include <cstdint>

#include "params.h"

namespace aug {

/// Sums over one strip of a channel.
struct StripSums {
    double sum, squares;
    float low, high;
};

/// Statistics of a channel of the patch.
struct PatchStatistics {
    double count, mean, variance;   // population variance
    float low, high;
};

/// One phase of one op, and how many statistics the channel's program took before that op.
struct Cursor {
    int op, phase, statistics;
};

struct Stage {
    bool sampled;        // its source is the volume
    bool gathers;        // its source is the phase at `first`, of a neighbourhood step
    bool measures;       // takes statistics when it ends
    bool last;           // writes the output
    Cursor first, end;   // phases [first, end)
    int taken;           // statistics that the stages before it took
};

/// One channel of a sample in one stage.
struct ChannelRun {
    const Params* params;
    int channel;
    Stage stage;
    PatchStatistics* statistics;         // that the channel's stages took so far, in order
    const float* source;                 // the channel's buffer that the stage reads; null in stage 0
    float* target;                       // the one that it writes: the other one where it gathers, else the same
    StripSums* sums;                     // of each strip, where it measures; on a device, room for each strip's lanes too
};

}  // namespace aug
