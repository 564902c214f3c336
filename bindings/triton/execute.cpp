#include "execute.hpp"

#include "inputs.hpp"

#include <algorithm>
#include <chrono>
#include <cstring>
#include <optional>
#include <vector>

namespace backend {
namespace {

using Clock = std::chrono::steady_clock;
using std::chrono::milliseconds;

// How long a cancelled request, or one out of time, goes unnoticed at most.
constexpr milliseconds POLL(10);

std::uint64_t now() {
    return static_cast<std::uint64_t>(
        std::chrono::duration_cast<std::chrono::nanoseconds>(Clock::now().time_since_epoch()).count());
}

softdimo::Engine open(TRITONBACKEND_ModelInstance* handle, const Model& model) {
    auto kind = TRITONSERVER_INSTANCEGROUPKIND_AUTO;
    std::int32_t device_id = 0;
    check(TRITONBACKEND_ModelInstanceKind(handle, &kind));
    check(TRITONBACKEND_ModelInstanceDeviceId(handle, &device_id));
    return model.open(kind, device_id);
}

// A request of the server's: a job for each of its pictures. A picture is what it would be alone, whatever is
// beside it.
class Work {
public:
    // Takes the request.
    explicit Work(TRITONBACKEND_Request* request) : request_(request) {}

    // Submits the jobs.
    void begin(const softdimo::Engine& engine, const Model& model) noexcept {
        attempt([&] {
            std::uint64_t timeout = 0;
            check(TRITONBACKEND_InferenceRequestTimeoutMicroseconds(request_, &timeout));
            if (timeout != 0) {
                timeout_ = timeout;
            }
            const auto pictures = read_inputs(request_, model);
            jobs_.reserve(pictures.size());
            for (std::size_t row = 0; row < pictures.size(); ++row) {
                jobs_.push_back(
                    named(row, pictures.size(), [&] { return engine.submit(pictures[row]).value(); }));
            }
        });
    }

    // Looks whether somebody still waits for it.
    void look(Clock::time_point began) noexcept {
        attempt([&] {
            bool cancelled = false;
            check(TRITONBACKEND_RequestIsCancelled(request_, &cancelled));
            if (cancelled) {
                throw Fault(TRITONSERVER_ERROR_CANCELLED, "the request was cancelled");
            }
            if (timeout_ && Clock::now() - began >= std::chrono::microseconds(*timeout_)) {
                throw Fault(TRITONSERVER_ERROR_UNAVAILABLE,
                            "timeout: expected the pictures within " + std::to_string(*timeout_) +
                                " microseconds, found " + std::to_string(done_) + " of " +
                                std::to_string(jobs_.size()) + " made");
            }
        });
    }

    // Waits a little. True when there is nothing left to wait for.
    bool wait() noexcept {
        attempt([&] {
            while (done_ < jobs_.size()) {
                const auto ended = jobs_[done_].wait_for(POLL);
                if (ended.status() == SOFTDIMO_ERR_TIMEOUT) {
                    return;
                }
                named(done_, jobs_.size(), [&] { ended.value(); });
                ++done_;
            }
        });
        return fault_ || done_ == jobs_.size();
    }

    // Answers the request and gives it back; pictures that were made, 0 of one that failed.
    std::size_t end(TRITONBACKEND_ModelInstance* instance, const Model& model, std::uint64_t exec_start,
                    std::uint64_t compute_start) noexcept {
        const std::uint64_t compute_end = now();
        TRITONBACKEND_Response* response = nullptr;
        if (TRITONSERVER_Error* refused = TRITONBACKEND_ResponseNew(&response, request_)) {
            response = nullptr; // nobody can be told
            report(refused);
        }
        attempt([&] {
            if (response != nullptr) {
                write_outputs(response, model);
            }
        });
        const std::size_t made = fault_ ? 0 : jobs_.size();
        TRITONSERVER_Error* error = fault_ ? fault_->to_error() : nullptr;
        if (response != nullptr) {
            report(TRITONBACKEND_ResponseSend(response, TRITONSERVER_RESPONSE_COMPLETE_FINAL, error));
        }
        if (error != nullptr) {
            TRITONSERVER_ErrorDelete(error);
        }
        report(TRITONBACKEND_ModelInstanceReportStatistics(instance, request_, !fault_, exec_start,
                                                           compute_start, compute_end, now()));
        report(TRITONBACKEND_RequestRelease(request_, TRITONSERVER_REQUEST_RELEASE_ALL));
        return made;
    }

private:
    // A request has one fault, the first; then its jobs end.
    template <class F>
    void attempt(F function) noexcept {
        if (fault_) {
            return;
        }
        try {
            function();
        } catch (...) {
            fault_ = current_fault();
            // All are asked before any is waited for.
            for (const auto& job : jobs_) {
                static_cast<void>(job.cancel());
            }
            jobs_.clear();
        }
    }

    // Room for an output in the client's memory or the server's.
    static char* output(TRITONBACKEND_Response* response, const char* name, TRITONSERVER_DataType type,
                        const std::vector<std::int64_t>& shape, std::size_t length) {
        TRITONBACKEND_Output* output = nullptr;
        check(TRITONBACKEND_ResponseOutput(response, &output, name, type, shape.data(),
                                           static_cast<std::uint32_t>(shape.size())));
        void* buffer = nullptr;
        auto memory = TRITONSERVER_MEMORY_CPU;
        std::int64_t memory_id = 0;
        check(TRITONBACKEND_OutputBuffer(output, &buffer, length, &memory, &memory_id));
        if (memory == TRITONSERVER_MEMORY_GPU) {
            throw Fault(TRITONSERVER_ERROR_UNSUPPORTED,
                        "output '" + std::string(name) +
                            "': expected memory of the host's, found that of a GPU");
        }
        return static_cast<char*>(buffer);
    }

    void write_outputs(TRITONBACKEND_Response* response, const Model& model) const {
        std::uint32_t count = 0;
        check(TRITONBACKEND_RequestOutputCount(request_, &count));
        for (std::uint32_t i = 0; i < count; ++i) {
            const char* wanted = nullptr;
            check(TRITONBACKEND_RequestOutputName(request_, i, &wanted));
            const std::string_view name = wanted;
            if (name == IMAGE) {
                write_images(response, model);
            } else if (name == REPORT) {
                write_reports(response, model);
            } else {
                throw invalid("output '" + std::string(name) + "': expected one of image, report");
            }
        }
    }

    void write_images(TRITONBACKEND_Response* response, const Model& model) const {
        const auto& layout = model.layout();
        const std::size_t size = std::size_t{layout.height} * layout.width * layout.channels;
        char* pixels =
            output(response, IMAGE, TRITONSERVER_TYPE_UINT8,
                   shape(model, {layout.height, layout.width, layout.channels}), jobs_.size() * size);
        for (std::size_t row = 0; row < jobs_.size(); ++row) {
            softdimo_image image;
            softdimo_image_init(&image, sizeof image);
            image.width = layout.width;
            image.height = layout.height;
            image.format = layout.channels == 4 ? SOFTDIMO_FORMAT_RGBA8 : SOFTDIMO_FORMAT_RGB8;
            image.data = pixels + row * size;
            image.capacity = size;
            jobs_[row].image_into(0, image).value();
        }
    }

    void write_reports(TRITONBACKEND_Response* response, const Model& model) const {
        std::string bytes;
        for (const auto& job : jobs_) {
            const std::string report = job.report().value();
            const auto length = static_cast<std::uint32_t>(report.size());
            bytes.append(reinterpret_cast<const char*>(&length), sizeof length);
            bytes += report;
        }
        char* buffer = output(response, REPORT, TRITONSERVER_TYPE_BYTES, shape(model, {1}), bytes.size());
        std::memcpy(buffer, bytes.data(), bytes.size());
    }

    std::vector<std::int64_t> shape(const Model& model, std::vector<std::int64_t> dimensions) const {
        if (model.batched()) {
            dimensions.insert(dimensions.begin(), static_cast<std::int64_t>(jobs_.size()));
        }
        return dimensions;
    }

    TRITONBACKEND_Request* request_;
    std::optional<std::uint64_t> timeout_; // microseconds
    std::vector<softdimo::Job> jobs_;
    std::size_t done_ = 0; // jobs that have ended well, from the first on
    std::optional<Fault> fault_;
};

} // namespace

Instance::Instance(TRITONBACKEND_ModelInstance* handle, const Model& model)
    : handle_(handle), model_(model), engine_(open(handle, model)) {}

void Instance::execute(TRITONBACKEND_Request** requests, std::uint32_t count) const {
    std::vector<Work> works(requests, requests + count);

    const auto began = Clock::now();
    const std::uint64_t exec_start = now();
    for (Work& work : works) {
        work.look(began); // it may have waited for long
        work.begin(engine_, model_);
    }
    const std::uint64_t compute_start = now();
    std::size_t made = 0;
    // Jobs of an engine run in the order of their submission. Every request is answered as soon as its own
    // are done.
    for (auto work = works.begin(); work != works.end(); ++work) {
        while (!work->wait()) {
            std::for_each(work, works.end(), [&](Work& waiting) { waiting.look(began); });
        }
        made += work->end(handle_, model_, exec_start, compute_start);
    }
    const std::uint64_t compute_end = now();
    if (made != 0) {
        report(TRITONBACKEND_ModelInstanceReportBatchStatistics(handle_, made, exec_start, compute_start,
                                                                compute_end, now()));
    }
}

} // namespace backend
