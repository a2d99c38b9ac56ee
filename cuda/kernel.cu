// The CUDA kernels: one launch per batch, and where samples have programs, one more for each stage of the longest one.
// augserver/kernel/cuda/fatbin.py compiles them, with -fmad=false.
//
// Grid: x covers the blocks of four voxels of one sample, y the samples; `params` is an array of gridDim.y structs in device memory
// whose addresses are device addresses. Volumes of one launch share their type; patches share their shape.
//
// Samples with programs are sampled by the same kernels, into a buffer; then each stage is a launch whose `runs`, made by plan.cpp, are the
// channels that have this stage. Steps inside the sampling kernels made the file 1.1 MB, and spilled 150 bytes.
#include "texture.h"
#include "voxel.h"

namespace {

template <class T>
__device__ __forceinline__ void augment(const aug::Params* params) {
    const aug::Params& p = params[blockIdx.y];
    const int64_t voxels = static_cast<int64_t>(p.out_shape[0]) * p.out_shape[1] * p.out_shape[2];
    const uint64_t block = static_cast<uint64_t>(blockIdx.x) * blockDim.x + threadIdx.x;
    if (static_cast<int64_t>(block * aug::BLOCK) < voxels) aug::augment_block<T>(p, block);
}

}  // namespace

// Registers per thread, ptxas 13.0: int16 and float32 128 (121 on sm_120; the four places and their taps, kept so that four voxels' loads
// are under way at once), texture 123 and fewer: 512 threads on a multiprocessor, 25 % of its places on sm_80 to sm_100, 33 % on sm_86, 89
// and 120, half on 75. What is seldom (EDGE, LIMITS, labels by weight) stands beside that code: in it, loads would wait at branches.
// A bound of more blocks, (128, 5), (64, 9), (256, 3), makes ptxas use 96 or 80 and spill 144 or 212 bytes on all but sm_120: refused.
// (128) and (256, 2) give the same 128, so that the size of a block is free at launch: bench_gpu.py compares 64, 128 and 256.
extern "C" __global__ void __launch_bounds__(256) augment_int16(const aug::Params* params) { augment<int16_t>(params); }

extern "C" __global__ void __launch_bounds__(256) augment_float32(const aug::Params* params) { augment<float>(params); }

/// `image` of each struct is the address of a table of texture objects, one per channel; volumes may be of both types.
extern "C" __global__ void __launch_bounds__(256) augment_texture(const aug::Params* params) { augment<aug::TextureImage>(params); }

/// A stage on what is in the buffer: a voxel per thread, a channel per row of the grid.
extern "C" __global__ void __launch_bounds__(256) run_stage(const aug::ChannelRun* runs) {
    const aug::ChannelRun& run = runs[blockIdx.y];
    const aug::Params& p = *run.params;
    const int64_t plane = static_cast<int64_t>(p.out_shape[1]) * p.out_shape[2], voxels = plane * p.out_shape[0];
    const int64_t index = static_cast<int64_t>(blockIdx.x) * blockDim.x + threadIdx.x;
    if (index >= voxels) return;
    const int in_plane = static_cast<int>(index % plane);
    aug::run_stage_on_voxel(run, index, voxels, static_cast<int>(index / plane), in_plane / p.out_shape[2], in_plane % p.out_shape[2]);
}

// Statistics of what a stage has left in the buffer, in the order of statistics.h: a thread for each lane of each strip, then one for each
// strip, then one for the channel. Lanes lie at sums[strip * LANES + lane], strips behind them.

extern "C" __global__ void __launch_bounds__(256) measure_lanes(const aug::ChannelRun* runs) {
    const aug::ChannelRun& run = runs[blockIdx.y];
    const aug::Strips strips(run.params->out_shape);
    const int64_t number = static_cast<int64_t>(blockIdx.x) * blockDim.x + threadIdx.x, k = number / aug::LANES;
    if (k >= strips.count()) return;
    const aug::Strip strip = strips.at(static_cast<int>(k / strips.per_plane()), static_cast<int>(k % strips.per_plane()));
    run.sums[number] = aug::sums_of_lane(run.target + strip.first, strip.count, static_cast<int>(number % aug::LANES));
}

extern "C" __global__ void __launch_bounds__(256) measure_strips(const aug::ChannelRun* runs) {
    const aug::ChannelRun& run = runs[blockIdx.y];
    const int64_t strips = aug::Strips(run.params->out_shape).count(), k = static_cast<int64_t>(blockIdx.x) * blockDim.x + threadIdx.x;
    if (k < strips) run.sums[strips * aug::LANES + k] = aug::sums_of_strip(run.sums + k * aug::LANES);
}

extern "C" __global__ void __launch_bounds__(256) measure_patch(const aug::ChannelRun* runs) {
    const aug::ChannelRun& run = runs[blockIdx.y];
    if (threadIdx.x > 0) return;
    const aug::Params& p = *run.params;
    const int64_t strips = aug::Strips(p.out_shape).count(), voxels = static_cast<int64_t>(p.out_shape[0]) * p.out_shape[1] * p.out_shape[2];
    run.statistics[run.stage.taken] = aug::statistics_of(run.sums + strips * aug::LANES, strips, static_cast<double>(voxels));
}
