#include "model.hpp"

#include "inputs.hpp"

#include <charconv>
#include <filesystem>
#include <functional>
#include <map>

#include <nlohmann/json.hpp>

namespace backend {
namespace {

using nlohmann::json;

json config_of(TRITONBACKEND_Model* model) {
    TRITONSERVER_Message* message = nullptr;
    check(TRITONBACKEND_ModelConfig(model, 1, &message));
    struct Delete {
        TRITONSERVER_Message* message;
        ~Delete() {
            report(TRITONSERVER_MessageDelete(message));
        }
    } owned{message};
    const char* text = nullptr;
    std::size_t length = 0;
    check(TRITONSERVER_MessageSerializeToJson(message, &text, &length));
    return json::parse(text, text + length);
}

void set_config(TRITONBACKEND_Model* model, const json& config) {
    const std::string text = config.dump();
    TRITONSERVER_Message* message = nullptr;
    check(TRITONSERVER_MessageNewFromSerializedJson(&message, text.data(), text.size()));
    TRITONSERVER_Error* refused = TRITONBACKEND_ModelSetConfig(model, 1, message);
    report(TRITONSERVER_MessageDelete(message));
    check(refused);
}

template <class T>
T whole(const std::string& name, const std::string& text) {
    T number{};
    const char* end = text.data() + text.size();
    const auto [at, error] = std::from_chars(text.data(), end, number);
    if (error != std::errc() || at != end || text.empty()) {
        throw invalid("parameter '" + name + "': expected a whole number of 0 or more, found '" + text + "'");
    }
    return number;
}

template <class T>
T one_of(const std::string& name, const std::string& text, const std::map<std::string, T>& values) {
    if (const auto found = values.find(text); found != values.end()) {
        return found->second;
    }
    std::string expected;
    for (const auto& [value, _] : values) {
        expected += (expected.empty() ? "" : ", ") + value;
    }
    throw invalid("parameter '" + name + "': expected one of " + expected + ", found '" + text + "'");
}

// A configuration can come from a client that may load models: no path in it leads out of the version's
// folder.
std::string file_below(const std::string& name, const std::string& text) {
    const std::filesystem::path path(text);
    bool leads_out = text.empty() || path.is_absolute();
    for (const auto& part : path) {
        leads_out = leads_out || part == "..";
    }
    if (leads_out) {
        throw invalid("parameter '" + name + "': expected a file below the folder of the version, found '" +
                      text + "'");
    }
    return text;
}

json image_dims(const softdimo::Layout& layout) { return {layout.height, layout.width, layout.channels}; }

} // namespace

Model::Model(TRITONBACKEND_Model* model) {
    const char* name = nullptr;
    const char* location = nullptr;
    auto artifacts = TRITONBACKEND_ARTIFACT_FILESYSTEM;
    std::uint64_t version = 0;
    check(TRITONBACKEND_ModelName(model, &name));
    check(TRITONBACKEND_ModelVersion(model, &version));
    check(TRITONBACKEND_ModelRepository(model, &artifacts, &location));
    name_ = name;

    json config = config_of(model);
    read_parameters(config);
    path_ = (std::filesystem::path(location) / std::to_string(version) / settings_.file).string();
    layout_ = softdimo::Engine::open(path_, options()).value().layout();

    bool may_complete = false;
    check(TRITONBACKEND_ModelAutoCompleteConfig(model, &may_complete));
    if (may_complete) {
        set_config(model, complete(config));
        config = config_of(model);
    }
    batched_ = config.value("max_batch_size", 0) > 0;
    check_tensors(config);
}

void Model::read_parameters(const json& config) {
    using Set = std::function<void(const std::string& name, const std::string& text)>;
    const std::map<std::string, Set> known = {
        {"model", [&](auto& name, auto& text) { settings_.file = file_below(name, text); }},
        {"provider", [&](auto&, auto& text) { settings_.provider = text; }},
        {"threads", [&](auto& name, auto& text) { settings_.threads = whole<std::uint32_t>(name, text); }},
        {"memory_limit",
         [&](auto& name, auto& text) { settings_.memory_limit = whole<std::uint64_t>(name, text); }},
        {"work_limit",
         [&](auto& name, auto& text) { settings_.work_limit = whole<std::uint32_t>(name, text); }},
        {"max_steps",
         [&](auto& name, auto& text) { settings_.max_steps = whole<std::uint32_t>(name, text); }},
        {"memory_mode",
         [&](auto& name, auto& text) {
             using softdimo::MemoryMode;
             settings_.memory_mode =
                 one_of<MemoryMode>(name, text, {{"lean", MemoryMode::Lean}, {"fast", MemoryMode::Fast}});
         }},
        {"weights_mode",
         [&](auto& name, auto& text) {
             using softdimo::WeightsMode;
             settings_.weights_mode =
                 one_of<WeightsMode>(name, text, {{"map", WeightsMode::Map}, {"read", WeightsMode::Read}});
         }},
    };
    const json parameters = config.value("parameters", json::object());
    for (const auto& [name, value] : parameters.items()) {
        const auto found = known.find(name);
        if (found == known.end()) {
            std::string expected;
            for (const auto& [each, _] : known) {
                expected += (expected.empty() ? "" : ", ") + each;
            }
            throw invalid("parameter '" + name + "': expected one of " + expected);
        }
        found->second(name, value.at("string_value").get<std::string>());
    }
}

// Where the configuration has no inputs, all that the model has; where it has no outputs, both.
json Model::complete(json config) const {
    json& inputs = config["input"];
    json& outputs = config["output"];
    if (inputs.empty()) {
        std::string_view last;
        for (const Input& input : INPUTS) {
            // The first of a name.
            if (fits(input, layout_) && input.name != last) {
                inputs.push_back({{"name", input.name},
                                  {"data_type", input.config_type},
                                  {"dims", json::array({1})},
                                  {"optional", input.name != REQUIRED}});
            }
            last = input.name;
        }
    }
    if (outputs.empty()) {
        outputs.push_back({{"name", IMAGE}, {"data_type", "TYPE_UINT8"}, {"dims", image_dims(layout_)}});
        outputs.push_back({{"name", REPORT}, {"data_type", "TYPE_STRING"}, {"dims", json::array({1})}});
    }
    return config;
}

void Model::check_tensors(const json& config) const {
    const auto differs = [&](const json& tensor, const char* kind, std::string_view type, const json& dims) {
        if (tensor.at("data_type") != type || tensor.at("dims") != dims) {
            throw invalid(std::string(kind) + " '" + tensor.at("name").get<std::string>() + "': expected " +
                          std::string(type) + " " + dims.dump() + ", found " +
                          tensor.at("data_type").get<std::string>() + " " + tensor.at("dims").dump());
        }
    };
    bool seeded = false;
    for (const json& tensor : config.at("input")) {
        const auto name = tensor.at("name").get<std::string>();
        std::string_view type;
        std::string expected;
        for (const Input& input : INPUTS) {
            if (!fits(input, layout_)) {
                continue;
            }
            if (input.name == name && (type.empty() || tensor.at("data_type") == input.config_type)) {
                type = input.config_type;
            }
            expected += (expected.empty() ? "" : ", ") + std::string(input.name);
        }
        if (type.empty()) {
            throw invalid("input '" + name + "': expected one of " + expected);
        }
        differs(tensor, "input", type, json::array({1}));
        if (name == REQUIRED) {
            seeded = true;
        }
    }
    if (!seeded) {
        throw invalid("input: expected 'seed' among them, found none of this name");
    }
    for (const json& tensor : config.at("output")) {
        const auto name = tensor.at("name").get<std::string>();
        if (name == IMAGE) {
            differs(tensor, "output", "TYPE_UINT8", image_dims(layout_));
        } else if (name == REPORT) {
            differs(tensor, "output", "TYPE_STRING", json::array({1}));
        } else {
            throw invalid("output '" + name + "': expected one of image, report");
        }
    }
}

softdimo::Options Model::options() const {
    softdimo::Options options;
    options.provider(settings_.provider)
        .memory_mode(settings_.memory_mode)
        .weights_mode(settings_.weights_mode)
        .threads(settings_.threads)
        .memory_limit(settings_.memory_limit)
        .work_limit(settings_.work_limit)
        .log([name = name_](softdimo::LogLevel level, std::string_view message) {
            log(level == softdimo::LogLevel::Error ? TRITONSERVER_LOG_ERROR : TRITONSERVER_LOG_WARN,
                (name + ": " + std::string(message)).c_str());
        });
    return options;
}

softdimo::Engine Model::open(TRITONSERVER_InstanceGroupKind kind, std::int32_t device_id) const {
    softdimo::Options options = this->options();
    if (kind == TRITONSERVER_INSTANCEGROUPKIND_GPU) {
        if (settings_.provider == "cpu") {
            throw invalid("instance_group: expected KIND_CPU for the provider 'cpu', found KIND_GPU");
        }
        options.device_id(device_id);
    }
    auto engine = softdimo::Engine::open(path_, options).value();
    // The first picture of a client is as fast as the next, and a model that cannot be computed is not ready.
    // Sessions are the same for all labels and prompts.
    softdimo::Request request;
    if (layout_.classes == 0) {
        request.prompt("a picture");
    }
    engine.warmup(request).value();
    return engine;
}

} // namespace backend
