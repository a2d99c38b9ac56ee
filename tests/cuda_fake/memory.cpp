#include "memory.h"

#include <cstdint>
#include <cstdlib>
#include <cstring>
#include <deque>
#include <map>
#include <mutex>
#include <utility>

#include "context.h"

namespace fake {
namespace {

constexpr size_t PAGE = 4096, DEVICE_ALIGN = 256;
constexpr size_t QUARANTINE_BYTES = size_t{64} << 20;

struct Block {
    size_t bytes;
    Context* context;
    int device;
};
using Blocks = std::map<uintptr_t, Block>;

std::mutex mutex;
Blocks device_blocks, pinned_blocks, registered_blocks;   // by first address
std::map<int, size_t> device_bytes;
// Freed device memory stays mapped and full of garbage for a while: a kernel that still reads it gives wrong bytes, which tests see,
// and not a crash or, worse, the right ones.
std::deque<std::pair<void*, size_t>> quarantine;
size_t quarantine_bytes = 0;

size_t round_up(size_t bytes, size_t unit) { return (bytes + unit - 1) / unit * unit; }

const Block* block_of(const Blocks& blocks, uintptr_t first, size_t bytes) {
    auto after = blocks.upper_bound(first);
    if (after == blocks.begin()) return nullptr;
    const auto& [start, block] = *std::prev(after);
    return first + bytes <= start + block.bytes ? &block : nullptr;
}

bool overlaps(const Blocks& blocks, uintptr_t first, size_t bytes) {
    const auto after = blocks.lower_bound(first + bytes);
    if (after == blocks.begin()) return false;
    const auto& [start, block] = *std::prev(after);
    return start + block.bytes > first;
}

void retire(void* memory, size_t bytes) {   // `mutex` is held
    std::memset(memory, POISON, bytes);
    quarantine.emplace_back(memory, bytes);
    quarantine_bytes += bytes;
    while (quarantine_bytes > QUARANTINE_BYTES) {
        quarantine_bytes -= quarantine.front().second;
        std::free(quarantine.front().first);
        quarantine.pop_front();
    }
}

void drop_device_block(Blocks::iterator at) {   // `mutex` is held
    device_bytes[at->second.device] -= at->second.bytes;
    counters.device_bytes -= static_cast<long>(at->second.bytes);
    counters.device_blocks--;
    retire(reinterpret_cast<void*>(at->first), at->second.bytes);
    device_blocks.erase(at);
}

bool take_device_bytes(int device, size_t bytes) {   // `mutex` is held
    if (device_bytes[device] + bytes > device_memory_bytes()) return false;
    device_bytes[device] += bytes;
    counters.device_bytes += static_cast<long>(bytes);
    if (counters.device_bytes > counters.peak_device_bytes) counters.peak_device_bytes = counters.device_bytes.load();
    return true;
}

}  // namespace

bool is_device_memory(CUdeviceptr pointer, size_t bytes) {
    std::lock_guard<std::mutex> lock(mutex);
    const Block* block = block_of(device_blocks, static_cast<uintptr_t>(pointer), bytes);
    return block && block->device == current_context()->device();
}

bool is_pinned(const void* pointer, size_t bytes) {
    std::lock_guard<std::mutex> lock(mutex);
    const uintptr_t first = reinterpret_cast<uintptr_t>(pointer);
    return block_of(pinned_blocks, first, bytes) || block_of(registered_blocks, first, bytes);
}

bool reserve_device_bytes(size_t bytes) {
    std::lock_guard<std::mutex> lock(mutex);
    return take_device_bytes(current_context()->device(), bytes);
}

void release_device_bytes(int device, size_t bytes) {
    std::lock_guard<std::mutex> lock(mutex);
    device_bytes[device] -= bytes;
    counters.device_bytes -= static_cast<long>(bytes);
}

long reclaim_memory(Context* context) {
    std::lock_guard<std::mutex> lock(mutex);
    long count = 0;
    for (auto at = device_blocks.begin(); at != device_blocks.end();) {
        const auto next = std::next(at);
        if (at->second.context == context) {
            drop_device_block(at);
            count++;
        }
        at = next;
    }
    for (Blocks* blocks : {&pinned_blocks, &registered_blocks}) {
        for (auto at = blocks->begin(); at != blocks->end();) {
            if (at->second.context != context) {
                ++at;
                continue;
            }
            // The bytes themselves stay: an array of the caller may still look at them.
            (blocks == &pinned_blocks ? counters.pinned_blocks : counters.registered_blocks)--;
            at = blocks->erase(at);
            count++;
        }
    }
    return count;
}

namespace {

/// Enqueues a copy between host and device. A copy from memory that is not pinned ends before the call returns, as the driver's may.
CUresult copy(Work kind, void* to, const void* from, size_t bytes, CUdeviceptr device, const void* host, CUstream handle, bool synchronous) {
    FAKE_NEEDS_CONTEXT();
    if (!is_device_memory(device, bytes)) return CUDA_ERROR_INVALID_VALUE;
    const bool pinned = is_pinned(host, bytes);
    if (!pinned && !synchronous) counters.pageable_copies++;
    (kind == Work::H2D ? counters.h2d_bytes : counters.d2h_bytes) += static_cast<long>(bytes);
    Stream& stream = stream_of(handle);
    stream.push(kind, [=] { std::memcpy(to, from, bytes); });
    if (synchronous || !pinned) stream.wait();
    return synchronous ? lost() : CUDA_SUCCESS;
}

}  // namespace
}  // namespace fake

using namespace fake;

FAKE_API CUresult cuMemGetInfo(size_t* free_bytes, size_t* total) {
    FAKE_ENTER();
    FAKE_NEEDS_CONTEXT();
    std::lock_guard<std::mutex> lock(fake::mutex);
    *total = device_memory_bytes();
    const size_t used = device_bytes[current_context()->device()];
    *free_bytes = *total > used ? *total - used : 0;
    return CUDA_SUCCESS;
}

FAKE_API CUresult cuMemAlloc(CUdeviceptr* pointer, size_t bytes) {
    FAKE_ENTER();
    FAKE_NEEDS_CONTEXT();
    if (bytes == 0) return CUDA_ERROR_INVALID_VALUE;
    Context* context = current_context();
    std::lock_guard<std::mutex> lock(fake::mutex);
    if (!take_device_bytes(context->device(), bytes)) return CUDA_ERROR_OUT_OF_MEMORY;
    void* memory = std::aligned_alloc(DEVICE_ALIGN, round_up(bytes, DEVICE_ALIGN));
    std::memset(memory, POISON, bytes);
    device_blocks[reinterpret_cast<uintptr_t>(memory)] = {bytes, context, context->device()};
    counters.device_blocks++;
    *pointer = reinterpret_cast<CUdeviceptr>(memory);
    return CUDA_SUCCESS;
}

FAKE_API CUresult cuMemFree(CUdeviceptr pointer) {
    FAKE_ENTER();
    FAKE_NEEDS_CONTEXT();
    current_context()->wait();
    std::lock_guard<std::mutex> lock(fake::mutex);
    const auto at = device_blocks.find(static_cast<uintptr_t>(pointer));
    if (at == device_blocks.end()) return CUDA_ERROR_INVALID_VALUE;
    drop_device_block(at);
    return CUDA_SUCCESS;
}

FAKE_API CUresult cuMemHostAlloc(void** pointer, size_t bytes, unsigned) {
    FAKE_ENTER();
    FAKE_NEEDS_CONTEXT();
    *pointer = std::aligned_alloc(PAGE, round_up(bytes, PAGE));
    std::memset(*pointer, POISON, bytes);
    std::lock_guard<std::mutex> lock(fake::mutex);
    pinned_blocks[reinterpret_cast<uintptr_t>(*pointer)] = {bytes, current_context(), current_context()->device()};
    counters.pinned_blocks++;
    return CUDA_SUCCESS;
}

FAKE_API CUresult cuMemFreeHost(void* pointer) {
    FAKE_ENTER();
    FAKE_NEEDS_CONTEXT();
    current_context()->wait();
    std::lock_guard<std::mutex> lock(fake::mutex);
    if (!pinned_blocks.erase(reinterpret_cast<uintptr_t>(pointer))) return CUDA_ERROR_INVALID_VALUE;
    std::free(pointer);
    counters.pinned_blocks--;
    return CUDA_SUCCESS;
}

FAKE_API CUresult cuMemHostRegister(void* pointer, size_t bytes, unsigned) {
    FAKE_ENTER();
    FAKE_NEEDS_CONTEXT();
    if (bytes == 0) return CUDA_ERROR_INVALID_VALUE;
    // Whole pages are pinned: two arrays that share one cannot both be registered.
    const uintptr_t first = reinterpret_cast<uintptr_t>(pointer) / PAGE * PAGE;
    const size_t size = round_up(reinterpret_cast<uintptr_t>(pointer) + bytes, PAGE) - first;
    std::lock_guard<std::mutex> lock(fake::mutex);
    if (overlaps(pinned_blocks, first, size) || overlaps(registered_blocks, first, size)) return CUDA_ERROR_HOST_MEMORY_ALREADY_REGISTERED;
    registered_blocks[first] = {size, current_context(), current_context()->device()};
    counters.registered_blocks++;
    return CUDA_SUCCESS;
}

FAKE_API CUresult cuMemHostUnregister(void* pointer) {
    FAKE_ENTER();
    FAKE_NEEDS_CONTEXT();
    const uintptr_t first = reinterpret_cast<uintptr_t>(pointer) / PAGE * PAGE;
    std::lock_guard<std::mutex> lock(fake::mutex);
    if (!registered_blocks.erase(first)) return CUDA_ERROR_HOST_MEMORY_NOT_REGISTERED;
    counters.registered_blocks--;
    return CUDA_SUCCESS;
}

FAKE_API CUresult cuMemcpyHtoD(CUdeviceptr to, const void* from, size_t bytes) {
    FAKE_ENTER();
    return fake::copy(Work::H2D, reinterpret_cast<void*>(to), from, bytes, to, from, nullptr, true);
}

FAKE_API CUresult cuMemcpyDtoH(void* to, CUdeviceptr from, size_t bytes) {
    FAKE_ENTER();
    return fake::copy(Work::D2H, to, reinterpret_cast<void*>(from), bytes, from, to, nullptr, true);
}

FAKE_API CUresult cuMemcpyHtoDAsync(CUdeviceptr to, const void* from, size_t bytes, CUstream stream) {
    FAKE_ENTER();
    return fake::copy(Work::H2D, reinterpret_cast<void*>(to), from, bytes, to, from, stream, false);
}

FAKE_API CUresult cuMemcpyDtoDAsync(CUdeviceptr to, CUdeviceptr from, size_t bytes, CUstream stream) {
    FAKE_ENTER();
    FAKE_NEEDS_CONTEXT();
    if (!is_device_memory(to, bytes) || !is_device_memory(from, bytes)) return CUDA_ERROR_INVALID_VALUE;
    stream_of(stream).push(Work::OTHER, [=] { std::memcpy(reinterpret_cast<void*>(to), reinterpret_cast<const void*>(from), bytes); });
    return CUDA_SUCCESS;
}

FAKE_API CUresult cuMemcpyDtoHAsync(void* to, CUdeviceptr from, size_t bytes, CUstream stream) {
    FAKE_ENTER();
    return fake::copy(Work::D2H, to, reinterpret_cast<void*>(from), bytes, from, to, stream, false);
}
