// The cxx bridge over the bundled model: MODEL REWARD.

#include "rust/cxx.h"
#include "softdimo-cxx/src/lib.rs.h"

#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <string>

#define CHECK(condition) check((condition), #condition, __LINE__)

namespace bridge = softdimo::bridge;

namespace {

void check(bool condition, const char* text, int line) {
    if (!condition) {
        std::printf("line %d: not so: %s\n", line, text);
        std::exit(1);
    }
}

// The text of the rust::Error that `call` throws.
template <class Call>
std::string error_of(Call call) {
    try {
        call();
    } catch (const rust::Error& error) {
        return error.what();
    }
    return "no error";
}

bool starts_with(const std::string& text, const std::string& start) { return text.rfind(start, 0) == 0; }

bool is_constant(const bridge::Image& image) {
    return std::equal(image.pixels.begin() + 4, image.pixels.end(), image.pixels.begin());
}

bool same(const rust::Vec<std::uint32_t>& a, const rust::Vec<std::uint32_t>& b) {
    return std::equal(a.begin(), a.end(), b.begin(), b.end());
}

} // namespace

int main(int argc, char** argv) {
    CHECK(argc == 3);
    const auto options = bridge::default_options();
    const std::string missing = error_of([&] { bridge::open("no such file", options); });
    CHECK(starts_with(missing, "SOFTDIMO_ERR_NOT_FOUND: "));
    CHECK(missing.find("no such file") != std::string::npos);

    auto engine = bridge::open(argv[1], options);
    const auto layout = engine->layout();
    CHECK(layout.width == 32 && layout.height == 32);
    const auto labels = engine->labels();
    CHECK(labels.size() == layout.classes);
    CHECK(std::find(labels.begin(), labels.end(), rust::String("red apple")) != labels.end());
    CHECK(std::string(engine->info()).find("\"width\":32") != std::string::npos);
    engine->warmup(2);
    // Its weights are in rows: nothing is computed in int8.
    CHECK(starts_with(error_of([&] { engine->tune(); }), "SOFTDIMO_ERR_UNSUPPORTED: "));
    auto odd = options;
    odd.arithmetic = static_cast<bridge::Arithmetic>(7);
    const std::string arithmetic = error_of([&] { bridge::open(argv[1], odd); });
    CHECK(arithmetic.find("options.arithmetic") != std::string::npos);

    auto request = bridge::default_request();
    request.label = "red apple";
    request.seed = 1;
    request.batch = 2;
    const auto images = engine->generate(request);
    CHECK(images.size() == 2 && images[0].pixels.size() == 32 * 32 * 4);
    CHECK(!is_constant(images[0]) && !is_constant(images[1]));
    CHECK(!std::equal(images[0].pixels.begin(), images[0].pixels.end(), images[1].pixels.begin()));

    auto job = engine->submit(request);
    CHECK(job->wait(-1));
    CHECK(job->progress().state == bridge::JobState::Done);
    auto twin = engine->submit(request);
    CHECK(twin->wait(-1));
    for (std::uint32_t i = 0; i < 2; ++i) {
        CHECK(same(job->tokens(i), twin->tokens(i)));
        const auto image = job->image(i);
        CHECK(std::equal(image.pixels.begin(), image.pixels.end(), images[i].pixels.begin()));
    }
    CHECK(!same(job->tokens(0), job->tokens(1)));
    CHECK(job->max_probability(0).size() == std::size_t{layout.positions} * layout.splits);
    CHECK(job->embedding(0).size() == std::size_t{layout.positions} * layout.embedding);
    CHECK(std::string(job->report()).find("\"seed\":1") != std::string::npos);
    CHECK(starts_with(error_of([&] { job->tokens(2); }), "SOFTDIMO_ERR_INVALID_ARGUMENT: "));

    // A reward file and two built-in rewards, climbed together; the rewards may go before the job.
    rust::Box<bridge::Job> climbing = [&] {
        auto clip = bridge::open_reward(argv[2], "");
        CHECK(std::string(clip->info()).find("\"clip_score\"") != std::string::npos);
        auto optimization = bridge::new_optimization(3);
        optimization->add(*clip, 1.0f);
        optimization->add(*bridge::histogram_reward(images[1]), 0.5f);
        optimization->add(*bridge::prior_reward(1), 0.01f);
        optimization->add(*bridge::color_reward(-1, -1, 1), 0.01f);
        optimization->set_rate(0.05f, 1.0f);
        optimization->set_recompute(true);
        const std::string prompt = error_of([&] { engine->submit_optimizing(request, *optimization); });
        CHECK(prompt.find("which the reward 'clip_score' reads") != std::string::npos);
        auto prompted = request;
        prompted.prompt = "red apple";
        return engine->submit_optimizing(prompted, *optimization);
    }();
    CHECK(climbing->wait(-1));
    CHECK(std::string(climbing->report()).find("[\"clip_score\",\"histogram\",\"prior\",\"color\"]") !=
          std::string::npos);
    CHECK(starts_with(error_of([&] { bridge::open_reward("none", ""); }), "SOFTDIMO_ERR_NOT_FOUND: "));
    CHECK(starts_with(error_of([&] { bridge::open_reward(argv[1], ""); }), "SOFTDIMO_ERR_CONFIG: "));
    CHECK(starts_with(error_of([&] { bridge::open_reward(argv[2], "dog"); }), "SOFTDIMO_ERR_UNSUPPORTED: "));
    CHECK(starts_with(error_of([&] { bridge::open_reward(argv[2], "3"); }), "SOFTDIMO_ERR_UNSUPPORTED: "));

    request.label = "no such label";
    CHECK(starts_with(error_of([&] { engine->submit(request); }), "SOFTDIMO_ERR_UNKNOWN_LABEL: "));
    request.label = "";
    request.class_labels.push_back(3);
    request.decode = static_cast<bridge::Decode>(9);
    CHECK(starts_with(error_of([&] { engine->submit(request); }), "SOFTDIMO_ERR_INVALID_ARGUMENT: "));
    request.decode = bridge::Decode::Hard;
    request.batch = 1;
    request.steps = 5000;
    auto cancelled = engine->submit(request);
    CHECK(!cancelled->wait(1));
    CHECK(starts_with(error_of([&] { cancelled->tokens(0); }), "SOFTDIMO_ERR_NOT_READY: "));
    cancelled->cancel();
    CHECK(starts_with(error_of([&] { cancelled->wait(-1); }), "SOFTDIMO_ERR_CANCELLED: "));
    CHECK(cancelled->progress().state == bridge::JobState::Cancelled);

    // A running job that is destroyed is cancelled, with its engine already gone.
    auto running = engine->submit(request);
    { auto gone = std::move(engine); }
    std::printf("ok %s\n", std::string(bridge::version()).c_str());
    return 0;
}
