// The backend against a server that fails: every call that it makes of the server fails once, then every allocation of its own
// does, and requests are such that Triton itself would not let through. Nothing crashes or leaves as an exception; a request is
// answered once and released once, unless the call itself failed; errors and messages are deleted. Built with the backend's
// sources and sanitizers: see tests/triton/run.
//
// usage: fake_server FOLDER FILE, where FOLDER/1/FILE is the bundled model

#include "triton_abi.h"

#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <filesystem>
#include <limits>
#include <new>
#include <string>
#include <vector>

namespace {

constexpr long NEVER = std::numeric_limits<long>::max();

long calls = 0;              // of the server, since arm()
long failing_call = NEVER;   // this one fails
long allocations = 0;        // of the backend, on this thread, since arm()
long failing_allocation = NEVER;
thread_local int inside_server = 1; // allocations are the server's own; the backend's while it is 0
bool failed = false;         // one that was to fail did

int live_errors = 0;
int live_messages = 0;

// For as long as it lives, allocations are the server's.
struct Inside {
    Inside() { ++inside_server; }
    ~Inside() { --inside_server; }
};

[[noreturn]] void fail(const char* file, int line, const std::string& what) {
    std::fprintf(stderr, "%s:%d: %s (call %ld, allocation %ld)\n", file, line, what.c_str(), failing_call,
                 failing_allocation);
    std::exit(1);
}

#define EXPECT(condition) \
    if (!(condition)) fail(__FILE__, __LINE__, "expected " #condition)

} // namespace

struct TRITONSERVER_Error {
    TRITONSERVER_Error_Code code;
    std::string message;
};
struct TRITONSERVER_Message {
    std::string text;
};
struct TRITONBACKEND_Model {
    std::string folder;
    std::string config;
    void* state = nullptr;
};
struct TRITONBACKEND_ModelInstance {
    TRITONBACKEND_Model* model;
    void* state = nullptr;
};
struct TRITONBACKEND_Input {
    std::string name;
    TRITONSERVER_DataType type;
    std::vector<std::int64_t> shape;
    std::vector<std::string> buffers;
    TRITONSERVER_MemoryType memory = TRITONSERVER_MEMORY_CPU;
};
struct TRITONBACKEND_Output {
    std::string name;
    std::vector<char> bytes;
    TRITONSERVER_MemoryType memory;
};
struct TRITONBACKEND_Response {
    TRITONBACKEND_Request* request;
    std::vector<TRITONBACKEND_Output*> outputs;
};
struct TRITONBACKEND_Request {
    std::vector<TRITONBACKEND_Input> inputs;
    std::vector<std::string> outputs = {"image", "report"};
    TRITONSERVER_MemoryType output_memory = TRITONSERVER_MEMORY_CPU;
    bool cancelled = false;
    std::uint64_t timeout = 0;
    // What became of it.
    bool no_response = false; // the server could not make one
    int sent = 0;
    int released = 0;
    bool counted_success = false;
    std::string error; // empty: none
    TRITONSERVER_Error_Code code = TRITONSERVER_ERROR_UNKNOWN;
    std::size_t image_bytes = 0;
};

namespace {

TRITONSERVER_Error* injected() {
    if (++calls != failing_call) {
        return nullptr;
    }
    failed = true;
    ++live_errors;
    return new TRITONSERVER_Error{TRITONSERVER_ERROR_INTERNAL, "injected"};
}

} // namespace

// Of every function of the server's that can fail.
#define MAY_FAIL()                                  \
    const Inside inside;                            \
    if (TRITONSERVER_Error* error = injected()) return error

// Not inlined: a compiler that sees free() where it has seen new takes that for a mistake.
__attribute__((noinline)) void* operator new(std::size_t size) {
    if (inside_server == 0 && ++allocations == failing_allocation) {
        failed = true;
        throw std::bad_alloc();
    }
    if (void* memory = std::malloc(size)) {
        return memory;
    }
    throw std::bad_alloc();
}
__attribute__((noinline)) void operator delete(void* memory) noexcept { std::free(memory); }
__attribute__((noinline)) void operator delete(void* memory, std::size_t) noexcept { std::free(memory); }

extern "C" {

TRITONSERVER_Error* TRITONSERVER_ErrorNew(TRITONSERVER_Error_Code code, const char* message) {
    const Inside inside;
    ++live_errors;
    return new TRITONSERVER_Error{code, message};
}
TRITONSERVER_Error_Code TRITONSERVER_ErrorCode(TRITONSERVER_Error* error) { return error->code; }
const char* TRITONSERVER_ErrorMessage(TRITONSERVER_Error* error) { return error->message.c_str(); }
void TRITONSERVER_ErrorDelete(TRITONSERVER_Error* error) {
    --live_errors;
    delete error;
}
TRITONSERVER_Error* TRITONSERVER_MessageNewFromSerializedJson(TRITONSERVER_Message** message, const char* json,
                                                              size_t length) {
    MAY_FAIL();
    ++live_messages;
    *message = new TRITONSERVER_Message{std::string(json, length)};
    return nullptr;
}
TRITONSERVER_Error* TRITONSERVER_MessageSerializeToJson(TRITONSERVER_Message* message, const char** json,
                                                        size_t* length) {
    MAY_FAIL();
    *json = message->text.c_str();
    *length = message->text.size();
    return nullptr;
}
// Deletes it also where it says that it failed: whether it did is not to be told apart.
TRITONSERVER_Error* TRITONSERVER_MessageDelete(TRITONSERVER_Message* message) {
    --live_messages;
    delete message;
    MAY_FAIL();
    return nullptr;
}
TRITONSERVER_Error* TRITONSERVER_LogMessage(TRITONSERVER_LogLevel, const char*, int, const char*) {
    MAY_FAIL();
    return nullptr;
}
TRITONSERVER_Error* TRITONBACKEND_ApiVersion(uint32_t* major, uint32_t* minor) {
    MAY_FAIL();
    *major = TRITONBACKEND_API_VERSION_MAJOR;
    *minor = TRITONBACKEND_API_VERSION_MINOR + 1;
    return nullptr;
}
TRITONSERVER_Error* TRITONBACKEND_BackendAttributeAddPreferredInstanceGroup(TRITONBACKEND_BackendAttribute*,
                                                                            TRITONSERVER_InstanceGroupKind,
                                                                            uint64_t, const uint64_t*, uint64_t) {
    MAY_FAIL();
    return nullptr;
}
TRITONSERVER_Error* TRITONBACKEND_BackendAttributeSetParallelModelInstanceLoading(TRITONBACKEND_BackendAttribute*,
                                                                                  bool) {
    MAY_FAIL();
    return nullptr;
}
TRITONSERVER_Error* TRITONBACKEND_ModelName(TRITONBACKEND_Model*, const char** name) {
    MAY_FAIL();
    *name = "model";
    return nullptr;
}
TRITONSERVER_Error* TRITONBACKEND_ModelVersion(TRITONBACKEND_Model*, uint64_t* version) {
    MAY_FAIL();
    *version = 1;
    return nullptr;
}
TRITONSERVER_Error* TRITONBACKEND_ModelRepository(TRITONBACKEND_Model* model, TRITONBACKEND_ArtifactType*,
                                                  const char** location) {
    MAY_FAIL();
    *location = model->folder.c_str();
    return nullptr;
}
TRITONSERVER_Error* TRITONBACKEND_ModelConfig(TRITONBACKEND_Model* model, uint32_t, TRITONSERVER_Message** config) {
    MAY_FAIL();
    ++live_messages;
    *config = new TRITONSERVER_Message{model->config};
    return nullptr;
}
TRITONSERVER_Error* TRITONBACKEND_ModelAutoCompleteConfig(TRITONBACKEND_Model*, bool* complete) {
    MAY_FAIL();
    *complete = true;
    return nullptr;
}
TRITONSERVER_Error* TRITONBACKEND_ModelSetConfig(TRITONBACKEND_Model* model, uint32_t, TRITONSERVER_Message* config) {
    MAY_FAIL();
    model->config = config->text;
    return nullptr;
}
TRITONSERVER_Error* TRITONBACKEND_ModelState(TRITONBACKEND_Model* model, void** state) {
    MAY_FAIL();
    *state = model->state;
    return nullptr;
}
TRITONSERVER_Error* TRITONBACKEND_ModelSetState(TRITONBACKEND_Model* model, void* state) {
    MAY_FAIL();
    model->state = state;
    return nullptr;
}
TRITONSERVER_Error* TRITONBACKEND_ModelInstanceKind(TRITONBACKEND_ModelInstance*,
                                                    TRITONSERVER_InstanceGroupKind* kind) {
    MAY_FAIL();
    *kind = TRITONSERVER_INSTANCEGROUPKIND_CPU;
    return nullptr;
}
TRITONSERVER_Error* TRITONBACKEND_ModelInstanceDeviceId(TRITONBACKEND_ModelInstance*, int32_t* device_id) {
    MAY_FAIL();
    *device_id = 0;
    return nullptr;
}
TRITONSERVER_Error* TRITONBACKEND_ModelInstanceModel(TRITONBACKEND_ModelInstance* instance,
                                                     TRITONBACKEND_Model** model) {
    MAY_FAIL();
    *model = instance->model;
    return nullptr;
}
TRITONSERVER_Error* TRITONBACKEND_ModelInstanceState(TRITONBACKEND_ModelInstance* instance, void** state) {
    MAY_FAIL();
    *state = instance->state;
    return nullptr;
}
TRITONSERVER_Error* TRITONBACKEND_ModelInstanceSetState(TRITONBACKEND_ModelInstance* instance, void* state) {
    MAY_FAIL();
    instance->state = state;
    return nullptr;
}
TRITONSERVER_Error* TRITONBACKEND_ModelInstanceReportStatistics(TRITONBACKEND_ModelInstance*,
                                                                TRITONBACKEND_Request* request, bool success,
                                                                uint64_t, uint64_t, uint64_t, uint64_t) {
    MAY_FAIL();
    EXPECT(request->released == 0);
    request->counted_success = success;
    return nullptr;
}
TRITONSERVER_Error* TRITONBACKEND_ModelInstanceReportBatchStatistics(TRITONBACKEND_ModelInstance*, uint64_t,
                                                                     uint64_t, uint64_t, uint64_t, uint64_t) {
    MAY_FAIL();
    return nullptr;
}
TRITONSERVER_Error* TRITONBACKEND_RequestInputCount(TRITONBACKEND_Request* request, uint32_t* count) {
    MAY_FAIL();
    *count = static_cast<uint32_t>(request->inputs.size());
    return nullptr;
}
TRITONSERVER_Error* TRITONBACKEND_RequestInputByIndex(TRITONBACKEND_Request* request, uint32_t index,
                                                      TRITONBACKEND_Input** input) {
    MAY_FAIL();
    *input = &request->inputs.at(index);
    return nullptr;
}
TRITONSERVER_Error* TRITONBACKEND_InputProperties(TRITONBACKEND_Input* input, const char** name,
                                                  TRITONSERVER_DataType* type, const int64_t** shape,
                                                  uint32_t* dimensions, uint64_t* length, uint32_t* buffers) {
    MAY_FAIL();
    *name = input->name.c_str();
    *type = input->type;
    *shape = input->shape.data();
    *dimensions = static_cast<uint32_t>(input->shape.size());
    *length = 0;
    for (const auto& buffer : input->buffers) {
        *length += buffer.size();
    }
    *buffers = static_cast<uint32_t>(input->buffers.size());
    return nullptr;
}
TRITONSERVER_Error* TRITONBACKEND_InputBuffer(TRITONBACKEND_Input* input, uint32_t index, const void** buffer,
                                              uint64_t* length, TRITONSERVER_MemoryType* memory, int64_t*) {
    MAY_FAIL();
    *buffer = input->buffers.at(index).data();
    *length = input->buffers.at(index).size();
    *memory = input->memory;
    return nullptr;
}
TRITONSERVER_Error* TRITONBACKEND_RequestOutputCount(TRITONBACKEND_Request* request, uint32_t* count) {
    MAY_FAIL();
    *count = static_cast<uint32_t>(request->outputs.size());
    return nullptr;
}
TRITONSERVER_Error* TRITONBACKEND_RequestOutputName(TRITONBACKEND_Request* request, uint32_t index,
                                                    const char** name) {
    MAY_FAIL();
    *name = request->outputs.at(index).c_str();
    return nullptr;
}
TRITONSERVER_Error* TRITONBACKEND_RequestIsCancelled(TRITONBACKEND_Request* request, bool* cancelled) {
    MAY_FAIL();
    EXPECT(request->released == 0);
    *cancelled = request->cancelled;
    return nullptr;
}
TRITONSERVER_Error* TRITONBACKEND_InferenceRequestTimeoutMicroseconds(TRITONBACKEND_Request* request,
                                                                      uint64_t* timeout) {
    MAY_FAIL();
    *timeout = request->timeout;
    return nullptr;
}
TRITONSERVER_Error* TRITONBACKEND_RequestRelease(TRITONBACKEND_Request* request, uint32_t) {
    ++request->released;
    MAY_FAIL();
    return nullptr;
}
TRITONSERVER_Error* TRITONBACKEND_ResponseNew(TRITONBACKEND_Response** response, TRITONBACKEND_Request* request) {
    request->no_response = true;
    MAY_FAIL();
    request->no_response = false;
    *response = new TRITONBACKEND_Response{request, {}};
    return nullptr;
}
TRITONSERVER_Error* TRITONBACKEND_ResponseOutput(TRITONBACKEND_Response* response, TRITONBACKEND_Output** output,
                                                 const char* name, TRITONSERVER_DataType, const int64_t*,
                                                 uint32_t) {
    MAY_FAIL();
    response->outputs.push_back(new TRITONBACKEND_Output{name, {}, response->request->output_memory});
    *output = response->outputs.back();
    return nullptr;
}
TRITONSERVER_Error* TRITONBACKEND_OutputBuffer(TRITONBACKEND_Output* output, void** buffer, uint64_t length,
                                               TRITONSERVER_MemoryType* memory, int64_t*) {
    MAY_FAIL();
    output->bytes.resize(length);
    *buffer = output->bytes.data();
    *memory = output->memory;
    return nullptr;
}
// Takes the response also where it says that it failed.
TRITONSERVER_Error* TRITONBACKEND_ResponseSend(TRITONBACKEND_Response* response, uint32_t,
                                               TRITONSERVER_Error* error) {
    const Inside taking;
    TRITONBACKEND_Request* request = response->request;
    ++request->sent;
    if (error != nullptr) {
        request->error = error->message;
        request->code = error->code;
    }
    for (TRITONBACKEND_Output* output : response->outputs) {
        request->image_bytes += output->name == "image" ? output->bytes.size() : 0;
        delete output;
    }
    delete response;
    MAY_FAIL();
    return nullptr;
}

} // extern "C"

namespace {

// The n-th call of the server's, or the n-th allocation, fails from here on.
void arm(long call, long allocation) {
    calls = allocations = 0;
    failing_call = call;
    failing_allocation = allocation;
    failed = false;
}

// Calls the backend; true for success.
template <class F>
bool call(F function) {
    inside_server = 0;
    TRITONSERVER_Error* error = function();
    inside_server = 1;
    const bool fine = error == nullptr;
    if (!fine) {
        EXPECT(!error->message.empty());
        TRITONSERVER_ErrorDelete(error);
    }
    return fine;
}

std::string text(const std::string& of) {
    const auto length = static_cast<std::uint32_t>(of.size());
    return std::string(reinterpret_cast<const char*>(&length), sizeof length) + of;
}

std::string seeds(std::vector<std::uint64_t> of) {
    return std::string(reinterpret_cast<const char*>(of.data()), of.size() * sizeof of[0]);
}

TRITONBACKEND_Request request(std::vector<std::string> labels) {
    TRITONBACKEND_Request made;
    std::string all;
    std::vector<std::uint64_t> numbers;
    for (const auto& label : labels) {
        all += text(label);
        numbers.push_back(numbers.size());
    }
    const auto rows = static_cast<std::int64_t>(labels.size());
    // In pieces, as they come from a network.
    made.inputs.push_back({"label", TRITONSERVER_TYPE_BYTES, {rows, 1}, {all.substr(0, 2), all.substr(2)}});
    made.inputs.push_back({"seed", TRITONSERVER_TYPE_UINT64, {rows, 1}, {seeds(numbers)}});
    return made;
}

struct Loaded {
    TRITONBACKEND_Model model;
    TRITONBACKEND_ModelInstance instance{&model};
    bool model_loaded = false;
    bool instance_loaded = false;

    Loaded(const std::string& folder, const std::string& file) {
        model.folder = folder;
        model.config = R"({"max_batch_size":8,"input":[],"output":[],"parameters":{"model":{"string_value":")" + file +
                       R"("},"threads":{"string_value":"1"}}})";
    }

    bool load() {
        model_loaded = call([&] { return TRITONBACKEND_Initialize(nullptr); }) &&
                       call([&] { return TRITONBACKEND_GetBackendAttribute(nullptr, nullptr); }) &&
                       call([&] { return TRITONBACKEND_ModelInitialize(&model); });
        instance_loaded = model_loaded && call([&] { return TRITONBACKEND_ModelInstanceInitialize(&instance); });
        return instance_loaded;
    }

    void unload() {
        arm(NEVER, NEVER);
        EXPECT(!instance_loaded || call([&] { return TRITONBACKEND_ModelInstanceFinalize(&instance); }));
        EXPECT(!model_loaded || call([&] { return TRITONBACKEND_ModelFinalize(&model); }));
    }
};

// All at once; each is answered and released as it should.
void execute(Loaded& loaded, std::vector<TRITONBACKEND_Request>& requests) {
    std::vector<TRITONBACKEND_Request*> pointers;
    for (auto& request : requests) {
        pointers.push_back(&request);
    }
    const auto count = static_cast<std::uint32_t>(pointers.size());
    const bool taken =
        call([&] { return TRITONBACKEND_ModelInstanceExecute(&loaded.instance, pointers.data(), count); });
    for (const auto& request : requests) {
        EXPECT(request.released == (taken ? 1 : 0));
        EXPECT(request.sent == (taken && !request.no_response ? 1 : 0));
        EXPECT(!(request.counted_success && !request.error.empty()));
    }
    EXPECT(taken || failed);
    EXPECT(live_errors == 0 && live_messages == 0);
}

constexpr std::size_t PICTURE = 32 * 32 * 3;

std::vector<TRITONBACKEND_Request> mixed() {
    std::vector<TRITONBACKEND_Request> requests = {request({"cat", "rocket"}), request({"no such label"}),
                                                   request({"cat"}), request({"red apple"})};
    requests[2].cancelled = true;
    return requests;
}

// How many of the good requests got all their pictures.
int pictures_of(const std::vector<TRITONBACKEND_Request>& requests) {
    int good = 0;
    for (const auto& [index, count] : {std::pair{0, 2}, {3, 1}}) {
        good += requests[index].sent == 1 && requests[index].error.empty() &&
                requests[index].image_bytes == count * PICTURE;
    }
    return good;
}

void refused(Loaded& loaded, TRITONBACKEND_Request bad, const char* words) {
    std::vector<TRITONBACKEND_Request> requests = {request({"cat"}), std::move(bad)};
    execute(loaded, requests);
    EXPECT(requests[0].error.empty() && requests[0].image_bytes == PICTURE);
    if (requests[1].error.find(words) == std::string::npos) {
        fail(__FILE__, __LINE__, std::string("expected '") + words + "', found '" + requests[1].error + "'");
    }
}

// What no client gets past a server that works.
void broken_requests(Loaded& loaded) {
    const std::string label = text("cat");
    const auto with = [](auto change) {
        TRITONBACKEND_Request made = request({"cat"});
        change(made, made.inputs[0], made.inputs[1]);
        return made;
    };
    using R = TRITONBACKEND_Request;
    using I = TRITONBACKEND_Input;
    refused(loaded, with([&](R&, I& l, I&) { l.buffers = {label.substr(0, 6)}; }), "found bytes for fewer");
    refused(loaded, with([&](R&, I& l, I&) { l.buffers = {label.substr(0, 3)}; }), "found bytes for fewer");
    refused(loaded, with([&](R&, I& l, I&) { l.buffers = {}; }), "found bytes for fewer");
    refused(loaded, with([&](R&, I& l, I&) { l.buffers = {"\xff\xff\xff\xff" "cat"}; }), "found bytes for fewer");
    refused(loaded, with([&](R&, I& l, I&) { l.buffers.push_back("more"); }), "found 4 bytes more");
    refused(loaded, with([&](R&, I& l, I&) { l.buffers = {std::string(5000, 'a')}; }), "expected at most 4096");
    refused(loaded, with([&](R&, I& l, I&) { l.shape = {1}; }), "expected shape [batch,1], found [1]");
    refused(loaded, with([&](R&, I& l, I&) { l.shape = {}; }), "found []");
    refused(loaded, with([&](R&, I&, I& s) { s.shape = {0, 1}; }), "found [0,1]");
    refused(loaded, with([&](R&, I&, I& s) { s.shape = {-1, 1}; }), "found [-1,1]");
    refused(loaded, with([&](R&, I&, I& s) { s.shape = {INT64_MAX, 1}; }), "expected 9223372036854775807 elements");
    refused(loaded, with([&](R&, I&, I& s) { s.shape = {2, 1}, s.buffers = {seeds({1, 2})}; }), "as many as seeds");
    refused(loaded, with([&](R&, I&, I& s) { s.buffers = {"1234567"}; }), "found bytes for fewer");
    refused(loaded, with([&](R&, I&, I& s) { s.type = TRITONSERVER_TYPE_FP32; }), "input 'seed': expected one");
    refused(loaded, with([&](R& r, I&, I&) { r.inputs.pop_back(); }), "expected the input 'seed', found none");
    refused(loaded, with([&](R& r, I&, I&) { r.inputs[0].name = "colour"; }), "input 'colour': expected one");
    refused(loaded, with([&](R& r, I&, I&) { r.outputs = {"picture"}; }), "output 'picture': expected one of");
    refused(loaded, with([&](R&, I& l, I&) { l.memory = TRITONSERVER_MEMORY_GPU; }), "found that of a GPU");
    refused(loaded, with([&](R& r, I&, I&) { r.output_memory = TRITONSERVER_MEMORY_GPU; }), "found that of a GPU");
    refused(loaded, with([&](R& r, I&, I&) { r.cancelled = true; }), "cancelled");
}

// A model file that was cut off under the server is not the client's to mend.
void changed_model(const std::string& folder, const std::string& file) {
    namespace fs = std::filesystem;
    std::string changed = (fs::temp_directory_path() / "softdimo-XXXXXX").string();
    EXPECT(mkdtemp(changed.data()) != nullptr);
    fs::create_directory(changed + "/1");
    fs::copy_file(folder + "/1/" + file, changed + "/1/" + file);
    Loaded loaded(changed, file);
    arm(NEVER, NEVER);
    EXPECT(loaded.load());
    fs::resize_file(changed + "/1/" + file, 4096);
    std::vector<TRITONBACKEND_Request> requests = {request({"cat"})};
    execute(loaded, requests);
    EXPECT(!requests[0].error.empty() && requests[0].code == TRITONSERVER_ERROR_INTERNAL);
    loaded.unload();
    fs::remove_all(changed);
}

} // namespace

int main(int argc, char** argv) {
    if (argc != 3) {
        return std::fprintf(stderr, "usage: fake_server FOLDER FILE\n"), 2;
    }
    // Loading.
    long count = 0;
    for (long n = 1;; ++n) {
        Loaded loaded(argv[1], argv[2]);
        arm(n, NEVER);
        const bool fine = loaded.load();
        const bool reached = failed;
        EXPECT(reached || fine);
        EXPECT(live_errors == 0 && live_messages == 0);
        loaded.unload();
        if (!reached) {
            count = n - 1;
            break;
        }
    }
    std::printf("loading: %ld calls, each of which failed once\n", count);
    EXPECT(count > 15);

    Loaded loaded(argv[1], argv[2]);
    arm(NEVER, NEVER);
    EXPECT(loaded.load());
    broken_requests(loaded);
    changed_model(argv[1], argv[2]);

    // Executing: one failure costs at most the request that it is of.
    for (const bool of_calls : {true, false}) {
        for (long n = 1;; ++n) {
            auto requests = mixed();
            arm(of_calls ? n : NEVER, of_calls ? NEVER : n);
            execute(loaded, requests);
            const bool taken = requests[0].released == 1;
            EXPECT(!taken || pictures_of(requests) >= (failed ? 1 : 2));
            if (!failed) {
                EXPECT(requests[1].code == TRITONSERVER_ERROR_INVALID_ARG);
                EXPECT(requests[2].code == TRITONSERVER_ERROR_CANCELLED);
                count = n - 1;
                break;
            }
        }
        std::printf("executing: %ld %s, each of which failed once\n", count, of_calls ? "calls" : "allocations");
        EXPECT(count > 40);
    }
    loaded.unload();
    EXPECT(live_errors == 0 && live_messages == 0);
    return 0;
}
