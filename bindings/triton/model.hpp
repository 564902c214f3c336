// A model of the repository: what config.pbtxt and the model file say.

#ifndef SOFTDIMO_TRITON_MODEL_HPP
#define SOFTDIMO_TRITON_MODEL_HPP

#include "fault.hpp"

#include <cstdint>
#include <string>

#include <nlohmann/json_fwd.hpp>

namespace backend {

// `parameters` of config.pbtxt. Unknown ones, and values that make no sense, are faults.
struct Settings {
    std::string file = "model.softdimo.safetensors"; // below the folder of the version
    std::string provider = "cpu";
    softdimo::MemoryMode memory_mode = softdimo::MemoryMode::Lean;
    softdimo::WeightsMode weights_mode = softdimo::WeightsMode::Map;
    std::uint32_t threads = 0;
    std::uint64_t memory_limit = 0;
    std::uint32_t work_limit = 0;
    std::uint32_t max_steps = 64; // most that a request may ask for
};

// Immutable once it is there: instances read it from their threads.
class Model {
public:
    // Reads the configuration, opens the model file to see what it is, and completes or checks inputs and
    // outputs. Only inside TRITONBACKEND_ModelInitialize.
    explicit Model(TRITONBACKEND_Model* model);

    // An engine for an instance: with threads and memory of its own, over the same mapped file.
    softdimo::Engine open(TRITONSERVER_InstanceGroupKind kind, std::int32_t device_id) const;

    const Settings& settings() const noexcept { return settings_; }
    const softdimo::Layout& layout() const noexcept { return layout_; }

    // Whether shapes begin with a batch.
    bool batched() const noexcept { return batched_; }

private:
    void read_parameters(const nlohmann::json& config);
    void check_tensors(const nlohmann::json& config) const;
    nlohmann::json complete(nlohmann::json config) const;
    softdimo::Options options() const;

    std::string name_;
    std::string path_;
    Settings settings_;
    softdimo::Layout layout_;
    bool batched_ = false;
};

} // namespace backend

#endif
