/** @file
 * softdimo.h: pictures in process, from one forward pass. Generated from bindings/c/src; do not edit.
 *
 * The smallest complete program, first.c, is built by
 *
 *     cc -std=c99 first.c -o first $(pkg-config --cflags --libs softdimo) -Wl,-rpath,$(pkg-config --variable=libdir softdimo)
 *
 *     #include <softdimo.h>
 *     #include <stdio.h>
 *     #include <stdlib.h>
 *
 *     // Ends the program, saying why, if a call failed.
 *     static void check(const char *what, int32_t status) {
 *       char why[1024];
 *       if (status == SOFTDIMO_OK) return;
 *       softdimo_last_error(why, sizeof why);
 *       fprintf(stderr, "%s: %s (%s)\n", what, why, softdimo_status_name(status));
 *       exit(EXIT_FAILURE);
 *     }
 *
 *     int main(int argc, char **argv) {
 *       softdimo_engine *engine;
 *       softdimo_layout layout;
 *       softdimo_request request;
 *       softdimo_image image;
 *       if (argc != 4) return fprintf(stderr, "usage: first MODEL LABEL OUT.png\n"), EXIT_FAILURE;
 *       check("open", softdimo_engine_open(argv[1], NULL, &engine));
 *
 *       layout.struct_size = sizeof layout;
 *       check("layout", softdimo_engine_layout(engine, &layout));
 *       check("image", softdimo_image_init(&image, sizeof image));
 *       image.width = layout.width;
 *       image.height = layout.height;
 *       image.capacity = (uint64_t)layout.width * layout.height * 4; // RGBA, 8 bits a channel
 *       image.data = malloc(image.capacity);
 *       if (!image.data) return fprintf(stderr, "out of memory\n"), EXIT_FAILURE;
 *
 *       check("request", softdimo_request_init(&request, sizeof request));
 *       request.label = argv[2];
 *       request.seed = 7;
 *       check("generate", softdimo_generate(engine, &request, &image, 1));
 *       check("write", softdimo_image_write_png(&image, argv[3], NULL, 0));
 *       free(image.data);
 *       softdimo_engine_free(engine);
 *       return EXIT_SUCCESS;
 *     }
 *
 * Sections of this file; what the program calls comes first:
 *
 * - Errors
 * - Engines
 * - Pictures
 * - Requests
 * - Generating
 * - Jobs
 * - Results of a job
 * - Opening without waiting
 * - What a model is
 * - Memory
 * - Editing
 * - Rewards
 * - Versions and providers
 *
 * Conventions. What is not in this file is not a published interface.
 *
 * - Functions return a status (`SOFTDIMO_OK` or `SOFTDIMO_ERR_*`); softdimo_last_error() has the text for the
 *   calling thread. Out parameters are written only on success, except that a buffer too small still
 *   reports the size needed.
 * - Structs start with struct_size. Those that a caller fills have an _init function, which is told sizeof(struct)
 *   and sets every field to its default; in those that the library fills, the caller sets struct_size itself.
 *   Reserved fields stay zero. Structs of older and newer versions of this header are accepted. Unknown values are
 *   errors.
 * - NULL where a pointer is required is an error, except that every _free(NULL) is a no-op.
 * - Arrays that are read are aligned for their elements; their length counts elements; NULL goes with length 0. What
 *   the library writes to (buffers, structs, out parameters), and pixels in either direction, may lie at any address.
 * - Strings are UTF-8 and NUL-terminated, at most 1 MiB long.
 * - Text convention: functions with a char buffer, its capacity and `needed` copy a text with its NUL. `*needed`
 *   (if not NULL) gets the bytes of the whole text. With a NULL buffer and capacity 0 that is all; with a capacity
 *   too small nothing is copied and the status is SOFTDIMO_ERR_BUFFER_TOO_SMALL.
 * - Array convention: the same for other arrays, with capacity and `needed` counted in elements.
 * - Any function may be called from any thread. All computing happens on the engine's own threads, named
 *   softdimo-*, with signals blocked; after softdimo_engine_free() they are gone. Callbacks run only on a
 *   thread that is inside a call of this library.
 * - A file that may not become as long as it should (RLIMIT_FSIZE) is SOFTDIMO_ERR_IO; no SIGXFSZ is raised.
 * - The library never prints, exits, changes the locale, the working directory, signal handlers (unless
 *   SOFTDIMO_WEIGHTS_MAP_GUARDED is asked for) or the caller's floating-point mode. It stays mapped after
 *   dlclose(). In a child after fork(), calls return SOFTDIMO_ERR_FORKED and frees do nothing.
 * - A callback returns: it must not throw, longjmp() or pthread_exit() past this library. pthread_cancel() of a thread
 *   that is inside a call, callbacks included, takes effect after the call, unless the thread is cancelled asynchronously
 *   (PTHREAD_CANCEL_ASYNCHRONOUS), which no call allows. A thread that calls in has at least 256 KiB of stack.
 * - A job advances on its own, but its callbacks run only inside a wait or poll of it; a STOP that comes
 *   after the job's end changes nothing.
 * - Same seed, model and provider: same tokens, for any thread count.
 */

#ifndef SOFTDIMO_H
#define SOFTDIMO_H

#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

/**
 * @defgroup error Errors
 * Every call that can fail returns a status. The words for a person, which name the thing, what was expected
 * and what was found, are the thread's last error.
 * @{
 */

/// Success.
#define SOFTDIMO_OK 0
/// An argument or a field is out of range, of the wrong kind, or not zero where reserved.
#define SOFTDIMO_ERR_INVALID_ARGUMENT 1
/// A required pointer is NULL.
#define SOFTDIMO_ERR_NULL_ARGUMENT 2
/// `struct_size` is not one this library knows, or was not set.
#define SOFTDIMO_ERR_STRUCT_SIZE 3
/// The file does not exist.
#define SOFTDIMO_ERR_NOT_FOUND 4
/// Reading or writing a file failed.
#define SOFTDIMO_ERR_IO 5
/// The file breaks a rule of its format (truncated, overlapping, not a model file), or has lost bytes since.
#define SOFTDIMO_ERR_FORMAT 6
/// A tensor the model needs is not in the file.
#define SOFTDIMO_ERR_MISSING_TENSOR 7
/// A tensor has another shape or dtype than the model needs.
#define SOFTDIMO_ERR_TENSOR_MISMATCH 8
/// The file's configuration is missing, makes no sense, or is of the other kind (generator, reward).
#define SOFTDIMO_ERR_CONFIG 9
/// The label is not one of the model's; the message suggests close ones.
#define SOFTDIMO_ERR_UNKNOWN_LABEL 10
/// The model or this build cannot do what was asked.
#define SOFTDIMO_ERR_UNSUPPORTED 11
/// A caller-owned buffer or picture is too small.
#define SOFTDIMO_ERR_BUFFER_TOO_SMALL 12
/// No usable ONNX Runtime library; the message lists every place tried.
#define SOFTDIMO_ERR_RUNTIME_NOT_FOUND 13
/// ONNX Runtime reported a failure.
#define SOFTDIMO_ERR_RUNTIME 14
/// The execution provider asked for is not usable; the message says what is missing.
#define SOFTDIMO_ERR_PROVIDER 15
/// The work would exceed the engine's memory_limit.
#define SOFTDIMO_ERR_OUT_OF_MEMORY 16
/// The job was cancelled.
#define SOFTDIMO_ERR_CANCELLED 17
/// The job has not finished yet.
#define SOFTDIMO_ERR_NOT_READY 18
/// The wait ended before the job did; the job goes on.
#define SOFTDIMO_ERR_TIMEOUT 19
/// Called in a forked child of a process that has opened an engine.
#define SOFTDIMO_ERR_FORKED 20
/// A bug in this library; the engine refuses further work and the host is unharmed.
#define SOFTDIMO_ERR_INTERNAL 21

/// Copy the message of this thread's last failed call, NUL-terminated and cut between characters to `capacity`
/// bytes; a NULL `buffer` or a capacity of 0 copies nothing. Returns the bytes the whole message needs, its NUL
/// included: 1 where no call of this thread has failed yet. Calls that succeed leave the message alone.
uint64_t softdimo_last_error(char *buffer,
                             uint64_t capacity);

/// Name of a status, e.g. "SOFTDIMO_ERR_IO"; "SOFTDIMO_ERR_UNKNOWN" for other values. Static string.
const char *softdimo_status_name(int32_t status);

/** @} */

/**
 * @defgroup engine Engines
 * An engine is an opened model with its own threads. Opening one takes milliseconds; the options say where
 * to compute, and with how much memory.
 * @{
 */

/// An opened model on an execution provider. Thread-safe; may be shared.
typedef struct softdimo_engine softdimo_engine;

/// Weights are used where they lie: opens in milliseconds, memory is shared page cache (default).
#define SOFTDIMO_MEMORY_LEAN 0
/// Weights are packed for the processor on first use: faster, one more copy in memory.
#define SOFTDIMO_MEMORY_FAST 1

/// Weights that are laid out for int8 arithmetic are computed with in int8 where the provider is fast at it: on the CPU, also with
/// "openvino", which computes with others in bf16 on processors that are fast at it (default).
#define SOFTDIMO_ARITHMETIC_AUTO 0
/// They are widened, and computed with in f32.
#define SOFTDIMO_ARITHMETIC_F32 1

/// The file is mapped (default). Replace it by rename; never truncate it in place.
#define SOFTDIMO_WEIGHTS_MAP 0
/// The file is copied into memory once.
#define SOFTDIMO_WEIGHTS_READ 1
/// Mapped, and a SIGBUS handler (chained to the host's) turns truncation into SOFTDIMO_ERR_FORMAT.
/// Process-wide. Windows: nobody can write the file until it is closed, and one of a network or of a medium that can be taken
/// out is copied into memory; one of an external disk is mapped.
#define SOFTDIMO_WEIGHTS_MAP_GUARDED 2

/// Severity of log messages: an error.
#define SOFTDIMO_LOG_ERROR 1
/// A warning.
#define SOFTDIMO_LOG_WARNING 2
/// Information: the runtime that was loaded, sessions that were prepared.
#define SOFTDIMO_LOG_INFO 3

/// Result of every callback: go on.
#define SOFTDIMO_CONTINUE 0
/// Stop, as does any other value (progress, reward: cancel the job; log: no more messages).
#define SOFTDIMO_STOP 1

/// Called with a UTF-8 message that is valid during the call, on a thread that is inside opening or warming
/// up this engine, taking it out of an opening, `softdimo_generate`, or a wait or poll of one of its jobs. Must not throw and must not
/// call back into this library.
typedef int32_t (*softdimo_log_fn)(void *user_data, int32_t level, const char *message);

/// Options of an engine. Call `softdimo_engine_options_init` first, then change what you need. Strings are
/// copied when the engine is opened.
typedef struct softdimo_engine_options {
  /// Set by `softdimo_engine_options_init`.
  uint32_t struct_size;
  /// `SOFTDIMO_MEMORY_*`.
  uint32_t memory_mode;
  /// `SOFTDIMO_WEIGHTS_*`; not read for a model in memory.
  uint32_t weights_mode;
  /// Threads that compute one run, 0 to 256; 0 = one per core, at most 8. Each of the 8 sessions used last may have
  /// as many, less the worker; they sleep between runs.
  uint32_t threads;
  /// Niceness added to the engine's threads on Linux, 0 (default) to 19. On Windows their priority within the class of the
  /// process: 1 to 9 below normal, 10 to 18 lowest, 19 idle; what wants the core and has a higher one goes first.
  /// Elsewhere it does nothing.
  int32_t niceness;
  /// GPU index for "cuda", 0 or more.
  int32_t device_id;
  /// Bytes the engine may hold beyond mapped pages; 0 = no limit. Sessions used longest ago are dropped to make room;
  /// work that would exceed it even so is refused with SOFTDIMO_ERR_OUT_OF_MEMORY before anything is allocated.
  uint64_t memory_limit;
  /// "cpu" (also NULL), "cuda" or "openvino". Asked for and not usable is an error, never a silent fallback.
  const char *provider;
  /// Path of the ONNX Runtime library, UTF-8. NULL: the environment variable SOFTDIMO_ORT_LIBRARY, then the
  /// folder of this library, then the system loader. One runtime serves the whole process: the first engine
  /// chooses it.
  const char *ort_library;
  /// Receives log messages; NULL for none. The library never prints.
  softdimo_log_fn log;
  /// Given to `log`; both must stay valid until the engine and all its jobs are freed.
  void *log_user_data;
  /// Least severe messages wanted, `SOFTDIMO_LOG_*`; default SOFTDIMO_LOG_WARNING.
  int32_t log_level;
  /// Billions of multiply-adds that one network may take for a picture; 0 = 40000, more than four times what
  /// Meissonic needs at 1024x1024. What takes more, or has a node for every two billion, is refused when it is opened:
  /// SOFTDIMO_ERR_UNSUPPORTED. Since ABI 1.1.
  uint32_t work_limit;
  /// 1: networks look every millisecond or so of computing, instead of once a call, whether the engine is paused or has used
  /// up its share of the processor; the pictures are the same. CPU only. 0 (default): they do not. Since ABI 1.2.
  uint32_t yielding;
  /// What weights that are laid out for int8 arithmetic are computed with, `SOFTDIMO_ARITHMETIC_*`: int8 where the provider is
  /// fast at it (default), or f32 always. All other weights are computed with in f32, with "openvino" also in bf16. Since ABI 1.2.
  uint32_t arithmetic;
  /// 1: what `softdimo_engine_tune` remembered of this model and machine is not read. 0 (default): it is. Since ABI 1.2.
  uint32_t untuned;
  /// Must be zero.
  uint32_t reserved[3];
} softdimo_engine_options;

/// Fill `options` with defaults; `struct_size` is `sizeof(softdimo_engine_options)`. Errors: NULL, unknown
/// size.
int32_t softdimo_engine_options_init(struct softdimo_engine_options *options,
                                     uint32_t struct_size);

/// The same for an engine beside a game's own threads, which are not to miss a frame for it: `threads` is 1, the worker,
/// so that no more than one core is taken, and `niceness` is 10, with which the worker gets a tenth of a core that another
/// thread wants too (on Windows what that thread leaves), and all of one that is free. Memory stays as lean as by default; what else suits a game depends on
/// it. Errors: NULL, unknown size. Since ABI 1.2.
int32_t softdimo_engine_options_init_game(struct softdimo_engine_options *options,
                                          uint32_t struct_size);

/// Open the model file at `path` (UTF-8). `options` may be NULL for defaults. On success `*engine` is to be
/// freed with `softdimo_engine_free`; on failure it is not written. Blocks for milliseconds, longer for a model in int4, which is unpacked: weights are
/// mapped, not read. Errors: those of files (`SOFTDIMO_ERR_NOT_FOUND` to `SOFTDIMO_ERR_CONFIG`, the latter
/// also for a reward file), of the runtime and its provider, bad options.
int32_t softdimo_engine_open(const char *path,
                             const struct softdimo_engine_options *options,
                             struct softdimo_engine **engine);

/// Shapes of a model. Set struct_size before the call that fills it.
typedef struct softdimo_layout {
  /// To be set to `sizeof(softdimo_layout)`.
  uint32_t struct_size;
  /// Width of a picture in pixels.
  uint32_t width;
  /// Height of a picture in pixels.
  uint32_t height;
  /// Tokens of a picture are [positions, splits].
  uint32_t positions;
  /// Tokens at a position.
  uint32_t splits;
  /// Codes per token: ids below this.
  uint32_t codes;
  /// Id of the mask token, not below `codes`; ids between them are no tokens.
  uint32_t mask_token;
  /// Width of a start embedding [positions, embedding].
  uint32_t embedding;
  /// Class ids are below this; this number itself means no label. 0 for models that read prompts.
  uint32_t classes;
  /// Channels of a picture: 3 (red, green, blue), or 4 with straight alpha. Since ABI 1.2; older libraries, whose pictures
  /// have 3, leave 0 here.
  uint32_t channels;
} softdimo_layout;

/// Picture size, tokens and embedding of the model. Set `layout->struct_size` before the call.
int32_t softdimo_engine_layout(const struct softdimo_engine *engine,
                               struct softdimo_layout *layout);

/// Free an engine: NULL is fine. Its threads are joined unless jobs of it are still alive, which keep it
/// running until they are freed; a paused one goes on for them. In a forked child this does nothing.
void softdimo_engine_free(struct softdimo_engine *engine);

/// Cancel every job of the engine that has not begun, as `softdimo_job_cancel` does; the running one goes on. `*count`
/// becomes how many there were; it may be NULL. Returns at once. The jobs are still to be freed. Since ABI 1.2.
int32_t softdimo_engine_cancel_pending(const struct softdimo_engine *engine,
                                       uint32_t *count);

/// Have the engine compute nothing until `softdimo_engine_resume`: the network call that runs (with `options.yielding` the few
/// nodes of it), or the session that is being prepared, is finished first. Idempotent, and returns at once. Meanwhile jobs can
/// be submitted, polled, cancelled and freed, and the engine be freed; a job that has not begun does not. A wait for a job, and
/// calls that have the engine compute, wait until it is resumed. A cancelled optimisation still makes its best picture: that is
/// all that is computed. Deadlines go on. Since ABI 1.2.
int32_t softdimo_engine_pause(const struct softdimo_engine *engine);

/// Go on after `softdimo_engine_pause`. Idempotent. Since ABI 1.2.
int32_t softdimo_engine_resume(const struct softdimo_engine *engine);

/// Have the engine's threads, together, compute for at most `percent` percent of the time of one core: 1 to 100 for each of its
/// threads; 0 (at first) for no limit. After every network call, and after the preparation of a session, the engine computes
/// nothing until its share has come up to what that took: the share holds over times that are longer than a call, with
/// `options.yielding` over those that are longer than some milliseconds. Returns at once, and counts from the next call on.
/// Linux and Windows; no effect elsewhere. Since ABI 1.2.
int32_t softdimo_engine_set_cpu_share(const struct softdimo_engine *engine,
                                      uint32_t percent);

/** @} */

/**
 * @defgroup picture Pictures
 * Pictures are buffers of the caller's: the library writes into them and keeps none.
 * @{
 */

/// 8 bits a channel, R G B A, sRGB (default).
#define SOFTDIMO_FORMAT_RGBA8 0
/// 8 bits a channel, R G B, sRGB.
#define SOFTDIMO_FORMAT_RGB8 1
/// 8 bits a channel, B G R A, sRGB.
#define SOFTDIMO_FORMAT_BGRA8 2
/// 32-bit float a channel, R G B A, sRGB-encoded values in [0, 1].
#define SOFTDIMO_FORMAT_RGBA32F 3

/// The first row in memory is the top of the picture (default).
#define SOFTDIMO_ORIGIN_TOP_LEFT 0
/// The first row in memory is the bottom of the picture (OpenGL, Unity).
#define SOFTDIMO_ORIGIN_BOTTOM_LEFT 1

/// A pixel of a larger picture has the colour of the model's pixel that it lies in: pixel art (default). Since ABI 1.2.
#define SOFTDIMO_SCALING_NEAREST 0
/// It has one between those of the model's pixels around it (Catmull-Rom). Since ABI 1.2.
#define SOFTDIMO_SCALING_SMOOTH 1

/// Every pixel has the nearest colour of the palette (default). Since ABI 1.2.
#define SOFTDIMO_DITHER_NONE 0
/// Colours are mixed in an ordered pattern of 4 x 4 pixels. Since ABI 1.2.
#define SOFTDIMO_DITHER_BAYER4 1
/// The same of 8 x 8 pixels. Since ABI 1.2.
#define SOFTDIMO_DITHER_BAYER8 2

/// How pictures are written: first the background is taken away, then colours are chosen, both at the model's size, then the
/// picture is enlarged. The calling thread does it, in about a millisecond for 32 x 32 pixels. Call
/// `softdimo_picture_style_init` first. Since ABI 1.2.
typedef struct softdimo_picture_style {
  /// Set by `softdimo_picture_style_init`.
  uint32_t struct_size;
  /// `SOFTDIMO_SCALING_*`, of images that are larger than the model's pictures.
  uint32_t scaling;
  /// The colours a picture may have, those nearest in OKLab: `palette_count` times 3 or 4 bytes, sRGB. NULL: as many colours
  /// as palette_count says, found from the picture's own, without random numbers; or all colours, where that is 0.
  const uint8_t *palette;
  /// 2 to 256, or 0.
  uint32_t palette_count;
  /// SOFTDIMO_FORMAT_RGBA8 (default) or SOFTDIMO_FORMAT_RGB8: what lies at `palette`. Of RGBA8, colours of alpha 0 are left
  /// out. Pixels keep their alpha.
  uint32_t palette_format;
  /// `SOFTDIMO_DITHER_*`; with a palette only.
  uint32_t dither;
  /// How much of the way to the right mixture, 0 to 1 (default).
  float dither_strength;
  /// 1: the background becomes transparent, edges partly so. It is what is like the most common colour of the picture's
  /// border and is connected with the border. Needs a format with alpha, and a model without. 0
  /// (default): it stays.
  uint32_t matte;
  /// How far from that colour background may be, as a distance in OKLab, where black and white are 1 apart: 0 to 1; -1
  /// = 0.04.
  float matte_tolerance;
  /// Background that something encloses becomes transparent too from this many of the model's pixels on; 0 (default):
  /// holes stay opaque.
  uint32_t matte_hole_area;
  /// Must be zero.
  uint32_t reserved[9];
} softdimo_picture_style;

/// Fill `style` with defaults: nothing is done but enlarging by repeating pixels; `struct_size` is
/// `sizeof(softdimo_picture_style)`. Errors: NULL, unknown size. Since ABI 1.2.
int32_t softdimo_picture_style_init(struct softdimo_picture_style *style, uint32_t struct_size);

/// A caller-owned picture buffer. Call `softdimo_image_init` first.
typedef struct softdimo_image {
  /// Set by `softdimo_image_init`. In an array, also the distance of its elements.
  uint32_t struct_size;
  /// Width in pixels: the model's (`softdimo_engine_layout`), unless a function says any size. Where generated pictures
  /// are written (`softdimo_generate`, `softdimo_job_image`), a multiple of it will do: the picture is enlarged while it is
  /// copied.
  uint32_t width;
  /// Height in pixels, likewise; by a factor of its own.
  uint32_t height;
  /// Bytes from one row to the next; 0 = tightly packed. What lies between rows is never written.
  uint32_t stride;
  /// `SOFTDIMO_FORMAT_*`.
  uint32_t format;
  /// `SOFTDIMO_ORIGIN_*`.
  uint32_t origin;
  /// The pixels, at any alignment; used during the call only. Pictures are written with an opaque alpha, unless `style`
  /// has a matte or the model makes alpha, which then is straight; formats without alpha show the model's background behind
  /// it. Where a picture is only read, nothing is written.
  void *data;
  /// Bytes at `data`: at least (height - 1) * stride + width * bytes per pixel.
  uint64_t capacity;
  /// How a generated picture is written; used during the call only, and not where the picture is only read. NULL: as it
  /// is. One style may serve many images. Since ABI 1.2.
  const struct softdimo_picture_style *style;
} softdimo_image;

/// Fill `image` with defaults: RGBA8, top-left origin, no buffer; `struct_size` is `sizeof(softdimo_image)`.
/// Errors: NULL, unknown size.
int32_t softdimo_image_init(struct softdimo_image *image,
                            uint32_t struct_size);

/// Write a picture of any size as PNG (RGB8 becomes RGB, all else RGBA with 8 bits a channel). `text` holds
/// `pair_count` pairs of keyword and value for `tEXt`/`iTXt` chunks (NULL and 0 for none): put
/// `softdimo_job_report` there to be able to make the picture again. The file appears complete or not at all,
/// and replaces one of its name, unless that is read-only.
int32_t softdimo_image_write_png(const struct softdimo_image *image,
                                 const char *path,
                                 const char *const *text,
                                 uint32_t pair_count);

/** @} */

/**
 * @defgroup request Requests
 * A request says what to generate. What is left at its default takes the model's own, stored in its file.
 * @{
 */

/// Sample codes and decode those (default).
#define SOFTDIMO_DECODE_HARD 0
/// Decode the expected code, the soft embedding. One-step jobs only.
#define SOFTDIMO_DECODE_SOFT 1

/// Called with the steps done and the steps in all (one network call each), on the thread that is inside
/// `softdimo_generate`, `softdimo_job_wait` or `softdimo_job_poll`; with the sessions that are prepared and those in all inside
/// `softdimo_engine_warmup_request`, with what is measured and is to be inside `softdimo_engine_tune`. Must not throw, and must not free the job.
typedef int32_t (*softdimo_progress_fn)(void *user_data, uint32_t step, uint32_t total);

/// Gradient ascent, with momentum where set (default; the paper's choice).
#define SOFTDIMO_OPTIMIZER_SGD 0
/// Adam with its usual constants.
#define SOFTDIMO_OPTIMIZER_ADAM 1

/// What an optimisation moves: the start embedding (default).
#define SOFTDIMO_VARIABLE_EMBEDDING 1
/// Only the noise part of the start embedding. Not with SOFTDIMO_VARIABLE_EMBEDDING.
#define SOFTDIMO_VARIABLE_NOISE 2
/// The class embedding, or the prompt's features.
#define SOFTDIMO_VARIABLE_CLASS 4

/// A reward that optimisation climbs; see the functions that make one. Immutable; may be used by several
/// jobs; must outlive the call that takes it, not the job.
typedef struct softdimo_reward softdimo_reward;

/// A reward with its weight in the sum that is maximised.
typedef struct softdimo_reward_term {
  /// Must not be NULL.
  const struct softdimo_reward *reward;
  /// Finite; negative to move away from it.
  float weight;
  /// Must be zero.
  uint32_t reserved;
} softdimo_reward_term;

/// A request. Call `softdimo_request_init` first. Pointers need to live only during the call that takes
/// the request, except `progress_user_data`. A float or top_k of -1 takes the model's default.
typedef struct softdimo_request {
  /// Set by `softdimo_request_init`.
  uint32_t struct_size;
  /// Pictures to make, 1 to 256. Picture b uses seed + b and equals the one picture of that seed.
  uint32_t batch;
  /// Seed of the first picture.
  uint64_t seed;
  /// Class name for all pictures or a synonym of one, UTF-8; case, spaces, hyphens, underscores and an English plural do
  /// not matter. NULL when class_labels is used, or for no label.
  const char *label;
  /// Class ids, one for all pictures or one each; the number of classes means no label. NULL for none.
  const int32_t *class_labels;
  /// Ids at `class_labels`: 0, 1 or `batch`.
  uint32_t class_label_count;
  /// 0: the model's own way (one step where it has a student). 1: one step. 2 to 10000: the multi-step
  /// teacher.
  uint32_t steps;
  /// Text prompt for all pictures, UTF-8: for text-to-image models and for rewards that read one; an error
  /// where nothing does. NULL for none.
  const char *prompt;
  /// Text-to-image models, with steps > 1: what guidance leads away from. NULL: the model's default.
  const char *negative_prompt;
  /// Sampling temperature, 0 to 10000; 0 = arg-max, for one step only.
  float temperature;
  /// Keep the most probable codes up to this probability, above 0 to 1; 1 = all. One step only.
  float top_p;
  /// Keep the k most probable codes; 0 = all. One step only.
  int32_t top_k;
  /// Share of start tokens that are masked, 0 to 1. One step only.
  float mask_ratio;
  /// Standard deviation of the start embedding's perturbation, 0 to 1. One step only.
  float sigma;
  /// Teacher: classifier-free guidance scale, 0 (none) to 10000.
  float guidance_scale;
  /// Teacher: temperature of the confidence noise, 0 to 10000.
  float randomize_temperature;
  /// `SOFTDIMO_DECODE_*`.
  uint32_t decode;
  /// 1: also decode the other way and report how much hard and soft picture differ. 0: do not.
  uint32_t report_gap;
  /// Must be zero.
  uint32_t reserved0;
  /// Start tokens [batch, positions, splits], the mask token allowed; NULL: seeded.
  const uint32_t *start_tokens;
  /// Tokens at `start_tokens`.
  uint64_t start_token_count;
  /// Start embedding [batch, positions, embedding]; NULL: made from the start tokens. One step only; not with
  /// start_tokens.
  const float *e_in;
  /// Floats at `e_in`.
  uint64_t e_in_count;
  /// Called after each step; NULL for none.
  softdimo_progress_fn progress;
  /// Given to `progress`; both must stay valid until the job is freed.
  void *progress_user_data;
  /// Test-time embedding optimisation: what to maximise, Σ weight·reward per picture; NULL for none, and then the fields
  /// of an optimisation below must be as softdimo_request_init leaves them.
  const struct softdimo_reward_term *rewards;
  /// Terms at `rewards`, at most 64, and at most one of them a callback.
  uint32_t reward_count;
  /// Updates, 0 to 100000; the start counts as iterate 0, and the best iterate is kept.
  uint32_t optimize_steps;
  /// Learning rate; -1 = 0.2.
  float lr;
  /// `SOFTDIMO_OPTIMIZER_*`.
  uint32_t optimizer;
  /// Of SGD, 0 to below 1.
  float momentum;
  /// Scale each picture's gradient down to this norm; 0 = off.
  float clip;
  /// Weight of the pull of the noise's norm towards its prior; 0 = off; needs SOFTDIMO_VARIABLE_NOISE.
  float norm_regularizer;
  /// `SOFTDIMO_VARIABLE_*`, added up; 0 = the embedding.
  uint32_t variables;
  /// Milliseconds for the whole job, from when the engine begins with it: preparing, optimising, making the picture. The
  /// optimisation ends where another iterate and the picture would take longer than is left; out of time before the
  /// first iterate, the job has the picture of its start. What a late job had begun to prepare is finished beside the
  /// next ones. -1 = no deadline.
  int64_t deadline_ms;
  /// Start from this picture (the model's size) instead of from nothing; NULL for none. Its kept tokens are
  /// known at the start and, with SOFTDIMO_DECODE_HARD, in the result. Not with start_tokens.
  const struct softdimo_image *edit_image;
  /// Inpainting: weights [height, width] from the top; tokens whose cell has no pixel above 0 are kept. NULL:
  /// edit_keep says what is kept. Only for models whose tokens stand for places.
  const float *edit_mask;
  /// Floats at `edit_mask`: width * height.
  uint64_t edit_mask_count;
  /// Variation: share of the picture's tokens that are kept, chosen by seed, 0 to 1; -1 with a mask or
  /// without a picture.
  float edit_keep;
  /// Text-to-image models: aesthetic score the picture should have, 0 to 100; -1 = the model's default.
  float aesthetic_score;
  /// Text-to-image models: width in pixels the picture is said to have had, 0 to 65536; -1, here and in
  /// original_height, = the model's default.
  int32_t original_width;
  /// The same, its height.
  int32_t original_height;
  /// Text-to-image models: left of the crop it is said to be, in pixels, 0 to 65536; -1, here and in
  /// crop_top, = the model's default.
  int32_t crop_left;
  /// The same, its top.
  int32_t crop_top;
  /// 1: a step of the optimisation takes less memory and more time; the result is the same. 0: it does not.
  uint32_t recompute;
  /// Jobs of higher priority go first, those of equal priority in the order of their submission; default 0, which is also
  /// that of calls such as softdimo_engine_memory. A running job of several steps, or an optimisation without a deadline,
  /// lets jobs of higher priority go before its next step, where memory_limit has room for both. Since ABI 1.2.
  int32_t priority;
  /// The latest wins: jobs of the same engine with this key that have not begun end as SOFTDIMO_JOB_CANCELLED when this one
  /// is submitted. 0 (default) for none. Since ABI 1.2.
  uint64_t queue_key;
  /// Must be zero.
  uint32_t reserved[6];
} softdimo_request;

/// Fill `request` with defaults: one picture, seed 0, no label; `struct_size` is `sizeof(softdimo_request)`.
/// Errors: NULL, unknown size.
int32_t softdimo_request_init(struct softdimo_request *request,
                              uint32_t struct_size);

/** @} */

/**
 * @defgroup generate Generating
 * The whole thing in one call. Jobs do the same without blocking.
 * @{
 */

/// Generate `image_count` (= request.batch) pictures into caller-owned buffers of the model's size, or of multiples of it,
/// and wait. Nothing is written unless all succeed. `images` is an array whose elements are `images[0].struct_size` bytes
/// apart.
int32_t softdimo_generate(const struct softdimo_engine *engine,
                          const struct softdimo_request *request,
                          struct softdimo_image *images,
                          uint32_t image_count);

/// The seed of a place in a world, for `request.seed`: the same for the same numbers on every machine, in every version.
/// Other places and other worlds get other seeds; give 0 for coordinates you do not have. Picture b of a batch has seed + b,
/// and batches of up to 256 pictures at neighbouring places do not share seeds. Cannot fail. Others can compute it: all
/// arithmetic wraps at 2^64, coordinates are two's complement,
///
///     mix(h): h ^= h >> 30; h *= 0xBF58476D1CE4E5B9; h ^= h >> 27; h *= 0x94D049BB133111EB; h ^= h >> 31
///     h = mix(world_seed + 0x9E3779B97F4A7C15), then h = mix(h + c + 0x9E3779B97F4A7C15) for c = x, y, z
///
/// Since ABI 1.2.
uint64_t softdimo_seed(uint64_t world_seed,
                       int64_t x,
                       int64_t y,
                       int64_t z);

/** @} */

/**
 * @defgroup job Jobs
 * A job is a request under way. It advances on its own, on the engine's threads; its callbacks run only
 * inside a wait or poll of it. For a frame loop: submit, poll once a frame, read the result, free.
 * @{
 */

/// A submitted request. Thread-safe, except that it must not be freed while another call uses it.
typedef struct softdimo_job softdimo_job;

/// Queue a request and return at once. On success `*job` is to be freed with `softdimo_job_free`. Jobs of one
/// engine run one after the other, those of higher `request.priority` first, and else in order; queued jobs with its
/// `request.queue_key` end. Errors of the request show here; what goes wrong later is the job's.
int32_t softdimo_submit(const struct softdimo_engine *engine,
                        const struct softdimo_request *request,
                        struct softdimo_job **job);

/// State of a job: others of its engine come first.
#define SOFTDIMO_JOB_QUEUED 0
/// The engine works on it.
#define SOFTDIMO_JOB_RUNNING 1
/// Final: the result can be read.
#define SOFTDIMO_JOB_DONE 2
/// Final: `softdimo_job_error` says why.
#define SOFTDIMO_JOB_FAILED 3
/// Final. An optimisation that was cancelled still has its best pictures to read.
#define SOFTDIMO_JOB_CANCELLED 4
/// The job stands still until a wait or poll of it calls its reward callback. Told by `softdimo_job_progress` alone, and only
/// to a struct that has `waiting_ms`; everything else says SOFTDIMO_JOB_RUNNING. Since ABI 1.2.
#define SOFTDIMO_JOB_WAITING 5

/// State of the job (`SOFTDIMO_JOB_*`), without waiting for it, nor for any lock that a thread of the engine may hold; calls
/// the progress callback if there is news, and the reward callback the job waits for. Where another thread is inside that
/// callback, or this one, it is not called, and the state is SOFTDIMO_JOB_RUNNING: the next poll tries again. SOFTDIMO_OK also
/// for a job that failed: that is its state.
int32_t softdimo_job_poll(const struct softdimo_job *job,
                          uint32_t *state);

/// Wait for the end of the job, at most `timeout_ms` milliseconds (negative: as long as it takes). Returns
/// SOFTDIMO_OK, SOFTDIMO_ERR_TIMEOUT (the job goes on), SOFTDIMO_ERR_CANCELLED, or the job's failure.
int32_t softdimo_job_wait(const struct softdimo_job *job,
                          int64_t timeout_ms);

/// Ask the job to end; returns at once, and waits for no lock that a thread of the engine may hold. Any thread, any number of
/// times; counts even before the job starts.
int32_t softdimo_job_cancel(const struct softdimo_job *job);

/// Progress of a job. Set struct_size before the call that fills it.
typedef struct softdimo_progress {
  /// To be set to `sizeof(softdimo_progress)`.
  uint32_t struct_size;
  /// `SOFTDIMO_JOB_*`.
  uint32_t state;
  /// Steps done (one network call each).
  uint32_t step;
  /// Steps in all; 0 before the job has started.
  uint32_t total;
  /// With SOFTDIMO_JOB_WAITING: for how many milliseconds the reward callback has been due; else 0. Since ABI 1.2.
  uint32_t waiting_ms;
  /// Zero. Since ABI 1.2.
  uint32_t reserved;
} softdimo_progress;

/// State and steps of the job, without waiting and without callbacks, and without any lock that a thread of the engine may
/// hold. A job whose reward callback is due is SOFTDIMO_JOB_WAITING where `progress` has `waiting_ms` (a struct of ABI 1.1
/// or older hears SOFTDIMO_JOB_RUNNING), until a thread is inside the callback for it.
int32_t softdimo_job_progress(const struct softdimo_job *job,
                              struct softdimo_progress *progress);

/// Why a job failed or was cancelled, by a newer one with its `queue_key` say; empty text for one that has a result or has
/// not ended. Text convention.
int32_t softdimo_job_error(const struct softdimo_job *job,
                           char *buffer,
                           uint64_t capacity,
                           uint64_t *needed);

/// Free every job that was submitted to this engine and not freed yet, for hosts that have lost their handles (a script that
/// was reloaded): all are cancelled, then freed as by `softdimo_job_free`. Their handles must not be used any more, and must not
/// be in use; what their callbacks use can be freed afterwards. Safe beside `softdimo_submit`: a job that another thread submits
/// meanwhile is among them or is not, so that that thread must not use it either. Not inside callbacks. Since ABI 1.2.
int32_t softdimo_job_free_all(const struct softdimo_engine *engine);

/// Free a job: NULL is fine. A job that has not ended is cancelled and waited for. In a forked child this
/// does nothing.
void softdimo_job_free(struct softdimo_job *job);

/** @} */

/**
 * @defgroup result Results of a job
 * What a job has made: one that is done, or an optimisation that was cancelled, which has the best pictures
 * so far. Before the end these calls return SOFTDIMO_ERR_NOT_READY, after a failure that failure.
 * @{
 */

/// Copy picture `index` (below the request's batch) into a caller-owned buffer of the model's size, or of multiples of it.
int32_t softdimo_job_image(const struct softdimo_job *job,
                           uint32_t index,
                           struct softdimo_image *image);

/// Copy picture `index` as the decoder's floats [channels, height, width], nominally in [0, 1], not clamped; channels as
/// softdimo_layout says. Array convention.
int32_t softdimo_job_image_f32(const struct softdimo_job *job,
                               uint32_t index,
                               float *pixels,
                               uint64_t capacity,
                               uint64_t *needed);

/// Copy the tokens [positions, splits] of picture `index`: the picture, bit for bit. Array convention.
int32_t softdimo_job_tokens(const struct softdimo_job *job,
                            uint32_t index,
                            uint32_t *tokens,
                            uint64_t capacity,
                            uint64_t *needed);

/// Copy the largest softmax probability of each token [positions, splits] of picture `index` of a one-step
/// job. Array convention.
int32_t softdimo_job_max_probability(const struct softdimo_job *job,
                                     uint32_t index,
                                     float *probabilities,
                                     uint64_t capacity,
                                     uint64_t *needed);

/// Copy the start embedding [positions, embedding] of picture `index` of a one-step job, after an
/// optimisation its best one; give it back in `request.e_in` to start from the same point. Array convention.
int32_t softdimo_job_embedding(const struct softdimo_job *job,
                               uint32_t index,
                               float *e_in,
                               uint64_t capacity,
                               uint64_t *needed);

/// JSON about the job: the request with every default filled in, model, runtime, confidence, the course of an
/// optimisation, what of the request nothing read (`warnings`), time. Text convention.
int32_t softdimo_job_report(const struct softdimo_job *job,
                            char *buffer,
                            uint64_t capacity,
                            uint64_t *needed);

/** @} */

/**
 * @defgroup opening Opening without waiting
 * Opening an engine without waiting for it: on a thread of its own, which then prepares it for the first request. For a loading
 * screen: open, look at the progress once a frame, take the engine, free the opening.
 * @{
 */

/// An engine that is being opened. Thread-safe, except that it must not be freed while another call uses it.
typedef struct softdimo_opening softdimo_opening;

/// Begin to open the model file at `path` (UTF-8), and then to prepare the engine for `request`, as
/// `softdimo_engine_warmup_request` does without its callbacks; NULL: for one picture, as `softdimo_engine_warmup`. Returns at
/// once. On success `*opening` is to be freed with `softdimo_opening_free`. Errors: NULL, bad options, what of the request is
/// wrong for any model, that no thread can be had; what goes wrong later is the opening's. What the request points to is
/// copied; its edit is not looked at: it needs the model. Since ABI 1.2.
int32_t softdimo_engine_open_async(const char *path,
                                   const struct softdimo_engine_options *options,
                                   const struct softdimo_request *request,
                                   struct softdimo_opening **opening);

/// State (`SOFTDIMO_JOB_*`: queued, running, done, failed or cancelled) and steps (the file, then a session each; a total of 0
/// before the file is open), without waiting and without callbacks. Set struct_size before the call. Since ABI 1.2.
int32_t softdimo_opening_progress(const struct softdimo_opening *opening,
                                  struct softdimo_progress *progress);

/// Wait until the engine is prepared, at most `timeout_ms` milliseconds (negative: as long as it takes). Returns SOFTDIMO_OK,
/// SOFTDIMO_ERR_TIMEOUT (opening goes on), SOFTDIMO_ERR_CANCELLED, or what opening failed with. Since ABI 1.2.
int32_t softdimo_opening_wait(const struct softdimo_opening *opening,
                              int64_t timeout_ms);

/// Ask for the end; returns at once. Any thread, any number of times. An engine that is open already can still be taken, as it
/// is. Since ABI 1.2.
int32_t softdimo_opening_cancel(const struct softdimo_opening *opening);

/// What opening failed with; empty text for one that has not. Text convention. Since ABI 1.2.
int32_t softdimo_opening_error(const struct softdimo_opening *opening,
                               char *buffer,
                               uint64_t capacity,
                               uint64_t *needed);

/// Take the engine out, once: `*engine` is to be freed with `softdimo_engine_free`, before or after the opening. It is there as
/// soon as the file is open, and stays so where preparing fails or is cancelled; jobs that are submitted while it is being
/// prepared wait for that. Its log messages so far are sent inside this call. Errors: SOFTDIMO_ERR_NOT_READY before,
/// SOFTDIMO_ERR_INVALID_ARGUMENT for the second time, SOFTDIMO_ERR_CANCELLED, what opening failed with. Since ABI 1.2.
int32_t softdimo_opening_engine(const struct softdimo_opening *opening,
                                struct softdimo_engine **engine);

/// Free an opening: NULL is fine. What is left of it is cancelled and its thread joined, which waits for the file to be opened
/// (milliseconds, unless SOFTDIMO_WEIGHTS_READ reads all of it). An engine that was not taken goes with it, as by
/// `softdimo_engine_free`; one that was stays. In a forked child this does nothing. Since ABI 1.2.
void softdimo_opening_free(struct softdimo_opening *opening);

/** @} */

/**
 * @defgroup describe What a model is
 * What a model is, in JSON and by name, and the proof that its file computes what it should.
 * @{
 */

/// JSON about the engine: model, architecture, picture size, tokens, labels, defaults, provider, runtime.
/// Text convention.
int32_t softdimo_engine_info(const struct softdimo_engine *engine,
                             char *buffer,
                             uint64_t capacity,
                             uint64_t *needed);

/// Number of class labels of the model; 0 when it has no names for them.
int32_t softdimo_engine_label_count(const struct softdimo_engine *engine, uint32_t *count);

/// Name of class `index`, UTF-8; valid until the engine is freed.
int32_t softdimo_engine_label(const struct softdimo_engine *engine,
                              uint32_t index,
                              const char **label);

/// Replay a golden file (safetensors with tensors `b0/in/..`, `b0/out/..`, `b1/in/..`) and write a JSON report with the
/// largest difference of every tensor: proof that this model file computes what its reference computes. Every
/// call runs the whole replay, so give it room at once (64 KiB is plenty for one file). Text convention.
int32_t softdimo_engine_verify(const struct softdimo_engine *engine,
                               const char *golden,
                               char *buffer,
                               uint64_t capacity,
                               uint64_t *needed);

/** @} */

/**
 * @defgroup memory Memory
 * What an engine holds, preparing it ahead, giving memory back, and models that are in memory already.
 * @{
 */

/// Memory of an engine in bytes. Set struct_size before the call that fills it.
typedef struct softdimo_memory {
  /// To be set to `sizeof(softdimo_memory)`.
  uint32_t struct_size;
  /// Prepared sessions.
  uint32_t sessions;
  /// Mapped bytes of the model file, and of reward files in use: shared, reclaimable.
  uint64_t mapped;
  /// Weights held as copies (read, packed or on the device).
  uint64_t weights;
  /// What the prepared sessions hold beside weights: their values, where those are kept for the next run, and
  /// themselves; and the features of prompts that were encoded, 32 MiB at most.
  uint64_t activations;
  /// Bytes that a run takes beside these, at most, and gives back after it: the values of large networks in
  /// SOFTDIMO_MEMORY_LEAN, of one network at a time. They count against the memory limit. Since ABI 1.2.
  uint64_t transient;
} softdimo_memory;

/// Bytes the engine holds, by kind: mapped ones exact, the others as the runtime's allocators tell them, or from tensor
/// sizes where they do not. Waits for the jobs before it. Set `memory->struct_size` before the call.
int32_t softdimo_engine_memory(const struct softdimo_engine *engine,
                               struct softdimo_memory *memory);

/// Prepare everything a one-step job of `batch` (1 to 256) pictures needs, so that the first job is as fast
/// as the next. Blocks, and waits for the jobs before it.
int32_t softdimo_engine_warmup(const struct softdimo_engine *engine,
                               uint32_t batch);

/// Prepare everything that this request needs, of the student or the teacher, of an optimisation, of its prompts, so that
/// the first job like it is as fast as the next. Jobs are alike that differ in their seed and labels, in numbers of
/// sampling and optimising, and in what their rewards are given (targets, colours, weights, classes); the batch, the
/// kinds of rewards and their order, reward files, variables, optimizer and `recompute` make another. Calls the request's
/// progress callback with the sessions prepared and those in all (0 of 0 while jobs before it are waited for), also 20
/// times a second without news; its STOP ends the call at once: SOFTDIMO_ERR_CANCELLED. An engine keeps the eight kinds of
/// optimisations used last. Blocks. Since ABI 1.2.
int32_t softdimo_engine_warmup_request(const struct softdimo_engine *engine,
                                       const struct softdimo_request *request);

/// Measure which convolutions of a model for int8 arithmetic (`softdimo quantize --dtype int8`) this machine computes faster
/// in f32, with the engine's threads and memory mode, and remember it in the user's cache folder: the environment variable
/// SOFTDIMO_CACHE ("off": none), else `softdimo` in the system's folder for caches (XDG_CACHE_HOME, ~/.cache, LOCALAPPDATA,
/// ~/Library/Caches). This engine computes so from now on, as do those opened later with the same model, processor,
/// runtime, threads and memory mode, unless `options.untuned` is set. Pictures change by what int8 rounds off; the tokens of a
/// seed do not. Nothing else ever measures or writes there: call it when installing, or where a player waits anyway.
///
/// `progress` (may be NULL) is called on this thread with the measurements made and those in all, also 20 times a second
/// without news; SOFTDIMO_STOP ends the call: SOFTDIMO_ERR_CANCELLED, and nothing is remembered. `in_f32` (may be NULL) gets the
/// number of convolutions that are computed in f32. Takes about a second for each kind of convolution, drops
/// prepared sessions, blocks, and waits for the jobs before it. Errors: SOFTDIMO_ERR_UNSUPPORTED where there is nothing to
/// choose, SOFTDIMO_ERR_INVALID_ARGUMENT without a folder that can be written. Since ABI 1.2.
int32_t softdimo_engine_tune(const struct softdimo_engine *engine,
                             softdimo_progress_fn progress,
                             void *progress_user_data,
                             uint32_t *in_f32);

/// Give back what can be prepared again: sessions, packed weights, prompt features. Waits for the jobs before
/// it, and for the end of what they have begun to prepare.
int32_t softdimo_engine_trim(const struct softdimo_engine *engine);

/// Most bytes that all engines of this process may hold together beyond mapped pages; 0, as it is at first, for any number.
/// An engine that needs more drops what it keeps, then has others drop what they keep, each after its running job; where
/// that is not enough within half a second, its job fails with SOFTDIMO_ERR_OUT_OF_MEMORY. A budget below what is held has
/// all engines drop what they keep. Any time; does not wait. Since ABI 1.2.
int32_t softdimo_set_memory_budget(uint64_t bytes);

/// Bytes that all engines of this process hold together beyond mapped pages: what counts against the budget. Sessions that
/// have not run yet count with what they are foreseen to take. Does not wait. Since ABI 1.2.
int32_t softdimo_memory_in_use(uint64_t *bytes);

/// Called once, when nothing reads the bytes given to `softdimo_engine_open_memory` or
/// `softdimo_reward_open_memory` any more, on the thread that let go of them last.
typedef void (*softdimo_release_fn)(void *user_data, const void *data, uint64_t length);

/// Open a model whose file is in memory, at any alignment. The bytes must stay unchanged until `release` is
/// called (once, possibly on another thread); a NULL `release` means they outlive the engine and its jobs. On
/// failure `release` is not called and the bytes stay the caller's. Else as `softdimo_engine_open`.
int32_t softdimo_engine_open_memory(const void *data,
                                    uint64_t length,
                                    softdimo_release_fn release,
                                    void *user_data,
                                    const struct softdimo_engine_options *options,
                                    struct softdimo_engine **engine);

/** @} */

/**
 * @defgroup edit Editing
 * Starting from a picture: the edit_* fields of a request do it in one go; this is their first step by itself.
 * @{
 */

/// The tokens [positions, splits] of a picture of the model's size, with its alpha where the model's have one, by the
/// model's own image tokenizer: what a request's edit_image starts from, and what start_tokens take. Waits for the jobs
/// before it. Needs a model file with an encoder. Array convention.
int32_t softdimo_encode(const struct softdimo_engine *engine,
                        const struct softdimo_image *image,
                        uint32_t *tokens,
                        uint64_t capacity,
                        uint64_t *needed);

/** @} */

/**
 * @defgroup reward Rewards
 * Rewards for test-time optimisation: what a request's terms are made of. Pictures, masks and strings are
 * copied by the call that takes them. A reward that does not fit the model shows when a request uses it.
 * @{
 */

/// A reward for looking like `target` (the model's picture size): −mean squared difference over the mask.
/// `mask` holds `mask_count` = width·height weights of 0 or more, top row first, or is NULL for all pixels.
/// Free with `softdimo_reward_free`.
int32_t softdimo_reward_target(const struct softdimo_image *target,
                               const float *mask,
                               uint64_t mask_count,
                               struct softdimo_reward **reward);

/// A reward for a direction in colour space: mean over the mask of r·R + g·G + b·B. Mask: see
/// `softdimo_reward_target`.
int32_t softdimo_reward_color(float r,
                              float g,
                              float b,
                              const float *mask,
                              uint64_t mask_count,
                              struct softdimo_reward **reward);

/// A reward for the colours of `target`, wherever in the picture they are: minus the mean squared difference
/// of the running sums of both histograms, per channel; 0 when they agree, at least -1. `target` is a picture
/// of any size, or NULL when `histogram` gives its shares [3, bins] of `histogram_count` = 3·bins values, 2
/// to 256 bins evenly from 0 to 1; each channel is scaled to add up to 1. Mask: see `softdimo_reward_target`;
/// it selects pixels of the generated picture.
int32_t softdimo_reward_histogram(const struct softdimo_image *target,
                                  const float *histogram,
                                  uint64_t histogram_count,
                                  const float *mask,
                                  uint64_t mask_count,
                                  struct softdimo_reward **reward);

/// A reward for staying what the label or prompt says, by the model's own teacher: its log-likelihood of the
/// tokens under two complementary seeded masks, in nats per token. Add it to any simple reward.
int32_t softdimo_reward_prior(uint64_t seed,
                              struct softdimo_reward **reward);

/// A reward for staying near the start embedding: −mean squared distance.
int32_t softdimo_reward_closeness(struct softdimo_reward **reward);

/// Scores `batch` soft pictures [batch, 3, height, width] (nominally in [0, 1], not clamped; those with alpha over the
/// model's background): fill scores
/// [batch] and gradient = dscore/dpixels, of the pictures' shape, both zeros at first, of either sign. A number that is not
/// finite ends the climb of its picture, with a warning in the log; the job fails where no picture has had a finite score,
/// and where both arrays are as they were. The arrays are valid during the call. Called only on the thread that is inside
/// `softdimo_generate`, `softdimo_job_wait` or `softdimo_job_poll` for the job; without such a thread the job
/// stands still. SOFTDIMO_STOP ends the optimisation like a cancel. Must not throw, and must not free the job.
/// Calls of this library that would wait for the callback itself return SOFTDIMO_ERR_UNSUPPORTED: those that wait for its
/// engine, for an engine whose job waits for the same reward, or for one whose job waits for a callback that waits, without
/// a timeout, for either. It must not wait in another way for a thread that waits for its job: nobody can tell, and both
/// wait for ever.
typedef int32_t (*softdimo_reward_fn)(void *user_data,
                                      const float *pixels,
                                      uint32_t batch,
                                      uint32_t width,
                                      uint32_t height,
                                      float *scores,
                                      float *gradient);

/// The host's own reward. `callback` and `user_data` must stay valid until the reward is freed and every job
/// that uses it has ended. Its calls come one at a time, even where several jobs use it: meanwhile a wait or poll of
/// another such job keeps to its time.
int32_t softdimo_reward_from_callback(softdimo_reward_fn callback,
                                      void *user_data,
                                      struct softdimo_reward **reward);

/// How the network of a reward file is opened. Call `softdimo_reward_options_init` first.
typedef struct softdimo_reward_options {
  /// Set by `softdimo_reward_options_init`.
  uint32_t struct_size;
  /// `SOFTDIMO_WEIGHTS_*`; not read for a file in memory.
  uint32_t weights_mode;
  /// Of a classifier: what pictures should show. -1: class_label, or what the request's label says, by its
  /// name where both files name their classes, else by its id where both have as many.
  int32_t class_id;
  /// Must be zero.
  uint32_t reserved0;
  /// The same by its name, UTF-8, case ignored; NULL when class_id is used, or for neither.
  const char *class_label;
  /// Must be zero.
  uint32_t reserved[10];
} softdimo_reward_options;

/// Fill `options` with defaults: mapped, no class; `struct_size` is `sizeof(softdimo_reward_options)`. Errors:
/// NULL, unknown size.
int32_t softdimo_reward_options_init(struct softdimo_reward_options *options,
                                     uint32_t struct_size);

/// Open the reward file at `path` (UTF-8), made by `softdimo convert`: a network that scores pictures, some
/// of them against the request's prompt. It runs in the same session as the generator, on whatever engine a
/// request goes to. `options` may be NULL for defaults. Blocks for milliseconds: weights are mapped, not
/// read, and stay mapped until the reward is freed and the last job that uses it has ended. A generator's
/// file is SOFTDIMO_ERR_CONFIG; a missing prompt, or a class that cannot be told, shows when a request uses
/// the reward.
int32_t softdimo_reward_open(const char *path,
                             const struct softdimo_reward_options *options,
                             struct softdimo_reward **reward);

/// The same for a reward whose file is in memory; bytes and `release` as in `softdimo_engine_open_memory`. They are in use
/// until `release` is called, which may be after the reward and its jobs are gone: what a cancelled job had begun to prepare
/// is finished first. With a NULL `release` they must outlive every engine that was given a job with this reward.
int32_t softdimo_reward_open_memory(const void *data,
                                    uint64_t length,
                                    softdimo_release_fn release,
                                    void *user_data,
                                    const struct softdimo_reward_options *options,
                                    struct softdimo_reward **reward);

/// JSON about a reward: its name, whether it reads a prompt, and of an opened file its family, title, licence,
/// configuration, classes and size. Text convention.
int32_t softdimo_reward_info(const struct softdimo_reward *reward,
                             char *buffer,
                             uint64_t capacity,
                             uint64_t *needed);

/// Free a reward: NULL is fine. Jobs that use it keep what they need. In a forked child this does nothing.
void softdimo_reward_free(struct softdimo_reward *reward);

/** @} */

/**
 * @defgroup version Versions and providers
 * Which library was loaded, and what it can compute on.
 * @{
 */

/// ABI of this header: major << 16 | minor. A library with another major number must be refused; one with
/// a larger minor number only adds to what is declared here.
#define SOFTDIMO_ABI_VERSION 65538

/// `SOFTDIMO_ABI_VERSION` of the loaded library.
uint32_t softdimo_abi_version(void);

/// Version of the loaded library, e.g. "0.1.0". Static string.
const char *softdimo_version(void);

/// Number of execution providers this library knows.
uint32_t softdimo_provider_count(void);

/// JSON about provider `index`: `{"name", "available", "reason"}`. Availability is known once an engine was
/// opened. Text convention.
int32_t softdimo_provider_info(uint32_t index,
                               char *buffer,
                               uint64_t capacity,
                               uint64_t *needed);

/** @} */

#ifdef __cplusplus
}
#endif

#endif /* SOFTDIMO_H */
