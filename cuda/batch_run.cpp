#include "batch_run.h"

#include <algorithm>
#include <cstdlib>
#include <new>

#include "stages.h"

namespace aug {

namespace {

/// Planes per task: enough that the prefetch of the planes ahead mostly serves the thread that asked for it.
constexpr int PLANES_PER_TASK = 20;

/// A task for each stretch of planes of a sample or channel.
struct Planes {
    int64_t depth, parts;
    explicit Planes(const Params& p) : depth(p.out_shape[0]), parts((depth + PLANES_PER_TASK - 1) / PLANES_PER_TASK) {}
    int first(int64_t task) const { return static_cast<int>(depth * (task % parts) / parts); }
    int end(int64_t task) const { return static_cast<int>(depth * (task % parts + 1) / parts); }
};

bool has_programs(const Params& p) { return p.ops != 0; }

bool has_stages(const Params& p) {
    for (int c = 0; has_programs(p) && c < p.channels; c++)
        if (!first_stage(p, c).last) return true;
    return false;
}

void start_runs(const Params& p, ChannelRun* runs) {
    for (int c = 0; c < p.channels; c++) runs[c] = {&p, c, first_stage(p, c), nullptr, nullptr, nullptr, nullptr};
}

struct Single {
    const Isa& isa;
    const Params* const* samples;
    Planes planes;
};

void run_single(void* context, int64_t task) {
    const Single& job = *static_cast<const Single*>(context);
    const Params& p = *job.samples[task / job.planes.parts];
    ChannelRun runs[MAX_CHANNELS];
    if (has_programs(p)) start_runs(p, runs);
    job.isa.augment_planes(p, has_programs(p) ? runs : nullptr, job.planes.first(task), job.planes.end(task));
}

struct StageJob {
    const Isa& isa;
    const std::vector<ChannelRun>& runs;
    Planes planes;
};

void run_first(void* context, int64_t task) {
    const StageJob& job = *static_cast<const StageJob*>(context);
    job.isa.augment_planes(*job.runs[0].params, job.runs.data(), job.planes.first(task), job.planes.end(task));
}

void run_later(void* context, int64_t task) {
    const StageJob& job = *static_cast<const StageJob*>(context);
    job.isa.run_stage(job.runs[static_cast<size_t>(task / job.planes.parts)], job.planes.first(task), job.planes.end(task));
}

void run_measure(void* context, int64_t task) {
    const StageJob& job = *static_cast<const StageJob*>(context);
    const ChannelRun& run = job.runs[static_cast<size_t>(task / job.planes.parts)];
    if (run.stage.measures) job.isa.measure(run, job.planes.first(task), job.planes.end(task));
}

}  // namespace

/// What one sample's programs need between stages.
struct BatchRunner::Memory {
    float* buffer = nullptr;
    size_t bytes = 0;
    std::vector<StripSums> sums;
    std::vector<PatchStatistics> statistics[MAX_CHANNELS];

    ~Memory() { std::free(buffer); }

    void fit(const Params& p) {
        const size_t voxels = static_cast<size_t>(p.out_shape[0]) * p.out_shape[1] * p.out_shape[2];
        const size_t needed = (2 * p.channels * voxels * sizeof(float) + 63) / 64 * 64;
        if (needed > bytes) {
            std::free(buffer);
            bytes = 0;
            buffer = static_cast<float*>(std::aligned_alloc(64, needed));
            if (!buffer) throw std::bad_alloc();
            bytes = needed;
        }
        sums.resize(static_cast<size_t>(Strips(p.out_shape).count()) * p.channels);
    }
};

BatchRunner::BatchRunner(const Isa& isa, int threads) : isa_(isa), pool_(threads) {}
BatchRunner::~BatchRunner() = default;

std::unique_ptr<BatchRunner::Memory> BatchRunner::take(const Params& sample) {
    std::unique_ptr<Memory> memory;
    {
        std::lock_guard lock(keeping_);
        if (!kept_.empty()) {
            memory = std::move(kept_.back());
            kept_.pop_back();
        }
    }
    if (!memory) memory = std::make_unique<Memory>();
    memory->fit(sample);
    return memory;
}

void BatchRunner::run(const Params* samples, int64_t count) {
    if (count < 1) return;
    std::vector<const Params*> single, staged;
    for (int64_t k = 0; k < count; k++) (has_stages(samples[k]) ? staged : single).push_back(samples + k);
    std::unique_ptr<Memory> memory;
    if (!staged.empty()) memory = take(*staged[0]);   // before anything is written; samples of a batch have one shape
    if (!single.empty()) {
        Single job{isa_, single.data(), Planes(samples[0])};
        pool_.run(static_cast<int64_t>(single.size()) * job.planes.parts, run_single, &job);
    }
    if (staged.empty()) return;
    for (const Params* sample : staged) run_programs(*sample, *memory);
    std::lock_guard lock(keeping_);
    kept_.push_back(std::move(memory));
}

void BatchRunner::run_programs(const Params& p, Memory& memory) {
    const int64_t voxels = static_cast<int64_t>(p.out_shape[0]) * p.out_shape[1] * p.out_shape[2], strips = Strips(p.out_shape).count();
    std::vector<ChannelRun> runs(p.channels);
    start_runs(p, runs.data());
    for (int c = 0; c < p.channels; c++) {
        memory.statistics[c].clear();
        runs[c].target = memory.buffer + 2 * c * voxels;
        runs[c].sums = memory.sums.data() + c * strips;
    }
    StageJob job{isa_, runs, Planes(p)};
    Pool::Task task = run_first;
    int64_t tasks = job.planes.parts;
    while (!runs.empty()) {
        pool_.run(tasks, task, &job);
        const bool measures = std::any_of(runs.begin(), runs.end(), [](const ChannelRun& run) { return run.stage.measures; });
        if (isa_.measure && measures) pool_.run(static_cast<int64_t>(runs.size()) * job.planes.parts, run_measure, &job);
        std::vector<ChannelRun> next;
        for (ChannelRun run : runs) {
            if (run.stage.last) continue;
            std::vector<PatchStatistics>& taken = memory.statistics[run.channel];
            if (run.stage.measures) taken.push_back(statistics_of(run.sums, strips, static_cast<double>(voxels)));
            run.statistics = taken.data();
            float* const pair = memory.buffer + 2 * run.channel * voxels;
            enter_stage(run, stage_after(p, run.channel, run.stage), pair, pair + voxels);
            next.push_back(run);
        }
        runs = std::move(next);
        task = run_later;
        tasks = static_cast<int64_t>(runs.size()) * job.planes.parts;
    }
}

}  // namespace aug
