// A batch on the CPU: which tasks there are, in which order, on a pool of threads.
#pragma once

#include <memory>
#include <mutex>
#include <vector>

#include "isa.h"
#include "pool.h"

namespace aug {

/// Runs batches, from any number of threads at once. What programs hand from stage to stage lies in memory that is kept for the next batch;
/// it grows to the largest patch, times the batches at work at once.
class BatchRunner {
public:
    BatchRunner(const Isa& isa, int threads);
    ~BatchRunner();

    /// `count` samples of one output shape. Throws std::bad_alloc before anything is written.
    void run(const Params* samples, int64_t count);

    const Isa& isa() const { return isa_; }
    int threads() const { return pool_.threads(); }

private:
    struct Memory;
    std::unique_ptr<Memory> take(const Params& sample);
    void run_programs(const Params& sample, Memory& memory);

    const Isa& isa_;
    Pool pool_;
    std::mutex keeping_;
    std::vector<std::unique_ptr<Memory>> kept_;
};

}  // namespace aug
