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
    uint32_t reserved[6];
} softdimo_engine_options;
int32_t softdimo_engine_options_init(struct softdimo_engine_options *options, uint32_t struct_size);
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
    uint32_t reserved;
} softdimo_layout;
int32_t softdimo_engine_layout(const struct softdimo_engine *engine, struct softdimo_layout *layout);
void softdimo_engine_free(struct softdimo_engine *engine);
typedef struct softdimo_image {
    uint32_t struct_size;
    uint32_t width;
    uint32_t height;
    uint32_t stride;
    uint32_t format;
    uint32_t origin;
    void *data;
    uint64_t capacity;
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
    uint32_t reserved[9];
} softdimo_request;
int32_t softdimo_request_init(struct softdimo_request *request, uint32_t struct_size);
int32_t softdimo_generate(const struct softdimo_engine *engine, const struct softdimo_request *request, struct softdimo_image *images, uint32_t image_count);
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
} softdimo_progress;
int32_t softdimo_job_progress(const struct softdimo_job *job, struct softdimo_progress *progress);
int32_t softdimo_job_error(const struct softdimo_job *job, char *buffer, uint64_t capacity, uint64_t *needed);
void softdimo_job_free(struct softdimo_job *job);
int32_t softdimo_job_image(const struct softdimo_job *job, uint32_t index, struct softdimo_image *image);
int32_t softdimo_job_image_f32(const struct softdimo_job *job, uint32_t index, float *pixels, uint64_t capacity, uint64_t *needed);
int32_t softdimo_job_tokens(const struct softdimo_job *job, uint32_t index, uint32_t *tokens, uint64_t capacity, uint64_t *needed);
int32_t softdimo_job_max_probability(const struct softdimo_job *job, uint32_t index, float *probabilities, uint64_t capacity, uint64_t *needed);
int32_t softdimo_job_embedding(const struct softdimo_job *job, uint32_t index, float *e_in, uint64_t capacity, uint64_t *needed);
int32_t softdimo_job_report(const struct softdimo_job *job, char *buffer, uint64_t capacity, uint64_t *needed);
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
} softdimo_memory;
int32_t softdimo_engine_memory(const struct softdimo_engine *engine, struct softdimo_memory *memory);
int32_t softdimo_engine_warmup(const struct softdimo_engine *engine, uint32_t batch);
int32_t softdimo_engine_trim(const struct softdimo_engine *engine);
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
    ABI_VERSION = 65538,
}
-- The end of what is generated.
