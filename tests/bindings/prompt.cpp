// A text-to-image model through softdimo.hpp: MODEL PIXELS PROMPT writes the RGBA bytes of seed 5.

#include "softdimo.hpp"

#include <cstdio>
#include <fstream>

namespace {

template <class T>
int fail(const softdimo::Expected<T>& result) {
    std::printf("%s: %s\n", softdimo::status_name(result.status()), result.message().c_str());
    return 1;
}

} // namespace

int main(int argc, char** argv) {
    if (argc != 4) {
        return 2;
    }
    auto engine = softdimo::Engine::open(argv[1]);
    if (!engine) {
        return fail(engine);
    }
    // A label is refused, a prompt is not; the aesthetic score is the model's own unless it is set.
    if (engine->submit(softdimo::Request().class_label(0)).status() != SOFTDIMO_ERR_UNSUPPORTED) {
        return 3;
    }
    const auto images = engine->generate(softdimo::Request().prompt(argv[3]).seed(5));
    if (!images) {
        return fail(images);
    }
    const auto other = engine->generate(softdimo::Request().prompt(argv[3]).seed(5).aesthetic_score(1.0f));
    if (!other) {
        return fail(other);
    }
    if ((*other)[0].pixels() == (*images)[0].pixels()) {
        return 4;
    }
    const auto& pixels = (*images)[0].pixels();
    std::ofstream(argv[2], std::ios::binary)
        .write(reinterpret_cast<const char*>(pixels.data()), static_cast<std::streamsize>(pixels.size()));
    return 0;
}
