// Errors and delays that tests ask for, and what they may count.
#pragma once

#include <cuda.h>

#include <atomic>
#include <cstddef>

#define FAKE_API extern "C" __attribute__((visibility("default")))

namespace fake {

/// Kinds of work in a stream; each has its own delay.
enum class Work { H2D, KERNEL, D2H, OTHER };

/// Every number that fake_counter() knows by its name.
struct Counters {
    std::atomic<long> device_blocks{0};         // device allocations alive
    std::atomic<long> device_bytes{0};
    std::atomic<long> peak_device_bytes{0};
    std::atomic<long> pinned_blocks{0};         // cuMemHostAlloc alive
    std::atomic<long> registered_blocks{0};     // cuMemHostRegister alive
    std::atomic<long> streams{0};
    std::atomic<long> events{0};
    std::atomic<long> modules{0};
    std::atomic<long> arrays{0};
    std::atomic<long> textures{0};
    std::atomic<long> contexts{0};
    std::atomic<long> orphans{0};               // objects that were alive when their context was destroyed
    std::atomic<long> threads_with_context{0};  // threads that ended with a context pushed
    std::atomic<long> pageable_copies{0};       // asynchronous copies of host memory that is not pinned
    std::atomic<long> h2d_bytes{0};
    std::atomic<long> d2h_bytes{0};
    std::atomic<long> launches{0};
};
extern Counters counters;

/// Begins every entry point: counts the call, waits as asked, and returns the error that it must return, or CUDA_SUCCESS.
CUresult enter(const char* function);

/// The code of an "async" fault that the last enter() of this thread met, once; the stream applies it when it comes to the work.
CUresult take_async_fault();

/// The error that has lost the device, or CUDA_SUCCESS.
CUresult lost();
void lose(CUresult code);

/// Before a piece of work of a stream: waits while tests hold the streams, then for the delay of its kind.
void pace(Work work);

size_t device_memory_bytes();
int device_count();

/// Garbage for memory that nobody has written.
constexpr int POISON = 0xA5;

}  // namespace fake

/// First line of an entry point that can be made to fail.
#define FAKE_ENTER()                                     \
    do {                                                 \
        const CUresult failed = fake::enter(__func__);   \
        if (failed != CUDA_SUCCESS) return failed;       \
    } while (false)
