// The tensors of a model: what a client may say about a picture, and what it gets.

#ifndef SOFTDIMO_TRITON_INPUTS_HPP
#define SOFTDIMO_TRITON_INPUTS_HPP

#include "model.hpp"

#include <string_view>
#include <vector>

namespace backend {

// Most bytes of a label or a prompt.
constexpr std::size_t MAX_TEXT = 4096;

// Which models have an input.
enum class For { All, Labels, Prompts };

// An input: one element for each picture. Its meaning and range are those of the field of softdimo_request of
// its name.
struct Input {
    std::string_view name;
    TRITONSERVER_DataType type;
    std::string_view config_type; // as config.pbtxt has it
    For models;
    // `element`: the bytes of a text, or a number as it lies in memory.
    void (*set)(softdimo::Request& request, std::string_view element, const Settings& settings);
};

// Of a name, the first is what a configuration is completed with.
extern const std::vector<Input> INPUTS;

// The one input that a request must have: its pictures are counted by it.
constexpr std::string_view REQUIRED = "seed";

constexpr const char* IMAGE = "image";
constexpr const char* REPORT = "report";

// Whether such a model has such an input.
bool fits(const Input& input, const softdimo::Layout& layout) noexcept;

// What a client wants, a request of the library's for each picture.
std::vector<softdimo::Request> read_inputs(TRITONBACKEND_Request* request, const Model& model);

} // namespace backend

#endif
