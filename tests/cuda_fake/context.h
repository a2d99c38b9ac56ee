// Devices and contexts of the fake driver.
#pragma once

#include <memory>
#include <mutex>
#include <set>

#include "stream.h"

namespace fake {

class Context {
public:
    explicit Context(int device) : device_(device) {}

    int device() const { return device_; }
    Stream& default_stream() { return default_stream_; }
    void adopt(Stream* stream);
    void disown(Stream* stream);
    /// Waits for all work of all streams.
    void wait();
    /// Frees what is left in the context, and counts it as orphans.
    void reclaim();

private:
    int device_;
    Stream default_stream_;
    std::mutex mutex_;
    std::set<Stream*> streams_;
};

/// Top of this thread's stack, or null.
Context* current_context();

/// memory.cpp: frees the blocks of a context that ends; returns how many there were.
long reclaim_memory(Context* context);

}  // namespace fake

#define FAKE_NEEDS_CONTEXT()                                                       \
    do {                                                                           \
        if (fake::current_context() == nullptr) return CUDA_ERROR_INVALID_CONTEXT; \
    } while (false)
