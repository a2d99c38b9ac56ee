// The builds of the kernel for one instruction set each, behind one table of functions.
#pragma once

#include <cstdint>

#include "stage_types.h"

namespace aug {

enum class Elementary : int32_t { LN = 0, EXP2 = 1, SINE = 2, COSINE = 3, HALF = 4 };

struct Isa {
    const char* name;
    /// Planes [z0, z1) of one sample, all channels and labels. runs: stage 0 of each channel's program; null: the sample has no programs.
    void (*augment_planes)(const Params& p, const ChannelRun* runs, int z0, int z1);
    /// Planes [z0, z1) of one channel in a later stage.
    void (*run_stage)(const ChannelRun& run, int z0, int z1);
    /// Sums of the strips of these planes, after all planes of a stage; null: the two above make them.
    void (*measure)(const ChannelRun& run, int z0, int z1);
    /// The four words of one counter.
    void (*philox)(const uint32_t (&counter)[4], const uint32_t (&key)[2], uint32_t (&out)[4]);
    /// The noise of voxels 4 block .. 4 (block + blocks) - 1 of a channel.
    void (*normals)(const uint32_t (&key)[2], uint32_t channel, uint64_t block, int blocks, float* out);
    /// elementary.h on arrays; count is a multiple of 16.
    void (*evaluate)(Elementary f, const uint32_t* in, uint32_t* out, int64_t count);
};

extern const Isa scalar_isa;    // voxel.h itself, one voxel at a time: the reference that CUDA runs
#if defined(AUG_X86)
extern const Isa v2_isa, v3_isa, v4_isa, v4_gather_isa;   // the last two differ in how they fetch taps
#else
extern const Isa generic_isa;
#endif

}  // namespace aug
