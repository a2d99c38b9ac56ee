// One vector build of the kernel; CMakeLists.txt compiles this file once per instruction set, with AUG_TARGET, AUG_LANES and AUG_NAME.
#include "isa.h"
#include "probe.h"
#include "plane.h"

AUG_BEGIN

static void augment_planes(const Params& p, const ChannelRun* runs, int z0, int z1) {
    StripScratch scratch;
    const Walk walk(p);
    const Tone tone(p);
    for (int z = z0; z < z1; z++) {
        if (p.in_type == InputType::INT16) augment_plane<int16_t>(p, walk, tone, runs, z, scratch);
        else augment_plane<float>(p, walk, tone, runs, z, scratch);
    }
    fence();
}

static void run_stage(const ChannelRun& run, int z0, int z1) {
    StripScratch scratch;
    run_planes(run, z0, z1, scratch);
    fence();
}

static void philox(const uint32_t (&counter)[4], const uint32_t (&key)[2], uint32_t (&out)[4]) {
    const Wide::Word zero{};
    Wide::Word words[4] = {zero ^ counter[0], zero ^ counter[1], zero ^ counter[2], zero ^ counter[3]};
    philox4x32_10<Wide>(words, key[0], key[1]);
    for (int i = 0; i < 4; i++) out[i] = Wide::joined(words[i])[N - 1];
}

static void normals(const uint32_t (&key)[2], uint32_t channel, uint64_t block, int blocks, float* out) {
    alignas(64) float noise[4 * N];
    for (int i = 0; i < blocks; i += N) {
        fill_noise(key, channel, block + i, N, noise);
        __builtin_memcpy(out + 4 * i, noise, sizeof(float) * 4 * (blocks - i < N ? blocks - i : N));
    }
}

static void evaluate(Elementary f, const uint32_t* in, uint32_t* out, int64_t count) { evaluate_with<Wide, N>(f, in, out, count); }

AUG_END

namespace aug {
const Isa AUG_ISA{AUG_NAME, augment_planes, run_stage, nullptr, philox, normals, evaluate};
}
