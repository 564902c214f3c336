"""What softdimo.h declares, for ctypes. Generated from include/softdimo.h; do not edit.

declare(library) gives the functions of a loaded library their types.
"""
import ctypes
from ctypes import CFUNCTYPE, POINTER, Structure

# Errors

# Success.
SOFTDIMO_OK = 0
# An argument or a field is out of range, of the wrong kind, or not zero where reserved.
SOFTDIMO_ERR_INVALID_ARGUMENT = 1
# A required pointer is NULL.
SOFTDIMO_ERR_NULL_ARGUMENT = 2
# `struct_size` is not one this library knows, or was not set.
SOFTDIMO_ERR_STRUCT_SIZE = 3
# The file does not exist.
SOFTDIMO_ERR_NOT_FOUND = 4
# Reading or writing a file failed.
SOFTDIMO_ERR_IO = 5
# The file breaks a rule of its format (truncated, overlapping, not a model file), or has lost bytes since.
SOFTDIMO_ERR_FORMAT = 6
# A tensor the model needs is not in the file.
SOFTDIMO_ERR_MISSING_TENSOR = 7
# A tensor has another shape or dtype than the model needs.
SOFTDIMO_ERR_TENSOR_MISMATCH = 8
# The file's configuration is missing, makes no sense, or is of the other kind (generator, reward).
SOFTDIMO_ERR_CONFIG = 9
# The label is not one of the model's; the message suggests close ones.
SOFTDIMO_ERR_UNKNOWN_LABEL = 10
# The model or this build cannot do what was asked.
SOFTDIMO_ERR_UNSUPPORTED = 11
# A caller-owned buffer or picture is too small.
SOFTDIMO_ERR_BUFFER_TOO_SMALL = 12
# No usable ONNX Runtime library; the message lists every place tried.
SOFTDIMO_ERR_RUNTIME_NOT_FOUND = 13
# ONNX Runtime reported a failure.
SOFTDIMO_ERR_RUNTIME = 14
# The execution provider asked for is not usable; the message says what is missing.
SOFTDIMO_ERR_PROVIDER = 15
# The work would exceed the engine's memory_limit.
SOFTDIMO_ERR_OUT_OF_MEMORY = 16
# The job was cancelled.
SOFTDIMO_ERR_CANCELLED = 17
# The job has not finished yet.
SOFTDIMO_ERR_NOT_READY = 18
# The wait ended before the job did; the job goes on.
SOFTDIMO_ERR_TIMEOUT = 19
# Called in a forked child of a process that has opened an engine.
SOFTDIMO_ERR_FORKED = 20
# A bug in this library; the engine refuses further work and the host is unharmed.
SOFTDIMO_ERR_INTERNAL = 21

# Engines


class softdimo_engine(Structure):
    """An opened model on an execution provider. Thread-safe; may be shared."""

# Weights are used where they lie: opens in milliseconds, memory is shared page cache (default).
SOFTDIMO_MEMORY_LEAN = 0
# Weights are packed for the processor on first use: faster, one more copy in memory.
SOFTDIMO_MEMORY_FAST = 1
# Weights that are laid out for int8 arithmetic are computed with in int8 where the provider is fast at it: on the CPU, also with
# "openvino", which computes with others in bf16 on processors that are fast at it (default).
SOFTDIMO_ARITHMETIC_AUTO = 0
# They are widened, and computed with in f32.
SOFTDIMO_ARITHMETIC_F32 = 1
# The file is mapped (default). Replace it by rename; never truncate it in place.
SOFTDIMO_WEIGHTS_MAP = 0
# The file is copied into memory once.
SOFTDIMO_WEIGHTS_READ = 1
# Mapped, and a SIGBUS handler (chained to the host's) turns truncation into SOFTDIMO_ERR_FORMAT.
# Process-wide. Windows: nobody can write the file until it is closed, and one of a network or of a medium that can be taken
# out is copied into memory; one of an external disk is mapped.
SOFTDIMO_WEIGHTS_MAP_GUARDED = 2
# Severity of log messages: an error.
SOFTDIMO_LOG_ERROR = 1
# A warning.
SOFTDIMO_LOG_WARNING = 2
# Information: the runtime that was loaded, sessions that were prepared. All that this version sends.
SOFTDIMO_LOG_INFO = 3
# Result of every callback: go on.
SOFTDIMO_CONTINUE = 0
# Stop, as does any other value (progress, reward: cancel the job; log: no more messages).
SOFTDIMO_STOP = 1


# Called with a UTF-8 message that is valid during the call, on a thread that is inside opening or warming
# up this engine, taking it out of an opening, `softdimo_generate`, or a wait or poll of one of its jobs. Must not throw and must not
# call back into this library.
softdimo_log_fn = CFUNCTYPE(ctypes.c_int32, ctypes.c_void_p, ctypes.c_int32, ctypes.c_char_p)


class softdimo_engine_options(Structure):
    """Options of an engine. Call `softdimo_engine_options_init` first, then change what you need. Strings are
    copied when the engine is opened."""
    _fields_ = [
        # Set by `softdimo_engine_options_init`.
        ("struct_size", ctypes.c_uint32),
        # `SOFTDIMO_MEMORY_*`.
        ("memory_mode", ctypes.c_uint32),
        # `SOFTDIMO_WEIGHTS_*`; not read for a model in memory.
        ("weights_mode", ctypes.c_uint32),
        # Threads that compute one run, 0 to 256; 0 = one per core, at most 8. Each of the 8 sessions used last may have
        # as many, less the worker; they sleep between runs.
        ("threads", ctypes.c_uint32),
        # Niceness added to the engine's threads on Linux, 0 (default) to 19. On Windows their priority within the class of the
        # process: 1 to 9 below normal, 10 to 18 lowest, 19 idle; what wants the core and has a higher one goes first.
        # Elsewhere it does nothing.
        ("niceness", ctypes.c_int32),
        # GPU index for "cuda", 0 or more.
        ("device_id", ctypes.c_int32),
        # Bytes the engine may hold beyond mapped pages; 0 = no limit. Sessions used longest ago are dropped to make room;
        # work that would exceed it even so is refused with SOFTDIMO_ERR_OUT_OF_MEMORY before anything is allocated.
        ("memory_limit", ctypes.c_uint64),
        # "cpu" (also NULL), "cuda" or "openvino". Asked for and not usable is an error, never a silent fallback.
        ("provider", ctypes.c_char_p),
        # Path of the ONNX Runtime library, UTF-8. NULL: the environment variable SOFTDIMO_ORT_LIBRARY, then the
        # folder of this library, then the system loader. One runtime serves the whole process: the first engine
        # chooses it.
        ("ort_library", ctypes.c_char_p),
        # Receives log messages; NULL for none. The library never prints.
        ("log", softdimo_log_fn),
        # Given to `log`; both must stay valid until the engine and all its jobs are freed.
        ("log_user_data", ctypes.c_void_p),
        # Least severe messages wanted, `SOFTDIMO_LOG_*`; default SOFTDIMO_LOG_WARNING.
        ("log_level", ctypes.c_int32),
        # Billions of multiply-adds that one network may take for a picture; 0 = 40000, more than four times what
        # Meissonic needs at 1024x1024. What takes more, or has a node for every two billion, is refused when it is opened:
        # SOFTDIMO_ERR_UNSUPPORTED. Since ABI 1.1.
        ("work_limit", ctypes.c_uint32),
        # 1: networks look every millisecond or so of computing, instead of once a call, whether the engine is paused or has used
        # up its share of the processor; the pictures are the same. CPU only. 0 (default): they do not. Since ABI 1.2.
        ("yielding", ctypes.c_uint32),
        # What weights that are laid out for int8 arithmetic are computed with, `SOFTDIMO_ARITHMETIC_*`: int8 where the provider is
        # fast at it (default), or f32 always. All other weights are computed with in f32, with "openvino" also in bf16. Since ABI 1.2.
        ("arithmetic", ctypes.c_uint32),
        # 1: what `softdimo_engine_tune` remembered of this model and machine is not read. 0 (default): it is. Since ABI 1.2.
        ("untuned", ctypes.c_uint32),
        # Must be zero.
        ("reserved", ctypes.c_uint32 * 3),
    ]


class softdimo_layout(Structure):
    """Shapes of a model. Set struct_size before the call that fills it."""
    _fields_ = [
        # To be set to `sizeof(softdimo_layout)`.
        ("struct_size", ctypes.c_uint32),
        # Width of a picture in pixels.
        ("width", ctypes.c_uint32),
        # Height of a picture in pixels.
        ("height", ctypes.c_uint32),
        # Tokens of a picture are [positions, splits].
        ("positions", ctypes.c_uint32),
        # Tokens at a position.
        ("splits", ctypes.c_uint32),
        # Codes per token: ids below this.
        ("codes", ctypes.c_uint32),
        # Id of the mask token, not below `codes`; ids between them are no tokens.
        ("mask_token", ctypes.c_uint32),
        # Width of a start embedding [positions, embedding].
        ("embedding", ctypes.c_uint32),
        # Class ids are below this; this number itself means no label. 0 for models that read prompts.
        ("classes", ctypes.c_uint32),
        # Channels of a picture: 3 (red, green, blue), or 4 with straight alpha. Since ABI 1.2; older libraries, whose pictures
        # have 3, leave 0 here.
        ("channels", ctypes.c_uint32),
    ]

# Pictures

# 8 bits a channel, R G B A, sRGB (default).
SOFTDIMO_FORMAT_RGBA8 = 0
# 8 bits a channel, R G B, sRGB.
SOFTDIMO_FORMAT_RGB8 = 1
# 8 bits a channel, B G R A, sRGB.
SOFTDIMO_FORMAT_BGRA8 = 2
# 32-bit float a channel, R G B A, sRGB-encoded values in [0, 1].
SOFTDIMO_FORMAT_RGBA32F = 3
# The first row in memory is the top of the picture (default).
SOFTDIMO_ORIGIN_TOP_LEFT = 0
# The first row in memory is the bottom of the picture (OpenGL, Unity).
SOFTDIMO_ORIGIN_BOTTOM_LEFT = 1
# A pixel of a larger picture has the colour of the model's pixel that it lies in: pixel art (default). Since ABI 1.2.
SOFTDIMO_SCALING_NEAREST = 0
# It has one between those of the model's pixels around it (Catmull-Rom). Since ABI 1.2.
SOFTDIMO_SCALING_SMOOTH = 1
# Every pixel has the nearest colour of the palette (default). Since ABI 1.2.
SOFTDIMO_DITHER_NONE = 0
# Colours are mixed in an ordered pattern of 4 x 4 pixels. Since ABI 1.2.
SOFTDIMO_DITHER_BAYER4 = 1
# The same of 8 x 8 pixels. Since ABI 1.2.
SOFTDIMO_DITHER_BAYER8 = 2


class softdimo_picture_style(Structure):
    """How pictures are written: first the background is taken away, then colours are chosen, both at the model's size, then the
    picture is enlarged. The calling thread does it, in about a millisecond for 32 x 32 pixels. Call
    `softdimo_picture_style_init` first. Since ABI 1.2."""
    _fields_ = [
        # Set by `softdimo_picture_style_init`.
        ("struct_size", ctypes.c_uint32),
        # `SOFTDIMO_SCALING_*`, of images that are larger than the model's pictures.
        ("scaling", ctypes.c_uint32),
        # The colours a picture may have, those nearest in OKLab: `palette_count` times 3 or 4 bytes, sRGB. NULL: as many colours
        # as palette_count says, found from the picture's own, without random numbers; or all colours, where that is 0.
        ("palette", POINTER(ctypes.c_uint8)),
        # 2 to 256, or 0.
        ("palette_count", ctypes.c_uint32),
        # SOFTDIMO_FORMAT_RGBA8 (default) or SOFTDIMO_FORMAT_RGB8: what lies at `palette`. Of RGBA8, colours of alpha 0 are left
        # out. Pixels keep their alpha.
        ("palette_format", ctypes.c_uint32),
        # `SOFTDIMO_DITHER_*`; with a palette only.
        ("dither", ctypes.c_uint32),
        # How much of the way to the right mixture, 0 to 1 (default).
        ("dither_strength", ctypes.c_float),
        # 1: the background becomes transparent, edges partly so. It is what is like the most common colour of the picture's
        # border and is connected with the border. Needs a format with alpha, and a model without. 0
        # (default): it stays.
        ("matte", ctypes.c_uint32),
        # How far from that colour background may be, as a distance in OKLab, where black and white are 1 apart: 0 to 1; -1
        # = 0.04.
        ("matte_tolerance", ctypes.c_float),
        # Background that something encloses becomes transparent too from this many of the model's pixels on; 0 (default):
        # holes stay opaque.
        ("matte_hole_area", ctypes.c_uint32),
        # Must be zero.
        ("reserved", ctypes.c_uint32 * 9),
    ]


class softdimo_image(Structure):
    """A caller-owned picture buffer. Call `softdimo_image_init` first."""
    _fields_ = [
        # Set by `softdimo_image_init`. In an array, also the distance of its elements.
        ("struct_size", ctypes.c_uint32),
        # Width in pixels: the model's (`softdimo_engine_layout`), unless a function says any size. Where generated pictures
        # are written (`softdimo_generate`, `softdimo_job_image`), a multiple of it will do: the picture is enlarged while it is
        # copied.
        ("width", ctypes.c_uint32),
        # Height in pixels, likewise; by a factor of its own.
        ("height", ctypes.c_uint32),
        # Bytes from one row to the next; 0 = tightly packed. What lies between rows is never written.
        ("stride", ctypes.c_uint32),
        # `SOFTDIMO_FORMAT_*`.
        ("format", ctypes.c_uint32),
        # `SOFTDIMO_ORIGIN_*`.
        ("origin", ctypes.c_uint32),
        # The pixels, at any alignment; used during the call only. Pictures are written with an opaque alpha, unless `style`
        # has a matte or the model makes alpha, which then is straight; formats without alpha show the model's background behind
        # it. Where a picture is only read, nothing is written.
        ("data", ctypes.c_void_p),
        # Bytes at `data`: at least (height - 1) * stride + width * bytes per pixel.
        ("capacity", ctypes.c_uint64),
        # How a generated picture is written; used during the call only, and not where the picture is only read. NULL: as it
        # is. One style may serve many images. Since ABI 1.2.
        ("style", POINTER(softdimo_picture_style)),
    ]

# Requests

# Sample codes and decode those (default).
SOFTDIMO_DECODE_HARD = 0
# Decode the expected code, the soft embedding. One-step jobs only.
SOFTDIMO_DECODE_SOFT = 1


# Called with the steps done and the steps in all (one network call each), on the thread that is inside
# `softdimo_generate`, `softdimo_job_wait` or `softdimo_job_poll`; with the sessions that are prepared and those in all inside
# `softdimo_engine_warmup_request`, with what is measured and is to be inside `softdimo_engine_tune`. Must not throw, and must not free the job.
softdimo_progress_fn = CFUNCTYPE(ctypes.c_int32, ctypes.c_void_p, ctypes.c_uint32, ctypes.c_uint32)

# Gradient ascent, with momentum where set (default; the paper's choice).
SOFTDIMO_OPTIMIZER_SGD = 0
# Adam with its usual constants.
SOFTDIMO_OPTIMIZER_ADAM = 1
# What an optimisation moves: the start embedding (default).
SOFTDIMO_VARIABLE_EMBEDDING = 1
# Only the noise part of the start embedding. Not with SOFTDIMO_VARIABLE_EMBEDDING.
SOFTDIMO_VARIABLE_NOISE = 2
# The class embedding, or the prompt's features.
SOFTDIMO_VARIABLE_CLASS = 4


class softdimo_reward(Structure):
    """A reward that optimisation climbs; see the functions that make one. Immutable; may be used by several
    jobs; must outlive the call that takes it, not the job."""


class softdimo_reward_term(Structure):
    """A reward with its weight in the sum that is maximised."""
    _fields_ = [
        # Must not be NULL.
        ("reward", POINTER(softdimo_reward)),
        # Finite; negative to move away from it.
        ("weight", ctypes.c_float),
        # Must be zero.
        ("reserved", ctypes.c_uint32),
    ]


class softdimo_request(Structure):
    """A request. Call `softdimo_request_init` first. Pointers need to live only during the call that takes
    the request, except `progress_user_data`. A float or top_k of -1 takes the model's default."""
    _fields_ = [
        # Set by `softdimo_request_init`.
        ("struct_size", ctypes.c_uint32),
        # Pictures to make, 1 to 256. Picture b uses seed + b and equals the one picture of that seed.
        ("batch", ctypes.c_uint32),
        # Seed of the first picture.
        ("seed", ctypes.c_uint64),
        # Class name for all pictures or a synonym of one, UTF-8; case, spaces, hyphens, underscores and an English plural do
        # not matter. NULL when class_labels is used, or for no label.
        ("label", ctypes.c_char_p),
        # Class ids, one for all pictures or one each; the number of classes means no label. NULL for none.
        ("class_labels", POINTER(ctypes.c_int32)),
        # Ids at `class_labels`: 0, 1 or `batch`.
        ("class_label_count", ctypes.c_uint32),
        # 0: the model's own way (one step where it has a student). 1: one step. 2 to 10000: the multi-step
        # teacher.
        ("steps", ctypes.c_uint32),
        # Text prompt for all pictures, UTF-8: for text-to-image models and for rewards that read one; an error
        # where nothing does. NULL for none.
        ("prompt", ctypes.c_char_p),
        # Text-to-image models, with steps > 1: what guidance leads away from. NULL: the model's default.
        ("negative_prompt", ctypes.c_char_p),
        # Sampling temperature, 0 to 10000; 0 = arg-max, for one step only.
        ("temperature", ctypes.c_float),
        # Keep the most probable codes up to this probability, above 0 to 1; 1 = all. One step only.
        ("top_p", ctypes.c_float),
        # Keep the k most probable codes; 0 = all. One step only.
        ("top_k", ctypes.c_int32),
        # Share of start tokens that are masked, 0 to 1. One step only.
        ("mask_ratio", ctypes.c_float),
        # Standard deviation of the start embedding's perturbation, 0 to 1. One step only.
        ("sigma", ctypes.c_float),
        # Teacher: classifier-free guidance scale, 0 (none) to 10000.
        ("guidance_scale", ctypes.c_float),
        # Teacher: temperature of the confidence noise, 0 to 10000.
        ("randomize_temperature", ctypes.c_float),
        # `SOFTDIMO_DECODE_*`.
        ("decode", ctypes.c_uint32),
        # 1: also decode the other way and report how much hard and soft picture differ. 0: do not.
        ("report_gap", ctypes.c_uint32),
        # Must be zero.
        ("reserved0", ctypes.c_uint32),
        # Start tokens [batch, positions, splits], the mask token allowed; NULL: seeded.
        ("start_tokens", POINTER(ctypes.c_uint32)),
        # Tokens at `start_tokens`.
        ("start_token_count", ctypes.c_uint64),
        # Start embedding [batch, positions, embedding]; NULL: made from the start tokens. One step only; not with
        # start_tokens.
        ("e_in", POINTER(ctypes.c_float)),
        # Floats at `e_in`.
        ("e_in_count", ctypes.c_uint64),
        # Called after each step; NULL for none.
        ("progress", softdimo_progress_fn),
        # Given to `progress`; both must stay valid until the job is freed.
        ("progress_user_data", ctypes.c_void_p),
        # Test-time embedding optimisation: what to maximise, Σ weight·reward per picture; NULL for none, and then the fields
        # of an optimisation below must be as softdimo_request_init leaves them.
        ("rewards", POINTER(softdimo_reward_term)),
        # Terms at `rewards`, at most 64, and at most one of them a callback.
        ("reward_count", ctypes.c_uint32),
        # Updates, 0 to 100000; the start counts as iterate 0, and the best iterate is kept.
        ("optimize_steps", ctypes.c_uint32),
        # Learning rate; -1 = 0.2.
        ("lr", ctypes.c_float),
        # `SOFTDIMO_OPTIMIZER_*`.
        ("optimizer", ctypes.c_uint32),
        # Of SGD, 0 to below 1.
        ("momentum", ctypes.c_float),
        # Scale each picture's gradient down to this norm; 0 = off.
        ("clip", ctypes.c_float),
        # Weight of the pull of the noise's norm towards its prior; 0 = off; needs SOFTDIMO_VARIABLE_NOISE.
        ("norm_regularizer", ctypes.c_float),
        # `SOFTDIMO_VARIABLE_*`, added up; 0 = the embedding.
        ("variables", ctypes.c_uint32),
        # Milliseconds for the whole job, from when the engine begins with it: preparing, optimising, making the picture. The
        # optimisation ends where another iterate and the picture would take longer than is left; out of time before the
        # first iterate, the job has the picture of its start. What a late job had begun to prepare is finished beside the
        # next ones. -1 = no deadline.
        ("deadline_ms", ctypes.c_int64),
        # Start from this picture (the model's size) instead of from nothing; NULL for none. Its kept tokens are
        # known at the start and, with SOFTDIMO_DECODE_HARD, in the result. Not with start_tokens.
        ("edit_image", POINTER(softdimo_image)),
        # Inpainting: weights [height, width] from the top; tokens whose cell has no pixel above 0 are kept. NULL:
        # edit_keep says what is kept. Only for models whose tokens stand for places.
        ("edit_mask", POINTER(ctypes.c_float)),
        # Floats at `edit_mask`: width * height.
        ("edit_mask_count", ctypes.c_uint64),
        # Variation: share of the picture's tokens that are kept, chosen by seed, 0 to 1; -1 with a mask or
        # without a picture.
        ("edit_keep", ctypes.c_float),
        # Text-to-image models: aesthetic score the picture should have, 0 to 100; -1 = the model's default.
        ("aesthetic_score", ctypes.c_float),
        # Text-to-image models: width in pixels the picture is said to have had, 0 to 65536; -1, here and in
        # original_height, = the model's default.
        ("original_width", ctypes.c_int32),
        # The same, its height.
        ("original_height", ctypes.c_int32),
        # Text-to-image models: left of the crop it is said to be, in pixels, 0 to 65536; -1, here and in
        # crop_top, = the model's default.
        ("crop_left", ctypes.c_int32),
        # The same, its top.
        ("crop_top", ctypes.c_int32),
        # 1: a step of the optimisation takes less memory and more time; the result is the same. 0: it does not.
        ("recompute", ctypes.c_uint32),
        # Jobs of higher priority go first, those of equal priority in the order of their submission; default 0, which is also
        # that of calls such as softdimo_engine_memory. A running job of several steps, or an optimisation without a deadline,
        # lets jobs of higher priority go before its next step, where memory_limit has room for both. Since ABI 1.2.
        ("priority", ctypes.c_int32),
        # The latest wins: jobs of the same engine with this key that have not begun end as SOFTDIMO_JOB_CANCELLED when this one
        # is submitted. 0 (default) for none. Since ABI 1.2.
        ("queue_key", ctypes.c_uint64),
        # Must be zero.
        ("reserved", ctypes.c_uint32 * 6),
    ]

# Generating

# Jobs


class softdimo_job(Structure):
    """A submitted request. Thread-safe, except that it must not be freed while another call uses it."""

# State of a job: others of its engine come first.
SOFTDIMO_JOB_QUEUED = 0
# The engine works on it.
SOFTDIMO_JOB_RUNNING = 1
# Final: the result can be read.
SOFTDIMO_JOB_DONE = 2
# Final: `softdimo_job_error` says why.
SOFTDIMO_JOB_FAILED = 3
# Final. An optimisation that was cancelled still has its best pictures to read.
SOFTDIMO_JOB_CANCELLED = 4
# The job stands still until a wait or poll of it calls its reward callback. Told by `softdimo_job_progress` alone, and only
# to a struct that has `waiting_ms`; everything else says SOFTDIMO_JOB_RUNNING. Since ABI 1.2.
SOFTDIMO_JOB_WAITING = 5


class softdimo_progress(Structure):
    """Progress of a job. Set struct_size before the call that fills it."""
    _fields_ = [
        # To be set to `sizeof(softdimo_progress)`.
        ("struct_size", ctypes.c_uint32),
        # `SOFTDIMO_JOB_*`.
        ("state", ctypes.c_uint32),
        # Steps done (one network call each).
        ("step", ctypes.c_uint32),
        # Steps in all; 0 before the job has started.
        ("total", ctypes.c_uint32),
        # With SOFTDIMO_JOB_WAITING: for how many milliseconds the reward callback has been due; else 0. Since ABI 1.2.
        ("waiting_ms", ctypes.c_uint32),
        # Zero. Since ABI 1.2.
        ("reserved", ctypes.c_uint32),
    ]

# Results of a job

# Opening without waiting


class softdimo_opening(Structure):
    """An engine that is being opened. Thread-safe, except that it must not be freed while another call uses it."""

# What a model is

# Memory


class softdimo_memory(Structure):
    """Memory of an engine in bytes. Set struct_size before the call that fills it."""
    _fields_ = [
        # To be set to `sizeof(softdimo_memory)`.
        ("struct_size", ctypes.c_uint32),
        # Prepared sessions.
        ("sessions", ctypes.c_uint32),
        # Mapped bytes of the model file, and of reward files in use: shared, reclaimable.
        ("mapped", ctypes.c_uint64),
        # Weights held as copies (read, packed or on the device).
        ("weights", ctypes.c_uint64),
        # What the prepared sessions hold beside weights: their values, kept for the next run, and themselves; and
        # the features of prompts that were encoded, 32 MiB at most.
        ("activations", ctypes.c_uint64),
    ]


# Called once, when nothing reads the bytes given to `softdimo_engine_open_memory` or
# `softdimo_reward_open_memory` any more, on the thread that let go of them last.
softdimo_release_fn = CFUNCTYPE(None, ctypes.c_void_p, ctypes.c_void_p, ctypes.c_uint64)

# Editing

# Rewards


# Scores `batch` soft pictures [batch, 3, height, width] (nominally in [0, 1], not clamped; those with alpha over the
# model's background): fill scores
# [batch] and gradient = dscore/dpixels, of the pictures' shape, both zeros at first, of either sign. A number that is not
# finite ends the climb of its picture, with a warning in the log; the job fails where no picture has had a finite score,
# and where both arrays are as they were. The arrays are valid during the call. Called only on the thread that is inside
# `softdimo_generate`, `softdimo_job_wait` or `softdimo_job_poll` for the job; without such a thread the job
# stands still. SOFTDIMO_STOP ends the optimisation like a cancel. Must not throw, and must not free the job.
# Calls of this library that would wait for the callback itself return SOFTDIMO_ERR_UNSUPPORTED: those that wait for its
# engine, for an engine whose job waits for the same reward, or for one whose job waits for a callback that waits, without
# a timeout, for either. It must not wait in another way for a thread that waits for its job: nobody can tell, and both
# wait for ever.
softdimo_reward_fn = CFUNCTYPE(ctypes.c_int32, ctypes.c_void_p, POINTER(ctypes.c_float), ctypes.c_uint32, ctypes.c_uint32, ctypes.c_uint32, POINTER(ctypes.c_float), POINTER(ctypes.c_float))


class softdimo_reward_options(Structure):
    """How the network of a reward file is opened. Call `softdimo_reward_options_init` first."""
    _fields_ = [
        # Set by `softdimo_reward_options_init`.
        ("struct_size", ctypes.c_uint32),
        # `SOFTDIMO_WEIGHTS_*`; not read for a file in memory.
        ("weights_mode", ctypes.c_uint32),
        # Of a classifier: what pictures should show. -1: class_label, or what the request's label says, by its
        # name where both files name their classes, else by its id where both have as many.
        ("class_id", ctypes.c_int32),
        # Must be zero.
        ("reserved0", ctypes.c_uint32),
        # The same by its name, UTF-8, case ignored; NULL when class_id is used, or for neither.
        ("class_label", ctypes.c_char_p),
        # Must be zero.
        ("reserved", ctypes.c_uint32 * 10),
    ]

# Versions and providers

# ABI of this header: major << 16 | minor. A library with another major number must be refused; one with
# a larger minor number only adds to what is declared here.
SOFTDIMO_ABI_VERSION = 65538


PROTOTYPES = {
    "softdimo_last_error": (ctypes.c_uint64, [ctypes.c_char_p, ctypes.c_uint64]),
    "softdimo_status_name": (ctypes.c_char_p, [ctypes.c_int32]),
    "softdimo_engine_options_init": (ctypes.c_int32, [POINTER(softdimo_engine_options), ctypes.c_uint32]),
    "softdimo_engine_options_init_game": (ctypes.c_int32, [POINTER(softdimo_engine_options), ctypes.c_uint32]),
    "softdimo_engine_open": (ctypes.c_int32, [ctypes.c_char_p, POINTER(softdimo_engine_options), POINTER(POINTER(softdimo_engine))]),
    "softdimo_engine_layout": (ctypes.c_int32, [POINTER(softdimo_engine), POINTER(softdimo_layout)]),
    "softdimo_engine_free": (None, [POINTER(softdimo_engine)]),
    "softdimo_engine_cancel_pending": (ctypes.c_int32, [POINTER(softdimo_engine), POINTER(ctypes.c_uint32)]),
    "softdimo_engine_pause": (ctypes.c_int32, [POINTER(softdimo_engine)]),
    "softdimo_engine_resume": (ctypes.c_int32, [POINTER(softdimo_engine)]),
    "softdimo_engine_set_cpu_share": (ctypes.c_int32, [POINTER(softdimo_engine), ctypes.c_uint32]),
    "softdimo_picture_style_init": (ctypes.c_int32, [POINTER(softdimo_picture_style), ctypes.c_uint32]),
    "softdimo_image_init": (ctypes.c_int32, [POINTER(softdimo_image), ctypes.c_uint32]),
    "softdimo_image_write_png": (ctypes.c_int32, [POINTER(softdimo_image), ctypes.c_char_p, POINTER(ctypes.c_char_p), ctypes.c_uint32]),
    "softdimo_request_init": (ctypes.c_int32, [POINTER(softdimo_request), ctypes.c_uint32]),
    "softdimo_generate": (ctypes.c_int32, [POINTER(softdimo_engine), POINTER(softdimo_request), POINTER(softdimo_image), ctypes.c_uint32]),
    "softdimo_seed": (ctypes.c_uint64, [ctypes.c_uint64, ctypes.c_int64, ctypes.c_int64, ctypes.c_int64]),
    "softdimo_submit": (ctypes.c_int32, [POINTER(softdimo_engine), POINTER(softdimo_request), POINTER(POINTER(softdimo_job))]),
    "softdimo_job_poll": (ctypes.c_int32, [POINTER(softdimo_job), POINTER(ctypes.c_uint32)]),
    "softdimo_job_wait": (ctypes.c_int32, [POINTER(softdimo_job), ctypes.c_int64]),
    "softdimo_job_cancel": (ctypes.c_int32, [POINTER(softdimo_job)]),
    "softdimo_job_progress": (ctypes.c_int32, [POINTER(softdimo_job), POINTER(softdimo_progress)]),
    "softdimo_job_error": (ctypes.c_int32, [POINTER(softdimo_job), ctypes.c_char_p, ctypes.c_uint64, POINTER(ctypes.c_uint64)]),
    "softdimo_job_free_all": (ctypes.c_int32, [POINTER(softdimo_engine)]),
    "softdimo_job_free": (None, [POINTER(softdimo_job)]),
    "softdimo_job_image": (ctypes.c_int32, [POINTER(softdimo_job), ctypes.c_uint32, POINTER(softdimo_image)]),
    "softdimo_job_image_f32": (ctypes.c_int32, [POINTER(softdimo_job), ctypes.c_uint32, POINTER(ctypes.c_float), ctypes.c_uint64, POINTER(ctypes.c_uint64)]),
    "softdimo_job_tokens": (ctypes.c_int32, [POINTER(softdimo_job), ctypes.c_uint32, POINTER(ctypes.c_uint32), ctypes.c_uint64, POINTER(ctypes.c_uint64)]),
    "softdimo_job_max_probability": (ctypes.c_int32, [POINTER(softdimo_job), ctypes.c_uint32, POINTER(ctypes.c_float), ctypes.c_uint64, POINTER(ctypes.c_uint64)]),
    "softdimo_job_embedding": (ctypes.c_int32, [POINTER(softdimo_job), ctypes.c_uint32, POINTER(ctypes.c_float), ctypes.c_uint64, POINTER(ctypes.c_uint64)]),
    "softdimo_job_report": (ctypes.c_int32, [POINTER(softdimo_job), ctypes.c_char_p, ctypes.c_uint64, POINTER(ctypes.c_uint64)]),
    "softdimo_engine_open_async": (ctypes.c_int32, [ctypes.c_char_p, POINTER(softdimo_engine_options), POINTER(softdimo_request), POINTER(POINTER(softdimo_opening))]),
    "softdimo_opening_progress": (ctypes.c_int32, [POINTER(softdimo_opening), POINTER(softdimo_progress)]),
    "softdimo_opening_wait": (ctypes.c_int32, [POINTER(softdimo_opening), ctypes.c_int64]),
    "softdimo_opening_cancel": (ctypes.c_int32, [POINTER(softdimo_opening)]),
    "softdimo_opening_error": (ctypes.c_int32, [POINTER(softdimo_opening), ctypes.c_char_p, ctypes.c_uint64, POINTER(ctypes.c_uint64)]),
    "softdimo_opening_engine": (ctypes.c_int32, [POINTER(softdimo_opening), POINTER(POINTER(softdimo_engine))]),
    "softdimo_opening_free": (None, [POINTER(softdimo_opening)]),
    "softdimo_engine_info": (ctypes.c_int32, [POINTER(softdimo_engine), ctypes.c_char_p, ctypes.c_uint64, POINTER(ctypes.c_uint64)]),
    "softdimo_engine_label_count": (ctypes.c_int32, [POINTER(softdimo_engine), POINTER(ctypes.c_uint32)]),
    "softdimo_engine_label": (ctypes.c_int32, [POINTER(softdimo_engine), ctypes.c_uint32, POINTER(ctypes.c_char_p)]),
    "softdimo_engine_verify": (ctypes.c_int32, [POINTER(softdimo_engine), ctypes.c_char_p, ctypes.c_char_p, ctypes.c_uint64, POINTER(ctypes.c_uint64)]),
    "softdimo_engine_memory": (ctypes.c_int32, [POINTER(softdimo_engine), POINTER(softdimo_memory)]),
    "softdimo_engine_warmup": (ctypes.c_int32, [POINTER(softdimo_engine), ctypes.c_uint32]),
    "softdimo_engine_warmup_request": (ctypes.c_int32, [POINTER(softdimo_engine), POINTER(softdimo_request)]),
    "softdimo_engine_tune": (ctypes.c_int32, [POINTER(softdimo_engine), softdimo_progress_fn, ctypes.c_void_p, POINTER(ctypes.c_uint32)]),
    "softdimo_engine_trim": (ctypes.c_int32, [POINTER(softdimo_engine)]),
    "softdimo_set_memory_budget": (ctypes.c_int32, [ctypes.c_uint64]),
    "softdimo_memory_in_use": (ctypes.c_int32, [POINTER(ctypes.c_uint64)]),
    "softdimo_engine_open_memory": (ctypes.c_int32, [ctypes.c_void_p, ctypes.c_uint64, softdimo_release_fn, ctypes.c_void_p, POINTER(softdimo_engine_options), POINTER(POINTER(softdimo_engine))]),
    "softdimo_encode": (ctypes.c_int32, [POINTER(softdimo_engine), POINTER(softdimo_image), POINTER(ctypes.c_uint32), ctypes.c_uint64, POINTER(ctypes.c_uint64)]),
    "softdimo_reward_target": (ctypes.c_int32, [POINTER(softdimo_image), POINTER(ctypes.c_float), ctypes.c_uint64, POINTER(POINTER(softdimo_reward))]),
    "softdimo_reward_color": (ctypes.c_int32, [ctypes.c_float, ctypes.c_float, ctypes.c_float, POINTER(ctypes.c_float), ctypes.c_uint64, POINTER(POINTER(softdimo_reward))]),
    "softdimo_reward_histogram": (ctypes.c_int32, [POINTER(softdimo_image), POINTER(ctypes.c_float), ctypes.c_uint64, POINTER(ctypes.c_float), ctypes.c_uint64, POINTER(POINTER(softdimo_reward))]),
    "softdimo_reward_prior": (ctypes.c_int32, [ctypes.c_uint64, POINTER(POINTER(softdimo_reward))]),
    "softdimo_reward_closeness": (ctypes.c_int32, [POINTER(POINTER(softdimo_reward))]),
    "softdimo_reward_from_callback": (ctypes.c_int32, [softdimo_reward_fn, ctypes.c_void_p, POINTER(POINTER(softdimo_reward))]),
    "softdimo_reward_options_init": (ctypes.c_int32, [POINTER(softdimo_reward_options), ctypes.c_uint32]),
    "softdimo_reward_open": (ctypes.c_int32, [ctypes.c_char_p, POINTER(softdimo_reward_options), POINTER(POINTER(softdimo_reward))]),
    "softdimo_reward_open_memory": (ctypes.c_int32, [ctypes.c_void_p, ctypes.c_uint64, softdimo_release_fn, ctypes.c_void_p, POINTER(softdimo_reward_options), POINTER(POINTER(softdimo_reward))]),
    "softdimo_reward_info": (ctypes.c_int32, [POINTER(softdimo_reward), ctypes.c_char_p, ctypes.c_uint64, POINTER(ctypes.c_uint64)]),
    "softdimo_reward_free": (None, [POINTER(softdimo_reward)]),
    "softdimo_abi_version": (ctypes.c_uint32, []),
    "softdimo_version": (ctypes.c_char_p, []),
    "softdimo_provider_count": (ctypes.c_uint32, []),
    "softdimo_provider_info": (ctypes.c_int32, [ctypes.c_uint32, ctypes.c_char_p, ctypes.c_uint64, POINTER(ctypes.c_uint64)]),
}


def declare(library):
    """Give the functions of a `ctypes.CDLL` their types."""
    for name, (result, arguments) in PROTOTYPES.items():
        function = getattr(library, name)
        function.restype, function.argtypes = result, arguments
