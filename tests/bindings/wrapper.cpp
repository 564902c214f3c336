// softdimo.hpp over the bundled model: MODEL FOLDER. Built with exceptions, and without them and without RTTI.

#include "softdimo.hpp"

#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <thread>

#define CHECK(condition) check((condition), #condition, __LINE__)

namespace {

void check(bool condition, const char* text, int line) {
    if (!condition) {
        std::printf("line %d: not so: %s\n", line, text);
        std::exit(1);
    }
}

// The value, or the end of the program with the reason.
template <class T>
T take(softdimo::Expected<T> result) {
    if (!result) {
        std::printf("%s: %s\n", softdimo::status_name(result.status()), result.message().c_str());
        std::exit(1);
    }
    return *std::move(result);
}

bool is_constant(const softdimo::Image& image) {
    const auto& pixels = image.pixels();
    return std::equal(pixels.begin() + 4, pixels.end(), pixels.begin());
}

bool contains(const std::string& text, const char* part) { return text.find(part) != std::string::npos; }

void errors(const softdimo::Engine& engine, const std::string& folder) {
    auto missing = softdimo::Engine::open(folder + "/no such file");
    CHECK(!missing);
    CHECK(missing.status() == SOFTDIMO_ERR_NOT_FOUND);
    CHECK(contains(missing.message(), "no such file"));
    CHECK(std::string(softdimo::status_name(missing.status())) == "SOFTDIMO_ERR_NOT_FOUND");

    auto cut = softdimo::Engine::open(std::string("a\0b", 3));
    CHECK(cut.status() == SOFTDIMO_ERR_INVALID_ARGUMENT);
    CHECK(softdimo::Engine::open_memory({1, 2, 3}).status() == SOFTDIMO_ERR_FORMAT);
    CHECK(softdimo::Engine::open(folder, softdimo::Options().provider("abacus")).status() != SOFTDIMO_OK);

    CHECK(engine.submit(softdimo::Request().label("no such label")).status() == SOFTDIMO_ERR_UNKNOWN_LABEL);
    CHECK(engine.generate(softdimo::Request().batch(0)).status() == SOFTDIMO_ERR_INVALID_ARGUMENT);
    CHECK(engine.generate(softdimo::Request().batch(1u << 31)).status() == SOFTDIMO_ERR_INVALID_ARGUMENT);
    CHECK(engine.submit(softdimo::Request().label(std::string("red\0apple", 9))).status() ==
          SOFTDIMO_ERR_INVALID_ARGUMENT);
    CHECK(engine.verify(folder + "/no golden file").status() == SOFTDIMO_ERR_NOT_FOUND);
}

void describes(const softdimo::Engine& engine) {
    CHECK(softdimo::abi_matches());
    CHECK(softdimo::version() == softdimo_version());
    CHECK(engine.layout().width == 32 && engine.layout().height == 32);
    CHECK(engine.layout().channels == 3);
    CHECK(engine.layout().positions == 64 && engine.layout().splits == 2);
    CHECK(contains(take(engine.info()), "\"width\":32"));
    const auto labels = take(engine.labels());
    CHECK(labels.size() == take(engine.label_count()));
    CHECK(labels.size() == engine.layout().classes);
    CHECK(std::find(labels.begin(), labels.end(), "red apple") != labels.end());
    CHECK(take(engine.memory()).mapped > 1000000);
    CHECK(contains(take(softdimo::providers()).at(0), "\"cpu\""));

    // The scanner of the engine's JSON sees the top level only, and whole keys.
    using softdimo::detail::json_number;
    CHECK(json_number(R"({"a":{"width":1},"b":["width",{"width":2}],"c":"\"width\":3","width":4})", "width") == 4u);
    CHECK(!json_number(R"({"xwidth":1,"width":"2"})", "width"));
    CHECK(!json_number(R"({"width)", "width"));
}

void pictures(const softdimo::Engine& engine, const std::string& folder) {
    const auto apple = take(engine.generate(softdimo::Request().label("red apple").seed(1)));
    const auto other_seed = take(engine.generate(softdimo::Request().label("red apple").seed(2)));
    const auto other_label = take(engine.generate(softdimo::Request().class_label(0).seed(1)));
    CHECK(apple.size() == 1 && apple[0].width() == 32 && apple[0].height() == 32 && apple[0].stride() == 128);
    for (const auto* images : {&apple, &other_seed, &other_label}) {
        CHECK(!is_constant((*images)[0]));
    }
    CHECK(apple[0].pixels() != other_seed[0].pixels());
    CHECK(apple[0].pixels() != other_label[0].pixels());

    // Picture b of a batch is the one picture of seed + b, in whatever memory.
    const auto request = softdimo::Request().label("Red Apple").seed(1).batch(2);
    const auto batch = take(engine.generate(request));
    CHECK(batch.size() == 2 && batch[0].pixels() == apple[0].pixels() && batch[1].pixels() == other_seed[0].pixels());
    std::vector<softdimo::Image> mine{{32, 32}, {32, 32}};
    softdimo_image views[] = {mine[0].view(), mine[1].view()};
    CHECK(engine.generate_into(request, views, 2).ok());
    CHECK(mine[0].pixels() == apple[0].pixels() && mine[1].pixels() == other_seed[0].pixels());
    CHECK(engine.generate_into(request, views, 1).status() == SOFTDIMO_ERR_INVALID_ARGUMENT);

    // A place's seed, and an engine beside a game's threads.
    CHECK(softdimo::seed(7, -1, 2) == 0xE42C80F9F3B5D023u && softdimo::seed(0, 0, 0, 1) == 0x698DFBA9F1FC1B53u);
    CHECK(softdimo::Options::game().raw().threads == 1 && softdimo::Options::game().raw().niceness == 10);

    // Larger, in few colours, without its background.
    auto job = take(engine.submit(softdimo::Request().label("red apple").seed(1)));
    CHECK(job.wait().ok());
    softdimo::PictureStyle style;
    const auto large = take(job.image(0, style, 3, 2));
    CHECK(large.width() == 96 && large.height() == 64);
    CHECK(std::equal(large.data() + 8, large.data() + 12, apple[0].data()));
    style.colors(2).dither(softdimo::Dither::Bayer4, 0.5f).matte().scaling(softdimo::Scaling::Nearest);
    const auto cut = take(job.image(0, style));
    CHECK(cut.data()[3] == 0 && apple[0].data()[3] == 255);
    style.palette({0, 0, 0, 255, 255, 0, 0, 255, 9, 9, 9, 0}).matte(0.1f, 20);
    const auto red = take(engine.generate(softdimo::Request().label("red apple").seed(1), style, 2, 2));
    CHECK(red[0].width() == 64);
    for (std::size_t i = 0; i < red[0].pixels().size(); i += 4) {
        const auto* pixel = red[0].data() + i;
        CHECK((pixel[0] == 0 || pixel[0] == 255) && pixel[1] == 0 && pixel[2] == 0);
    }
    CHECK(job.image(0, style, 0).status() == SOFTDIMO_ERR_INVALID_ARGUMENT);
    CHECK(job.image(0, style, 1u << 31, 1u << 31).status() == SOFTDIMO_ERR_INVALID_ARGUMENT);
    CHECK(job.image(0, style.matte(2.0f)).status() == SOFTDIMO_ERR_INVALID_ARGUMENT);

    CHECK(apple[0].write_png(folder + "/apple.png", {{"seed", "1"}}).ok());
    CHECK(!apple[0].write_png(folder + "/no such folder/apple.png"));
}

void jobs(softdimo::Engine& engine) {
    const auto request = softdimo::Request().label("red apple").seed(5);
    auto first = take(engine.submit(request));
    auto second = take(engine.submit(request));
    CHECK(first.wait().ok() && second.wait_for(std::chrono::minutes(5)).ok());
    CHECK(take(first.poll()) == softdimo::JobState::Done);
    const auto tokens = take(first.tokens());
    CHECK(tokens.size() == std::size_t{engine.layout().positions} * engine.layout().splits);
    CHECK(tokens == take(second.tokens()));
    CHECK(take(first.image()).pixels() == take(second.image()).pixels());
    CHECK(take(first.image_f32()).size() == 3 * 32 * 32);
    const auto confidence = take(first.max_probability());
    CHECK(confidence.size() == tokens.size());
    CHECK(std::all_of(confidence.begin(), confidence.end(), [](float p) { return p > 0.0f && p <= 1.0f; }));
    CHECK(contains(take(first.report()), "\"seed\":5"));
    CHECK(take(first.error()).empty());
    CHECK(first.image(1).status() == SOFTDIMO_ERR_INVALID_ARGUMENT);
    const auto progress = take(first.progress());
    CHECK(progress.state == SOFTDIMO_JOB_DONE && progress.step == progress.total && progress.total > 0);

    // From the same start embedding, the same tokens.
    const auto embedding = take(first.embedding());
    CHECK(embedding.size() == std::size_t{engine.layout().positions} * engine.layout().embedding);
    auto again = take(engine.submit(softdimo::Request(request).e_in(embedding)));
    CHECK(again.wait().ok() && take(again.tokens()) == tokens);

    // Assigning frees the old job; a moved-from one says so.
    second = std::move(first);
    CHECK(take(second.tokens()) == tokens);
    CHECK(first.wait().status() == SOFTDIMO_ERR_NULL_ARGUMENT);
}

// A job long enough to be cancelled on the way.
softdimo::Request long_request() { return softdimo::Request().label("red apple").steps(5000); }

void cancelling(const softdimo::Engine& engine) {
    auto cancelled = take(engine.submit(long_request()));
    CHECK(cancelled.wait_for(std::chrono::milliseconds(1)).status() == SOFTDIMO_ERR_TIMEOUT);
    CHECK(cancelled.tokens().status() == SOFTDIMO_ERR_NOT_READY);
    std::thread([&] { CHECK(cancelled.cancel().ok()); }).join();
    auto end = cancelled.wait();
    CHECK(end.status() == SOFTDIMO_ERR_CANCELLED && !end.message().empty());
    CHECK(take(cancelled.poll()) == softdimo::JobState::Cancelled);

    // A queued job ends without waiting for the one before it, cancelled or destroyed. So does a running one.
    auto running = take(engine.submit(long_request()));
    auto queued = take(engine.submit(long_request()));
    CHECK(queued.cancel().ok());
    CHECK(take(queued.poll()) == softdimo::JobState::Cancelled);
    CHECK(queued.wait().status() == SOFTDIMO_ERR_CANCELLED);
    { auto destroyed = take(engine.submit(long_request())); }
    CHECK(take(running.progress()).state <= SOFTDIMO_JOB_RUNNING);
}

void callbacks(const softdimo::Engine& engine) {
    // Every step arrives, on this thread; a callback that returns nothing goes on.
    const auto here = std::this_thread::get_id();
    std::uint32_t last = 0;
    bool in_order = true;
    auto request = softdimo::Request().label("red apple").progress([&](std::uint32_t step, std::uint32_t total) {
        in_order = in_order && step >= last && step <= total && std::this_thread::get_id() == here;
        last = step;
    });
    CHECK(engine.generate(request).ok());
    CHECK(in_order && last > 0);

    // Stop cancels, in all three ways to run. The request is gone by then: the job has its own copy.
    std::vector<softdimo::Job> job;
    {
        const std::string captured(100, 'x');
        auto stopping = long_request().progress([captured](std::uint32_t step, std::uint32_t) {
            return step >= 2 && captured.size() == 100 ? softdimo::Flow::Stop : softdimo::Flow::Continue;
        });
        CHECK(engine.generate(stopping).status() == SOFTDIMO_ERR_CANCELLED);
        softdimo::Image image(32, 32);
        auto view = image.view();
        CHECK(engine.generate_into(stopping, &view, 1).status() == SOFTDIMO_ERR_CANCELLED);
        CHECK(is_constant(image));
        job.push_back(take(engine.submit(stopping)));
    }
    CHECK(job[0].wait().status() == SOFTDIMO_ERR_CANCELLED);

    // The same in a frame loop.
    auto polled = take(engine.submit(
        long_request().progress([](std::uint32_t, std::uint32_t) { return softdimo::Flow::Stop; })));
    softdimo::JobState state;
    while ((state = take(polled.poll())) == softdimo::JobState::Queued || state == softdimo::JobState::Running) {
        std::this_thread::sleep_for(std::chrono::milliseconds(1));
    }
    CHECK(state == softdimo::JobState::Cancelled);
}

void logging(const std::string& model) {
    int messages = 0;
    std::vector<softdimo::Job> job;
    {
        auto options = softdimo::Options().threads(1).log(
            [&messages](softdimo::LogLevel, std::string_view text) { messages += text.empty() ? 0 : 1; },
            softdimo::LogLevel::Info);
        auto engine = take(softdimo::Engine::open(model, options));
        CHECK(engine.warmup().ok());
        CHECK(engine.warmup(softdimo::Request().steps(3)).ok());
        CHECK(engine.warmup(softdimo::Request().progress([](std::uint32_t, std::uint32_t) {
            return softdimo::Flow::Stop;
        })).status() == SOFTDIMO_ERR_CANCELLED);
        CHECK(engine.tune([](std::uint32_t, std::uint32_t) {}).status() == SOFTDIMO_ERR_UNSUPPORTED);
        const std::uint64_t in_use = take(softdimo::memory_in_use());
        CHECK(in_use > 0 && softdimo::set_memory_budget(in_use * 2).ok() && softdimo::set_memory_budget(0).ok());
        CHECK(messages > 0);
        CHECK(engine.trim().ok());
        messages = 0;
        job.push_back(take(engine.submit(softdimo::Request().label("red apple"))));
    }
    // The job outlives its engine and keeps the log callback.
    CHECK(job[0].wait().ok());
    CHECK(messages > 0);
}

// Priorities, keys, pausing and shares.
void frame_loop(const softdimo::Engine& engine) {
    using softdimo::JobState;
    auto running = take(engine.submit(long_request().priority(1)));
    while (take(running.progress()).step == 0) {
        std::this_thread::sleep_for(std::chrono::milliseconds(1));
    }
    auto queued = take(engine.submit(softdimo::Request().label("red apple").queue_key(7)));
    auto newer = take(engine.submit(softdimo::Request().label("red apple").queue_key(7)));
    CHECK(take(queued.poll()) == JobState::Cancelled && contains(take(queued.error()), "replaced by a newer job"));
    auto first = take(engine.submit(softdimo::Request().label("red apple").priority(2)));
    CHECK(first.wait().ok());
    CHECK(take(running.poll()) == JobState::Running && take(newer.poll()) == JobState::Queued);
    CHECK(take(engine.cancel_pending()) == 1 && take(engine.cancel_pending()) == 0);
    CHECK(take(newer.poll()) == JobState::Cancelled);

    CHECK(engine.pause().ok());
    std::this_thread::sleep_for(std::chrono::milliseconds(50));
    const auto step = take(running.progress()).step;
    std::this_thread::sleep_for(std::chrono::milliseconds(50));
    CHECK(take(running.progress()).step == step);
    CHECK(engine.resume().ok());
    while (take(running.progress()).step == step) {
        std::this_thread::sleep_for(std::chrono::milliseconds(1));
    }
    CHECK(engine.set_cpu_share(50).ok() && engine.set_cpu_share(0).ok());
    CHECK(engine.set_cpu_share(1000000).status() == SOFTDIMO_ERR_INVALID_ARGUMENT);
    CHECK(running.cancel().ok());

    // A job that waits for its host, and handles that were lost.
    int calls = 0;
    auto own = take(softdimo::Reward::callback(
        [&calls](const softdimo::RewardPictures&, float* scores, float*) { scores[0] = static_cast<float>(++calls); }));
    auto waiting = take(engine.submit(softdimo::Request().label("red apple").reward(own).optimize_steps(1)));
    while (take(waiting.progress()).state != static_cast<std::uint32_t>(JobState::Waiting)) {
        std::this_thread::sleep_for(std::chrono::milliseconds(1));
    }
    CHECK(waiting.wait().ok() && calls == 2);
}

void lost_jobs(const std::string& model) {
    const auto engine = take(softdimo::Engine::open(model));
    const auto raw = long_request().raw();
    softdimo_job* job = nullptr;
    CHECK(softdimo_submit(engine.handle(), &raw, &job) == SOFTDIMO_OK);
    CHECK(engine.free_lost_jobs().ok() && engine.free_lost_jobs().ok());
}

void opening(const std::string& model) {
    std::vector<softdimo::Engine> engines;
    int messages = 0;
    {
        const auto options = softdimo::Options().log(
            [&messages](softdimo::LogLevel, std::string_view) { ++messages; }, softdimo::LogLevel::Info);
        auto opening = take(softdimo::Engine::open_async(model, options, softdimo::Request().batch(2)));
        CHECK(opening.wait().ok() && opening.wait_for(std::chrono::milliseconds(0)).ok());
        const auto progress = take(opening.progress());
        CHECK(progress.state == SOFTDIMO_JOB_DONE && progress.step == progress.total && progress.total > 1);
        CHECK(opening.cancel().ok() && take(opening.error()).empty());
        engines.push_back(take(opening.engine()));
        CHECK(opening.engine().status() == SOFTDIMO_ERR_INVALID_ARGUMENT);
        auto other = std::move(opening);
        CHECK(opening.wait().status() == SOFTDIMO_ERR_NULL_ARGUMENT && other.wait().ok());
    }
    CHECK(messages > 1 && engines[0].layout().width == 32);
    CHECK(engines[0].generate(softdimo::Request().label("red apple")).ok());
    auto none = take(softdimo::Engine::open_async("/nowhere/model"));
    CHECK(none.wait().status() == SOFTDIMO_ERR_NOT_FOUND && none.engine().status() == SOFTDIMO_ERR_NOT_FOUND);
    CHECK(contains(take(none.error()), "/nowhere/model"));
    CHECK(softdimo::Engine::open_async(std::string("a\0b", 3)).status() == SOFTDIMO_ERR_INVALID_ARGUMENT);
    CHECK(softdimo::Engine::open_async(model, {}, softdimo::Request().batch(0)).status() == SOFTDIMO_ERR_INVALID_ARGUMENT);
}

void memory(const std::string& model) {
    std::FILE* file = std::fopen(model.c_str(), "rb");
    CHECK(file != nullptr);
    std::vector<std::uint8_t> bytes;
    std::uint8_t buffer[65536];
    for (std::size_t n; (n = std::fread(buffer, 1, sizeof buffer, file)) > 0;) {
        bytes.insert(bytes.end(), buffer, buffer + n);
    }
    std::fclose(file);
    int released = 0;
    const auto release = [](void* count, const void*, std::uint64_t) { ++*static_cast<int*>(count); };
    {
        auto borrowing = take(softdimo::Engine::open_memory(bytes.data(), bytes.size(), release, &released));
        auto owning = take(softdimo::Engine::open_memory(bytes));
        const auto request = softdimo::Request().label("red apple").seed(3);
        CHECK(take(borrowing.generate(request))[0].pixels() == take(owning.generate(request))[0].pixels());
        CHECK(released == 0);
        owning = std::move(borrowing);
        CHECK(borrowing.info().status() == SOFTDIMO_ERR_NULL_ARGUMENT);
        CHECK(owning.info().ok());
    }
    CHECK(released == 1);
    CHECK(!softdimo::Engine::open_memory(bytes.data(), 100, release, &released));
    CHECK(released == 1);
}

// The last "total" of a report.
double last_total(const std::string& report) {
    const auto at = report.rfind("\"total\":[");
    CHECK(at != std::string::npos);
    return std::strtod(report.c_str() + at + 9, nullptr);
}

double first_total(const std::string& report) {
    const auto at = report.find("\"total\":[");
    CHECK(at != std::string::npos);
    return std::strtod(report.c_str() + at + 9, nullptr);
}

void rewards(const softdimo::Engine& engine, const std::string& folder) {
    using softdimo::Reward;
    const auto request = softdimo::Request().label("red apple").seed(1).optimize_steps(4);

    // The network of a file, with a prompt; what it says about itself; every way it can be refused.
    const std::string file = folder + "/clip.softdimo.safetensors";
    std::vector<softdimo::Job> kept;
    {
        const auto clip = take(Reward::open(file));
        CHECK(contains(take(clip.info()), "\"family\":\"clip_score\""));
        auto climbing = softdimo::Request(request).reward(clip).prompt("red apple").lr(0.05f).clip(1.0f);
        climbing.recompute(true);
        kept.push_back(take(engine.submit(climbing)));
        CHECK(engine.submit(softdimo::Request(request).reward(clip)).status() == SOFTDIMO_ERR_INVALID_ARGUMENT);
    }
    CHECK(kept[0].wait().ok()); // the file is gone with its job, not before
    const auto report = take(kept[0].report());
    CHECK(contains(report, "clip_score") && last_total(report) > first_total(report));
    CHECK(Reward::open(folder + "/none").status() == SOFTDIMO_ERR_NOT_FOUND);
    CHECK(Reward::open(std::string("a\0b", 3)).status() == SOFTDIMO_ERR_INVALID_ARGUMENT);
    CHECK(Reward::open_memory({1, 2, 3}).status() == SOFTDIMO_ERR_FORMAT);
    softdimo::RewardOptions options;
    options.class_label = "dog";
    CHECK(Reward::open(file, options).status() == SOFTDIMO_ERR_UNSUPPORTED);
    options.class_id = 3;
    CHECK(Reward::open(file, options).status() == SOFTDIMO_ERR_INVALID_ARGUMENT);

    // The built-in ones, added up.
    softdimo::Image black(32, 32);
    const std::vector<float> half(32 * 32 / 2, 1.0f);
    std::vector<float> mask(half);
    mask.resize(32 * 32, 0.0f);
    auto sum = softdimo::Request(request)
                   .reward(take(Reward::target(black, mask)), 0.5f)
                   .reward(take(Reward::color(-1.0f, -1.0f, -1.0f, mask)), 0.1f)
                   .reward(take(Reward::histogram(black)))
                   .reward(take(Reward::prior(3)), 0.01f)
                   .reward(take(Reward::closeness()), 0.1f)
                   .optimizer(softdimo::Optimizer::Adam)
                   .lr(0.03f)
                   .deadline(std::chrono::minutes(5));
    auto job = take(engine.submit(sum));
    CHECK(job.wait().ok());
    const auto course = take(job.report());
    CHECK(contains(course, "[\"target\",\"color\",\"histogram\",\"prior\",\"closeness\"]"));
    CHECK(last_total(course) > first_total(course));
    auto misfit = softdimo::Request(request).reward(take(Reward::color(1, 0, 0, half)));
    CHECK(engine.submit(misfit).status() == SOFTDIMO_ERR_INVALID_ARGUMENT);
    auto shares = softdimo::Request(request).reward(take(Reward::histogram({1, 0, 1, 0, 1, 0})));
    CHECK(engine.generate(shares).ok());
    auto noise = softdimo::Request(request).reward(take(Reward::closeness())).variables(8);
    CHECK(engine.submit(noise).status() == SOFTDIMO_ERR_INVALID_ARGUMENT);

    // The host's own, on the waiting thread, gone from here before the job runs.
    int calls = 0;
    {
        auto own = take(Reward::callback([&calls](const softdimo::RewardPictures& pictures, float* scores, float*) {
            CHECK(pictures.width == 32 && pictures.height == 32 && pictures.batch == 1);
            scores[0] = static_cast<float>(++calls);
        }));
        kept.push_back(take(engine.submit(softdimo::Request(request).reward(own))));
    }
    CHECK(kept[1].wait().ok() && calls == 5);
    auto stopping = take(Reward::callback(
        [](const softdimo::RewardPictures&, float*, float*) { return softdimo::Flow::Stop; }));
    CHECK(engine.generate(softdimo::Request(request).reward(stopping)).status() == SOFTDIMO_ERR_CANCELLED);
}

#if defined(__cpp_exceptions)

void exceptions(const softdimo::Engine& engine) {
    int status = SOFTDIMO_OK;
    try {
        softdimo::Engine::open("no such file").value();
    } catch (const softdimo::Error& error) {
        status = error.status();
        CHECK(contains(error.what(), "no such file"));
    }
    CHECK(status == SOFTDIMO_ERR_NOT_FOUND);
    CHECK(engine.generate(softdimo::Request().label("red apple")).value().size() == 1);
    engine.warmup().value();

    // What a callback throws ends there and cancels the job.
    int calls = 0;
    auto throwing = long_request().progress([&calls](std::uint32_t step, std::uint32_t) {
        ++calls;
        if (step >= 1) {
            throw 42;
        }
    });
    auto job = engine.submit(throwing).value();
    CHECK(job.wait().status() == SOFTDIMO_ERR_CANCELLED);
    CHECK(calls > 0);
    CHECK(engine.generate(throwing).status() == SOFTDIMO_ERR_CANCELLED);
    softdimo::Image image(32, 32);
    auto view = image.view();
    CHECK(engine.generate_into(throwing, &view, 1).status() == SOFTDIMO_ERR_CANCELLED);
    // And the engine goes on.
    CHECK(engine.generate(softdimo::Request().label("red apple")).ok());
}

#endif

// A picture's tokens, kept in whole, in no part, and on one side of a mask.
void edits(const softdimo::Engine& engine) {
    const auto snowman = take(engine.generate(softdimo::Request().label("snowman").seed(4)))[0];
    const auto tokens = take(engine.encode(snowman));
    const auto request = softdimo::Request().label("rocket").seed(9);
    const auto of = [&](const softdimo::Request& r) {
        auto job = take(engine.submit(r));
        CHECK(job.wait().ok());
        return take(job.tokens());
    };
    CHECK(of(softdimo::Request(request).variation(snowman, 1.0f)) == tokens);
    CHECK(of(softdimo::Request(request).variation(snowman, 0.0f)) == of(request));
    std::vector<float> mask(32 * 32, 0.0f);
    CHECK(of(softdimo::Request(request).inpaint(snowman, mask)) == tokens);
    mask[0] = 1.0f;
    const auto corner = of(softdimo::Request(request).inpaint(snowman, mask));
    CHECK(std::equal(corner.begin() + 2, corner.end(), tokens.begin() + 2));
    CHECK(engine.encode(softdimo::Image(3, 3)).status() == SOFTDIMO_ERR_INVALID_ARGUMENT);
    CHECK(engine.submit(softdimo::Request(request).aesthetic_score(6.0f)).status() == SOFTDIMO_ERR_UNSUPPORTED);
}

} // namespace

int main(int argc, char** argv) {
    CHECK(argc == 3);
    const std::string model = argv[1];
    const std::string folder = argv[2];
    auto engine = take(softdimo::Engine::open(model));
    errors(engine, folder);
    describes(engine);
    pictures(engine, folder);
    edits(engine);
    jobs(engine);
    cancelling(engine);
    callbacks(engine);
    frame_loop(engine);
    lost_jobs(model);
    opening(model);
    logging(model);
    memory(model);
    rewards(engine, folder);
#if defined(__cpp_exceptions)
    exceptions(engine);
#endif
    std::printf("ok\n");
    return 0;
}
