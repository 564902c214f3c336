#include "inputs.hpp"

#include <cstring>

namespace backend {
namespace {

template <class T>
T number(std::string_view element) {
    T value;
    std::memcpy(&value, element.data(), sizeof value); // of this size: elements_of
    return value;
}

using softdimo::Request;
using Element = std::string_view;

// A number that the library checks itself.
template <class T, Request& (Request::*Set)(T)>
void set_number(Request& request, Element element, const Settings&) {
    (request.*Set)(number<T>(element));
}

template <Request& (Request::*Set)(std::string)>
void set_text(Request& request, Element element, const Settings&) {
    (request.*Set)(std::string(element));
}

void set_signed_seed(Request& request, Element element, const Settings&) {
    const auto seed = number<std::int64_t>(element);
    if (seed < 0) {
        throw invalid("seed: expected 0 or more, found " + std::to_string(seed));
    }
    request.seed(static_cast<std::uint64_t>(seed));
}

void set_steps(Request& request, Element element, const Settings& settings) {
    const auto steps = number<std::uint32_t>(element);
    if (steps > settings.max_steps) {
        throw invalid("steps: expected at most " + std::to_string(settings.max_steps) +
                      " (max_steps), found " + std::to_string(steps));
    }
    request.steps(steps);
}

constexpr auto FP32 = TRITONSERVER_TYPE_FP32;
constexpr auto TEXT = TRITONSERVER_TYPE_BYTES;

std::string shape_text(const std::int64_t* shape, std::uint32_t dimensions) {
    std::string text = "[";
    for (std::uint32_t i = 0; i < dimensions; ++i) {
        text += (i == 0 ? "" : ",") + std::to_string(shape[i]);
    }
    return text + "]";
}

// One input of a request.
struct Tensor {
    const Input* input = nullptr;
    std::uint64_t rows = 0;
    std::vector<char> bytes;
};

const Input& known(std::string_view name, TRITONSERVER_DataType type) {
    for (const Input& input : INPUTS) {
        if (input.name == name && input.type == type) {
            return input;
        }
    }
    throw invalid("input '" + std::string(name) +
                  "': expected one that the model's configuration has, of its data type");
}

Tensor read_tensor(TRITONBACKEND_Input* input, const Model& model) {
    const char* name = nullptr;
    TRITONSERVER_DataType type = TRITONSERVER_TYPE_INVALID;
    const std::int64_t* shape = nullptr;
    std::uint32_t dimensions = 0;
    std::uint32_t buffers = 0;
    std::uint64_t length = 0;
    check(TRITONBACKEND_InputProperties(input, &name, &type, &shape, &dimensions, &length, &buffers));
    Tensor tensor;
    tensor.input = &known(name, type);

    const std::uint32_t expected = model.batched() ? 2 : 1;
    if (dimensions != expected || shape[expected - 1] != 1 || shape[0] < 1) {
        throw invalid("input '" + std::string(name) + "': expected shape " +
                      (model.batched() ? "[batch,1]" : "[1]") + ", found " + shape_text(shape, dimensions));
    }
    tensor.rows = static_cast<std::uint64_t>(shape[0]);
    // No element is shorter than four bytes: nothing is counted, or made room for, that is not there.
    if (tensor.rows > length / sizeof(std::uint32_t)) {
        throw invalid("input '" + std::string(name) + "': expected " + std::to_string(tensor.rows) +
                      " elements, found bytes for fewer");
    }
    // Nothing longer is copied; the server has bounded the batch.
    if (length > tensor.rows * (sizeof(std::uint32_t) + MAX_TEXT)) {
        throw invalid("input '" + std::string(name) + "': expected at most " + std::to_string(MAX_TEXT) +
                      " bytes an element, found " + std::to_string(length) + " in " +
                      std::to_string(tensor.rows));
    }
    tensor.bytes.reserve(length);
    for (std::uint32_t i = 0; i < buffers; ++i) {
        const void* buffer = nullptr;
        std::uint64_t part = 0;
        auto memory = TRITONSERVER_MEMORY_CPU;
        std::int64_t memory_id = 0;
        check(TRITONBACKEND_InputBuffer(input, i, &buffer, &part, &memory, &memory_id));
        if (memory == TRITONSERVER_MEMORY_GPU) {
            throw Fault(TRITONSERVER_ERROR_UNSUPPORTED,
                        "input '" + std::string(name) +
                            "': expected memory of the host's, found that of a GPU");
        }
        const auto* bytes = static_cast<const char*>(buffer);
        tensor.bytes.insert(tensor.bytes.end(), bytes, bytes + part);
    }
    return tensor;
}

// The elements of a tensor. A text is led by its length.
std::vector<Element> elements_of(const Tensor& tensor) {
    Element left(tensor.bytes.data(), tensor.bytes.size());
    const bool text = tensor.input->type == TEXT;
    const bool wide =
        tensor.input->type == TRITONSERVER_TYPE_UINT64 || tensor.input->type == TRITONSERVER_TYPE_INT64;
    std::vector<Element> elements;
    for (std::uint64_t row = 0; row < tensor.rows; ++row) {
        std::uint64_t size = wide ? 8 : 4;
        if (text && left.size() >= sizeof(std::uint32_t)) {
            size = number<std::uint32_t>(left);
            left.remove_prefix(sizeof(std::uint32_t));
        }
        if (left.size() < size) {
            throw invalid("input '" + std::string(tensor.input->name) + "': expected " +
                          std::to_string(tensor.rows) + " elements, found bytes for fewer");
        }
        if (text && size > MAX_TEXT) {
            throw invalid("input '" + std::string(tensor.input->name) + "': expected at most " +
                          std::to_string(MAX_TEXT) + " bytes, found " + std::to_string(size));
        }
        elements.push_back(left.substr(0, size));
        left.remove_prefix(size);
    }
    if (!left.empty()) {
        throw invalid("input '" + std::string(tensor.input->name) + "': expected " +
                      std::to_string(tensor.rows) + " elements, found " + std::to_string(left.size()) +
                      " bytes more");
    }
    return elements;
}

} // namespace

const std::vector<Input> INPUTS = {
    {"seed", TRITONSERVER_TYPE_UINT64, "TYPE_UINT64", For::All, set_number<std::uint64_t, &Request::seed>},
    {"seed", TRITONSERVER_TYPE_INT64, "TYPE_INT64", For::All, set_signed_seed},
    {"label", TEXT, "TYPE_STRING", For::Labels, set_text<&Request::label>},
    {"class_label", TRITONSERVER_TYPE_INT32, "TYPE_INT32", For::Labels,
     set_number<std::int32_t, &Request::class_label>},
    {"prompt", TEXT, "TYPE_STRING", For::Prompts, set_text<&Request::prompt>},
    {"negative_prompt", TEXT, "TYPE_STRING", For::Prompts, set_text<&Request::negative_prompt>},
    {"aesthetic_score", FP32, "TYPE_FP32", For::Prompts, set_number<float, &Request::aesthetic_score>},
    {"steps", TRITONSERVER_TYPE_UINT32, "TYPE_UINT32", For::All, set_steps},
    {"temperature", FP32, "TYPE_FP32", For::All, set_number<float, &Request::temperature>},
    {"top_p", FP32, "TYPE_FP32", For::All, set_number<float, &Request::top_p>},
    {"top_k", TRITONSERVER_TYPE_INT32, "TYPE_INT32", For::All, set_number<std::int32_t, &Request::top_k>},
    {"mask_ratio", FP32, "TYPE_FP32", For::All, set_number<float, &Request::mask_ratio>},
    {"sigma", FP32, "TYPE_FP32", For::All, set_number<float, &Request::sigma>},
    {"guidance_scale", FP32, "TYPE_FP32", For::All, set_number<float, &Request::guidance_scale>},
    {"randomize_temperature", FP32, "TYPE_FP32", For::All,
     set_number<float, &Request::randomize_temperature>},
};

bool fits(const Input& input, const softdimo::Layout& layout) noexcept {
    const For kind = layout.classes == 0 ? For::Prompts : For::Labels;
    return input.models == For::All || input.models == kind;
}

std::vector<softdimo::Request> read_inputs(TRITONBACKEND_Request* request, const Model& model) {
    std::uint32_t count = 0;
    check(TRITONBACKEND_RequestInputCount(request, &count));
    std::vector<Tensor> tensors;
    const Tensor* seeds = nullptr;
    tensors.reserve(count);
    for (std::uint32_t i = 0; i < count; ++i) {
        TRITONBACKEND_Input* input = nullptr;
        check(TRITONBACKEND_RequestInputByIndex(request, i, &input));
        tensors.push_back(read_tensor(input, model));
        if (tensors.back().input->name == REQUIRED) {
            seeds = &tensors.back();
        }
    }
    if (seeds == nullptr) {
        throw invalid("request: expected the input 'seed', found none");
    }

    std::vector<softdimo::Request> pictures(seeds->rows);
    for (const Tensor& tensor : tensors) {
        if (tensor.rows != seeds->rows) {
            throw invalid("input '" + std::string(tensor.input->name) + "': expected " +
                          std::to_string(seeds->rows) + " elements, as many as seeds, found " +
                          std::to_string(tensor.rows));
        }
        const auto elements = elements_of(tensor);
        for (std::size_t row = 0; row < elements.size(); ++row) {
            named(row, elements.size(),
                  [&] { tensor.input->set(pictures[row], elements[row], model.settings()); });
        }
    }
    return pictures;
}

} // namespace backend
