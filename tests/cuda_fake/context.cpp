#include "context.h"

#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <vector>

namespace fake {
namespace {

struct Stack {
    std::vector<Context*> contexts;
    ~Stack() {
        if (!contexts.empty()) counters.threads_with_context++;
    }
};
thread_local Stack stack;

CUresult make_context(CUcontext* handle, CUdevice device) {
    if (device < 0 || device >= device_count()) return CUDA_ERROR_INVALID_DEVICE;
    Context* made = new Context(device);
    counters.contexts++;
    stack.contexts.push_back(made);
    *handle = reinterpret_cast<CUcontext>(made);
    return CUDA_SUCCESS;
}

void capability(int* major, int* minor) {
    *major = 9;
    *minor = 0;
    if (const char* text = std::getenv("FAKE_CUDA_CAPABILITY")) std::sscanf(text, "%d.%d", major, minor);
}

}  // namespace

Context* current_context() { return stack.contexts.empty() ? nullptr : stack.contexts.back(); }

void Context::adopt(Stream* stream) {
    std::lock_guard<std::mutex> lock(mutex_);
    streams_.insert(stream);
}

void Context::disown(Stream* stream) {
    std::lock_guard<std::mutex> lock(mutex_);
    streams_.erase(stream);
}

void Context::wait() {
    std::vector<Stream*> all{&default_stream_};
    {
        std::lock_guard<std::mutex> lock(mutex_);
        all.insert(all.end(), streams_.begin(), streams_.end());
    }
    for (Stream* stream : all) stream->wait();
}

void Context::reclaim() {
    wait();
    for (Stream* stream : streams_) {
        delete stream;
        counters.streams--;
        counters.orphans++;
    }
    streams_.clear();
    counters.orphans += reclaim_memory(this);
}

}  // namespace fake

using namespace fake;

FAKE_API CUresult cuInit(unsigned) {
    FAKE_ENTER();
    return CUDA_SUCCESS;
}

FAKE_API CUresult cuDriverGetVersion(int* version) {
    *version = CUDA_VERSION;
    return CUDA_SUCCESS;
}

FAKE_API CUresult cuDeviceGetCount(int* count) {
    FAKE_ENTER();
    *count = device_count();
    return CUDA_SUCCESS;
}

FAKE_API CUresult cuDeviceGet(CUdevice* device, int ordinal) {
    FAKE_ENTER();
    if (ordinal < 0 || ordinal >= device_count()) return CUDA_ERROR_INVALID_DEVICE;
    *device = ordinal;
    return CUDA_SUCCESS;
}

FAKE_API CUresult cuDeviceGetName(char* name, int size, CUdevice) {
    std::snprintf(name, static_cast<size_t>(size), "fake device (tests)");
    return CUDA_SUCCESS;
}

FAKE_API CUresult cuDeviceComputeCapability(int* major, int* minor, CUdevice) {
    capability(major, minor);
    return CUDA_SUCCESS;
}

FAKE_API CUresult cuDeviceTotalMem(size_t* bytes, CUdevice) {
    *bytes = device_memory_bytes();
    return CUDA_SUCCESS;
}

FAKE_API CUresult cuDeviceGetAttribute(int* value, CUdevice_attribute attribute, CUdevice) {
    int major, minor;
    capability(&major, &minor);
    switch (attribute) {
        case CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MAJOR: *value = major; break;
        case CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MINOR: *value = minor; break;
        case CU_DEVICE_ATTRIBUTE_MULTIPROCESSOR_COUNT: *value = 1; break;
        case CU_DEVICE_ATTRIBUTE_WARP_SIZE: *value = 32; break;
        default: *value = 0;
    }
    return CUDA_SUCCESS;
}

FAKE_API CUresult cuDeviceGetPCIBusId(char* id, int size, CUdevice device) {
    std::snprintf(id, static_cast<size_t>(size), "0000:%02x:00.0", device);
    return CUDA_SUCCESS;
}

#if CUDA_VERSION >= 13000
FAKE_API CUresult cuCtxCreate(CUcontext* context, CUctxCreateParams*, unsigned, CUdevice device) {
#else
FAKE_API CUresult cuCtxCreate(CUcontext* context, unsigned, CUdevice device) {
#endif
    FAKE_ENTER();
    return make_context(context, device);
}

FAKE_API CUresult cuCtxDestroy(CUcontext handle) {
    Context* context = reinterpret_cast<Context*>(handle);
    auto& all = stack.contexts;
    all.erase(std::remove(all.begin(), all.end(), context), all.end());
    context->reclaim();
    delete context;
    counters.contexts--;
    return CUDA_SUCCESS;
}

FAKE_API CUresult cuCtxDetach(CUcontext context) { return cuCtxDestroy(context); }

FAKE_API CUresult cuCtxPushCurrent(CUcontext context) {
    FAKE_ENTER();
    stack.contexts.push_back(reinterpret_cast<Context*>(context));
    return CUDA_SUCCESS;
}

FAKE_API CUresult cuCtxPopCurrent(CUcontext* context) {
    FAKE_NEEDS_CONTEXT();
    if (context) *context = reinterpret_cast<CUcontext>(stack.contexts.back());
    stack.contexts.pop_back();
    return CUDA_SUCCESS;
}

FAKE_API CUresult cuCtxGetCurrent(CUcontext* context) {
    *context = reinterpret_cast<CUcontext>(current_context());
    return CUDA_SUCCESS;
}

FAKE_API CUresult cuCtxGetDevice(CUdevice* device) {
    FAKE_NEEDS_CONTEXT();
    *device = current_context()->device();
    return CUDA_SUCCESS;
}

FAKE_API CUresult cuCtxSynchronize() {
    FAKE_ENTER();
    FAKE_NEEDS_CONTEXT();
    current_context()->wait();
    return lost();
}

FAKE_API CUresult cuGetErrorString(CUresult code, const char** text) {
    thread_local char other[32];
    switch (static_cast<int>(code)) {
        case 1: *text = "invalid argument"; break;
        case 2: *text = "out of memory"; break;
        case 100: *text = "no CUDA-capable device is detected"; break;
        case 200: *text = "device kernel image is invalid"; break;
        case 201: *text = "invalid device context"; break;
        case 209: *text = "no kernel image is available for execution on the device"; break;
        case 700: *text = "an illegal memory access was encountered"; break;
        case 719: *text = "unspecified launch failure"; break;
        default: std::snprintf(other, sizeof other, "error %d", static_cast<int>(code)); *text = other;
    }
    return CUDA_SUCCESS;
}
