// Answering requests.

#ifndef SOFTDIMO_TRITON_EXECUTE_HPP
#define SOFTDIMO_TRITON_EXECUTE_HPP

#include "model.hpp"

namespace backend {

// An instance of a model: an engine. An engine runs one job at a time, so that as many pictures are made at
// once as there are instances, which is what Triton's instance_group means elsewhere too.
class Instance {
public:
    Instance(TRITONBACKEND_ModelInstance* handle, const Model& model);

    // Answers and releases all requests; each fails alone. Throws only before it has touched any of them.
    void execute(TRITONBACKEND_Request** requests, std::uint32_t count) const;

private:
    TRITONBACKEND_ModelInstance* handle_;
    const Model& model_;
    softdimo::Engine engine_;
};

} // namespace backend

#endif
