#include "pool.h"

#include <thread>
#include <vector>

#include <unistd.h>

namespace aug {

namespace {

/// One call of run(), on the caller's stack; linked into the crew's list while it has tasks to give away.
struct Job {
    Pool::Task task;
    void* context;
    int64_t next;      // task to give away; the crew's mutex guards all of this
    int64_t count;
    int64_t unfinished;
    Job* following = nullptr;
    std::condition_variable done;
};

}  // namespace

struct Pool::Crew {
    std::mutex mutex;
    std::condition_variable work;
    Job* first = nullptr;      // jobs with tasks left, oldest first
    bool ending = false;
    std::vector<std::thread> threads;

    explicit Crew(int helpers) {
        threads.reserve(helpers);
        for (int i = 0; i < helpers; i++) threads.emplace_back([this] { help(); });
    }

    ~Crew() {
        {
            std::lock_guard lock(mutex);
            ending = true;
        }
        work.notify_all();
        for (std::thread& thread : threads) thread.join();
    }

    /// Takes a task of `job`; unlinks the job with its last one. The lock is held before and after, not during the task.
    void work_on(Job& job, std::unique_lock<std::mutex>& lock) {
        const int64_t task = job.next++;
        if (job.next == job.count) unlink(job);
        lock.unlock();
        job.task(job.context, task);
        lock.lock();
        if (--job.unfinished == 0) job.done.notify_one();
    }

    void unlink(Job& job) {
        Job** at = &first;
        while (*at != &job) at = &(*at)->following;
        *at = job.following;
    }

    void append(Job& job) {
        Job** at = &first;
        while (*at) at = &(*at)->following;
        *at = &job;
    }

    void help() {
        std::unique_lock lock(mutex);
        for (;;) {
            work.wait(lock, [this] { return first || ending; });
            if (!first) return;
            work_on(*first, lock);
        }
    }
};

Pool::Pool(int threads) : threads_(threads) {}

Pool::~Pool() {
    // in a forked child the threads do not exist: there is nothing to wait for, and joining would never end
    if (owner_ == getpid()) delete crew_;
}

Pool::Crew& Pool::crew() {
    std::lock_guard lock(start_);
    if (owner_ != getpid()) {
        crew_ = new Crew(threads_ - 1);   // a parent's crew is left behind: its mutex may have been held at the fork
        owner_ = getpid();
    }
    return *crew_;
}

void Pool::run(int64_t count, Task task, void* context) {
    if (threads_ == 1 || count <= 1) {
        for (int64_t i = 0; i < count; i++) task(context, i);
        return;
    }
    Crew& crew = this->crew();
    Job job{task, context, 0, count, count, nullptr, {}};
    std::unique_lock lock(crew.mutex);
    crew.append(job);
    crew.work.notify_all();
    while (job.next < job.count) crew.work_on(job, lock);
    job.done.wait(lock, [&job] { return job.unfinished == 0; });
}

}  // namespace aug
