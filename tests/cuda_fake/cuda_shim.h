// What cuda/kernel.cu needs to compile as plain C++: the marks of CUDA, the place of a thread, and texture fetches.
// `g++ -x c++ -include cuda_shim.h kernel.cu` makes the host library whose functions the fake driver launches.
#pragma once

#define __global__ __attribute__((visibility("default")))
#define __device__
#define __host__
#define __forceinline__ inline
#define __launch_bounds__(...)

struct Index3 {
    unsigned x, y, z;
};
inline thread_local Index3 blockIdx, threadIdx, blockDim, gridDim;

using cudaTextureObject_t = unsigned long long;

/// texture.cpp; resolved when the fake driver, which is loaded before, opens this library.
extern "C" float fake_fetch_texture(cudaTextureObject_t texture, float x, float y, float z);

template <class T>
inline T tex3D(cudaTextureObject_t texture, float x, float y, float z) {
    return fake_fetch_texture(texture, x, y, z);
}

/// Runs every thread of every block, one after the other.
extern "C" __attribute__((visibility("default"), weak)) void run_grid(void (*kernel)(const void*), const void* argument, const unsigned* grid,
                                                                      const unsigned* block) {
    gridDim = {grid[0], grid[1], grid[2]};
    blockDim = {block[0], block[1], block[2]};
    for (unsigned bz = 0; bz < grid[2]; bz++)
        for (unsigned by = 0; by < grid[1]; by++)
            for (unsigned bx = 0; bx < grid[0]; bx++)
                for (unsigned tz = 0; tz < block[2]; tz++)
                    for (unsigned ty = 0; ty < block[1]; ty++)
                        for (unsigned tx = 0; tx < block[0]; tx++) {
                            blockIdx = {bx, by, bz};
                            threadIdx = {tx, ty, tz};
                            kernel(argument);
                        }
}
