// What goes wrong inside the backend, as a Triton error: a code for programs, and words that name the thing,
// what was expected and what was found.

#ifndef SOFTDIMO_TRITON_FAULT_HPP
#define SOFTDIMO_TRITON_FAULT_HPP

#include "triton_abi.h"

#include <new>
#include <string>
#include <utility>

#include "softdimo.hpp"

namespace backend {

// Thrown between what is called by an entry point and the entry point, which ends it. Moving one cannot fail.
class Fault {
public:
    Fault(TRITONSERVER_Error_Code code, std::string message) : code_(code), message_(std::move(message)) {}

    TRITONSERVER_Error_Code code() const noexcept { return code_; }
    const char* what() const noexcept { return message_.c_str(); }

    // For the server.
    TRITONSERVER_Error* to_error() const noexcept { return TRITONSERVER_ErrorNew(code_, what()); }

private:
    TRITONSERVER_Error_Code code_;
    std::string message_;
};

inline Fault invalid(std::string message) {
    return Fault(TRITONSERVER_ERROR_INVALID_ARG, std::move(message));
}

// A client can do something about the first, later about the second; the rest are the operator's, such as a
// model file that was changed under the server.
inline TRITONSERVER_Error_Code code_of(std::int32_t status) noexcept {
    switch (status) {
    case SOFTDIMO_ERR_INVALID_ARGUMENT:
    case SOFTDIMO_ERR_UNKNOWN_LABEL:
        return TRITONSERVER_ERROR_INVALID_ARG;
    case SOFTDIMO_ERR_OUT_OF_MEMORY:
    case SOFTDIMO_ERR_TIMEOUT:
        return TRITONSERVER_ERROR_UNAVAILABLE;
    case SOFTDIMO_ERR_NOT_FOUND:
        return TRITONSERVER_ERROR_NOT_FOUND;
    case SOFTDIMO_ERR_UNSUPPORTED:
        return TRITONSERVER_ERROR_UNSUPPORTED;
    case SOFTDIMO_ERR_CANCELLED:
        return TRITONSERVER_ERROR_CANCELLED;
    default:
        return TRITONSERVER_ERROR_INTERNAL;
    }
}

// The exception that is being handled.
inline Fault current_fault() noexcept {
    try {
        try {
            throw;
        } catch (Fault& fault) {
            return std::move(fault);
        } catch (const softdimo::Error& error) {
            return Fault(code_of(error.status()), error.what());
        } catch (const std::bad_alloc&) {
            throw;
        } catch (const std::exception& error) {
            return Fault(TRITONSERVER_ERROR_INTERNAL, error.what());
        }
    } catch (const std::bad_alloc&) {
        return Fault(TRITONSERVER_ERROR_UNAVAILABLE, "out of memory"); // so short that it needs none
    } catch (...) {
        return Fault(TRITONSERVER_ERROR_INTERNAL, "unknown error");
    }
}

// Calls a function for picture `row` of `rows`; its faults say which, where there are several.
template <class F>
auto named(std::size_t row, std::size_t rows, F function) {
    try {
        return function();
    } catch (...) {
        Fault fault = current_fault();
        if (rows == 1) {
            throw fault;
        }
        throw Fault(fault.code(), "picture " + std::to_string(row) + ": " + fault.what());
    }
}

// Throws what a function of the server's returned, if it is an error.
inline void check(TRITONSERVER_Error* error) {
    if (error == nullptr) {
        return;
    }
    // The words may not be copied before there is memory for them; the error must go all the same.
    struct Delete {
        TRITONSERVER_Error* error;
        ~Delete() { TRITONSERVER_ErrorDelete(error); }
    } owned{error};
    throw Fault(TRITONSERVER_ErrorCode(error), TRITONSERVER_ErrorMessage(error));
}

// For what cannot be handed on to anybody.
inline void log(TRITONSERVER_LogLevel level, const char* message) noexcept {
    if (TRITONSERVER_Error* error = TRITONSERVER_LogMessage(level, "softdimo", 0, message)) {
        TRITONSERVER_ErrorDelete(error);
    }
}

// Ends an error that nobody can be told of otherwise.
inline void report(TRITONSERVER_Error* error) noexcept {
    if (error != nullptr) {
        log(TRITONSERVER_LOG_ERROR, TRITONSERVER_ErrorMessage(error));
        TRITONSERVER_ErrorDelete(error);
    }
}

// Runs an entry point; nothing it throws leaves.
template <class F>
TRITONSERVER_Error* guarded(F function) noexcept {
    try {
        function();
        return nullptr;
    } catch (...) {
        return current_fault().to_error();
    }
}

} // namespace backend

#endif
