#include "faults.h"

#include <chrono>
#include <condition_variable>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <map>
#include <mutex>
#include <random>
#include <sstream>
#include <string>
#include <thread>
#include <utility>
#include <vector>

namespace fake {

Counters counters;

namespace {

struct Fault {
    std::string function;
    long call;   // fails at this call, counted from when the fault was set
    int code;
    std::string kind;
};

struct Range {
    long low_us, high_us;
};

std::mutex mutex;
std::condition_variable released;
std::map<std::string, long> calls;
std::vector<Fault> faults;
std::map<std::string, Range> delays;
std::mt19937_64 random_source;
bool held = false;
std::atomic<int> lost_code{0};
std::atomic<size_t> memory_bytes{size_t{1} << 30};
thread_local int async_fault = 0;

std::vector<std::string> split(const std::string& text, char separator) {
    std::vector<std::string> parts;
    std::stringstream stream(text);
    for (std::string part; std::getline(stream, part, separator);)
        if (!part.empty()) parts.push_back(part);
    return parts;
}

[[noreturn]] void refuse(const std::string& text) {
    std::fprintf(stderr, "fake libcuda: cannot read %s\n", text.c_str());
    std::abort();
}

/// Name in cuda.h's prose: without the suffix that a header's macro adds.
std::string plain_name(std::string function) {
    const size_t at = function.rfind("_v");
    if (at != std::string::npos && at + 3 == function.size()) function.resize(at);
    return function;
}

void set_faults(const char* text) {
    std::vector<Fault> wanted;
    for (const std::string& item : split(text, ',')) {
        const auto parts = split(item, ':');
        if (parts.size() != 4 || (parts[3] != "plain" && parts[3] != "sticky" && parts[3] != "async")) refuse(item);
        wanted.push_back({parts[0], std::stol(parts[1]) + calls[parts[0]], std::stoi(parts[2]), parts[3]});
    }
    faults = std::move(wanted);
}

void set_delays(const char* text) {
    std::map<std::string, Range> wanted;
    for (const std::string& item : split(text, ',')) {
        const auto parts = split(item, ':');
        const auto range = parts.size() == 2 ? split(parts[1], '-') : std::vector<std::string>{};
        if (range.size() != 2) refuse(item);
        wanted[parts[0]] = {std::stol(range[0]), std::stol(range[1])};
    }
    delays = std::move(wanted);
}

/// Reads the environment when the library is loaded.
const bool started = [] {
    if (const char* text = std::getenv("FAKE_CUDA_FAULTS")) set_faults(text);
    if (const char* text = std::getenv("FAKE_CUDA_DELAYS")) set_delays(text);
    if (const char* text = std::getenv("FAKE_CUDA_SEED")) random_source.seed(std::stoull(text));
    if (const char* text = std::getenv("FAKE_CUDA_MEMORY")) memory_bytes = std::stoull(text);
    return true;
}();

long delay_us(const std::string& name) {   // `mutex` is held
    const auto found = delays.find(name);
    if (found == delays.end()) return 0;
    return std::uniform_int_distribution<long>(found->second.low_us, found->second.high_us)(random_source);
}

void wait_us(long us) {
    if (us > 0) std::this_thread::sleep_for(std::chrono::microseconds(us));
}

}  // namespace

CUresult enter(const char* function) {
    const std::string name = plain_name(function);
    long us;
    {
        std::lock_guard<std::mutex> lock(mutex);
        async_fault = 0;
        const long call = ++calls[name];
        us = delay_us(name);
        for (const Fault& fault : faults) {
            if (fault.function != name || fault.call != call) continue;
            if (fault.kind == "plain") return static_cast<CUresult>(fault.code);
            if (fault.kind == "sticky") lost_code = fault.code;
            if (fault.kind == "async") async_fault = fault.code;
        }
    }
    wait_us(us);
    return lost();
}

CUresult take_async_fault() { return static_cast<CUresult>(std::exchange(async_fault, 0)); }

CUresult lost() { return static_cast<CUresult>(lost_code.load()); }

void lose(CUresult code) { lost_code = code; }

void pace(Work work) {
    static const char* const names[] = {"h2d", "kernel", "d2h", "other"};
    long us;
    {
        std::unique_lock<std::mutex> lock(mutex);
        released.wait(lock, [] { return !held; });
        us = delay_us(names[static_cast<int>(work)]);
    }
    wait_us(us);
}

size_t device_memory_bytes() { return memory_bytes; }

int device_count() {
    const char* text = std::getenv("FAKE_CUDA_DEVICES");
    return text ? std::atoi(text) : 1;
}

}  // namespace fake

FAKE_API void fake_set_faults(const char* text) {
    std::lock_guard<std::mutex> lock(fake::mutex);
    fake::set_faults(text);
}

/// Gives the device back, as a new process would.
FAKE_API void fake_reset() { fake::lose(CUDA_SUCCESS); }

FAKE_API void fake_set_delays(const char* text) {
    std::lock_guard<std::mutex> lock(fake::mutex);
    fake::set_delays(text);
}

FAKE_API void fake_set_seed(uint64_t seed) {
    std::lock_guard<std::mutex> lock(fake::mutex);
    fake::random_source.seed(seed);
}

FAKE_API void fake_set_memory(size_t bytes) { fake::memory_bytes = bytes; }

FAKE_API void fake_hold(int hold) {
    {
        std::lock_guard<std::mutex> lock(fake::mutex);
        fake::held = hold != 0;
    }
    fake::released.notify_all();
}

FAKE_API long fake_calls(const char* function) {
    std::lock_guard<std::mutex> lock(fake::mutex);
    return fake::calls[function];
}

/// Names of all functions that were called, with commas between them; valid until this thread's next call.
FAKE_API const char* fake_called() {
    thread_local std::string names;
    std::lock_guard<std::mutex> lock(fake::mutex);
    names.clear();
    for (const auto& [name, count] : fake::calls)
        if (count > 0) names += (names.empty() ? "" : ",") + name;
    return names.c_str();
}

/// -1: there is no counter of this name.
FAKE_API long fake_counter(const char* name) {
    const std::map<std::string, std::atomic<long>*> known = {
        {"device_blocks", &fake::counters.device_blocks}, {"device_bytes", &fake::counters.device_bytes},
        {"peak_device_bytes", &fake::counters.peak_device_bytes}, {"pinned_blocks", &fake::counters.pinned_blocks},
        {"registered_blocks", &fake::counters.registered_blocks}, {"streams", &fake::counters.streams},
        {"events", &fake::counters.events}, {"modules", &fake::counters.modules}, {"arrays", &fake::counters.arrays},
        {"textures", &fake::counters.textures}, {"contexts", &fake::counters.contexts}, {"orphans", &fake::counters.orphans},
        {"threads_with_context", &fake::counters.threads_with_context}, {"pageable_copies", &fake::counters.pageable_copies},
        {"h2d_bytes", &fake::counters.h2d_bytes}, {"d2h_bytes", &fake::counters.d2h_bytes}, {"launches", &fake::counters.launches},
    };
    const auto found = known.find(name);
    return found == known.end() ? -1 : found->second->load();
}
