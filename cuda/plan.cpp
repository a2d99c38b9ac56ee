#include "plan.h"

#include <algorithm>

#include "stages.h"

namespace aug {

namespace {

constexpr int VOXELS_PER_SAMPLING_THREAD = 4;   // BLOCK of voxel.h

int64_t aligned(int64_t bytes) { return (bytes + 255) / 256 * 256; }

int64_t voxels_of(const Params& p) { return static_cast<int64_t>(p.out_shape[0]) * p.out_shape[1] * p.out_shape[2]; }

std::vector<Stage> stages_of(const Params& p, int channel) {
    std::vector<Stage> stages{first_stage(p, channel)};
    while (!stages.back().last) stages.push_back(stage_after(p, channel, stages.back()));
    return stages;
}

/// The runs of one stage of several channels, and those of them whose result is measured.
struct StageRuns {
    std::vector<ChannelRun> acting, measuring;
};

/// A sample's stages, and its memory: one buffer per channel, or two where a stage gathers; then each channel's sums, then its statistics.
struct Layout {
    std::vector<std::vector<Stage>> stages;   // of each channel
    int64_t voxels, buffers, sums, statistics;   // the last three in bytes; sums and statistics of one channel

    explicit Layout(const Params& p) : voxels(voxels_of(p)) {
        int64_t taken = 0;
        bool gathers = false;
        for (int c = 0; c < p.channels; c++) {
            stages.push_back(stages_of(p, c));
            int64_t here = 0;
            for (const Stage& stage : stages.back()) {
                here += stage.measures;
                gathers = gathers || stage.gathers;
            }
            taken = std::max(taken, here);
        }
        buffers = aligned((gathers ? 2 : 1) * p.channels * voxels * sizeof(float));
        sums = taken ? aligned(Strips(p.out_shape).count() * (LANES + 1) * sizeof(StripSums)) : 0;
        statistics = aligned(taken * sizeof(PatchStatistics));
    }

    int64_t channels() const { return static_cast<int64_t>(stages.size()); }
    int64_t bytes() const { return buffers + channels() * (sums + statistics); }

    void add_runs(const Params* sample, uint64_t memory, std::vector<StageRuns>& by_stage) const {
        float* const buffer = reinterpret_cast<float*>(memory);
        for (int64_t c = 0; c < channels(); c++) {
            const uint64_t measured = memory + static_cast<uint64_t>(buffers + c * (sums + statistics));
            float* const pair[] = {buffer + c * voxels, buffer + (channels() + c) * voxels};
            ChannelRun run{sample, static_cast<int>(c), {}, reinterpret_cast<PatchStatistics*>(measured + sums), pair[0], pair[0],
                           reinterpret_cast<StripSums*>(measured)};
            for (size_t k = 0; k < stages[c].size(); k++) {
                enter_stage(run, stages[c][k], pair[0], pair[1]);
                if (by_stage.size() <= k) by_stage.emplace_back();
                const bool idle = !run.stage.last && run.stage.first.op == run.stage.end.op && run.stage.first.phase == run.stage.end.phase;
                if (!idle) by_stage[k].acting.push_back(run);
                if (run.stage.measures) by_stage[k].measuring.push_back(run);
            }
        }
    }
};

/// The sample goes to the buffer as it was sampled.
void turn_to_buffer(Params& p, uint64_t buffer) {
    p.out_image = buffer;
    p.out_type = OutputType::FLOAT32;
    p.flags &= ~(WINDOW | GAMMA | NOISE);
    p.gain = 1.0f;
    p.shift = -0.0f;   // v + -0.0 is v, also for v = -0.0
}

void add_launches(const std::vector<StageRuns>& by_stage, const Params& any, Plan& plan) {
    const int64_t voxels = voxels_of(any), strips = Strips(any.out_shape).count();
    for (const StageRuns& stage : by_stage) {
        int64_t first = static_cast<int64_t>(plan.runs.size()), rows = static_cast<int64_t>(stage.acting.size());
        plan.runs.insert(plan.runs.end(), stage.acting.begin(), stage.acting.end());
        if (rows) plan.launches.push_back({"run_stage", first, rows, voxels, {}});
        first += rows;
        rows = static_cast<int64_t>(stage.measuring.size());
        plan.runs.insert(plan.runs.end(), stage.measuring.begin(), stage.measuring.end());
        if (!rows) continue;
        plan.launches.push_back({"measure_lanes", first, rows, strips * LANES, {}});
        plan.launches.push_back({"measure_strips", first, rows, strips, {}});
        plan.launches.push_back({"measure_patch", first, rows, 1, {}});
    }
}

}  // namespace

PlanSize measure_plan(const Params* samples, int64_t count) {
    PlanSize size{};
    for (const Params* p = samples; p < samples + count; p++) {
        const Layout layout(*p);
        size.stage_bytes = std::max(size.stage_bytes, layout.bytes());
        for (const std::vector<Stage>& of_channel : layout.stages)
            for (const Stage& stage : of_channel) size.runs += 1 + stage.measures;
    }
    return size;
}

Plan make_plan(const Programs& programs, const Params* on_device, const StageMemory& memory) {
    Plan plan;
    for (int64_t next = 0; next < programs.count;) {
        std::vector<StageRuns> by_stage;
        for (int64_t used = 0; next < programs.count; next++) {
            const Params& p = programs.samples[next];
            const Layout layout(p);
            if (used > 0 && used + layout.bytes() > memory.bytes) break;
            const uint64_t at = memory.at + static_cast<uint64_t>(used);
            turn_to_buffer(programs.sampled[next], at);
            if (used == 0 || plan.launches.back().type != p.in_type)
                plan.launches.push_back({"augment", next, 0, (voxels_of(p) + VOXELS_PER_SAMPLING_THREAD - 1) / VOXELS_PER_SAMPLING_THREAD, p.in_type});
            plan.launches.back().rows++;
            layout.add_runs(on_device + next, at, by_stage);
            used += layout.bytes();
        }
        add_launches(by_stage, programs.samples[0], plan);   // samples of a batch have one shape
    }
    return plan;
}

}  // namespace aug
