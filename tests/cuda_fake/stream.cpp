#include "stream.h"

#include <utility>

#include "context.h"

namespace fake {

void Moment::reach() {
    {
        std::lock_guard<std::mutex> lock(mutex_);
        reached_ = true;
        at_ = std::chrono::steady_clock::now();
    }
    changed_.notify_all();
}

void Moment::wait() {
    std::unique_lock<std::mutex> lock(mutex_);
    changed_.wait(lock, [this] { return reached_; });
}

bool Moment::reached() {
    std::lock_guard<std::mutex> lock(mutex_);
    return reached_;
}

std::chrono::steady_clock::time_point Moment::at() {
    std::lock_guard<std::mutex> lock(mutex_);
    return at_;
}

Stream::Stream() : thread_([this] { run(); }) {}

Stream::~Stream() {
    {
        std::lock_guard<std::mutex> lock(mutex_);
        ending_ = true;
    }
    changed_.notify_all();
    thread_.join();
}

void Stream::push(Work kind, std::function<void()> work) {
    const CUresult fault = take_async_fault();
    enqueue([kind, fault, work = std::move(work)] {
        pace(kind);
        if (fault != CUDA_SUCCESS) lose(fault);
        if (lost() == CUDA_SUCCESS) work();
    });
}

void Stream::push_always(std::function<void()> work) { enqueue(std::move(work)); }

void Stream::enqueue(std::function<void()> work) {
    {
        std::lock_guard<std::mutex> lock(mutex_);
        queue_.push_back(std::move(work));
    }
    changed_.notify_all();
}

void Stream::wait() {
    std::unique_lock<std::mutex> lock(mutex_);
    changed_.wait(lock, [this] { return queue_.empty() && !busy_; });
}

bool Stream::idle() {
    std::lock_guard<std::mutex> lock(mutex_);
    return queue_.empty() && !busy_;
}

void Stream::run() {
    std::unique_lock<std::mutex> lock(mutex_);
    for (;;) {
        changed_.wait(lock, [this] { return ending_ || !queue_.empty(); });
        if (queue_.empty()) return;
        auto work = std::move(queue_.front());
        queue_.pop_front();
        busy_ = true;
        lock.unlock();
        work();
        lock.lock();
        busy_ = false;
        if (queue_.empty()) changed_.notify_all();
    }
}

Stream& stream_of(CUstream handle) {
    return handle ? *reinterpret_cast<Stream*>(handle) : current_context()->default_stream();
}

namespace {

struct Event {
    std::mutex mutex;
    std::shared_ptr<Moment> last;   // null: never recorded, which counts as reached

    std::shared_ptr<Moment> moment() {
        std::lock_guard<std::mutex> lock(mutex);
        return last;
    }
};

Event& event_of(CUevent handle) { return *reinterpret_cast<Event*>(handle); }

}  // namespace
}  // namespace fake

using namespace fake;

FAKE_API CUresult cuStreamCreate(CUstream* stream, unsigned flags) {
    FAKE_ENTER();
    FAKE_NEEDS_CONTEXT();
    if (flags != CU_STREAM_NON_BLOCKING) return CUDA_ERROR_NOT_SUPPORTED;   // would order itself with the default stream
    Stream* made = new Stream;
    current_context()->adopt(made);
    counters.streams++;
    *stream = reinterpret_cast<CUstream>(made);
    return CUDA_SUCCESS;
}

FAKE_API CUresult cuStreamDestroy(CUstream stream) {
    FAKE_ENTER();
    FAKE_NEEDS_CONTEXT();
    Stream* made = reinterpret_cast<Stream*>(stream);
    current_context()->disown(made);
    delete made;
    counters.streams--;
    return CUDA_SUCCESS;
}

FAKE_API CUresult cuStreamSynchronize(CUstream stream) {
    FAKE_ENTER();
    FAKE_NEEDS_CONTEXT();
    stream_of(stream).wait();
    return lost();
}

FAKE_API CUresult cuStreamQuery(CUstream stream) {
    FAKE_ENTER();
    FAKE_NEEDS_CONTEXT();
    return stream_of(stream).idle() ? lost() : CUDA_ERROR_NOT_READY;
}

FAKE_API CUresult cuStreamWaitEvent(CUstream stream, CUevent event, unsigned) {
    FAKE_ENTER();
    FAKE_NEEDS_CONTEXT();
    if (const auto moment = event_of(event).moment()) stream_of(stream).push_always([moment] { moment->wait(); });
    return CUDA_SUCCESS;
}

FAKE_API CUresult cuEventCreate(CUevent* event, unsigned) {
    FAKE_ENTER();
    FAKE_NEEDS_CONTEXT();
    counters.events++;
    *event = reinterpret_cast<CUevent>(new Event);
    return CUDA_SUCCESS;
}

FAKE_API CUresult cuEventDestroy(CUevent event) {
    FAKE_ENTER();
    FAKE_NEEDS_CONTEXT();
    counters.events--;
    delete &event_of(event);   // work that waits for it holds its moment
    return CUDA_SUCCESS;
}

FAKE_API CUresult cuEventRecord(CUevent event, CUstream stream) {
    FAKE_ENTER();
    FAKE_NEEDS_CONTEXT();
    const auto moment = std::make_shared<Moment>();
    {
        std::lock_guard<std::mutex> lock(event_of(event).mutex);
        event_of(event).last = moment;
    }
    stream_of(stream).push_always([moment] { moment->reach(); });
    return CUDA_SUCCESS;
}

FAKE_API CUresult cuEventSynchronize(CUevent event) {
    FAKE_ENTER();
    if (const auto moment = event_of(event).moment()) moment->wait();
    return lost();
}

FAKE_API CUresult cuEventQuery(CUevent event) {
    FAKE_ENTER();
    const auto moment = event_of(event).moment();
    return !moment || moment->reached() ? lost() : CUDA_ERROR_NOT_READY;
}

FAKE_API CUresult cuEventElapsedTime(float* milliseconds, CUevent start, CUevent end) {
    FAKE_ENTER();
    const auto from = event_of(start).moment(), to = event_of(end).moment();
    if (!from || !to) return CUDA_ERROR_INVALID_HANDLE;
    if (!from->reached() || !to->reached()) return CUDA_ERROR_NOT_READY;
    *milliseconds = std::chrono::duration<float, std::milli>(to->at() - from->at()).count();
    return CUDA_SUCCESS;
}
