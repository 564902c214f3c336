--- Pictures in process, for LÖVE 11 and LuaJIT, over libsoftdimo. One file: put it beside main.lua, and libsoftdimo.so and
-- libonnxruntime.so beside the game.
--
--     local softdimo = require "softdimo"
--     local engine = softdimo.open("emoji-32.softdimo.safetensors", { threads = 1, niceness = 10 })
--     local job = engine:submit { label = "red apple", seed = 7 }
--     -- once a frame
--     if job:poll() == "done" then picture = love.graphics.newImage(job:imageData()) end
--
-- - A call that fails raises the library's own words, with the name of the status at the end.
-- - Nothing waits but softdimo.open (milliseconds), job:wait and job:free; jobs advance on the engine's own threads.
-- - There are no callbacks: LuaJIT must not be called from a function that its compiler has compiled. Progress is
--   polled, by job:progress.
-- - Engines and jobs free themselves when they are collected, or by free; in any order.
-- - Strings are UTF-8. A seed is a number up to 2^53, or a uint64_t of the FFI.
-- - softdimo.lib has the functions of softdimo.h, softdimo.constants its constants without their prefix.

local ffi = require "ffi"

-- Generated from include/softdimo.h; do not edit.
ffi.cdef [[
uint64_t softdimo_last_error(char *buffer, uint64_t capacity);
const char *softdimo_status_name(int32_t status);
typedef struct softdimo_engine softdimo_engine;
typedef int32_t (*softdimo_log_fn)(void *user_data, int32_t level, const char *message);
typedef struct softdimo_engine_options {
    uint32_t struct_size;
    uint32_t memory_mode;
    uint32_t weights_mode;
    uint32_t threads;
    int32_t niceness;
    int32_t device_id;
    uint64_t memory_limit;
    const char *provider;
    const char *ort_library;
    softdimo_log_fn log;
    void *log_user_data;
    int32_t log_level;
    uint32_t work_limit;
    uint32_t yielding;
    uint32_t arithmetic;
    uint32_t untuned;
    uint32_t reserved[3];
} softdimo_engine_options;
int32_t softdimo_engine_options_init(struct softdimo_engine_options *options, uint32_t struct_size);
int32_t softdimo_engine_options_init_game(struct softdimo_engine_options *options, uint32_t struct_size);
int32_t softdimo_engine_open(const char *path, const struct softdimo_engine_options *options, struct softdimo_engine **engine);
typedef struct softdimo_layout {
    uint32_t struct_size;
    uint32_t width;
    uint32_t height;
    uint32_t positions;
    uint32_t splits;
    uint32_t codes;
    uint32_t mask_token;
    uint32_t embedding;
    uint32_t classes;
    uint32_t channels;
} softdimo_layout;
int32_t softdimo_engine_layout(const struct softdimo_engine *engine, struct softdimo_layout *layout);
void softdimo_engine_free(struct softdimo_engine *engine);
int32_t softdimo_engine_cancel_pending(const struct softdimo_engine *engine, uint32_t *count);
int32_t softdimo_engine_pause(const struct softdimo_engine *engine);
int32_t softdimo_engine_resume(const struct softdimo_engine *engine);
int32_t softdimo_engine_set_cpu_share(const struct softdimo_engine *engine, uint32_t percent);
typedef struct softdimo_picture_style {
    uint32_t struct_size;
    uint32_t scaling;
    const uint8_t *palette;
    uint32_t palette_count;
    uint32_t palette_format;
    uint32_t dither;
    float dither_strength;
    uint32_t matte;
    float matte_tolerance;
    uint32_t matte_hole_area;
    uint32_t reserved[9];
} softdimo_picture_style;
int32_t softdimo_picture_style_init(struct softdimo_picture_style *style, uint32_t struct_size);
typedef struct softdimo_image {
    uint32_t struct_size;
    uint32_t width;
    uint32_t height;
    uint32_t stride;
    uint32_t format;
    uint32_t origin;
    void *data;
    uint64_t capacity;
    const struct softdimo_picture_style *style;
} softdimo_image;
int32_t softdimo_image_init(struct softdimo_image *image, uint32_t struct_size);
int32_t softdimo_image_write_png(const struct softdimo_image *image, const char *path, const char *const *text, uint32_t pair_count);
typedef int32_t (*softdimo_progress_fn)(void *user_data, uint32_t step, uint32_t total);
typedef struct softdimo_reward softdimo_reward;
typedef struct softdimo_reward_term {
    const struct softdimo_reward *reward;
    float weight;
    uint32_t reserved;
} softdimo_reward_term;
typedef struct softdimo_request {
    uint32_t struct_size;
    uint32_t batch;
    uint64_t seed;
    const char *label;
    const int32_t *class_labels;
    uint32_t class_label_count;
    uint32_t steps;
    const char *prompt;
    const char *negative_prompt;
    float temperature;
    float top_p;
    int32_t top_k;
    float mask_ratio;
    float sigma;
    float guidance_scale;
    float randomize_temperature;
    uint32_t decode;
    uint32_t report_gap;
    uint32_t reserved0;
    const uint32_t *start_tokens;
    uint64_t start_token_count;
    const float *e_in;
    uint64_t e_in_count;
    softdimo_progress_fn progress;
    void *progress_user_data;
    const struct softdimo_reward_term *rewards;
    uint32_t reward_count;
    uint32_t optimize_steps;
    float lr;
    uint32_t optimizer;
    float momentum;
    float clip;
    float norm_regularizer;
    uint32_t variables;
    int64_t deadline_ms;
    const struct softdimo_image *edit_image;
    const float *edit_mask;
    uint64_t edit_mask_count;
    float edit_keep;
    float aesthetic_score;
    int32_t original_width;
    int32_t original_height;
    int32_t crop_left;
    int32_t crop_top;
    uint32_t recompute;
    int32_t priority;
    uint64_t queue_key;
    uint32_t reserved[6];
} softdimo_request;
int32_t softdimo_request_init(struct softdimo_request *request, uint32_t struct_size);
int32_t softdimo_generate(const struct softdimo_engine *engine, const struct softdimo_request *request, struct softdimo_image *images, uint32_t image_count);
uint64_t softdimo_seed(uint64_t world_seed, int64_t x, int64_t y, int64_t z);
typedef struct softdimo_job softdimo_job;
int32_t softdimo_submit(const struct softdimo_engine *engine, const struct softdimo_request *request, struct softdimo_job **job);
int32_t softdimo_job_poll(const struct softdimo_job *job, uint32_t *state);
int32_t softdimo_job_wait(const struct softdimo_job *job, int64_t timeout_ms);
int32_t softdimo_job_cancel(const struct softdimo_job *job);
typedef struct softdimo_progress {
    uint32_t struct_size;
    uint32_t state;
    uint32_t step;
    uint32_t total;
    uint32_t waiting_ms;
    uint32_t reserved;
} softdimo_progress;
int32_t softdimo_job_progress(const struct softdimo_job *job, struct softdimo_progress *progress);
int32_t softdimo_job_error(const struct softdimo_job *job, char *buffer, uint64_t capacity, uint64_t *needed);
int32_t softdimo_job_free_all(const struct softdimo_engine *engine);
void softdimo_job_free(struct softdimo_job *job);
int32_t softdimo_job_image(const struct softdimo_job *job, uint32_t index, struct softdimo_image *image);
int32_t softdimo_job_image_f32(const struct softdimo_job *job, uint32_t index, float *pixels, uint64_t capacity, uint64_t *needed);
int32_t softdimo_job_tokens(const struct softdimo_job *job, uint32_t index, uint32_t *tokens, uint64_t capacity, uint64_t *needed);
int32_t softdimo_job_max_probability(const struct softdimo_job *job, uint32_t index, float *probabilities, uint64_t capacity, uint64_t *needed);
int32_t softdimo_job_embedding(const struct softdimo_job *job, uint32_t index, float *e_in, uint64_t capacity, uint64_t *needed);
int32_t softdimo_job_report(const struct softdimo_job *job, char *buffer, uint64_t capacity, uint64_t *needed);
typedef struct softdimo_opening softdimo_opening;
int32_t softdimo_engine_open_async(const char *path, const struct softdimo_engine_options *options, const struct softdimo_request *request, struct softdimo_opening **opening);
int32_t softdimo_opening_progress(const struct softdimo_opening *opening, struct softdimo_progress *progress);
int32_t softdimo_opening_wait(const struct softdimo_opening *opening, int64_t timeout_ms);
int32_t softdimo_opening_cancel(const struct softdimo_opening *opening);
int32_t softdimo_opening_error(const struct softdimo_opening *opening, char *buffer, uint64_t capacity, uint64_t *needed);
int32_t softdimo_opening_engine(const struct softdimo_opening *opening, struct softdimo_engine **engine);
void softdimo_opening_free(struct softdimo_opening *opening);
int32_t softdimo_engine_info(const struct softdimo_engine *engine, char *buffer, uint64_t capacity, uint64_t *needed);
int32_t softdimo_engine_label_count(const struct softdimo_engine *engine, uint32_t *count);
int32_t softdimo_engine_label(const struct softdimo_engine *engine, uint32_t index, const char **label);
int32_t softdimo_engine_verify(const struct softdimo_engine *engine, const char *golden, char *buffer, uint64_t capacity, uint64_t *needed);
typedef struct softdimo_memory {
    uint32_t struct_size;
    uint32_t sessions;
    uint64_t mapped;
    uint64_t weights;
    uint64_t activations;
    uint64_t transient;
} softdimo_memory;
int32_t softdimo_engine_memory(const struct softdimo_engine *engine, struct softdimo_memory *memory);
int32_t softdimo_engine_warmup(const struct softdimo_engine *engine, uint32_t batch);
int32_t softdimo_engine_warmup_request(const struct softdimo_engine *engine, const struct softdimo_request *request);
int32_t softdimo_engine_tune(const struct softdimo_engine *engine, softdimo_progress_fn progress, void *progress_user_data, uint32_t *in_f32);
int32_t softdimo_engine_trim(const struct softdimo_engine *engine);
int32_t softdimo_set_memory_budget(uint64_t bytes);
int32_t softdimo_memory_in_use(uint64_t *bytes);
typedef void (*softdimo_release_fn)(void *user_data, const void *data, uint64_t length);
int32_t softdimo_engine_open_memory(const void *data, uint64_t length, softdimo_release_fn release, void *user_data, const struct softdimo_engine_options *options, struct softdimo_engine **engine);
int32_t softdimo_encode(const struct softdimo_engine *engine, const struct softdimo_image *image, uint32_t *tokens, uint64_t capacity, uint64_t *needed);
int32_t softdimo_reward_target(const struct softdimo_image *target, const float *mask, uint64_t mask_count, struct softdimo_reward **reward);
int32_t softdimo_reward_color(float r, float g, float b, const float *mask, uint64_t mask_count, struct softdimo_reward **reward);
int32_t softdimo_reward_histogram(const struct softdimo_image *target, const float *histogram, uint64_t histogram_count, const float *mask, uint64_t mask_count, struct softdimo_reward **reward);
int32_t softdimo_reward_prior(uint64_t seed, struct softdimo_reward **reward);
int32_t softdimo_reward_closeness(struct softdimo_reward **reward);
typedef int32_t (*softdimo_reward_fn)(void *user_data, const float *pixels, uint32_t batch, uint32_t width, uint32_t height, float *scores, float *gradient);
int32_t softdimo_reward_from_callback(softdimo_reward_fn callback, void *user_data, struct softdimo_reward **reward);
typedef struct softdimo_reward_options {
    uint32_t struct_size;
    uint32_t weights_mode;
    int32_t class_id;
    uint32_t reserved0;
    const char *class_label;
    uint32_t reserved[10];
} softdimo_reward_options;
int32_t softdimo_reward_options_init(struct softdimo_reward_options *options, uint32_t struct_size);
int32_t softdimo_reward_open(const char *path, const struct softdimo_reward_options *options, struct softdimo_reward **reward);
int32_t softdimo_reward_open_memory(const void *data, uint64_t length, softdimo_release_fn release, void *user_data, const struct softdimo_reward_options *options, struct softdimo_reward **reward);
int32_t softdimo_reward_info(const struct softdimo_reward *reward, char *buffer, uint64_t capacity, uint64_t *needed);
void softdimo_reward_free(struct softdimo_reward *reward);
uint32_t softdimo_abi_version(void);
const char *softdimo_version(void);
uint32_t softdimo_provider_count(void);
int32_t softdimo_provider_info(uint32_t index, char *buffer, uint64_t capacity, uint64_t *needed);
]]

local constants = {
    OK = 0,
    ERR_INVALID_ARGUMENT = 1,
    ERR_NULL_ARGUMENT = 2,
    ERR_STRUCT_SIZE = 3,
    ERR_NOT_FOUND = 4,
    ERR_IO = 5,
    ERR_FORMAT = 6,
    ERR_MISSING_TENSOR = 7,
    ERR_TENSOR_MISMATCH = 8,
    ERR_CONFIG = 9,
    ERR_UNKNOWN_LABEL = 10,
    ERR_UNSUPPORTED = 11,
    ERR_BUFFER_TOO_SMALL = 12,
    ERR_RUNTIME_NOT_FOUND = 13,
    ERR_RUNTIME = 14,
    ERR_PROVIDER = 15,
    ERR_OUT_OF_MEMORY = 16,
    ERR_CANCELLED = 17,
    ERR_NOT_READY = 18,
    ERR_TIMEOUT = 19,
    ERR_FORKED = 20,
    ERR_INTERNAL = 21,
    MEMORY_LEAN = 0,
    MEMORY_FAST = 1,
    ARITHMETIC_AUTO = 0,
    ARITHMETIC_F32 = 1,
    WEIGHTS_MAP = 0,
    WEIGHTS_READ = 1,
    WEIGHTS_MAP_GUARDED = 2,
    LOG_ERROR = 1,
    LOG_WARNING = 2,
    LOG_INFO = 3,
    CONTINUE = 0,
    STOP = 1,
    FORMAT_RGBA8 = 0,
    FORMAT_RGB8 = 1,
    FORMAT_BGRA8 = 2,
    FORMAT_RGBA32F = 3,
    ORIGIN_TOP_LEFT = 0,
    ORIGIN_BOTTOM_LEFT = 1,
    SCALING_NEAREST = 0,
    SCALING_SMOOTH = 1,
    DITHER_NONE = 0,
    DITHER_BAYER4 = 1,
    DITHER_BAYER8 = 2,
    DECODE_HARD = 0,
    DECODE_SOFT = 1,
    OPTIMIZER_SGD = 0,
    OPTIMIZER_ADAM = 1,
    VARIABLE_EMBEDDING = 1,
    VARIABLE_NOISE = 2,
    VARIABLE_CLASS = 4,
    JOB_QUEUED = 0,
    JOB_RUNNING = 1,
    JOB_DONE = 2,
    JOB_FAILED = 3,
    JOB_CANCELLED = 4,
    JOB_WAITING = 5,
    ABI_VERSION = 65538,
}
-- The end of what is generated.

local softdimo = { constants = constants }

-- The library: what SOFTDIMO_LIBRARY names, then beside the game, then beside this file, then where the system looks.
local function library()
    local named = os.getenv("SOFTDIMO_LIBRARY")
    if named then
        return ffi.load(named)
    end
    local folders = {}
    if love and love.filesystem then
        -- A game is a folder, or a file in one.
        folders = { love.filesystem.getSource(), love.filesystem.getSourceBaseDirectory() }
    end
    folders[#folders + 1] = (debug.getinfo(1, "S").source:match("^@(.*)[/\\][^/\\]*$") or ".")
    local name = ffi.os == "Windows" and "softdimo.dll" or ffi.os == "OSX" and "libsoftdimo.dylib" or "libsoftdimo.so"
    for _, folder in ipairs(folders) do
        local path = folder .. "/" .. name
        local file = io.open(path, "rb")
        if file then
            file:close()
            -- A relative path without a slash in front would be looked up by the loader; that of Windows wants backslashes.
            path = (path:match("^[/\\]") or path:match("^%a:")) and path or "./" .. path
            return ffi.load(ffi.os == "Windows" and path:gsub("/", "\\") or path)
        end
    end
    local found, loaded = pcall(ffi.load, "softdimo")
    if not found then
        error(("softdimo: expected %s in %s, or named by SOFTDIMO_LIBRARY; the system says: %s")
            :format(name, table.concat(folders, ", "), loaded), 0)
    end
    return loaded
end

local lib = library()
softdimo.lib = lib
do
    local major = math.floor(lib.softdimo_abi_version() / 65536)
    local wanted = math.floor(constants.ABI_VERSION / 65536)
    if major ~= wanted then
        error(("softdimo: expected a library of ABI %d, found one of ABI %d"):format(wanted, major), 0)
    end
end

-- Raise the library's words unless `status` is OK.
local function check(status)
    if status ~= constants.OK then
        local size = lib.softdimo_last_error(nil, 0)
        local text = ffi.new("char[?]", size)
        lib.softdimo_last_error(text, size)
        error(("%s (%s)"):format(ffi.string(text), ffi.string(lib.softdimo_status_name(status))), 0)
    end
end

-- A text by the header's text convention.
local function text_of(call, handle)
    local needed = ffi.new("uint64_t[1]")
    check(call(handle, nil, 0, needed))
    local buffer = ffi.new("char[?]", needed[0])
    check(call(handle, buffer, needed[0], needed))
    return ffi.string(buffer)
end

-- The fields of a table into a struct of the library's.
local function assign(struct, what, fields)
    for name, value in pairs(fields or {}) do
        if name == "progress" or name == "log" then
            error(("softdimo: %s of %s would be a callback, which LuaJIT cannot take here"):format(name, what), 0)
        end
        local fine, why = pcall(function() struct[name] = value end)
        if not fine then
            error(("softdimo: field '%s' of %s: %s"):format(tostring(name), what, why), 0)
        end
    end
end

-- A handle that frees itself. Bytes that it was opened from stay until then: finalizers are held strongly.
local function owned(handle, free, bytes)
    return ffi.gc(handle, bytes and function(dead) free(dead) return bytes end or free)
end

-- What a struct points to, while a call reads it.
local alive

local function handle_of(object, what)
    return object.handle or error(("softdimo: the %s has been freed"):format(what), 0)
end

-- Jobs.

local states = {
    [constants.JOB_QUEUED] = "queued",
    [constants.JOB_RUNNING] = "running",
    [constants.JOB_DONE] = "done",
    [constants.JOB_FAILED] = "failed",
    [constants.JOB_CANCELLED] = "cancelled",
}

local Job = {}
Job.__index = Job

local state_out = ffi.new("uint32_t[1]")
local progress_out = ffi.new("softdimo_progress")

--- "queued", "running", "done", "failed" or "cancelled"; does not wait. What a failed job says: job:error().
function Job:poll()
    check(lib.softdimo_job_poll(handle_of(self, "job"), state_out))
    return states[state_out[0]] or "running"
end

--- Steps done and steps in all, which is 0 before the job has started; does not wait.
function Job:progress()
    progress_out.struct_size = ffi.sizeof("softdimo_progress")
    check(lib.softdimo_job_progress(handle_of(self, "job"), progress_out))
    return progress_out.step, progress_out.total
end

--- Wait for the end, at most so many seconds (without a number as long as it takes). Returns false if the time is over; a
-- job that failed or was cancelled raises why.
function Job:wait(seconds)
    local status = lib.softdimo_job_wait(handle_of(self, "job"), seconds and math.ceil(seconds * 1000) or -1)
    if status == constants.ERR_TIMEOUT then
        return false
    end
    check(status)
    return true
end

--- Ask the job to end; returns at once.
function Job:cancel()
    check(lib.softdimo_job_cancel(handle_of(self, "job")))
end

--- Why the job failed or was cancelled; "" otherwise.
function Job:error()
    return text_of(lib.softdimo_job_error, handle_of(self, "job"))
end

--- What the job did, as JSON: everything that is needed to make the picture again.
function Job:report()
    return text_of(lib.softdimo_job_report, handle_of(self, "job"))
end

--- Copy picture `index` (0 unless said) to `pixels`: RGBA, 8 bits a channel, from the top, `capacity` bytes.
function Job:read(pixels, capacity, index)
    local image = ffi.new("softdimo_image")
    check(lib.softdimo_image_init(image, ffi.sizeof(image)))
    image.width, image.height = self.width, self.height
    image.data, image.capacity = pixels, capacity
    check(lib.softdimo_job_image(handle_of(self, "job"), index or 0, image))
end

--- Picture `index` (0 unless said) as LÖVE's ImageData; into `imageData` of the picture's size, if one is given.
function Job:imageData(index, imageData)
    imageData = imageData or love.image.newImageData(self.width, self.height)
    if imageData:getFormat() ~= "rgba8" or imageData:getWidth() ~= self.width or imageData:getHeight() ~= self.height then
        error(("softdimo: expected ImageData of rgba8, %dx%d, found %s, %dx%d"):format(self.width, self.height,
            imageData:getFormat(), imageData:getWidth(), imageData:getHeight()), 0)
    end
    self:read(imageData:getFFIPointer(), imageData:getSize(), index)
    return imageData
end

--- Free the job now. One that has not ended is cancelled and waited for.
function Job:free()
    if self.handle then
        lib.softdimo_job_free(ffi.gc(self.handle, nil))
        self.handle = nil
    end
end

-- Engines.

local Engine = {}
Engine.__index = Engine

local function engine_of(out, bytes)
    alive = nil
    local layout = ffi.new("softdimo_layout")
    local engine = setmetatable({ handle = owned(out[0], lib.softdimo_engine_free, bytes), bytes = bytes }, Engine)
    layout.struct_size = ffi.sizeof(layout)
    check(lib.softdimo_engine_layout(engine.handle, layout))
    engine.width, engine.height = layout.width, layout.height
    return engine
end

local function options_of(fields)
    local options = ffi.new("softdimo_engine_options")
    check(lib.softdimo_engine_options_init(options, ffi.sizeof(options)))
    alive = fields
    assign(options, "the engine's options", fields)
    return options
end

--- Open the model file at a path of the system's. `options` has fields of softdimo_engine_options: threads, niceness,
-- memory_limit and so on. An engine has `width` and `height`, the size of its pictures.
function softdimo.open(path, options)
    local out = ffi.new("softdimo_engine *[1]")
    check(lib.softdimo_engine_open(path, options_of(options), out))
    return engine_of(out)
end

--- Open a model out of LÖVE's Data, such as love.filesystem.newFileData gives of a file inside a .love. The engine keeps it.
function softdimo.openData(data, options)
    local out = ffi.new("softdimo_engine *[1]")
    check(lib.softdimo_engine_open_memory(data:getFFIPointer(), data:getSize(), nil, nil, options_of(options), out))
    return engine_of(out, data)
end

--- Queue a request, a table with fields of softdimo_request: label or prompt, seed, steps, batch, temperature and so on.
-- Pointers (rewards, edit_image, start_tokens) are the FFI's. Returns a job at once.
function Engine:submit(fields)
    local request = ffi.new("softdimo_request")
    check(lib.softdimo_request_init(request, ffi.sizeof(request)))
    alive = fields
    assign(request, "the request", fields)
    local out = ffi.new("softdimo_job *[1]")
    check(lib.softdimo_submit(handle_of(self, "engine"), request, out))
    alive = nil
    return setmetatable({
        -- The job reads bytes that the engine was opened from.
        handle = owned(out[0], lib.softdimo_job_free, self.bytes),
        width = self.width,
        height = self.height,
    }, Job)
end

--- The names of the model's labels.
function Engine:labels()
    local count, name, labels = ffi.new("uint32_t[1]"), ffi.new("const char *[1]"), {}
    check(lib.softdimo_engine_label_count(handle_of(self, "engine"), count))
    for i = 0, count[0] - 1 do
        check(lib.softdimo_engine_label(self.handle, i, name))
        labels[#labels + 1] = ffi.string(name[0])
    end
    return labels
end

--- The model, its labels and defaults, as JSON.
function Engine:info()
    return text_of(lib.softdimo_engine_info, handle_of(self, "engine"))
end

--- Prepare what the first job needs, so that it is as fast as the next. Waits.
function Engine:warmup(batch)
    check(lib.softdimo_engine_warmup(handle_of(self, "engine"), batch or 1))
end

--- Free the engine now. Jobs of it that are alive keep it running.
function Engine:free()
    if self.handle then
        lib.softdimo_engine_free(ffi.gc(self.handle, nil))
        self.handle = nil
    end
end

--- Version of the loaded library.
function softdimo.version()
    return ffi.string(lib.softdimo_version())
end

return softdimo
