// Streams and events of the fake driver.
#pragma once

#include <chrono>
#include <condition_variable>
#include <deque>
#include <functional>
#include <memory>
#include <mutex>
#include <thread>

#include "faults.h"

namespace fake {

/// One recording of an event: whoever waits for it waits for this moment, also if the event is recorded again.
class Moment {
public:
    void reach();
    void wait();
    bool reached();
    std::chrono::steady_clock::time_point at();

private:
    std::mutex mutex_;
    std::condition_variable changed_;
    bool reached_ = false;
    std::chrono::steady_clock::time_point at_;
};

/// A FIFO of work with a thread of its own.
class Stream {
public:
    Stream();
    ~Stream();   // after all work is done, as the driver frees a destroyed stream
    Stream(const Stream&) = delete;

    /// Enqueues; `work` is skipped once the device is lost. Takes this thread's async fault, which is met when the work's turn comes.
    void push(Work kind, std::function<void()> work);
    /// Enqueues something that happens also after the device is lost, so that nobody waits for ever.
    void push_always(std::function<void()> work);
    void wait();
    bool idle();

private:
    void run();
    void enqueue(std::function<void()> work);

    std::mutex mutex_;
    std::condition_variable changed_;
    std::deque<std::function<void()>> queue_;
    bool busy_ = false, ending_ = false;
    std::thread thread_;
};

/// The stream behind a handle; null is the default stream of the current context, which synchronous copies use.
Stream& stream_of(CUstream handle);

}  // namespace fake
