// Threads that wait for work: a job is a number of tasks, done by the caller and by whichever threads are free.
#pragma once

#include <condition_variable>
#include <cstdint>
#include <memory>
#include <mutex>

#include <sys/types.h>

namespace aug {

/// A fixed number of threads, started by the first job. Any number of callers may run jobs at once; each works on its own job until no
/// task of it is left, so a job ends even if every thread is busy elsewhere, and nothing is allocated per job.
///
/// After a fork the child's pool has no threads; the first job there starts its own. A pool that is never destroyed does no harm: its
/// threads sleep in the kernel and end with the process.
class Pool {
public:
    using Task = void (*)(void* context, int64_t task);

    /// threads: that work on one job, the caller included; >= 1.
    explicit Pool(int threads);
    ~Pool();   // waits for the threads; no job may be running
    Pool(const Pool&) = delete;
    Pool& operator=(const Pool&) = delete;

    /// task(context, 0) ... task(context, count - 1), in any order on any thread; returns when all are done. Tasks do not throw.
    void run(int64_t count, Task task, void* context);

    int threads() const { return threads_; }

private:
    struct Crew;
    Crew& crew();

    const int threads_;
    std::mutex start_;       // guards the two below
    Crew* crew_ = nullptr;
    pid_t owner_ = 0;        // the process whose threads crew_ has
};

}  // namespace aug
