// The CUDA kernel: one launch per batch. augserver/kernel/cuda/fatbin.py compiles it, with -fmad=false.
//
// Grid: x covers the blocks of four voxels of one sample, y the samples; `params` is an array of gridDim.y structs in device memory
// whose addresses are device addresses. Volumes of one launch share their type; patches share their shape.
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
