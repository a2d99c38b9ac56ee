// The CUDA kernel: one launch per batch. augserver/kernel/fatbin.py compiles it, with -fmad=false.
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

extern "C" __global__ void __launch_bounds__(256) augment_int16(const aug::Params* params) { augment<int16_t>(params); }

extern "C" __global__ void __launch_bounds__(256) augment_float32(const aug::Params* params) { augment<float>(params); }

/// `image` of each struct is the address of a table of texture objects, one per channel; volumes may be of both types.
extern "C" __global__ void __launch_bounds__(256) augment_texture(const aug::Params* params) { augment<aug::TextureImage>(params); }
