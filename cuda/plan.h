// What a device launches for the programs of a batch: made on the host, so that no thread of a device looks for its stage.
#pragma once

#include <vector>

#include "stage_types.h"

namespace aug {

/// A batch's samples that have programs.
struct Programs {
    Params* sampled;        // as the sampling kernels see them: make_plan turns their output to the buffer, as it was sampled
    const Params* samples;  // the same ones as the stages see them; the host can read their `ops` and `values`
    int64_t count;
};

/// Memory of the device between sampling and output.
struct StageMemory {
    uint64_t at;
    int64_t bytes;
};

/// One launch: `rows` of the grid along y, `threads` along x. first: of the samples for "augment", which stands for augment_int16 and its like; else
/// of the runs.
struct Launch {
    const char* kernel;
    int64_t first, rows, threads;
    InputType type;
};

struct Plan {
    std::vector<ChannelRun> runs;
    std::vector<Launch> launches;
};

struct PlanSize {
    int64_t stage_bytes;   // what the sample that needs most takes of a device's memory
    int64_t runs;          // at most
};

PlanSize measure_plan(const Params* samples, int64_t count);

/// on_device: where `samples` will be. As many samples as the memory has room for go through their stages together; the next ones follow them.
Plan make_plan(const Programs& programs, const Params* on_device, const StageMemory& memory);

}  // namespace aug
