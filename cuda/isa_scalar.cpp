// The reference: voxel.h on the CPU, block by block, as a CUDA thread runs it.
#include "isa.h"
#include "probe.h"
#include "voxel.h"

AUG_BEGIN

/// A block of four voxels may reach over the last plane; the planes' owner makes the blocks that begin in them.
static void augment_planes(const Params& p, const ChannelRun* runs, int z0, int z1) {
    const int64_t plane = static_cast<int64_t>(p.out_shape[1]) * p.out_shape[2];
    const int64_t begin = (z0 * plane + BLOCK - 1) / BLOCK, end = (z1 * plane + BLOCK - 1) / BLOCK;
    for (int64_t block = begin; block < end; block++) {
        if (p.in_type == InputType::INT16) augment_block<int16_t>(p, static_cast<uint64_t>(block), runs);
        else augment_block<float>(p, static_cast<uint64_t>(block), runs);
    }
}

static void run_stage(const ChannelRun& run, int z0, int z1) {
    const Params& p = *run.params;
    const int64_t width = p.out_shape[2], plane = width * p.out_shape[1], voxels = plane * p.out_shape[0];
    for (int64_t i = z0 * plane; i < z1 * plane; i++)
        run_stage_on_voxel(run, i, voxels, static_cast<int>(i / plane), static_cast<int>(i % plane / width), static_cast<int>(i % width));
}

static void measure(const ChannelRun& run, int z0, int z1) {
    const Strips strips(run.params->out_shape);
    for (int z = z0; z < z1; z++) {
        for (int k = 0; k < strips.per_plane(); k++) {
            const Strip strip = strips.at(z, k);
            StripSums lanes[LANES];
            for (int lane = 0; lane < LANES; lane++) lanes[lane] = sums_of_lane(run.target + strip.first, strip.count, lane);
            run.sums[z * strips.per_plane() + k] = sums_of_strip(lanes);
        }
    }
}

static void philox(const uint32_t (&counter)[4], const uint32_t (&key)[2], uint32_t (&out)[4]) {
    for (int i = 0; i < 4; i++) out[i] = counter[i];
    philox4x32_10<Scalar>(out, key[0], key[1]);
}

static void normals(const uint32_t (&key)[2], uint32_t channel, uint64_t block, int blocks, float* out) {
    for (int i = 0; i < blocks; i++) {
        float four[4];
        normals_of_block(key, channel, block + i, four);
        __builtin_memcpy(out + 4 * i, four, sizeof four);
    }
}

static void evaluate(Elementary f, const uint32_t* in, uint32_t* out, int64_t count) { evaluate_with<Scalar, 1>(f, in, out, count); }

AUG_END

namespace aug {
const Isa scalar_isa{"scalar", augment_planes, run_stage, measure, philox, normals, evaluate};
}
