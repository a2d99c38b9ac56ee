// Modules and launches: a kernel is the function of the same name in the host library that FAKE_CUDA_KERNELS names.
#include <dlfcn.h>

#include <cstdlib>
#include <cstring>

#include "context.h"

namespace fake {
namespace {

using Kernel = void (*)(const void*);
using RunGrid = void (*)(Kernel, const void*, const unsigned*, const unsigned*);

constexpr unsigned char FATBIN_MAGIC[] = {0x50, 0xED, 0x55, 0xBA};

void* host_library() {
    static void* library = [] {
        const char* path = std::getenv("FAKE_CUDA_KERNELS");
        return path ? dlopen(path, RTLD_NOW | RTLD_LOCAL) : nullptr;
    }();
    return library;
}

CUresult load(CUmodule* module, const void* image) {
    FAKE_NEEDS_CONTEXT();
    if (std::memcmp(image, FATBIN_MAGIC, sizeof FATBIN_MAGIC) != 0) return CUDA_ERROR_INVALID_IMAGE;
    *module = reinterpret_cast<CUmodule>(new int(0));
    counters.modules++;
    return CUDA_SUCCESS;
}

}  // namespace
}  // namespace fake

using namespace fake;

FAKE_API CUresult cuModuleLoadDataEx(CUmodule* module, const void* image, unsigned count, CUjit_option* options, void** values) {
    FAKE_ENTER();
    for (unsigned i = 0; i < count; i++)   // no log: sizes become 0
        if (options[i] == CU_JIT_INFO_LOG_BUFFER_SIZE_BYTES || options[i] == CU_JIT_ERROR_LOG_BUFFER_SIZE_BYTES) values[i] = nullptr;
    return load(module, image);
}

FAKE_API CUresult cuModuleUnload(CUmodule module) {
    FAKE_ENTER();
    FAKE_NEEDS_CONTEXT();
    delete reinterpret_cast<int*>(module);
    counters.modules--;
    return CUDA_SUCCESS;
}

FAKE_API CUresult cuModuleGetFunction(CUfunction* function, CUmodule, const char* name) {
    FAKE_ENTER();
    FAKE_NEEDS_CONTEXT();
    void* found = host_library() ? dlsym(host_library(), name) : nullptr;
    if (!found) return CUDA_ERROR_NOT_FOUND;
    *function = reinterpret_cast<CUfunction>(found);
    return CUDA_SUCCESS;
}

FAKE_API CUresult cuFuncGetAttribute(int* value, CUfunction_attribute, CUfunction) {
    FAKE_ENTER();
    *value = 0;
    return CUDA_SUCCESS;
}

FAKE_API CUresult cuFuncSetBlockShape(CUfunction, int, int, int) { return CUDA_SUCCESS; }

/// Kernels take one pointer, passed as a buffer of eight bytes.
FAKE_API CUresult cuLaunchKernel(CUfunction function, unsigned grid_x, unsigned grid_y, unsigned grid_z, unsigned block_x, unsigned block_y,
                                 unsigned block_z, unsigned, CUstream stream, void**, void** extra) {
    FAKE_ENTER();
    FAKE_NEEDS_CONTEXT();
    const unsigned long threads = static_cast<unsigned long>(block_x) * block_y * block_z;
    if (threads == 0 || threads > 1024 || grid_x == 0 || grid_y == 0 || grid_z == 0 || grid_y > 65535 || grid_z > 65535 || !extra)
        return CUDA_ERROR_INVALID_VALUE;
    const void* argument = nullptr;
    for (int i = 0; extra[i] != CU_LAUNCH_PARAM_END; i += 2) {
        if (extra[i] == CU_LAUNCH_PARAM_BUFFER_POINTER) std::memcpy(&argument, extra[i + 1], sizeof argument);
        if (extra[i] == CU_LAUNCH_PARAM_BUFFER_SIZE && *static_cast<size_t*>(extra[i + 1]) != sizeof argument) return CUDA_ERROR_INVALID_VALUE;
    }
    static const auto run_grid = reinterpret_cast<RunGrid>(dlsym(host_library(), "run_grid"));
    counters.launches++;
    stream_of(stream).push(Work::KERNEL, [=] {
        const unsigned grid[] = {grid_x, grid_y, grid_z}, block[] = {block_x, block_y, block_z};
        run_grid(reinterpret_cast<Kernel>(function), argument, grid, block);
    });
    return CUDA_SUCCESS;
}
