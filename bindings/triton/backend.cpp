// What Triton calls: see triton_abi.h.

#include "execute.hpp"

#include <memory>

namespace {

using namespace backend;

// A server that does not keep the state of a model or an instance does not know of it: it is freed here then.
template <class State, class Handle>
void keep(std::unique_ptr<State> state, Handle* handle, TRITONSERVER_Error* (*set)(Handle*, void*)) {
    check(set(handle, state.get()));
    static_cast<void>(state.release());
}

template <class State, class Handle>
State* kept(Handle* handle, TRITONSERVER_Error* (*get)(Handle*, void**)) {
    void* state = nullptr;
    check(get(handle, &state));
    return static_cast<State*>(state);
}

} // namespace

TRITONSERVER_Error* TRITONBACKEND_Initialize(TRITONBACKEND_Backend*) {
    return guarded([] {
        std::uint32_t major = 0;
        std::uint32_t minor = 0;
        check(TRITONBACKEND_ApiVersion(&major, &minor));
        if (major != TRITONBACKEND_API_VERSION_MAJOR || minor < TRITONBACKEND_API_VERSION_MINOR) {
            throw Fault(TRITONSERVER_ERROR_UNSUPPORTED,
                        "Triton's backend API: expected " + std::to_string(TRITONBACKEND_API_VERSION_MAJOR) +
                            "." + std::to_string(TRITONBACKEND_API_VERSION_MINOR) +
                            " or a later minor version, found " + std::to_string(major) + "." +
                            std::to_string(minor));
        }
    });
}

TRITONSERVER_Error* TRITONBACKEND_GetBackendAttribute(TRITONBACKEND_Backend*,
                                                      TRITONBACKEND_BackendAttribute* attributes) {
    return guarded([&] {
        // The provider is the CPU unless told, on machines with a GPU too.
        check(TRITONBACKEND_BackendAttributeAddPreferredInstanceGroup(
            attributes, TRITONSERVER_INSTANCEGROUPKIND_CPU, 1, nullptr, 0));
        check(TRITONBACKEND_BackendAttributeSetParallelModelInstanceLoading(attributes, true));
    });
}

TRITONSERVER_Error* TRITONBACKEND_ModelInitialize(TRITONBACKEND_Model* model) {
    return guarded([&] { keep(std::make_unique<Model>(model), model, TRITONBACKEND_ModelSetState); });
}

TRITONSERVER_Error* TRITONBACKEND_ModelFinalize(TRITONBACKEND_Model* model) {
    return guarded([&] { delete kept<Model>(model, TRITONBACKEND_ModelState); });
}

TRITONSERVER_Error* TRITONBACKEND_ModelInstanceInitialize(TRITONBACKEND_ModelInstance* instance) {
    return guarded([&] {
        TRITONBACKEND_Model* model = nullptr;
        check(TRITONBACKEND_ModelInstanceModel(instance, &model));
        keep(std::make_unique<Instance>(instance, *kept<Model>(model, TRITONBACKEND_ModelState)), instance,
             TRITONBACKEND_ModelInstanceSetState);
    });
}

TRITONSERVER_Error* TRITONBACKEND_ModelInstanceFinalize(TRITONBACKEND_ModelInstance* instance) {
    return guarded([&] { delete kept<Instance>(instance, TRITONBACKEND_ModelInstanceState); });
}

TRITONSERVER_Error* TRITONBACKEND_ModelInstanceExecute(TRITONBACKEND_ModelInstance* instance,
                                                       TRITONBACKEND_Request** requests,
                                                       std::uint32_t request_count) {
    return guarded([&] {
        kept<Instance>(instance, TRITONBACKEND_ModelInstanceState)->execute(requests, request_count);
    });
}
