/** @file
 * softdimo.hpp: C++17 over softdimo.h. Header only: include it and link libsoftdimo, whose ABI is the C one.
 *
 * The smallest complete program, where the compiler has exceptions on:
 *
 *     #include <softdimo.hpp>
 *     #include <cstdio>
 *
 *     // Prints why and returns 1 if a call failed.
 *     int main(int argc, char** argv) try {
 *         if (argc != 4) {
 *             throw std::runtime_error("usage: first MODEL LABEL OUT.png");
 *         }
 *         auto engine = softdimo::Engine::open(argv[1]).value();
 *         auto images = engine.generate(softdimo::Request().label(argv[2]).seed(7)).value();
 *         images[0].write_png(argv[3]).value();
 *         return 0;
 *     } catch (const std::exception& error) {
 *         std::fprintf(stderr, "%s\n", error.what());
 *         return 1;
 *     }
 *
 * - Results: every fallible call returns Expected<T>: a status (`SOFTDIMO_OK` or `SOFTDIMO_ERR_*`), a message, and
 *   the value when the status is SOFTDIMO_OK. Nothing here throws on its own. Where the compiler has exceptions on,
 *   Expected<T>::value() throws softdimo::Error for those who prefer that. Works with -fno-exceptions -fno-rtti. The
 *   names differ between the two kinds of build (an inline namespace), so files of both kinds can be linked into one
 *   program, but objects must not cross.
 * - Ownership: Engine and Job own their handles, are move-only, and free on destruction. A Job keeps its engine
 *   running, so they may be destroyed in any order. Calls on a moved-from object return SOFTDIMO_ERR_NULL_ARGUMENT.
 *   Copies of a Reward share it; a Request and its Jobs keep the rewards they use. Options and Request own all
 *   strings and arrays given to them and can be copied, reused and destroyed right after the call that takes them.
 * - Threads: const member functions of Engine and Job may be called from any thread at the same time; moving,
 *   assigning and destroying need the object to be unused elsewhere. Options, Request and Image are plain values.
 * - Callbacks run only on a thread that is inside a call of this library: progress and rewards inside Job::wait,
 *   Job::wait_for, Job::poll, Engine::generate or Engine::generate_into; log inside a call on the engine or one of its
 *   jobs. Inside a reward a call that would wait for the same engine fails. If several threads wait on one job, its callback may run on several of them at
 *   once. The Job keeps the progress callback alive, the Engine and its Jobs keep the log callback alive. A callback
 *   that throws counts as Flow::Stop; the exception ends there. A progress callback must not destroy its job, and a
 *   log callback must not call into this library.
 * - Strings: UTF-8, without NUL inside.
 */

#ifndef SOFTDIMO_HPP
#define SOFTDIMO_HPP

#include "softdimo.h"

#include <cassert>
#include <chrono>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <type_traits>
#include <utility>
#include <vector>

#if defined(__cpp_exceptions)
#include <stdexcept>
/// The inline namespace of this build.
#define SOFTDIMO_HPP_NAMESPACE with_exceptions
#else
#define SOFTDIMO_HPP_NAMESPACE without_exceptions
#endif

/// C++ over softdimo.h.
namespace softdimo {
/// Everything below. One for builds with exceptions, one for builds without: their names must not meet in a linker.
inline namespace SOFTDIMO_HPP_NAMESPACE {

// ---------------------------------------------------------------------------------------------- results

/// Why a call failed.
struct Failure {
    std::int32_t status; ///< `SOFTDIMO_ERR_*`.
    std::string message; ///< Names the thing, what was expected and what was found.
};

#if defined(__cpp_exceptions)
/// What Expected<T>::value() throws.
class Error : public std::runtime_error {
public:
    /// From a failure.
    explicit Error(const Failure& failure) : std::runtime_error(failure.message), status_(failure.status) {}

    /// `SOFTDIMO_ERR_*`.
    std::int32_t status() const noexcept { return status_; }

private:
    std::int32_t status_;
};
#endif

namespace detail {

// The part of Expected<T> that does not depend on T.
class Outcome {
public:
    explicit operator bool() const noexcept { return ok(); }
    bool ok() const noexcept { return failure_.status == SOFTDIMO_OK; }

    // SOFTDIMO_OK or SOFTDIMO_ERR_*.
    std::int32_t status() const noexcept { return failure_.status; }

    // Empty on success.
    const std::string& message() const noexcept { return failure_.message; }

    // To hand a failure on as an Expected of another type. Only when !ok().
    const Failure& failure() const noexcept {
        assert(!ok());
        return failure_;
    }

protected:
    Outcome() : failure_{SOFTDIMO_OK, {}} {}
    explicit Outcome(Failure failure) : failure_(std::move(failure)) { assert(!ok()); }

#if defined(__cpp_exceptions)
    void throw_failure() const {
        if (!ok()) {
            throw Error(failure_);
        }
    }
#endif

private:
    Failure failure_;
};

} // namespace detail

/// A T, or why there is none.
template <class T>
class [[nodiscard]] Expected : public detail::Outcome {
public:
    /// Success.
    Expected(T value) : value_(std::move(value)) {}
    /// Failure.
    Expected(Failure failure) : Outcome(std::move(failure)) {}

    /// @{
    /// The value. Only when ok(), as with a pointer.
    T& operator*() & noexcept { return assert(ok()), *value_; }
    const T& operator*() const& noexcept { return assert(ok()), *value_; }
    T&& operator*() && noexcept { return assert(ok()), *std::move(value_); }
    T* operator->() noexcept { return assert(ok()), &*value_; }
    const T* operator->() const noexcept { return assert(ok()), &*value_; }
    /// @}

#if defined(__cpp_exceptions)
    /// @{
    /// The value; throws Error when there is none.
    T& value() & { return throw_failure(), *value_; }
    const T& value() const& { return throw_failure(), *value_; }
    T value() && { return throw_failure(), *std::move(value_); }
    /// @}
#endif

private:
    std::optional<T> value_;
};

/// Success, or why not.
template <>
class [[nodiscard]] Expected<void> : public detail::Outcome {
public:
    /// Success.
    Expected() = default;
    /// Failure.
    Expected(Failure failure) : Outcome(std::move(failure)) {}

#if defined(__cpp_exceptions)
    /// Throws Error on failure.
    void value() const { throw_failure(); }
#endif
};

/// Name of a status, e.g. "SOFTDIMO_ERR_IO".
inline const char* status_name(std::int32_t status) noexcept { return softdimo_status_name(status); }

/// Version of the loaded library, e.g. "0.1.0".
inline std::string_view version() noexcept { return softdimo_version(); }

/// Whether the loaded library speaks the ABI of the softdimo.h this was compiled with (same major number).
inline bool abi_matches() noexcept { return softdimo_abi_version() >> 16 == SOFTDIMO_ABI_VERSION >> 16; }

/// The seed of a place in a world, for Request::seed: the same for the same numbers on every machine; see softdimo_seed.
inline std::uint64_t seed(std::uint64_t world_seed, std::int64_t x, std::int64_t y, std::int64_t z = 0) noexcept {
    return softdimo_seed(world_seed, x, y, z);
}

// ------------------------------------------------------------------------------------------- enumerations

/// What a callback wants. A callback that returns void means Continue; one that throws means Stop.
enum class Flow : std::int32_t {
    Continue = SOFTDIMO_CONTINUE, ///< Go on.
    Stop = SOFTDIMO_STOP          ///< Cancel the job, or send no more messages.
};

/// Trade of memory against speed.
enum class MemoryMode : std::uint32_t {
    Lean = SOFTDIMO_MEMORY_LEAN, ///< Weights are used where they lie.
    Fast = SOFTDIMO_MEMORY_FAST  ///< Weights are packed for the processor on first use.
};

/// What weights for int8 arithmetic are computed with.
enum class Arithmetic : std::uint32_t {
    Auto = SOFTDIMO_ARITHMETIC_AUTO, ///< int8 where the provider is fast at it.
    F32 = SOFTDIMO_ARITHMETIC_F32    ///< f32.
};

/// How a file's bytes are held.
enum class WeightsMode : std::uint32_t {
    Map = SOFTDIMO_WEIGHTS_MAP,               ///< Mapped.
    Read = SOFTDIMO_WEIGHTS_READ,             ///< Copied into memory once.
    MapGuarded = SOFTDIMO_WEIGHTS_MAP_GUARDED ///< Mapped, under a guard: the SIGBUS handler, or Windows's own.
};

/// How logits become a picture.
enum class Decode : std::uint32_t {
    Hard = SOFTDIMO_DECODE_HARD, ///< Sample codes and decode those.
    Soft = SOFTDIMO_DECODE_SOFT  ///< Decode the expected code.
};

/// How an optimisation moves.
enum class Optimizer : std::uint32_t {
    Sgd = SOFTDIMO_OPTIMIZER_SGD,  ///< Gradient ascent, with momentum where set.
    Adam = SOFTDIMO_OPTIMIZER_ADAM ///< Adam with its usual constants.
};

/// What lies between the pixels of an enlarged picture.
enum class Scaling : std::uint32_t {
    Nearest = SOFTDIMO_SCALING_NEAREST, ///< Nothing: pixel art.
    Smooth = SOFTDIMO_SCALING_SMOOTH    ///< Catmull-Rom.
};

/// How colours of a palette are mixed.
enum class Dither : std::uint32_t {
    None = SOFTDIMO_DITHER_NONE,     ///< They are not.
    Bayer4 = SOFTDIMO_DITHER_BAYER4, ///< In an ordered pattern of 4 x 4 pixels.
    Bayer8 = SOFTDIMO_DITHER_BAYER8  ///< The same of 8 x 8.
};

/// Severity of a message.
enum class LogLevel : std::int32_t {
    Error = SOFTDIMO_LOG_ERROR,     ///< An error.
    Warning = SOFTDIMO_LOG_WARNING, ///< A warning.
    Info = SOFTDIMO_LOG_INFO        ///< Information: all that this version sends.
};

/// Done, Failed and Cancelled are final.
enum class JobState : std::uint32_t {
    Queued = SOFTDIMO_JOB_QUEUED,      ///< Others of its engine come first.
    Running = SOFTDIMO_JOB_RUNNING,    ///< The engine works on it.
    Done = SOFTDIMO_JOB_DONE,          ///< The result can be read.
    Failed = SOFTDIMO_JOB_FAILED,      ///< Job::error() says why.
    Cancelled = SOFTDIMO_JOB_CANCELLED, ///< An optimisation still has its best pictures to read.
    Waiting = SOFTDIMO_JOB_WAITING ///< A wait or poll is to call its reward's callback; Job::progress() alone says so.
};

/// Steps done and steps in all (network calls, not pictures).
using ProgressFunction = std::function<Flow(std::uint32_t step, std::uint32_t total)>;

/// A message, valid during the call. Stop: no more messages.
using LogFunction = std::function<Flow(LogLevel level, std::string_view message)>;

/// What a reward of the host's own is shown: soft pictures [batch, 3, height, width], nominally in [0, 1]; those with
/// alpha over the model's background.
struct RewardPictures {
    const float* pixels;  ///< Valid during the call.
    std::uint32_t batch;  ///< Pictures.
    std::uint32_t width;  ///< Pixels.
    std::uint32_t height; ///< Pixels.
};

/// Fills scores [batch] and gradient = dscore/dpixels, of the pictures' shape (zeros at first). Stop ends the
/// optimisation like a cancel.
using RewardFunction = std::function<Flow(const RewardPictures& pictures, float* scores, float* gradient)>;

// --------------------------------------------------------------------------------------------- internals

namespace detail {

// The failure of a call on this thread that just returned `status`.
inline Failure failure(std::int32_t status) {
    std::string message(static_cast<std::size_t>(softdimo_last_error(nullptr, 0)), '\0');
    softdimo_last_error(message.data(), message.size());
    message.pop_back(); // the NUL
    return {status, std::move(message)};
}

inline Expected<void> check(std::int32_t status) {
    if (status != SOFTDIMO_OK) {
        return failure(status);
    }
    return {};
}

// Refuse text that C would cut short. `what` names it in the message.
inline Expected<void> check_text(std::string_view text, const char* what) {
    if (text.find('\0') != std::string_view::npos) {
        return Failure{SOFTDIMO_ERR_INVALID_ARGUMENT,
                       std::string(what) + ": expected text without NUL, found one inside"};
    }
    return {};
}

// Run a call that follows the library's array convention. `guess` elements are offered first, so that a call
// whose result fits is made once; 0 asks for the size first.
template <class T, class Call>
Expected<std::vector<T>> fetch(std::size_t guess, Call call) {
    std::vector<T> values(guess);
    for (;;) {
        std::uint64_t needed = 0;
        const std::int32_t status = call(values.empty() ? nullptr : values.data(), values.size(), &needed);
        if (status != SOFTDIMO_OK && status != SOFTDIMO_ERR_BUFFER_TOO_SMALL) {
            return failure(status);
        }
        const bool copied = status == SOFTDIMO_OK && needed <= values.size();
        values.resize(static_cast<std::size_t>(needed));
        if (copied) {
            return values;
        }
    }
}

template <class Call>
Expected<std::string> fetch_text(Call call, std::size_t guess = 4096) {
    auto bytes = fetch<char>(guess, call);
    if (!bytes) {
        return bytes.failure();
    }
    return std::string(bytes->data(), bytes->empty() ? 0 : bytes->size() - 1);
}

// Call a callback; nothing it throws leaves.
template <class Function, class... Args>
std::int32_t call_guarded(const Function& function, Args... args) noexcept {
#if defined(__cpp_exceptions)
    try {
        return static_cast<std::int32_t>(function(args...));
    } catch (...) {
        return SOFTDIMO_STOP;
    }
#else
    return static_cast<std::int32_t>(function(args...));
#endif
}

inline std::int32_t on_progress(void* user_data, std::uint32_t step, std::uint32_t total) noexcept {
    return call_guarded(*static_cast<const ProgressFunction*>(user_data), step, total);
}

inline std::int32_t on_log(void* user_data, std::int32_t level, const char* message) noexcept {
    return call_guarded(*static_cast<const LogFunction*>(user_data), static_cast<LogLevel>(level), message);
}

inline std::int32_t on_reward(void* user_data, const float* pixels, std::uint32_t batch, std::uint32_t width,
                              std::uint32_t height, float* scores, float* gradient) noexcept {
    const auto& function = *static_cast<const RewardFunction*>(user_data);
    return call_guarded(function, RewardPictures{pixels, batch, width, height}, scores, gradient);
}

inline void on_release(void* user_data, const void*, std::uint64_t) noexcept {
    delete static_cast<std::vector<std::uint8_t>*>(user_data);
}

// A callback that returns void goes on.
template <class Signature, class F>
std::function<Signature> with_flow(F function) {
    if constexpr (std::is_constructible_v<std::function<Signature>, F>) {
        return std::function<Signature>(std::move(function));
    } else {
        return [function = std::move(function)](auto&&... args) mutable {
            function(std::forward<decltype(args)>(args)...);
            return Flow::Continue;
        };
    }
}

inline const char* c_str_or_null(const std::optional<std::string>& text) noexcept {
    return text ? text->c_str() : nullptr;
}

// The unsigned number under `key` at the top level of a JSON object that this library wrote.
inline std::optional<std::uint32_t> json_number(std::string_view json, std::string_view key) {
    int depth = 0;
    for (std::size_t i = 0; i < json.size(); ++i) {
        const char c = json[i];
        if (c == '{' || c == '[') {
            ++depth;
        } else if (c == '}' || c == ']') {
            --depth;
        } else if (c == '"') {
            const std::size_t start = ++i;
            while (i < json.size() && json[i] != '"') {
                i += json[i] == '\\' ? 2 : 1;
            }
            if (i + 1 >= json.size()) {
                return std::nullopt;
            }
            if (depth != 1 || json[i + 1] != ':' || json.substr(start, i - start) != key) {
                continue;
            }
            i += 2;
            if (i >= json.size() || json[i] < '0' || json[i] > '9') {
                return std::nullopt;
            }
            std::uint32_t value = 0;
            for (; i < json.size() && json[i] >= '0' && json[i] <= '9'; ++i) {
                value = value * 10 + static_cast<std::uint32_t>(json[i] - '0');
            }
            return value;
        }
    }
    return std::nullopt;
}

struct FreeEngine {
    void operator()(softdimo_engine* engine) const noexcept { softdimo_engine_free(engine); }
};

struct FreeReward {
    void operator()(softdimo_reward* reward) const noexcept { softdimo_reward_free(reward); }
};

struct FreeJob {
    void operator()(softdimo_job* job) const noexcept { softdimo_job_free(job); }
};

struct FreeOpening {
    void operator()(softdimo_opening* opening) const noexcept { softdimo_opening_free(opening); }
};

} // namespace detail

// ------------------------------------------------------------------------------------------------- values

/// Sizes of a model, out of Engine::info().
struct Layout {
    std::uint32_t width = 0;      ///< Of a picture, in pixels.
    std::uint32_t height = 0;     ///< Of a picture, in pixels.
    std::uint32_t positions = 0;  ///< Token positions of a picture.
    std::uint32_t splits = 0;     ///< Tokens per position.
    std::uint32_t codes = 0;      ///< Values a token can take.
    std::uint32_t mask_token = 0; ///< The token that says "not chosen yet".
    std::uint32_t embedding = 0;  ///< Floats per position of a start embedding.
    std::uint32_t channels = 3;   ///< Of a picture: R, G, B, or with straight alpha 4.
    std::uint32_t classes = 0;    ///< Class labels; this number itself means no label.
};

/// An owned picture: RGBA, 8 bits a channel, sRGB, rows tightly packed from the top.
class Image {
public:
    /// No picture: 0 by 0 pixels.
    Image() = default;

    /// A black, transparent picture.
    Image(std::uint32_t width, std::uint32_t height)
        : width_(width), height_(height), pixels_(std::size_t{4} * width * height) {}

    std::uint32_t width() const noexcept { return width_; }      ///< Pixels.
    std::uint32_t height() const noexcept { return height_; }    ///< Pixels.
    std::uint32_t stride() const noexcept { return 4 * width_; } ///< Bytes from one row to the next.

    /// @{
    /// 4 * width * height bytes.
    std::uint8_t* data() noexcept { return pixels_.data(); }
    const std::uint8_t* data() const noexcept { return pixels_.data(); }
    const std::vector<std::uint8_t>& pixels() const& noexcept { return pixels_; }
    std::vector<std::uint8_t> pixels() && noexcept { return std::move(pixels_); }
    /// @}

    /// This picture as the C functions take it; valid until it is changed or destroyed.
    softdimo_image view() noexcept {
        softdimo_image view;
        softdimo_image_init(&view, sizeof(view));
        view.width = width_;
        view.height = height_;
        view.data = pixels_.data();
        view.capacity = pixels_.size();
        return view;
    }

    /// Write a PNG file. `text` becomes its text chunks (keyword, value): with Job::report() there, the file
    /// says how to make the picture again. Errors: SOFTDIMO_ERR_IO, SOFTDIMO_ERR_INVALID_ARGUMENT.
    Expected<void> write_png(const std::string& path,
                             const std::vector<std::pair<std::string, std::string>>& text = {}) const {
        if (auto fine = detail::check_text(path, "path"); !fine) {
            return fine;
        }
        std::vector<const char*> pairs;
        for (const auto& [keyword, value] : text) {
            pairs.push_back(keyword.c_str());
            pairs.push_back(value.c_str());
        }
        // The function reads the picture only; the struct has one pointer for reading and writing.
        const softdimo_image view = const_cast<Image*>(this)->view();
        return detail::check(softdimo_image_write_png(&view, path.c_str(), pairs.empty() ? nullptr : pairs.data(),
                                                      static_cast<std::uint32_t>(text.size())));
    }

private:
    std::uint32_t width_ = 0;
    std::uint32_t height_ = 0;
    std::vector<std::uint8_t> pixels_;
};

/// How pictures are written; see softdimo_picture_style for the meaning, units and defaults of each.
class PictureStyle {
public:
    /// Nothing is done but enlarging by repeating pixels.
    PictureStyle() { softdimo_picture_style_init(&raw_, sizeof(raw_)); }

    /// Between the pixels of an enlarged picture.
    PictureStyle& scaling(Scaling scaling) { return raw_.scaling = static_cast<std::uint32_t>(scaling), *this; }
    /// The colours a picture may have: 4 bytes each, R G B A; those of alpha 0 are left out.
    PictureStyle& palette(std::vector<std::uint8_t> rgba) {
        return palette_ = std::move(rgba), raw_.palette_count = static_cast<std::uint32_t>(palette_.size() / 4), *this;
    }
    /// As many colours, found from each picture's own.
    PictureStyle& colors(std::uint32_t count) { return palette_.clear(), raw_.palette_count = count, *this; }
    /// How colours are mixed, and how much of the way to the right mixture, 0 to 1.
    PictureStyle& dither(Dither pattern, float strength = 1.0f) {
        return raw_.dither = static_cast<std::uint32_t>(pattern), raw_.dither_strength = strength, *this;
    }
    /// The background becomes transparent; -1 is the default tolerance. Holes of `hole_area` of the model's pixels do too.
    PictureStyle& matte(float tolerance = -1.0f, std::uint32_t hole_area = 0) {
        return raw_.matte = 1, raw_.matte_tolerance = tolerance, raw_.matte_hole_area = hole_area, *this;
    }

    /// As the C functions take it; valid while this object lives unchanged.
    softdimo_picture_style raw() const noexcept {
        softdimo_picture_style raw = raw_;
        raw.palette = palette_.empty() ? nullptr : palette_.data();
        return raw;
    }

private:
    softdimo_picture_style raw_;
    std::vector<std::uint8_t> palette_;
};

/// How to open an engine; see softdimo_engine_options for the meaning, units and defaults of each.
class Options {
public:
    /// The defaults.
    Options() { softdimo_engine_options_init(&raw_, sizeof(raw_)); }

    /// What suits an engine beside a game's own threads: one thread, and less priority than they have.
    static Options game() {
        Options options;
        softdimo_engine_options_init_game(&options.raw_, sizeof(options.raw_));
        return options;
    }

    /// Weights where they lie, or packed for speed.
    Options& memory_mode(MemoryMode mode) { return raw_.memory_mode = static_cast<std::uint32_t>(mode), *this; }
    /// How the file's bytes are held.
    Options& weights_mode(WeightsMode mode) { return raw_.weights_mode = static_cast<std::uint32_t>(mode), *this; }
    /// Threads that compute one run, 0 to 256; 0 = one per core, at most 8.
    Options& threads(std::uint32_t count) { return raw_.threads = count, *this; }
    /// Niceness added to the engine's threads, 0 to 19.
    Options& niceness(std::int32_t niceness) { return raw_.niceness = niceness, *this; }
    /// GPU index for "cuda".
    Options& device_id(std::int32_t id) { return raw_.device_id = id, *this; }
    /// Bytes the engine may hold beyond mapped pages; 0 = no limit.
    Options& memory_limit(std::uint64_t bytes) { return raw_.memory_limit = bytes, *this; }
    /// Billions of multiply-adds that one network may take for a picture; 0 = 40000.
    Options& work_limit(std::uint32_t billions) { return raw_.work_limit = billions, *this; }
    /// Networks look every millisecond or so whether the engine is paused or has used up its share of the processor.
    Options& yielding(bool looks) { return raw_.yielding = looks ? 1 : 0, *this; }
    /// What weights for int8 arithmetic are computed with.
    Options& arithmetic(Arithmetic arithmetic) { return raw_.arithmetic = static_cast<std::uint32_t>(arithmetic), *this; }
    /// What Engine::tune() remembered is not read.
    Options& untuned(bool ignores) { return raw_.untuned = ignores ? 1 : 0, *this; }
    /// "cpu", "cuda" or "openvino".
    Options& provider(std::string name) { return provider_ = std::move(name), *this; }
    /// Path of the ONNX Runtime library.
    Options& ort_library(std::string path) { return ort_library_ = std::move(path), *this; }
    /// Receive messages of `level` and more severe ones: `Flow(LogLevel, std::string_view)`, or returning void.
    template <class F>
    Options& log(F function, LogLevel level = LogLevel::Warning) {
        log_ = std::make_shared<const LogFunction>(
            detail::with_flow<Flow(LogLevel, std::string_view)>(std::move(function)));
        raw_.log_level = static_cast<std::int32_t>(level);
        return *this;
    }

    /// As the C functions take it; valid while this object lives unchanged.
    softdimo_engine_options raw() const noexcept {
        softdimo_engine_options raw = raw_;
        raw.provider = detail::c_str_or_null(provider_);
        raw.ort_library = detail::c_str_or_null(ort_library_);
        if (log_ && *log_) {
            raw.log = detail::on_log;
            raw.log_user_data = const_cast<LogFunction*>(log_.get());
        }
        return raw;
    }

private:
    friend class Engine;

    Expected<void> check() const {
        auto fine = detail::check_text(provider_.value_or(""), "options.provider");
        return fine ? detail::check_text(ort_library_.value_or(""), "options.ort_library") : fine;
    }

    softdimo_engine_options raw_;
    std::optional<std::string> provider_;
    std::optional<std::string> ort_library_;
    std::shared_ptr<const LogFunction> log_;
};

/// How the network of a reward file is opened; see softdimo_reward_options.
struct RewardOptions {
    /// How the file's bytes are held.
    WeightsMode weights_mode = WeightsMode::Map;
    /// Of a classifier, what pictures should show, by id; neither this nor class_label: what the request's label says.
    std::optional<std::int32_t> class_id;
    /// The same by name. Not both.
    std::optional<std::string> class_label;
};

/// What an optimisation climbs. Copies share one reward. A mask holds width * height weights of 0 or more, the top
/// row first, or is empty for all pixels; what does not fit the model shows when a request uses it.
class Reward {
public:
    /// Look like `target`, of the model's picture size.
    static Expected<Reward> target(const Image& target, const std::vector<float>& mask = {}) {
        const softdimo_image view = const_cast<Image&>(target).view(); // only read
        return make([&](softdimo_reward** reward) {
            return softdimo_reward_target(&view, data(mask), mask.size(), reward);
        });
    }

    /// A direction in colour space: mean of r*R + g*G + b*B.
    static Expected<Reward> color(float r, float g, float b, const std::vector<float>& mask = {}) {
        return make([&](softdimo_reward** reward) {
            return softdimo_reward_color(r, g, b, data(mask), mask.size(), reward);
        });
    }

    /// The colours of `palette`, a picture of any size, wherever they are.
    static Expected<Reward> histogram(const Image& palette, const std::vector<float>& mask = {}) {
        const softdimo_image view = const_cast<Image&>(palette).view(); // only read
        return make([&](softdimo_reward** reward) {
            return softdimo_reward_histogram(&view, nullptr, 0, data(mask), mask.size(), reward);
        });
    }

    /// The same by shares [3, bins] of 2 to 256 bins evenly from 0 to 1.
    static Expected<Reward> histogram(const std::vector<float>& shares, const std::vector<float>& mask = {}) {
        return make([&](softdimo_reward** reward) {
            return softdimo_reward_histogram(nullptr, data(shares), shares.size(), data(mask), mask.size(), reward);
        });
    }

    /// Stay what the label says, by the model's own teacher.
    static Expected<Reward> prior(std::uint64_t seed = 0) {
        return make([&](softdimo_reward** reward) { return softdimo_reward_prior(seed, reward); });
    }

    /// Stay near the start embedding.
    static Expected<Reward> closeness() { return make(softdimo_reward_closeness); }

    /// The network of the reward file at `path`. Errors as of Engine::open; SOFTDIMO_ERR_CONFIG for a generator.
    static Expected<Reward> open(const std::string& path, const RewardOptions& options = {}) {
        if (auto fine = detail::check_text(path, "path"); !fine) {
            return fine.failure();
        }
        return with_options(options, [&](const softdimo_reward_options& raw, softdimo_reward** reward) {
            return softdimo_reward_open(path.c_str(), &raw, reward);
        });
    }

    /// The same of a file in memory; the bytes are freed once the reward and the jobs that use it are gone.
    static Expected<Reward> open_memory(std::vector<std::uint8_t> bytes, const RewardOptions& options = {}) {
        auto kept = std::make_unique<std::vector<std::uint8_t>>(std::move(bytes));
        return with_options(options, [&](const softdimo_reward_options& raw, softdimo_reward** reward) {
            const std::int32_t status = softdimo_reward_open_memory(kept->data(), kept->size(), detail::on_release,
                                                                    kept.get(), &raw, reward);
            if (status == SOFTDIMO_OK) {
                static_cast<void>(kept.release()); // on_release deletes it
            }
            return status;
        });
    }

    /// The host's own: `Flow(const RewardPictures&, float* scores, float* gradient)`, or returning void.
    template <class F>
    static Expected<Reward> callback(F function) {
        auto state = std::make_shared<State>();
        state->function = detail::with_flow<Flow(const RewardPictures&, float*, float*)>(std::move(function));
        softdimo_reward* handle = nullptr;
        if (const std::int32_t status = softdimo_reward_from_callback(detail::on_reward, &state->function, &handle)) {
            return detail::failure(status);
        }
        state->handle.reset(handle);
        return Reward(std::move(state));
    }

    /// JSON: name, whether it reads a prompt, and what an opened file says about itself.
    Expected<std::string> info() const {
        return detail::fetch_text([this](char* buffer, std::uint64_t capacity, std::uint64_t* needed) {
            return softdimo_reward_info(handle(), buffer, capacity, needed);
        });
    }

    /// The C handle, still owned by this object and its copies.
    const softdimo_reward* handle() const noexcept { return state_ ? state_->handle.get() : nullptr; }

private:
    struct State {
        RewardFunction function;
        std::unique_ptr<softdimo_reward, detail::FreeReward> handle; // last: freed before its callback
    };

    explicit Reward(std::shared_ptr<const State> state) : state_(std::move(state)) {}

    static const float* data(const std::vector<float>& values) noexcept {
        return values.empty() ? nullptr : values.data();
    }

    template <class Make>
    static Expected<Reward> make(Make make) {
        softdimo_reward* handle = nullptr;
        if (const std::int32_t status = make(&handle)) {
            return detail::failure(status);
        }
        auto state = std::make_shared<State>();
        state->handle.reset(handle);
        return Reward(std::move(state));
    }

    template <class Open>
    static Expected<Reward> with_options(const RewardOptions& options, Open open) {
        if (auto fine = detail::check_text(options.class_label.value_or(""), "options.class_label"); !fine) {
            return fine.failure();
        }
        softdimo_reward_options raw;
        softdimo_reward_options_init(&raw, sizeof(raw));
        raw.weights_mode = static_cast<std::uint32_t>(options.weights_mode);
        raw.class_id = options.class_id.value_or(raw.class_id);
        raw.class_label = detail::c_str_or_null(options.class_label);
        return make([&](softdimo_reward** reward) { return open(raw, reward); });
    }

    std::shared_ptr<const State> state_;
};

/// What to generate; see softdimo_request for the meaning and range of each. What is not set takes the model's
/// default.
class Request {
public:
    /// One picture, seed 0, no label.
    Request() { softdimo_request_init(&raw_, sizeof(raw_)); }

    /// Class name for all pictures, or a synonym of one; case, spaces, hyphens, underscores and plurals do not matter.
    Request& label(std::string name) { return label_ = std::move(name), *this; }
    /// Class id for all pictures; Layout::classes means no label.
    Request& class_label(std::int32_t id) { return class_labels({id}); }
    /// Class ids, one for all pictures or one each.
    Request& class_labels(std::vector<std::int32_t> ids) { return class_labels_ = std::move(ids), *this; }
    /// Prompt for all pictures: for text-to-image models, and for rewards that read one.
    Request& prompt(std::string text) { return prompt_ = std::move(text), *this; }
    /// Text-to-image models with steps > 1: what guidance leads away from.
    Request& negative_prompt(std::string text) { return negative_prompt_ = std::move(text), *this; }
    /// Pictures to make, 1 to 256; picture b uses seed + b.
    Request& batch(std::uint32_t pictures) { return raw_.batch = pictures, *this; }
    /// Of the first picture.
    Request& seed(std::uint64_t seed) { return raw_.seed = seed, *this; }
    /// 0: the model's own way; 1: one step; more: the multi-step teacher.
    Request& steps(std::uint32_t steps) { return raw_.steps = steps, *this; }
    /// Sampling temperature; 0 = arg-max.
    Request& temperature(float value) { return raw_.temperature = value, *this; }
    /// Keep the most probable codes up to this probability; 1 = all.
    Request& top_p(float value) { return raw_.top_p = value, *this; }
    /// Keep the k most probable codes; 0 = all.
    Request& top_k(std::int32_t value) { return raw_.top_k = value, *this; }
    /// Share of start tokens that are masked, 0 to 1.
    Request& mask_ratio(float value) { return raw_.mask_ratio = value, *this; }
    /// Standard deviation of the start embedding's perturbation, 0 to 1.
    Request& sigma(float value) { return raw_.sigma = value, *this; }
    /// Teacher: classifier-free guidance scale; 0 = none.
    Request& guidance_scale(float value) { return raw_.guidance_scale = value, *this; }
    /// Teacher: temperature of the confidence noise.
    Request& randomize_temperature(float value) { return raw_.randomize_temperature = value, *this; }
    /// Sampled codes, or the soft embedding.
    Request& decode(Decode decode) { return raw_.decode = static_cast<std::uint32_t>(decode), *this; }
    /// Also decode the other way, and report how much hard and soft picture differ.
    Request& report_gap(bool report) { return raw_.report_gap = report ? 1 : 0, *this; }
    /// Text-to-image models: aesthetic score the picture should have.
    Request& aesthetic_score(float value) { return raw_.aesthetic_score = value, *this; }
    /// Text-to-image models: size in pixels the picture is said to have had.
    Request& original_size(std::int32_t width, std::int32_t height) {
        return raw_.original_width = width, raw_.original_height = height, *this;
    }
    /// Text-to-image models: left and top in pixels of the crop it is said to be.
    Request& crop(std::int32_t left, std::int32_t top) { return raw_.crop_left = left, raw_.crop_top = top, *this; }
    /// Start from this picture and keep a share of its tokens, chosen by seed.
    Request& variation(Image picture, float keep) {
        return edit_image_ = std::move(picture), edit_mask_.clear(), raw_.edit_keep = keep, *this;
    }
    /// Start from this picture and paint anew where the mask [height, width] is above 0.
    Request& inpaint(Image picture, std::vector<float> mask) {
        return edit_image_ = std::move(picture), edit_mask_ = std::move(mask), raw_.edit_keep = -1.0f, *this;
    }
    /// Start tokens [batch, positions, splits].
    Request& start_tokens(std::vector<std::uint32_t> tokens) { return start_tokens_ = std::move(tokens), *this; }
    /// Start embedding [batch, positions, embedding].
    Request& e_in(std::vector<float> embedding) { return e_in_ = std::move(embedding), *this; }
    /// Called after each step: `Flow(std::uint32_t step, std::uint32_t total)`, or returning void. Stop, or throwing,
    /// cancels the job; one that is already finished stays finished.
    template <class F>
    Request& progress(F function) {
        progress_ = detail::with_flow<Flow(std::uint32_t, std::uint32_t)>(std::move(function));
        return *this;
    }

    /// Test-time optimisation of the one-step picture: maximise the sum of weight * reward. Call again to add.
    Request& reward(Reward reward, float weight = 1.0f) {
        softdimo_reward_term term{};
        term.reward = reward.handle();
        term.weight = weight;
        terms_.push_back(term);
        rewards_.push_back(std::move(reward));
        return *this;
    }
    /// Updates; the start counts as iterate 0, and the best iterate is kept.
    Request& optimize_steps(std::uint32_t steps) { return raw_.optimize_steps = steps, *this; }
    /// Learning rate; -1 = 0.2.
    Request& lr(float rate) { return raw_.lr = rate, *this; }
    /// The update rule.
    Request& optimizer(Optimizer rule) { return raw_.optimizer = static_cast<std::uint32_t>(rule), *this; }
    /// Of SGD, 0 to below 1.
    Request& momentum(float value) { return raw_.momentum = value, *this; }
    /// Scale gradients down to this norm; 0 = off.
    Request& clip(float norm) { return raw_.clip = norm, *this; }
    /// Weight of the pull of the noise's norm towards its prior; 0 = off.
    Request& norm_regularizer(float weight) { return raw_.norm_regularizer = weight, *this; }
    /// A step takes less memory and more time; the result is the same.
    Request& recompute(bool again) { return raw_.recompute = again ? 1 : 0, *this; }
    /// Jobs of higher priority go first, also between the steps of a running one; 0 at first.
    Request& priority(std::int32_t priority) { return raw_.priority = priority, *this; }
    /// The latest wins: jobs of the same engine with this key that have not begun are cancelled; 0 for none.
    Request& queue_key(std::uint64_t key) { return raw_.queue_key = key, *this; }
    /// `SOFTDIMO_VARIABLE_*`, added up; 0 = the embedding.
    Request& variables(std::uint32_t which) { return raw_.variables = which, *this; }
    /// Time for the whole job: preparing, optimising, making the picture; negative: no limit.
    Request& deadline(std::chrono::milliseconds time) {
        return raw_.deadline_ms = time.count() < 0 ? -1 : static_cast<std::int64_t>(time.count()), *this;
    }

    /// As the C functions take it; valid while this object lives unchanged.
    softdimo_request raw() const noexcept {
        softdimo_request raw = raw_;
        if (edit_image_) {
            edit_view_ = const_cast<Image&>(*edit_image_).view();
            raw.edit_image = &edit_view_;
            raw.edit_mask = edit_mask_.empty() ? nullptr : edit_mask_.data();
            raw.edit_mask_count = edit_mask_.size();
        }
        raw.rewards = terms_.empty() ? nullptr : terms_.data();
        raw.reward_count = static_cast<std::uint32_t>(terms_.size());
        raw.label = detail::c_str_or_null(label_);
        raw.prompt = detail::c_str_or_null(prompt_);
        raw.negative_prompt = detail::c_str_or_null(negative_prompt_);
        raw.class_labels = class_labels_.empty() ? nullptr : class_labels_.data();
        raw.class_label_count = static_cast<std::uint32_t>(class_labels_.size());
        raw.start_tokens = start_tokens_.empty() ? nullptr : start_tokens_.data();
        raw.start_token_count = start_tokens_.size();
        raw.e_in = e_in_.empty() ? nullptr : e_in_.data();
        raw.e_in_count = e_in_.size();
        if (progress_) {
            raw.progress = detail::on_progress;
            raw.progress_user_data = const_cast<ProgressFunction*>(&progress_);
        }
        return raw;
    }

private:
    friend class Engine;

    Expected<void> check() const {
        auto fine = detail::check_text(label_.value_or(""), "request.label");
        if (fine) {
            fine = detail::check_text(prompt_.value_or(""), "request.prompt");
        }
        return fine ? detail::check_text(negative_prompt_.value_or(""), "request.negative_prompt") : fine;
    }

    softdimo_request raw_;
    std::optional<std::string> label_;
    std::optional<std::string> prompt_;
    std::optional<std::string> negative_prompt_;
    std::vector<std::int32_t> class_labels_;
    std::vector<std::uint32_t> start_tokens_;
    std::vector<float> e_in_;
    std::optional<Image> edit_image_;
    std::vector<float> edit_mask_;
    mutable softdimo_image edit_view_{};
    std::vector<Reward> rewards_;
    std::vector<softdimo_reward_term> terms_;
    ProgressFunction progress_;
};

// ---------------------------------------------------------------------------------------------------- job

/// A submitted request. Destroying it cancels what is still running and waits for that.
class Job {
public:
    /// Leaves the other without a job.
    Job(Job&&) noexcept = default;

    /// Ends the job that was here first.
    Job& operator=(Job&& other) noexcept {
        handle_ = std::move(other.handle_); // first: the old job goes before its callbacks
        rewards_ = std::move(other.rewards_);
        progress_ = std::move(other.progress_);
        log_ = std::move(other.log_);
        layout_ = other.layout_;
        return *this;
    }

    /// State, without waiting for the job; calls the progress callback if there is news, and the reward's that the job
    /// waits for. For frame loops.
    Expected<JobState> poll() const {
        std::uint32_t state = 0;
        if (const std::int32_t status = softdimo_job_poll(handle_.get(), &state)) {
            return detail::failure(status);
        }
        return static_cast<JobState>(state);
    }

    /// Wait for the end. SOFTDIMO_ERR_CANCELLED, or the job's own failure.
    Expected<void> wait() const { return detail::check(softdimo_job_wait(handle_.get(), -1)); }

    /// Wait at most `timeout` (negative counts as 0); SOFTDIMO_ERR_TIMEOUT when that was not enough, and the job
    /// goes on.
    Expected<void> wait_for(std::chrono::milliseconds timeout) const {
        const std::int64_t milliseconds = timeout.count() < 0 ? 0 : static_cast<std::int64_t>(timeout.count());
        return detail::check(softdimo_job_wait(handle_.get(), milliseconds));
    }

    /// Ask for the end; returns at once. Any thread, any number of times, also before the job starts.
    Expected<void> cancel() const { return detail::check(softdimo_job_cancel(handle_.get())); }

    /// State and steps (network calls done, and in all), without waiting and without callbacks; and for how long a reward's
    /// callback has been due.
    Expected<softdimo_progress> progress() const {
        softdimo_progress progress{};
        progress.struct_size = sizeof progress;
        if (const std::int32_t status = softdimo_job_progress(handle_.get(), &progress)) {
            return detail::failure(status);
        }
        return progress;
    }

    // The functions below read picture `index` of a finished job. Errors: SOFTDIMO_ERR_NOT_READY before the end,
    // the job's own failure after a bad one, SOFTDIMO_ERR_INVALID_ARGUMENT for an index beyond the batch.

    /// Its pixels, RGBA8.
    Expected<Image> image(std::uint32_t index = 0) const {
        Image image(layout_.width, layout_.height);
        softdimo_image view = image.view();
        if (const std::int32_t status = softdimo_job_image(handle_.get(), index, &view)) {
            return detail::failure(status);
        }
        return image;
    }

    /// Its pixels, RGBA8, in a style and enlarged by whole factors along each axis.
    Expected<Image> image(std::uint32_t index, const PictureStyle& style, std::uint32_t columns = 1,
                          std::uint32_t rows = 1) const {
        // What does not fit is refused by the library; nothing is allocated for it here.
        const std::uint64_t width = std::uint64_t{layout_.width} * columns;
        const std::uint64_t height = std::uint64_t{layout_.height} * rows;
        if (columns == 0 || rows == 0 || width * height > std::uint64_t{1} << 26 || width > 1u << 26) {
            return Failure{SOFTDIMO_ERR_INVALID_ARGUMENT, "image size: expected 1 to 67108864 pixels, found " +
                                                              std::to_string(width) + "x" + std::to_string(height)};
        }
        Image image(static_cast<std::uint32_t>(width), static_cast<std::uint32_t>(height));
        softdimo_image view = image.view();
        const softdimo_picture_style raw = style.raw();
        view.style = &raw;
        if (const std::int32_t status = softdimo_job_image(handle_.get(), index, &view)) {
            return detail::failure(status);
        }
        return image;
    }

    /// Its pixels into memory of the caller's: any format, stride, origin, size and style that softdimo_image can
    /// say.
    Expected<void> image_into(std::uint32_t index, softdimo_image& image) const {
        return detail::check(softdimo_job_image(handle_.get(), index, &image));
    }

    /// The decoder's floats [channels, height, width], nominally in [0, 1], not clamped.
    Expected<std::vector<float>> image_f32(std::uint32_t index = 0) const {
        return fetch<float>(softdimo_job_image_f32, index);
    }

    /// Tokens [positions, splits]: the picture, bit for bit.
    Expected<std::vector<std::uint32_t>> tokens(std::uint32_t index = 0) const {
        return fetch<std::uint32_t>(softdimo_job_tokens, index);
    }

    /// Largest softmax probability of each token [positions, splits], 0 to 1.
    Expected<std::vector<float>> max_probability(std::uint32_t index = 0) const {
        return fetch<float>(softdimo_job_max_probability, index);
    }

    /// Start embedding [positions, embedding] of a one-step job, for Request::e_in.
    Expected<std::vector<float>> embedding(std::uint32_t index = 0) const {
        return fetch<float>(softdimo_job_embedding, index);
    }

    /// JSON about the finished job: the request with every default filled in, model, runtime, confidence, time.
    Expected<std::string> report() const {
        return detail::fetch_text([this](char* buffer, std::uint64_t capacity, std::uint64_t* needed) {
            return softdimo_job_report(handle_.get(), buffer, capacity, needed);
        });
    }

    /// Why the job failed; empty when it did not.
    Expected<std::string> error() const {
        return detail::fetch_text([this](char* buffer, std::uint64_t capacity, std::uint64_t* needed) {
            return softdimo_job_error(handle_.get(), buffer, capacity, needed);
        });
    }

    /// The C handle, still owned by this object.
    softdimo_job* handle() const noexcept { return handle_.get(); }

private:
    friend class Engine;

    Job(softdimo_job* handle, std::unique_ptr<const ProgressFunction> progress, std::vector<Reward> rewards,
        std::shared_ptr<const LogFunction> log, const Layout& layout)
        : layout_(layout), log_(std::move(log)), rewards_(std::move(rewards)), progress_(std::move(progress)),
          handle_(handle) {}

    template <class T, class Function>
    Expected<std::vector<T>> fetch(Function function, std::uint32_t index) const {
        return detail::fetch<T>(0, [this, function, index](T* values, std::uint64_t capacity, std::uint64_t* needed) {
            return function(handle_.get(), index, values, capacity, needed);
        });
    }

    Layout layout_;
    std::shared_ptr<const LogFunction> log_;
    std::vector<Reward> rewards_;
    std::unique_ptr<const ProgressFunction> progress_;
    std::unique_ptr<softdimo_job, detail::FreeJob> handle_; // last: destroyed before its callbacks
};

// ------------------------------------------------------------------------------------------------- engine

class Opening;

/// An opened model on an execution provider.
class Engine {
public:
    /// Open the model file at `path`. Errors: SOFTDIMO_ERR_NOT_FOUND, `_IO`, `_FORMAT` and so on for the file,
    /// `_RUNTIME_NOT_FOUND` without a usable ONNX Runtime, `_PROVIDER`, and `_UNSUPPORTED` when the loaded library has
    /// another ABI than the header. Weights are mapped, not read: blocks for milliseconds.
    static Expected<Engine> open(const std::string& path, const Options& options = {}) {
        if (auto fine = detail::check_text(path, "path"); !fine) {
            return fine.failure();
        }
        return open_with(options, [&](const softdimo_engine_options& raw, softdimo_engine** engine) {
            return softdimo_engine_open(path.c_str(), &raw, engine);
        });
    }

    /// Open a model file that is in memory; the bytes are freed once the engine and its jobs are gone.
    static Expected<Engine> open_memory(std::vector<std::uint8_t> bytes, const Options& options = {}) {
        auto kept = std::make_unique<std::vector<std::uint8_t>>(std::move(bytes));
        return open_with(options, [&](const softdimo_engine_options& raw, softdimo_engine** engine) {
            const std::int32_t status = softdimo_engine_open_memory(kept->data(), kept->size(), detail::on_release,
                                                                    kept.get(), &raw, engine);
            if (status == SOFTDIMO_OK) {
                static_cast<void>(kept.release()); // on_release deletes it
            }
            return status;
        });
    }

    /// The same over bytes of the caller's, which must stay unchanged until `release` is called (once, possibly on
    /// another thread). A NULL `release` means that they outlive the engine and its jobs. On failure `release` is
    /// not called.
    static Expected<Engine> open_memory(const void* data, std::uint64_t length, softdimo_release_fn release,
                                        void* user_data, const Options& options = {}) {
        return open_with(options, [&](const softdimo_engine_options& raw, softdimo_engine** engine) {
            return softdimo_engine_open_memory(data, length, release, user_data, &raw, engine);
        });
    }

    /// Open the model file at `path` on a thread of its own, and prepare the engine for `request`, as warmup() does without its
    /// callbacks. Returns at once. Errors: bad options, what of the request is wrong for any model; what goes wrong later is
    /// the opening's.
    static Expected<Opening> open_async(const std::string& path, const Options& options = {},
                                        const Request& request = {});

    /// Leaves the other without an engine.
    Engine(Engine&&) noexcept = default;

    /// Frees the engine that was here first.
    Engine& operator=(Engine&& other) noexcept {
        handle_ = std::move(other.handle_); // first: the old engine goes before its callback
        log_ = std::move(other.log_);
        layout_ = other.layout_;
        return *this;
    }

    /// Sizes of pictures, tokens and embeddings.
    const Layout& layout() const noexcept { return layout_; }

    /// JSON: model, architecture, sizes, labels, defaults, provider, runtime.
    Expected<std::string> info() const { return info_of(handle_.get()); }

    /// Number of class names; 0 when the model has none.
    Expected<std::uint32_t> label_count() const {
        std::uint32_t count = 0;
        if (const std::int32_t status = softdimo_engine_label_count(handle_.get(), &count)) {
            return detail::failure(status);
        }
        return count;
    }

    /// Class names; the index is the class id.
    Expected<std::vector<std::string>> labels() const {
        auto count = label_count();
        if (!count) {
            return count.failure();
        }
        std::vector<std::string> labels;
        for (std::uint32_t i = 0; i < *count; ++i) {
            const char* label = nullptr;
            if (const std::int32_t status = softdimo_engine_label(handle_.get(), i, &label)) {
                return detail::failure(status);
            }
            labels.emplace_back(label);
        }
        return labels;
    }

    /// Bytes the engine holds, by kind. Waits for the running job.
    Expected<softdimo_memory> memory() const {
        softdimo_memory memory{};
        memory.struct_size = sizeof memory;
        if (const std::int32_t status = softdimo_engine_memory(handle_.get(), &memory)) {
            return detail::failure(status);
        }
        return memory;
    }

    /// Prepare all that a one-step job of `batch` pictures needs. Blocks.
    Expected<void> warmup(std::uint32_t batch = 1) const {
        return detail::check(softdimo_engine_warmup(handle_.get(), batch));
    }

    /// Prepare all that this request, and others of its shape, need. Calls its progress callback; a stop ends it. Blocks.
    /// Since ABI 1.2.
    Expected<void> warmup(const Request& request) const {
        if (auto fine = request.check(); !fine) {
            return fine;
        }
        const softdimo_request raw = request.raw();
        return detail::check(softdimo_engine_warmup_request(handle_.get(), &raw));
    }

    /// Measure which convolutions for int8 arithmetic this machine computes faster in f32, and remember it in the user's cache
    /// folder; how many these are. `progress`: `Flow(std::uint32_t, std::uint32_t)`, or returning void. Blocks. Since ABI 1.2.
    template <class F>
    Expected<std::uint32_t> tune(F progress) const {
        ProgressFunction function = detail::with_flow<Flow(std::uint32_t, std::uint32_t)>(std::move(progress));
        std::uint32_t count = 0;
        if (const std::int32_t status =
                softdimo_engine_tune(handle_.get(), detail::on_progress, &function, &count)) {
            return detail::failure(status);
        }
        return count;
    }

    /// Give back what can be prepared again. Waits for the running job.
    Expected<void> trim() const { return detail::check(softdimo_engine_trim(handle_.get())); }

    /// Cancel every job that has not begun; the running one goes on. How many there were.
    Expected<std::uint32_t> cancel_pending() const {
        std::uint32_t count = 0;
        if (const std::int32_t status = softdimo_engine_cancel_pending(handle_.get(), &count)) {
            return detail::failure(status);
        }
        return count;
    }

    /// Compute nothing until resume(). Jobs can be submitted, polled, cancelled and destroyed meanwhile.
    Expected<void> pause() const { return detail::check(softdimo_engine_pause(handle_.get())); }

    /// Go on after pause().
    Expected<void> resume() const { return detail::check(softdimo_engine_resume(handle_.get())); }

    /// Compute for at most so many percent of the time of one core, all threads together; 0 for no limit.
    Expected<void> set_cpu_share(std::uint32_t percent) const {
        return detail::check(softdimo_engine_set_cpu_share(handle_.get(), percent));
    }

    /// Free the jobs whose handles were lost, submitted by softdimo_submit() over handle(). No Job of this engine may
    /// exist: each would free its own a second time.
    Expected<void> free_lost_jobs() const { return detail::check(softdimo_job_free_all(handle_.get())); }

    /// The tokens [positions, splits] of a picture of the model's size, for Request::start_tokens.
    Expected<std::vector<std::uint32_t>> encode(Image picture) const {
        std::vector<std::uint32_t> tokens(std::size_t{layout_.positions} * layout_.splits);
        const softdimo_image view = picture.view();
        std::uint64_t needed = 0;
        const std::int32_t status =
            softdimo_encode(handle_.get(), &view, tokens.data(), tokens.size(), &needed);
        if (status != SOFTDIMO_OK) {
            return detail::failure(status);
        }
        return tokens;
    }

    /// Replay a golden file; JSON with the largest difference of every tensor. Blocks.
    Expected<std::string> verify(const std::string& golden) const {
        if (auto fine = detail::check_text(golden, "golden"); !fine) {
            return fine.failure();
        }
        // The C function does the whole work on every call: offer room enough for any report at once.
        const std::size_t room = std::size_t{1} << 18;
        return detail::fetch_text(
            [&](char* buffer, std::uint64_t capacity, std::uint64_t* needed) {
                return softdimo_engine_verify(handle_.get(), golden.c_str(), buffer, capacity, needed);
            },
            room);
    }

    /// Generate and wait: request.batch pictures.
    Expected<std::vector<Image>> generate(const Request& request) const { return generate(request, PictureStyle()); }

    /// The same in a style, enlarged by whole factors along each axis.
    Expected<std::vector<Image>> generate(const Request& request, const PictureStyle& style, std::uint32_t columns = 1,
                                          std::uint32_t rows = 1) const {
        auto job = submit(request);
        if (!job) {
            return job.failure();
        }
        if (auto done = job->wait(); !done) {
            return done.failure();
        }
        std::vector<Image> images;
        for (std::uint32_t i = 0; i < request.raw_.batch; ++i) {
            auto image = job->image(i, style, columns, rows);
            if (!image) {
                return image.failure();
            }
            images.push_back(*std::move(image));
        }
        return images;
    }

    /// Generate into memory of the caller's and wait. `images` has `count` (= request.batch) elements; nothing is
    /// written unless all succeed.
    Expected<void> generate_into(const Request& request, softdimo_image* images, std::uint32_t count) const {
        if (auto fine = request.check(); !fine) {
            return fine;
        }
        const softdimo_request raw = request.raw();
        return detail::check(softdimo_generate(handle_.get(), &raw, images, count));
    }

    /// Queue a request and return at once. Jobs of one engine run one after the other, by priority and then in order.
    Expected<Job> submit(const Request& request) const {
        if (auto fine = request.check(); !fine) {
            return fine.failure();
        }
        softdimo_request raw = request.raw();
        std::unique_ptr<const ProgressFunction> progress;
        if (raw.progress != nullptr) {
            // The job's own copy, at an address that stays.
            progress = std::make_unique<const ProgressFunction>(request.progress_);
            raw.progress_user_data = const_cast<ProgressFunction*>(progress.get());
        }
        softdimo_job* job = nullptr;
        if (const std::int32_t status = softdimo_submit(handle_.get(), &raw, &job)) {
            return detail::failure(status);
        }
        return Job(job, std::move(progress), request.rewards_, log_, layout_);
    }

    /// The C handle, still owned by this object.
    softdimo_engine* handle() const noexcept { return handle_.get(); }

private:
    friend class Opening;

    Engine(softdimo_engine* handle, std::shared_ptr<const LogFunction> log)
        : log_(std::move(log)), handle_(handle) {}

    static Expected<void> check(const Options& options) {
        if (!abi_matches()) {
            return Failure{SOFTDIMO_ERR_UNSUPPORTED,
                           "libsoftdimo ABI: expected major " + std::to_string(SOFTDIMO_ABI_VERSION >> 16) +
                               ", found " + std::to_string(softdimo_abi_version() >> 16) + " (library version " +
                               softdimo_version() + ")"};
        }
        return options.check();
    }

    template <class Open>
    static Expected<Engine> open_with(const Options& options, Open open) {
        if (auto fine = check(options); !fine) {
            return fine.failure();
        }
        const softdimo_engine_options raw = options.raw();
        softdimo_engine* handle = nullptr;
        if (const std::int32_t status = open(raw, &handle)) {
            return detail::failure(status);
        }
        return adopt(handle, options.log_);
    }

    // Owns the handle from here on.
    static Expected<Engine> adopt(softdimo_engine* handle, std::shared_ptr<const LogFunction> log) {
        Engine engine(handle, std::move(log));
        auto info = engine.info();
        if (!info) {
            return info.failure();
        }
        Layout& layout = engine.layout_;
        for (auto [key, field] : {std::pair{"width", &layout.width}, {"height", &layout.height},
                                  {"positions", &layout.positions}, {"splits", &layout.splits},
                                  {"codes", &layout.codes}, {"mask_token", &layout.mask_token},
                                  {"embedding", &layout.embedding}, {"classes", &layout.classes}}) {
            auto number = detail::json_number(*info, key);
            if (!number) {
                return Failure{SOFTDIMO_ERR_INTERNAL, std::string("engine info: expected a number '") + key +
                                                          "', found none"};
            }
            *field = *number;
        }
        layout.channels = detail::json_number(*info, "channels").value_or(3); // older libraries know no others
        return engine;
    }

    static Expected<std::string> info_of(const softdimo_engine* engine) {
        return detail::fetch_text([=](char* buffer, std::uint64_t capacity, std::uint64_t* needed) {
            return softdimo_engine_info(engine, buffer, capacity, needed);
        });
    }

    Layout layout_;
    std::shared_ptr<const LogFunction> log_;
    std::unique_ptr<softdimo_engine, detail::FreeEngine> handle_; // last: destroyed before its callback
};

/// An engine that is being opened, and then prepared, on a thread of its own. Destroying it cancels what is left of that.
class Opening {
public:
    /// Leaves the other without an opening.
    Opening(Opening&&) noexcept = default;

    /// Ends the opening that was here first.
    Opening& operator=(Opening&& other) noexcept {
        handle_ = std::move(other.handle_); // first: the old one goes before its callback
        log_ = std::move(other.log_);
        return *this;
    }

    /// State (`SOFTDIMO_JOB_*`) and steps (the file, then a session each), without waiting.
    Expected<softdimo_progress> progress() const {
        softdimo_progress progress{};
        progress.struct_size = sizeof progress;
        if (const std::int32_t status = softdimo_opening_progress(handle_.get(), &progress)) {
            return detail::failure(status);
        }
        return progress;
    }

    /// Wait until the engine is prepared. SOFTDIMO_ERR_CANCELLED, or what opening or preparing failed with.
    Expected<void> wait() const { return detail::check(softdimo_opening_wait(handle_.get(), -1)); }

    /// Wait at most `timeout` (negative counts as 0); SOFTDIMO_ERR_TIMEOUT when that was not enough, and opening goes on.
    Expected<void> wait_for(std::chrono::milliseconds timeout) const {
        const std::int64_t milliseconds = timeout.count() < 0 ? 0 : static_cast<std::int64_t>(timeout.count());
        return detail::check(softdimo_opening_wait(handle_.get(), milliseconds));
    }

    /// Ask for the end; returns at once.
    Expected<void> cancel() const { return detail::check(softdimo_opening_cancel(handle_.get())); }

    /// What opening or preparing failed with; empty when it did not.
    Expected<std::string> error() const {
        return detail::fetch_text([this](char* buffer, std::uint64_t capacity, std::uint64_t* needed) {
            return softdimo_opening_error(handle_.get(), buffer, capacity, needed);
        });
    }

    /// The engine, once, as soon as the file is open; SOFTDIMO_ERR_NOT_READY before. Jobs that are submitted while it is
    /// being prepared wait for that.
    Expected<Engine> engine() const {
        softdimo_engine* engine = nullptr;
        if (const std::int32_t status = softdimo_opening_engine(handle_.get(), &engine)) {
            return detail::failure(status);
        }
        return Engine::adopt(engine, log_);
    }

    /// The C handle, still owned by this object.
    softdimo_opening* handle() const noexcept { return handle_.get(); }

private:
    friend class Engine;

    Opening(softdimo_opening* handle, std::shared_ptr<const LogFunction> log) : log_(std::move(log)), handle_(handle) {}

    std::shared_ptr<const LogFunction> log_;
    std::unique_ptr<softdimo_opening, detail::FreeOpening> handle_; // last: destroyed before its callback
};

inline Expected<Opening> Engine::open_async(const std::string& path, const Options& options, const Request& request) {
    auto fine = check(options);
    if (fine) {
        fine = detail::check_text(path, "path");
    }
    if (fine) {
        fine = request.check();
    }
    if (!fine) {
        return fine.failure();
    }
    const softdimo_engine_options raw = options.raw();
    const softdimo_request wanted = request.raw();
    softdimo_opening* opening = nullptr;
    if (const std::int32_t status = softdimo_engine_open_async(path.c_str(), &raw, &wanted, &opening)) {
        return detail::failure(status);
    }
    return Opening(opening, options.log_);
}

/// Most bytes that all engines of this process may hold together beyond mapped pages; 0 for any number. Since ABI 1.2.
inline Expected<void> set_memory_budget(std::uint64_t bytes) {
    return detail::check(softdimo_set_memory_budget(bytes));
}

/// Bytes that all engines of this process hold together beyond mapped pages. Since ABI 1.2.
inline Expected<std::uint64_t> memory_in_use() {
    std::uint64_t bytes = 0;
    if (const std::int32_t status = softdimo_memory_in_use(&bytes)) {
        return detail::failure(status);
    }
    return bytes;
}

/// JSON about each execution provider this library knows: {"name", "available", "reason"}. Availability is known
/// once an engine was opened.
inline Expected<std::vector<std::string>> providers() {
    std::vector<std::string> providers;
    for (std::uint32_t i = 0; i < softdimo_provider_count(); ++i) {
        auto info = detail::fetch_text([=](char* buffer, std::uint64_t capacity, std::uint64_t* needed) {
            return softdimo_provider_info(i, buffer, capacity, needed);
        });
        if (!info) {
            return info.failure();
        }
        providers.push_back(*std::move(info));
    }
    return providers;
}

} // namespace SOFTDIMO_HPP_NAMESPACE
} // namespace softdimo

#undef SOFTDIMO_HPP_NAMESPACE

#endif // SOFTDIMO_HPP
