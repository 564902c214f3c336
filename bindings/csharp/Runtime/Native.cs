// What softdimo.h declares. Generated from include/softdimo.h; do not edit.
//
// Structs are blittable and have their C names. Pointers are IntPtr in structs. Of functions, a pointer with a count beside
// it is an array, a text is NUL-terminated UTF-8 in bytes, null is NULL; what only one value is written to is `out`.

using System;
using System.Runtime.InteropServices;

namespace Softdimo
{
    /// <summary>An opened model on an execution provider. Thread-safe; may be shared.</summary>
    public sealed class EngineHandle : SafeHandle
    {
        /// <summary>None; a function that makes one fills it in.</summary>
        public EngineHandle() : base(IntPtr.Zero, true) { }
        /// <summary>Whether there is none.</summary>
        public override bool IsInvalid { get { return handle == IntPtr.Zero; } }
        /// <summary>Called once this has been freed: what it used may go.</summary>
        internal Action Freed;
        /// <summary>softdimo_engine_free</summary>
        protected override bool ReleaseHandle()
        {
            Native.softdimo_engine_free(handle);
            if (Freed != null)
            {
                Freed();
            }
            return true;
        }
    }

    /// <summary>
    /// A reward that optimisation climbs; see the functions that make one. Immutable; may be used by several
    /// jobs; must outlive the call that takes it, not the job.
    /// </summary>
    public sealed class RewardHandle : SafeHandle
    {
        /// <summary>None; a function that makes one fills it in.</summary>
        public RewardHandle() : base(IntPtr.Zero, true) { }
        /// <summary>Whether there is none.</summary>
        public override bool IsInvalid { get { return handle == IntPtr.Zero; } }
        /// <summary>Called once this has been freed: what it used may go.</summary>
        internal Action Freed;
        /// <summary>softdimo_reward_free</summary>
        protected override bool ReleaseHandle()
        {
            Native.softdimo_reward_free(handle);
            if (Freed != null)
            {
                Freed();
            }
            return true;
        }
    }

    /// <summary>A submitted request. Thread-safe, except that it must not be freed while another call uses it.</summary>
    public sealed class JobHandle : SafeHandle
    {
        /// <summary>None; a function that makes one fills it in.</summary>
        public JobHandle() : base(IntPtr.Zero, true) { }
        /// <summary>Whether there is none.</summary>
        public override bool IsInvalid { get { return handle == IntPtr.Zero; } }
        /// <summary>Called once this has been freed: what it used may go.</summary>
        internal Action Freed;
        /// <summary>softdimo_job_free</summary>
        protected override bool ReleaseHandle()
        {
            Native.softdimo_job_free(handle);
            if (Freed != null)
            {
                Freed();
            }
            return true;
        }
    }

    /// <summary>An engine that is being opened. Thread-safe, except that it must not be freed while another call uses it.</summary>
    public sealed class OpeningHandle : SafeHandle
    {
        /// <summary>None; a function that makes one fills it in.</summary>
        public OpeningHandle() : base(IntPtr.Zero, true) { }
        /// <summary>Whether there is none.</summary>
        public override bool IsInvalid { get { return handle == IntPtr.Zero; } }
        /// <summary>Called once this has been freed: what it used may go.</summary>
        internal Action Freed;
        /// <summary>softdimo_opening_free</summary>
        protected override bool ReleaseHandle()
        {
            Native.softdimo_opening_free(handle);
            if (Freed != null)
            {
                Freed();
            }
            return true;
        }
    }

    /// <summary>An argument or a field is out of range, of the wrong kind, or not zero where reserved.</summary>
    public sealed class SoftdimoInvalidArgumentException : SoftdimoException
    {
        internal SoftdimoInvalidArgumentException(string message) : base(Native.SOFTDIMO_ERR_INVALID_ARGUMENT, message) { }
    }

    /// <summary>A required pointer is NULL.</summary>
    public sealed class SoftdimoNullArgumentException : SoftdimoException
    {
        internal SoftdimoNullArgumentException(string message) : base(Native.SOFTDIMO_ERR_NULL_ARGUMENT, message) { }
    }

    /// <summary>`struct_size` is not one this library knows, or was not set.</summary>
    public sealed class SoftdimoStructSizeException : SoftdimoException
    {
        internal SoftdimoStructSizeException(string message) : base(Native.SOFTDIMO_ERR_STRUCT_SIZE, message) { }
    }

    /// <summary>The file does not exist.</summary>
    public sealed class SoftdimoNotFoundException : SoftdimoException
    {
        internal SoftdimoNotFoundException(string message) : base(Native.SOFTDIMO_ERR_NOT_FOUND, message) { }
    }

    /// <summary>Reading or writing a file failed.</summary>
    public sealed class SoftdimoIoException : SoftdimoException
    {
        internal SoftdimoIoException(string message) : base(Native.SOFTDIMO_ERR_IO, message) { }
    }

    /// <summary>The file breaks a rule of its format (truncated, overlapping, not a model file), or has lost bytes since.</summary>
    public sealed class SoftdimoFormatException : SoftdimoException
    {
        internal SoftdimoFormatException(string message) : base(Native.SOFTDIMO_ERR_FORMAT, message) { }
    }

    /// <summary>A tensor the model needs is not in the file.</summary>
    public sealed class SoftdimoMissingTensorException : SoftdimoException
    {
        internal SoftdimoMissingTensorException(string message) : base(Native.SOFTDIMO_ERR_MISSING_TENSOR, message) { }
    }

    /// <summary>A tensor has another shape or dtype than the model needs.</summary>
    public sealed class SoftdimoTensorMismatchException : SoftdimoException
    {
        internal SoftdimoTensorMismatchException(string message) : base(Native.SOFTDIMO_ERR_TENSOR_MISMATCH, message) { }
    }

    /// <summary>The file's configuration is missing, makes no sense, or is of the other kind (generator, reward).</summary>
    public sealed class SoftdimoConfigException : SoftdimoException
    {
        internal SoftdimoConfigException(string message) : base(Native.SOFTDIMO_ERR_CONFIG, message) { }
    }

    /// <summary>The label is not one of the model's; the message suggests close ones.</summary>
    public sealed class SoftdimoUnknownLabelException : SoftdimoException
    {
        internal SoftdimoUnknownLabelException(string message) : base(Native.SOFTDIMO_ERR_UNKNOWN_LABEL, message) { }
    }

    /// <summary>The model or this build cannot do what was asked.</summary>
    public sealed class SoftdimoUnsupportedException : SoftdimoException
    {
        internal SoftdimoUnsupportedException(string message) : base(Native.SOFTDIMO_ERR_UNSUPPORTED, message) { }
    }

    /// <summary>A caller-owned buffer or picture is too small.</summary>
    public sealed class SoftdimoBufferTooSmallException : SoftdimoException
    {
        internal SoftdimoBufferTooSmallException(string message) : base(Native.SOFTDIMO_ERR_BUFFER_TOO_SMALL, message) { }
    }

    /// <summary>No usable ONNX Runtime library; the message lists every place tried.</summary>
    public sealed class SoftdimoRuntimeNotFoundException : SoftdimoException
    {
        internal SoftdimoRuntimeNotFoundException(string message) : base(Native.SOFTDIMO_ERR_RUNTIME_NOT_FOUND, message) { }
    }

    /// <summary>ONNX Runtime reported a failure.</summary>
    public sealed class SoftdimoRuntimeException : SoftdimoException
    {
        internal SoftdimoRuntimeException(string message) : base(Native.SOFTDIMO_ERR_RUNTIME, message) { }
    }

    /// <summary>The execution provider asked for is not usable; the message says what is missing.</summary>
    public sealed class SoftdimoProviderException : SoftdimoException
    {
        internal SoftdimoProviderException(string message) : base(Native.SOFTDIMO_ERR_PROVIDER, message) { }
    }

    /// <summary>The work would exceed the engine's memory_limit.</summary>
    public sealed class SoftdimoOutOfMemoryException : SoftdimoException
    {
        internal SoftdimoOutOfMemoryException(string message) : base(Native.SOFTDIMO_ERR_OUT_OF_MEMORY, message) { }
    }

    /// <summary>The job was cancelled.</summary>
    public sealed class SoftdimoCancelledException : SoftdimoException
    {
        internal SoftdimoCancelledException(string message) : base(Native.SOFTDIMO_ERR_CANCELLED, message) { }
    }

    /// <summary>The job has not finished yet.</summary>
    public sealed class SoftdimoNotReadyException : SoftdimoException
    {
        internal SoftdimoNotReadyException(string message) : base(Native.SOFTDIMO_ERR_NOT_READY, message) { }
    }

    /// <summary>The wait ended before the job did; the job goes on.</summary>
    public sealed class SoftdimoTimeoutException : SoftdimoException
    {
        internal SoftdimoTimeoutException(string message) : base(Native.SOFTDIMO_ERR_TIMEOUT, message) { }
    }

    /// <summary>Called in a forked child of a process that has opened an engine.</summary>
    public sealed class SoftdimoForkedException : SoftdimoException
    {
        internal SoftdimoForkedException(string message) : base(Native.SOFTDIMO_ERR_FORKED, message) { }
    }

    /// <summary>A bug in this library; the engine refuses further work and the host is unharmed.</summary>
    public sealed class SoftdimoInternalException : SoftdimoException
    {
        internal SoftdimoInternalException(string message) : base(Native.SOFTDIMO_ERR_INTERNAL, message) { }
    }

    public partial class SoftdimoException
    {
        /// <summary>The exception of a status.</summary>
        internal static SoftdimoException Of(int status, string message)
        {
            switch (status)
            {
                case Native.SOFTDIMO_ERR_INVALID_ARGUMENT:
                    return new SoftdimoInvalidArgumentException(message);
                case Native.SOFTDIMO_ERR_NULL_ARGUMENT:
                    return new SoftdimoNullArgumentException(message);
                case Native.SOFTDIMO_ERR_STRUCT_SIZE:
                    return new SoftdimoStructSizeException(message);
                case Native.SOFTDIMO_ERR_NOT_FOUND:
                    return new SoftdimoNotFoundException(message);
                case Native.SOFTDIMO_ERR_IO:
                    return new SoftdimoIoException(message);
                case Native.SOFTDIMO_ERR_FORMAT:
                    return new SoftdimoFormatException(message);
                case Native.SOFTDIMO_ERR_MISSING_TENSOR:
                    return new SoftdimoMissingTensorException(message);
                case Native.SOFTDIMO_ERR_TENSOR_MISMATCH:
                    return new SoftdimoTensorMismatchException(message);
                case Native.SOFTDIMO_ERR_CONFIG:
                    return new SoftdimoConfigException(message);
                case Native.SOFTDIMO_ERR_UNKNOWN_LABEL:
                    return new SoftdimoUnknownLabelException(message);
                case Native.SOFTDIMO_ERR_UNSUPPORTED:
                    return new SoftdimoUnsupportedException(message);
                case Native.SOFTDIMO_ERR_BUFFER_TOO_SMALL:
                    return new SoftdimoBufferTooSmallException(message);
                case Native.SOFTDIMO_ERR_RUNTIME_NOT_FOUND:
                    return new SoftdimoRuntimeNotFoundException(message);
                case Native.SOFTDIMO_ERR_RUNTIME:
                    return new SoftdimoRuntimeException(message);
                case Native.SOFTDIMO_ERR_PROVIDER:
                    return new SoftdimoProviderException(message);
                case Native.SOFTDIMO_ERR_OUT_OF_MEMORY:
                    return new SoftdimoOutOfMemoryException(message);
                case Native.SOFTDIMO_ERR_CANCELLED:
                    return new SoftdimoCancelledException(message);
                case Native.SOFTDIMO_ERR_NOT_READY:
                    return new SoftdimoNotReadyException(message);
                case Native.SOFTDIMO_ERR_TIMEOUT:
                    return new SoftdimoTimeoutException(message);
                case Native.SOFTDIMO_ERR_FORKED:
                    return new SoftdimoForkedException(message);
                case Native.SOFTDIMO_ERR_INTERNAL:
                    return new SoftdimoInternalException(message);
                default:
                    return new SoftdimoException(status, message);
            }
        }
    }

    /// <summary>The functions, structs and constants of softdimo.h.</summary>
    public static class Native
    {
        /// <summary>libsoftdimo.so, where DllImport looks for it.</summary>
        public const string Library = "softdimo";

        // Errors

        /// <summary>Success.</summary>
        public const int SOFTDIMO_OK = 0;

        /// <summary>An argument or a field is out of range, of the wrong kind, or not zero where reserved.</summary>
        public const int SOFTDIMO_ERR_INVALID_ARGUMENT = 1;

        /// <summary>A required pointer is NULL.</summary>
        public const int SOFTDIMO_ERR_NULL_ARGUMENT = 2;

        /// <summary>`struct_size` is not one this library knows, or was not set.</summary>
        public const int SOFTDIMO_ERR_STRUCT_SIZE = 3;

        /// <summary>The file does not exist.</summary>
        public const int SOFTDIMO_ERR_NOT_FOUND = 4;

        /// <summary>Reading or writing a file failed.</summary>
        public const int SOFTDIMO_ERR_IO = 5;

        /// <summary>The file breaks a rule of its format (truncated, overlapping, not a model file), or has lost bytes since.</summary>
        public const int SOFTDIMO_ERR_FORMAT = 6;

        /// <summary>A tensor the model needs is not in the file.</summary>
        public const int SOFTDIMO_ERR_MISSING_TENSOR = 7;

        /// <summary>A tensor has another shape or dtype than the model needs.</summary>
        public const int SOFTDIMO_ERR_TENSOR_MISMATCH = 8;

        /// <summary>The file's configuration is missing, makes no sense, or is of the other kind (generator, reward).</summary>
        public const int SOFTDIMO_ERR_CONFIG = 9;

        /// <summary>The label is not one of the model's; the message suggests close ones.</summary>
        public const int SOFTDIMO_ERR_UNKNOWN_LABEL = 10;

        /// <summary>The model or this build cannot do what was asked.</summary>
        public const int SOFTDIMO_ERR_UNSUPPORTED = 11;

        /// <summary>A caller-owned buffer or picture is too small.</summary>
        public const int SOFTDIMO_ERR_BUFFER_TOO_SMALL = 12;

        /// <summary>No usable ONNX Runtime library; the message lists every place tried.</summary>
        public const int SOFTDIMO_ERR_RUNTIME_NOT_FOUND = 13;

        /// <summary>ONNX Runtime reported a failure.</summary>
        public const int SOFTDIMO_ERR_RUNTIME = 14;

        /// <summary>The execution provider asked for is not usable; the message says what is missing.</summary>
        public const int SOFTDIMO_ERR_PROVIDER = 15;

        /// <summary>The work would exceed the engine's memory_limit.</summary>
        public const int SOFTDIMO_ERR_OUT_OF_MEMORY = 16;

        /// <summary>The job was cancelled.</summary>
        public const int SOFTDIMO_ERR_CANCELLED = 17;

        /// <summary>The job has not finished yet.</summary>
        public const int SOFTDIMO_ERR_NOT_READY = 18;

        /// <summary>The wait ended before the job did; the job goes on.</summary>
        public const int SOFTDIMO_ERR_TIMEOUT = 19;

        /// <summary>Called in a forked child of a process that has opened an engine.</summary>
        public const int SOFTDIMO_ERR_FORKED = 20;

        /// <summary>A bug in this library; the engine refuses further work and the host is unharmed.</summary>
        public const int SOFTDIMO_ERR_INTERNAL = 21;

        /// <summary>
        /// Copy the message of this thread's last failed call, NUL-terminated and cut between characters to `capacity`
        /// bytes; a NULL `buffer` or a capacity of 0 copies nothing. Returns the bytes the whole message needs, its NUL
        /// included: 1 where no call of this thread has failed yet. Calls that succeed leave the message alone.
        /// </summary>
        [DllImport(Library, CallingConvention = CallingConvention.Cdecl)]
        public static extern ulong softdimo_last_error(byte[] buffer, ulong capacity);

        /// <summary>Name of a status, e.g. "SOFTDIMO_ERR_IO"; "SOFTDIMO_ERR_UNKNOWN" for other values. Static string.</summary>
        [DllImport(Library, CallingConvention = CallingConvention.Cdecl)]
        public static extern IntPtr softdimo_status_name(int status);

        // Engines

        /// <summary>Weights are used where they lie: opens in milliseconds, memory is shared page cache (default).</summary>
        public const int SOFTDIMO_MEMORY_LEAN = 0;

        /// <summary>Weights are packed for the processor on first use: faster, one more copy in memory.</summary>
        public const int SOFTDIMO_MEMORY_FAST = 1;

        /// <summary>
        /// Weights that are laid out for int8 arithmetic are computed with in int8 where the provider is fast at it: on the CPU, also with
        /// "openvino", which computes with others in bf16 on processors that are fast at it (default).
        /// </summary>
        public const int SOFTDIMO_ARITHMETIC_AUTO = 0;

        /// <summary>They are widened, and computed with in f32.</summary>
        public const int SOFTDIMO_ARITHMETIC_F32 = 1;

        /// <summary>The file is mapped (default). Replace it by rename; never truncate it in place.</summary>
        public const int SOFTDIMO_WEIGHTS_MAP = 0;

        /// <summary>The file is copied into memory once.</summary>
        public const int SOFTDIMO_WEIGHTS_READ = 1;

        /// <summary>
        /// Mapped, and a SIGBUS handler (chained to the host's) turns truncation into SOFTDIMO_ERR_FORMAT.
        /// Process-wide. Windows: nobody can write the file until it is closed, and one of a network or of a medium that can be taken
        /// out is copied into memory; one of an external disk is mapped.
        /// </summary>
        public const int SOFTDIMO_WEIGHTS_MAP_GUARDED = 2;

        /// <summary>Severity of log messages: an error.</summary>
        public const int SOFTDIMO_LOG_ERROR = 1;

        /// <summary>A warning.</summary>
        public const int SOFTDIMO_LOG_WARNING = 2;

        /// <summary>Information: the runtime that was loaded, sessions that were prepared.</summary>
        public const int SOFTDIMO_LOG_INFO = 3;

        /// <summary>Result of every callback: go on.</summary>
        public const int SOFTDIMO_CONTINUE = 0;

        /// <summary>Stop, as does any other value (progress, reward: cancel the job; log: no more messages).</summary>
        public const int SOFTDIMO_STOP = 1;

        /// <summary>
        /// Called with a UTF-8 message that is valid during the call, on a thread that is inside opening or warming
        /// up this engine, taking it out of an opening, `softdimo_generate`, or a wait or poll of one of its jobs. Must not throw and must not
        /// call back into this library.
        /// </summary>
        [UnmanagedFunctionPointer(CallingConvention.Cdecl)]
        public delegate int softdimo_log_fn(IntPtr user_data, int level, IntPtr message);

        /// <summary>
        /// Options of an engine. Call `softdimo_engine_options_init` first, then change what you need. Strings are
        /// copied when the engine is opened.
        /// </summary>
        [StructLayout(LayoutKind.Sequential)]
        public struct softdimo_engine_options
        {
            /// <summary>Set by `softdimo_engine_options_init`.</summary>
            public uint struct_size;
            /// <summary>`SOFTDIMO_MEMORY_*`.</summary>
            public uint memory_mode;
            /// <summary>`SOFTDIMO_WEIGHTS_*`; not read for a model in memory.</summary>
            public uint weights_mode;
            /// <summary>
            /// Threads that compute one run, 0 to 256; 0 = one per core, at most 8. Each of the 8 sessions used last may have
            /// as many, less the worker; they sleep between runs.
            /// </summary>
            public uint threads;
            /// <summary>
            /// Niceness added to the engine's threads on Linux, 0 (default) to 19. On Windows their priority within the class of the
            /// process: 1 to 9 below normal, 10 to 18 lowest, 19 idle; what wants the core and has a higher one goes first.
            /// Elsewhere it does nothing.
            /// </summary>
            public int niceness;
            /// <summary>GPU index for "cuda", 0 or more.</summary>
            public int device_id;
            /// <summary>
            /// Bytes the engine may hold beyond mapped pages; 0 = no limit. Sessions used longest ago are dropped to make room;
            /// work that would exceed it even so is refused with SOFTDIMO_ERR_OUT_OF_MEMORY before anything is allocated.
            /// </summary>
            public ulong memory_limit;
            /// <summary>"cpu" (also NULL), "cuda" or "openvino". Asked for and not usable is an error, never a silent fallback.</summary>
            public IntPtr provider;
            /// <summary>
            /// Path of the ONNX Runtime library, UTF-8. NULL: the environment variable SOFTDIMO_ORT_LIBRARY, then the
            /// folder of this library, then the system loader. One runtime serves the whole process: the first engine
            /// chooses it.
            /// </summary>
            public IntPtr ort_library;
            /// <summary>Receives log messages; NULL for none. The library never prints.</summary>
            public IntPtr log;
            /// <summary>Given to `log`; both must stay valid until the engine and all its jobs are freed.</summary>
            public IntPtr log_user_data;
            /// <summary>Least severe messages wanted, `SOFTDIMO_LOG_*`; default SOFTDIMO_LOG_WARNING.</summary>
            public int log_level;
            /// <summary>
            /// Billions of multiply-adds that one network may take for a picture; 0 = 40000, more than four times what
            /// Meissonic needs at 1024x1024. What takes more, or has a node for every two billion, is refused when it is opened:
            /// SOFTDIMO_ERR_UNSUPPORTED. Since ABI 1.1.
            /// </summary>
            public uint work_limit;
            /// <summary>
            /// 1: networks look every millisecond or so of computing, instead of once a call, whether the engine is paused or has used
            /// up its share of the processor; the pictures are the same. CPU only. 0 (default): they do not. Since ABI 1.2.
            /// </summary>
            public uint yielding;
            /// <summary>
            /// What weights that are laid out for int8 arithmetic are computed with, `SOFTDIMO_ARITHMETIC_*`: int8 where the provider is
            /// fast at it (default), or f32 always. All other weights are computed with in f32, with "openvino" also in bf16. Since ABI 1.2.
            /// </summary>
            public uint arithmetic;
            /// <summary>1: what `softdimo_engine_tune` remembered of this model and machine is not read. 0 (default): it is. Since ABI 1.2.</summary>
            public uint untuned;
            /// <summary>Must be zero.</summary>
            public uint reserved_0, reserved_1, reserved_2;
        }

        /// <summary>
        /// Fill `options` with defaults; `struct_size` is `sizeof(softdimo_engine_options)`. Errors: NULL, unknown
        /// size.
        /// </summary>
        [DllImport(Library, CallingConvention = CallingConvention.Cdecl)]
        public static extern int softdimo_engine_options_init(ref softdimo_engine_options options, uint struct_size);

        /// <summary>
        /// The same for an engine beside a game's own threads, which are not to miss a frame for it: `threads` is 1, the worker,
        /// so that no more than one core is taken, and `niceness` is 10, with which the worker gets a tenth of a core that another
        /// thread wants too (on Windows what that thread leaves), and all of one that is free. Memory stays as lean as by default; what else suits a game depends on
        /// it. Errors: NULL, unknown size. Since ABI 1.2.
        /// </summary>
        [DllImport(Library, CallingConvention = CallingConvention.Cdecl)]
        public static extern int softdimo_engine_options_init_game(ref softdimo_engine_options options, uint struct_size);

        /// <summary>
        /// Open the model file at `path` (UTF-8). `options` may be NULL for defaults. On success `*engine` is to be
        /// freed with `softdimo_engine_free`; on failure it is not written. Blocks for milliseconds, longer for a model in int4, which is unpacked: weights are
        /// mapped, not read. Errors: those of files (`SOFTDIMO_ERR_NOT_FOUND` to `SOFTDIMO_ERR_CONFIG`, the latter
        /// also for a reward file), of the runtime and its provider, bad options.
        /// </summary>
        [DllImport(Library, CallingConvention = CallingConvention.Cdecl)]
        public static extern int softdimo_engine_open(byte[] path, ref softdimo_engine_options options, out EngineHandle engine);

        /// <summary>
        /// Open the model file at `path` (UTF-8). `options` may be NULL for defaults. On success `*engine` is to be
        /// freed with `softdimo_engine_free`; on failure it is not written. Blocks for milliseconds, longer for a model in int4, which is unpacked: weights are
        /// mapped, not read. Errors: those of files (`SOFTDIMO_ERR_NOT_FOUND` to `SOFTDIMO_ERR_CONFIG`, the latter
        /// also for a reward file), of the runtime and its provider, bad options.
        /// </summary>
        [DllImport(Library, CallingConvention = CallingConvention.Cdecl)]
        public static extern int softdimo_engine_open(byte[] path, IntPtr options, out EngineHandle engine);

        /// <summary>Shapes of a model. Set struct_size before the call that fills it.</summary>
        [StructLayout(LayoutKind.Sequential)]
        public struct softdimo_layout
        {
            /// <summary>To be set to `sizeof(softdimo_layout)`.</summary>
            public uint struct_size;
            /// <summary>Width of a picture in pixels.</summary>
            public uint width;
            /// <summary>Height of a picture in pixels.</summary>
            public uint height;
            /// <summary>Tokens of a picture are [positions, splits].</summary>
            public uint positions;
            /// <summary>Tokens at a position.</summary>
            public uint splits;
            /// <summary>Codes per token: ids below this.</summary>
            public uint codes;
            /// <summary>Id of the mask token, not below `codes`; ids between them are no tokens.</summary>
            public uint mask_token;
            /// <summary>Width of a start embedding [positions, embedding].</summary>
            public uint embedding;
            /// <summary>Class ids are below this; this number itself means no label. 0 for models that read prompts.</summary>
            public uint classes;
            /// <summary>
            /// Channels of a picture: 3 (red, green, blue), or 4 with straight alpha. Since ABI 1.2; older libraries, whose pictures
            /// have 3, leave 0 here.
            /// </summary>
            public uint channels;
        }

        /// <summary>Picture size, tokens and embedding of the model. Set `layout-&gt;struct_size` before the call.</summary>
        [DllImport(Library, CallingConvention = CallingConvention.Cdecl)]
        public static extern int softdimo_engine_layout(EngineHandle engine, ref softdimo_layout layout);

        /// <summary>
        /// Free an engine: NULL is fine. Its threads are joined unless jobs of it are still alive, which keep it
        /// running until they are freed; a paused one goes on for them. In a forked child this does nothing.
        /// </summary>
        [DllImport(Library, CallingConvention = CallingConvention.Cdecl)]
        public static extern void softdimo_engine_free(IntPtr engine);

        /// <summary>
        /// Cancel every job of the engine that has not begun, as `softdimo_job_cancel` does; the running one goes on. `*count`
        /// becomes how many there were; it may be NULL. Returns at once. The jobs are still to be freed. Since ABI 1.2.
        /// </summary>
        [DllImport(Library, CallingConvention = CallingConvention.Cdecl)]
        public static extern int softdimo_engine_cancel_pending(EngineHandle engine, out uint count);

        /// <summary>
        /// Have the engine compute nothing until `softdimo_engine_resume`: the network call that runs (with `options.yielding` the few
        /// nodes of it), or the session that is being prepared, is finished first. Idempotent, and returns at once. Meanwhile jobs can
        /// be submitted, polled, cancelled and freed, and the engine be freed; a job that has not begun does not. A wait for a job, and
        /// calls that have the engine compute, wait until it is resumed. A cancelled optimisation still makes its best picture: that is
        /// all that is computed. Deadlines go on. Since ABI 1.2.
        /// </summary>
        [DllImport(Library, CallingConvention = CallingConvention.Cdecl)]
        public static extern int softdimo_engine_pause(EngineHandle engine);

        /// <summary>Go on after `softdimo_engine_pause`. Idempotent. Since ABI 1.2.</summary>
        [DllImport(Library, CallingConvention = CallingConvention.Cdecl)]
        public static extern int softdimo_engine_resume(EngineHandle engine);

        /// <summary>
        /// Have the engine's threads, together, compute for at most `percent` percent of the time of one core: 1 to 100 for each of its
        /// threads; 0 (at first) for no limit. After every network call, and after the preparation of a session, the engine computes
        /// nothing until its share has come up to what that took: the share holds over times that are longer than a call, with
        /// `options.yielding` over those that are longer than some milliseconds. Returns at once, and counts from the next call on.
        /// Linux and Windows; no effect elsewhere. Since ABI 1.2.
        /// </summary>
        [DllImport(Library, CallingConvention = CallingConvention.Cdecl)]
        public static extern int softdimo_engine_set_cpu_share(EngineHandle engine, uint percent);

        // Pictures

        /// <summary>8 bits a channel, R G B A, sRGB (default).</summary>
        public const int SOFTDIMO_FORMAT_RGBA8 = 0;

        /// <summary>8 bits a channel, R G B, sRGB.</summary>
        public const int SOFTDIMO_FORMAT_RGB8 = 1;

        /// <summary>8 bits a channel, B G R A, sRGB.</summary>
        public const int SOFTDIMO_FORMAT_BGRA8 = 2;

        /// <summary>32-bit float a channel, R G B A, sRGB-encoded values in [0, 1].</summary>
        public const int SOFTDIMO_FORMAT_RGBA32F = 3;

        /// <summary>The first row in memory is the top of the picture (default).</summary>
        public const int SOFTDIMO_ORIGIN_TOP_LEFT = 0;

        /// <summary>The first row in memory is the bottom of the picture (OpenGL, Unity).</summary>
        public const int SOFTDIMO_ORIGIN_BOTTOM_LEFT = 1;

        /// <summary>A pixel of a larger picture has the colour of the model's pixel that it lies in: pixel art (default). Since ABI 1.2.</summary>
        public const int SOFTDIMO_SCALING_NEAREST = 0;

        /// <summary>It has one between those of the model's pixels around it (Catmull-Rom). Since ABI 1.2.</summary>
        public const int SOFTDIMO_SCALING_SMOOTH = 1;

        /// <summary>Every pixel has the nearest colour of the palette (default). Since ABI 1.2.</summary>
        public const int SOFTDIMO_DITHER_NONE = 0;

        /// <summary>Colours are mixed in an ordered pattern of 4 x 4 pixels. Since ABI 1.2.</summary>
        public const int SOFTDIMO_DITHER_BAYER4 = 1;

        /// <summary>The same of 8 x 8 pixels. Since ABI 1.2.</summary>
        public const int SOFTDIMO_DITHER_BAYER8 = 2;

        /// <summary>
        /// How pictures are written: first the background is taken away, then colours are chosen, both at the model's size, then the
        /// picture is enlarged. The calling thread does it, in about a millisecond for 32 x 32 pixels. Call
        /// `softdimo_picture_style_init` first. Since ABI 1.2.
        /// </summary>
        [StructLayout(LayoutKind.Sequential)]
        public struct softdimo_picture_style
        {
            /// <summary>Set by `softdimo_picture_style_init`.</summary>
            public uint struct_size;
            /// <summary>`SOFTDIMO_SCALING_*`, of images that are larger than the model's pictures.</summary>
            public uint scaling;
            /// <summary>
            /// The colours a picture may have, those nearest in OKLab: `palette_count` times 3 or 4 bytes, sRGB. NULL: as many colours
            /// as palette_count says, found from the picture's own, without random numbers; or all colours, where that is 0.
            /// </summary>
            public IntPtr palette;
            /// <summary>2 to 256, or 0.</summary>
            public uint palette_count;
            /// <summary>
            /// SOFTDIMO_FORMAT_RGBA8 (default) or SOFTDIMO_FORMAT_RGB8: what lies at `palette`. Of RGBA8, colours of alpha 0 are left
            /// out. Pixels keep their alpha.
            /// </summary>
            public uint palette_format;
            /// <summary>`SOFTDIMO_DITHER_*`; with a palette only.</summary>
            public uint dither;
            /// <summary>How much of the way to the right mixture, 0 to 1 (default).</summary>
            public float dither_strength;
            /// <summary>
            /// 1: the background becomes transparent, edges partly so. It is what is like the most common colour of the picture's
            /// border and is connected with the border. Needs a format with alpha, and a model without. 0
            /// (default): it stays.
            /// </summary>
            public uint matte;
            /// <summary>
            /// How far from that colour background may be, as a distance in OKLab, where black and white are 1 apart: 0 to 1; -1
            /// = 0.04.
            /// </summary>
            public float matte_tolerance;
            /// <summary>
            /// Background that something encloses becomes transparent too from this many of the model's pixels on; 0 (default):
            /// holes stay opaque.
            /// </summary>
            public uint matte_hole_area;
            /// <summary>Must be zero.</summary>
            public uint reserved_0, reserved_1, reserved_2, reserved_3, reserved_4, reserved_5, reserved_6, reserved_7, reserved_8;
        }

        /// <summary>
        /// Fill `style` with defaults: nothing is done but enlarging by repeating pixels; `struct_size` is
        /// `sizeof(softdimo_picture_style)`. Errors: NULL, unknown size. Since ABI 1.2.
        /// </summary>
        [DllImport(Library, CallingConvention = CallingConvention.Cdecl)]
        public static extern int softdimo_picture_style_init(ref softdimo_picture_style style, uint struct_size);

        /// <summary>A caller-owned picture buffer. Call `softdimo_image_init` first.</summary>
        [StructLayout(LayoutKind.Sequential)]
        public struct softdimo_image
        {
            /// <summary>Set by `softdimo_image_init`. In an array, also the distance of its elements.</summary>
            public uint struct_size;
            /// <summary>
            /// Width in pixels: the model's (`softdimo_engine_layout`), unless a function says any size. Where generated pictures
            /// are written (`softdimo_generate`, `softdimo_job_image`), a multiple of it will do: the picture is enlarged while it is
            /// copied.
            /// </summary>
            public uint width;
            /// <summary>Height in pixels, likewise; by a factor of its own.</summary>
            public uint height;
            /// <summary>Bytes from one row to the next; 0 = tightly packed. What lies between rows is never written.</summary>
            public uint stride;
            /// <summary>`SOFTDIMO_FORMAT_*`.</summary>
            public uint format;
            /// <summary>`SOFTDIMO_ORIGIN_*`.</summary>
            public uint origin;
            /// <summary>
            /// The pixels, at any alignment; used during the call only. Pictures are written with an opaque alpha, unless `style`
            /// has a matte or the model makes alpha, which then is straight; formats without alpha show the model's background behind
            /// it. Where a picture is only read, nothing is written.
            /// </summary>
            public IntPtr data;
            /// <summary>Bytes at `data`: at least (height - 1) * stride + width * bytes per pixel.</summary>
            public ulong capacity;
            /// <summary>
            /// How a generated picture is written; used during the call only, and not where the picture is only read. NULL: as it
            /// is. One style may serve many images. Since ABI 1.2.
            /// </summary>
            public IntPtr style;
        }

        /// <summary>
        /// Fill `image` with defaults: RGBA8, top-left origin, no buffer; `struct_size` is `sizeof(softdimo_image)`.
        /// Errors: NULL, unknown size.
        /// </summary>
        [DllImport(Library, CallingConvention = CallingConvention.Cdecl)]
        public static extern int softdimo_image_init(ref softdimo_image image, uint struct_size);

        /// <summary>
        /// Write a picture of any size as PNG (RGB8 becomes RGB, all else RGBA with 8 bits a channel). `text` holds
        /// `pair_count` pairs of keyword and value for `tEXt`/`iTXt` chunks (NULL and 0 for none): put
        /// `softdimo_job_report` there to be able to make the picture again. The file appears complete or not at all,
        /// and replaces one of its name, unless that is read-only.
        /// </summary>
        [DllImport(Library, CallingConvention = CallingConvention.Cdecl)]
        public static extern int softdimo_image_write_png(ref softdimo_image image, byte[] path, IntPtr[] text, uint pair_count);

        /// <summary>
        /// Write a picture of any size as PNG (RGB8 becomes RGB, all else RGBA with 8 bits a channel). `text` holds
        /// `pair_count` pairs of keyword and value for `tEXt`/`iTXt` chunks (NULL and 0 for none): put
        /// `softdimo_job_report` there to be able to make the picture again. The file appears complete or not at all,
        /// and replaces one of its name, unless that is read-only.
        /// </summary>
        [DllImport(Library, CallingConvention = CallingConvention.Cdecl)]
        public static extern int softdimo_image_write_png(IntPtr image, byte[] path, IntPtr[] text, uint pair_count);

        // Requests

        /// <summary>Sample codes and decode those (default).</summary>
        public const int SOFTDIMO_DECODE_HARD = 0;

        /// <summary>Decode the expected code, the soft embedding. One-step jobs only.</summary>
        public const int SOFTDIMO_DECODE_SOFT = 1;

        /// <summary>
        /// Called with the steps done and the steps in all (one network call each), on the thread that is inside
        /// `softdimo_generate`, `softdimo_job_wait` or `softdimo_job_poll`; with the sessions that are prepared and those in all inside
        /// `softdimo_engine_warmup_request`, with what is measured and is to be inside `softdimo_engine_tune`. Must not throw, and must not free the job.
        /// </summary>
        [UnmanagedFunctionPointer(CallingConvention.Cdecl)]
        public delegate int softdimo_progress_fn(IntPtr user_data, uint step, uint total);

        /// <summary>Gradient ascent, with momentum where set (default; the paper's choice).</summary>
        public const int SOFTDIMO_OPTIMIZER_SGD = 0;

        /// <summary>Adam with its usual constants.</summary>
        public const int SOFTDIMO_OPTIMIZER_ADAM = 1;

        /// <summary>What an optimisation moves: the start embedding (default).</summary>
        public const int SOFTDIMO_VARIABLE_EMBEDDING = 1;

        /// <summary>Only the noise part of the start embedding. Not with SOFTDIMO_VARIABLE_EMBEDDING.</summary>
        public const int SOFTDIMO_VARIABLE_NOISE = 2;

        /// <summary>The class embedding, or the prompt's features.</summary>
        public const int SOFTDIMO_VARIABLE_CLASS = 4;

        /// <summary>A reward with its weight in the sum that is maximised.</summary>
        [StructLayout(LayoutKind.Sequential)]
        public struct softdimo_reward_term
        {
            /// <summary>Must not be NULL.</summary>
            public IntPtr reward;
            /// <summary>Finite; negative to move away from it.</summary>
            public float weight;
            /// <summary>Must be zero.</summary>
            public uint reserved;
        }

        /// <summary>
        /// A request. Call `softdimo_request_init` first. Pointers need to live only during the call that takes
        /// the request, except `progress_user_data`. A float or top_k of -1 takes the model's default.
        /// </summary>
        [StructLayout(LayoutKind.Sequential)]
        public struct softdimo_request
        {
            /// <summary>Set by `softdimo_request_init`.</summary>
            public uint struct_size;
            /// <summary>Pictures to make, 1 to 256. Picture b uses seed + b and equals the one picture of that seed.</summary>
            public uint batch;
            /// <summary>Seed of the first picture.</summary>
            public ulong seed;
            /// <summary>
            /// Class name for all pictures or a synonym of one, UTF-8; case, spaces, hyphens, underscores and an English plural do
            /// not matter. NULL when class_labels is used, or for no label.
            /// </summary>
            public IntPtr label;
            /// <summary>Class ids, one for all pictures or one each; the number of classes means no label. NULL for none.</summary>
            public IntPtr class_labels;
            /// <summary>Ids at `class_labels`: 0, 1 or `batch`.</summary>
            public uint class_label_count;
            /// <summary>
            /// 0: the model's own way (one step where it has a student). 1: one step. 2 to 10000: the multi-step
            /// teacher.
            /// </summary>
            public uint steps;
            /// <summary>
            /// Text prompt for all pictures, UTF-8: for text-to-image models and for rewards that read one; an error
            /// where nothing does. NULL for none.
            /// </summary>
            public IntPtr prompt;
            /// <summary>Text-to-image models, with steps &gt; 1: what guidance leads away from. NULL: the model's default.</summary>
            public IntPtr negative_prompt;
            /// <summary>Sampling temperature, 0 to 10000; 0 = arg-max, for one step only.</summary>
            public float temperature;
            /// <summary>Keep the most probable codes up to this probability, above 0 to 1; 1 = all. One step only.</summary>
            public float top_p;
            /// <summary>Keep the k most probable codes; 0 = all. One step only.</summary>
            public int top_k;
            /// <summary>Share of start tokens that are masked, 0 to 1. One step only.</summary>
            public float mask_ratio;
            /// <summary>Standard deviation of the start embedding's perturbation, 0 to 1. One step only.</summary>
            public float sigma;
            /// <summary>Teacher: classifier-free guidance scale, 0 (none) to 10000.</summary>
            public float guidance_scale;
            /// <summary>Teacher: temperature of the confidence noise, 0 to 10000.</summary>
            public float randomize_temperature;
            /// <summary>`SOFTDIMO_DECODE_*`.</summary>
            public uint decode;
            /// <summary>1: also decode the other way and report how much hard and soft picture differ. 0: do not.</summary>
            public uint report_gap;
            /// <summary>Must be zero.</summary>
            public uint reserved0;
            /// <summary>Start tokens [batch, positions, splits], the mask token allowed; NULL: seeded.</summary>
            public IntPtr start_tokens;
            /// <summary>Tokens at `start_tokens`.</summary>
            public ulong start_token_count;
            /// <summary>
            /// Start embedding [batch, positions, embedding]; NULL: made from the start tokens. One step only; not with
            /// start_tokens.
            /// </summary>
            public IntPtr e_in;
            /// <summary>Floats at `e_in`.</summary>
            public ulong e_in_count;
            /// <summary>Called after each step; NULL for none.</summary>
            public IntPtr progress;
            /// <summary>Given to `progress`; both must stay valid until the job is freed.</summary>
            public IntPtr progress_user_data;
            /// <summary>
            /// Test-time embedding optimisation: what to maximise, Σ weight·reward per picture; NULL for none, and then the fields
            /// of an optimisation below must be as softdimo_request_init leaves them.
            /// </summary>
            public IntPtr rewards;
            /// <summary>Terms at `rewards`, at most 64, and at most one of them a callback.</summary>
            public uint reward_count;
            /// <summary>Updates, 0 to 100000; the start counts as iterate 0, and the best iterate is kept.</summary>
            public uint optimize_steps;
            /// <summary>Learning rate; -1 = 0.2.</summary>
            public float lr;
            /// <summary>`SOFTDIMO_OPTIMIZER_*`.</summary>
            public uint optimizer;
            /// <summary>Of SGD, 0 to below 1.</summary>
            public float momentum;
            /// <summary>Scale each picture's gradient down to this norm; 0 = off.</summary>
            public float clip;
            /// <summary>Weight of the pull of the noise's norm towards its prior; 0 = off; needs SOFTDIMO_VARIABLE_NOISE.</summary>
            public float norm_regularizer;
            /// <summary>`SOFTDIMO_VARIABLE_*`, added up; 0 = the embedding.</summary>
            public uint variables;
            /// <summary>
            /// Milliseconds for the whole job, from when the engine begins with it: preparing, optimising, making the picture. The
            /// optimisation ends where another iterate and the picture would take longer than is left; out of time before the
            /// first iterate, the job has the picture of its start. What a late job had begun to prepare is finished beside the
            /// next ones. -1 = no deadline.
            /// </summary>
            public long deadline_ms;
            /// <summary>
            /// Start from this picture (the model's size) instead of from nothing; NULL for none. Its kept tokens are
            /// known at the start and, with SOFTDIMO_DECODE_HARD, in the result. Not with start_tokens.
            /// </summary>
            public IntPtr edit_image;
            /// <summary>
            /// Inpainting: weights [height, width] from the top; tokens whose cell has no pixel above 0 are kept. NULL:
            /// edit_keep says what is kept. Only for models whose tokens stand for places.
            /// </summary>
            public IntPtr edit_mask;
            /// <summary>Floats at `edit_mask`: width * height.</summary>
            public ulong edit_mask_count;
            /// <summary>
            /// Variation: share of the picture's tokens that are kept, chosen by seed, 0 to 1; -1 with a mask or
            /// without a picture.
            /// </summary>
            public float edit_keep;
            /// <summary>Text-to-image models: aesthetic score the picture should have, 0 to 100; -1 = the model's default.</summary>
            public float aesthetic_score;
            /// <summary>
            /// Text-to-image models: width in pixels the picture is said to have had, 0 to 65536; -1, here and in
            /// original_height, = the model's default.
            /// </summary>
            public int original_width;
            /// <summary>The same, its height.</summary>
            public int original_height;
            /// <summary>
            /// Text-to-image models: left of the crop it is said to be, in pixels, 0 to 65536; -1, here and in
            /// crop_top, = the model's default.
            /// </summary>
            public int crop_left;
            /// <summary>The same, its top.</summary>
            public int crop_top;
            /// <summary>1: a step of the optimisation takes less memory and more time; the result is the same. 0: it does not.</summary>
            public uint recompute;
            /// <summary>
            /// Jobs of higher priority go first, those of equal priority in the order of their submission; default 0, which is also
            /// that of calls such as softdimo_engine_memory. A running job of several steps, or an optimisation without a deadline,
            /// lets jobs of higher priority go before its next step, where memory_limit has room for both. Since ABI 1.2.
            /// </summary>
            public int priority;
            /// <summary>
            /// The latest wins: jobs of the same engine with this key that have not begun end as SOFTDIMO_JOB_CANCELLED when this one
            /// is submitted. 0 (default) for none. Since ABI 1.2.
            /// </summary>
            public ulong queue_key;
            /// <summary>Must be zero.</summary>
            public uint reserved_0, reserved_1, reserved_2, reserved_3, reserved_4, reserved_5;
        }

        /// <summary>
        /// Fill `request` with defaults: one picture, seed 0, no label; `struct_size` is `sizeof(softdimo_request)`.
        /// Errors: NULL, unknown size.
        /// </summary>
        [DllImport(Library, CallingConvention = CallingConvention.Cdecl)]
        public static extern int softdimo_request_init(ref softdimo_request request, uint struct_size);

        // Generating

        /// <summary>
        /// Generate `image_count` (= request.batch) pictures into caller-owned buffers of the model's size, or of multiples of it,
        /// and wait. Nothing is written unless all succeed. `images` is an array whose elements are `images[0].struct_size` bytes
        /// apart.
        /// </summary>
        [DllImport(Library, CallingConvention = CallingConvention.Cdecl)]
        public static extern int softdimo_generate(EngineHandle engine, ref softdimo_request request, [In, Out] softdimo_image[] images, uint image_count);

        /// <summary>
        /// Generate `image_count` (= request.batch) pictures into caller-owned buffers of the model's size, or of multiples of it,
        /// and wait. Nothing is written unless all succeed. `images` is an array whose elements are `images[0].struct_size` bytes
        /// apart.
        /// </summary>
        [DllImport(Library, CallingConvention = CallingConvention.Cdecl)]
        public static extern int softdimo_generate(EngineHandle engine, IntPtr request, [In, Out] softdimo_image[] images, uint image_count);

        /// <summary>
        /// The seed of a place in a world, for `request.seed`: the same for the same numbers on every machine, in every version.
        /// Other places and other worlds get other seeds; give 0 for coordinates you do not have. Picture b of a batch has seed + b,
        /// and batches of up to 256 pictures at neighbouring places do not share seeds. Cannot fail. Others can compute it: all
        /// arithmetic wraps at 2^64, coordinates are two's complement,
        /// 
        /// mix(h): h ^= h &gt;&gt; 30; h *= 0xBF58476D1CE4E5B9; h ^= h &gt;&gt; 27; h *= 0x94D049BB133111EB; h ^= h &gt;&gt; 31
        /// h = mix(world_seed + 0x9E3779B97F4A7C15), then h = mix(h + c + 0x9E3779B97F4A7C15) for c = x, y, z
        /// 
        /// Since ABI 1.2.
        /// </summary>
        [DllImport(Library, CallingConvention = CallingConvention.Cdecl)]
        public static extern ulong softdimo_seed(ulong world_seed, long x, long y, long z);

        // Jobs

        /// <summary>
        /// Queue a request and return at once. On success `*job` is to be freed with `softdimo_job_free`. Jobs of one
        /// engine run one after the other, those of higher `request.priority` first, and else in order; queued jobs with its
        /// `request.queue_key` end. Errors of the request show here; what goes wrong later is the job's.
        /// </summary>
        [DllImport(Library, CallingConvention = CallingConvention.Cdecl)]
        public static extern int softdimo_submit(EngineHandle engine, ref softdimo_request request, out JobHandle job);

        /// <summary>
        /// Queue a request and return at once. On success `*job` is to be freed with `softdimo_job_free`. Jobs of one
        /// engine run one after the other, those of higher `request.priority` first, and else in order; queued jobs with its
        /// `request.queue_key` end. Errors of the request show here; what goes wrong later is the job's.
        /// </summary>
        [DllImport(Library, CallingConvention = CallingConvention.Cdecl)]
        public static extern int softdimo_submit(EngineHandle engine, IntPtr request, out JobHandle job);

        /// <summary>State of a job: others of its engine come first.</summary>
        public const int SOFTDIMO_JOB_QUEUED = 0;

        /// <summary>The engine works on it.</summary>
        public const int SOFTDIMO_JOB_RUNNING = 1;

        /// <summary>Final: the result can be read.</summary>
        public const int SOFTDIMO_JOB_DONE = 2;

        /// <summary>Final: `softdimo_job_error` says why.</summary>
        public const int SOFTDIMO_JOB_FAILED = 3;

        /// <summary>Final. An optimisation that was cancelled still has its best pictures to read.</summary>
        public const int SOFTDIMO_JOB_CANCELLED = 4;

        /// <summary>
        /// The job stands still until a wait or poll of it calls its reward callback. Told by `softdimo_job_progress` alone, and only
        /// to a struct that has `waiting_ms`; everything else says SOFTDIMO_JOB_RUNNING. Since ABI 1.2.
        /// </summary>
        public const int SOFTDIMO_JOB_WAITING = 5;

        /// <summary>
        /// State of the job (`SOFTDIMO_JOB_*`), without waiting for it, nor for any lock that a thread of the engine may hold; calls
        /// the progress callback if there is news, and the reward callback the job waits for. Where another thread is inside that
        /// callback, or this one, it is not called, and the state is SOFTDIMO_JOB_RUNNING: the next poll tries again. SOFTDIMO_OK also
        /// for a job that failed: that is its state.
        /// </summary>
        [DllImport(Library, CallingConvention = CallingConvention.Cdecl)]
        public static extern int softdimo_job_poll(JobHandle job, out uint state);

        /// <summary>
        /// Wait for the end of the job, at most `timeout_ms` milliseconds (negative: as long as it takes). Returns
        /// SOFTDIMO_OK, SOFTDIMO_ERR_TIMEOUT (the job goes on), SOFTDIMO_ERR_CANCELLED, or the job's failure.
        /// </summary>
        [DllImport(Library, CallingConvention = CallingConvention.Cdecl)]
        public static extern int softdimo_job_wait(JobHandle job, long timeout_ms);

        /// <summary>
        /// Ask the job to end; returns at once, and waits for no lock that a thread of the engine may hold. Any thread, any number of
        /// times; counts even before the job starts.
        /// </summary>
        [DllImport(Library, CallingConvention = CallingConvention.Cdecl)]
        public static extern int softdimo_job_cancel(JobHandle job);

        /// <summary>Progress of a job. Set struct_size before the call that fills it.</summary>
        [StructLayout(LayoutKind.Sequential)]
        public struct softdimo_progress
        {
            /// <summary>To be set to `sizeof(softdimo_progress)`.</summary>
            public uint struct_size;
            /// <summary>`SOFTDIMO_JOB_*`.</summary>
            public uint state;
            /// <summary>Steps done (one network call each).</summary>
            public uint step;
            /// <summary>Steps in all; 0 before the job has started.</summary>
            public uint total;
            /// <summary>With SOFTDIMO_JOB_WAITING: for how many milliseconds the reward callback has been due; else 0. Since ABI 1.2.</summary>
            public uint waiting_ms;
            /// <summary>Zero. Since ABI 1.2.</summary>
            public uint reserved;
        }

        /// <summary>
        /// State and steps of the job, without waiting and without callbacks, and without any lock that a thread of the engine may
        /// hold. A job whose reward callback is due is SOFTDIMO_JOB_WAITING where `progress` has `waiting_ms` (a struct of ABI 1.1
        /// or older hears SOFTDIMO_JOB_RUNNING), until a thread is inside the callback for it.
        /// </summary>
        [DllImport(Library, CallingConvention = CallingConvention.Cdecl)]
        public static extern int softdimo_job_progress(JobHandle job, ref softdimo_progress progress);

        /// <summary>
        /// Why a job failed or was cancelled, by a newer one with its `queue_key` say; empty text for one that has a result or has
        /// not ended. Text convention.
        /// </summary>
        [DllImport(Library, CallingConvention = CallingConvention.Cdecl)]
        public static extern int softdimo_job_error(JobHandle job, byte[] buffer, ulong capacity, out ulong needed);

        /// <summary>
        /// Free every job that was submitted to this engine and not freed yet, for hosts that have lost their handles (a script that
        /// was reloaded): all are cancelled, then freed as by `softdimo_job_free`. Their handles must not be used any more, and must not
        /// be in use; what their callbacks use can be freed afterwards. Safe beside `softdimo_submit`: a job that another thread submits
        /// meanwhile is among them or is not, so that that thread must not use it either. Not inside callbacks. Since ABI 1.2.
        /// </summary>
        [DllImport(Library, CallingConvention = CallingConvention.Cdecl)]
        public static extern int softdimo_job_free_all(EngineHandle engine);

        /// <summary>
        /// Free a job: NULL is fine. A job that has not ended is cancelled and waited for. In a forked child this
        /// does nothing.
        /// </summary>
        [DllImport(Library, CallingConvention = CallingConvention.Cdecl)]
        public static extern void softdimo_job_free(IntPtr job);

        // Results of a job

        /// <summary>Copy picture `index` (below the request's batch) into a caller-owned buffer of the model's size, or of multiples of it.</summary>
        [DllImport(Library, CallingConvention = CallingConvention.Cdecl)]
        public static extern int softdimo_job_image(JobHandle job, uint index, ref softdimo_image image);

        /// <summary>
        /// Copy picture `index` as the decoder's floats [channels, height, width], nominally in [0, 1], not clamped; channels as
        /// softdimo_layout says. Array convention.
        /// </summary>
        [DllImport(Library, CallingConvention = CallingConvention.Cdecl)]
        public static extern int softdimo_job_image_f32(JobHandle job, uint index, float[] pixels, ulong capacity, out ulong needed);

        /// <summary>Copy the tokens [positions, splits] of picture `index`: the picture, bit for bit. Array convention.</summary>
        [DllImport(Library, CallingConvention = CallingConvention.Cdecl)]
        public static extern int softdimo_job_tokens(JobHandle job, uint index, uint[] tokens, ulong capacity, out ulong needed);

        /// <summary>
        /// Copy the largest softmax probability of each token [positions, splits] of picture `index` of a one-step
        /// job. Array convention.
        /// </summary>
        [DllImport(Library, CallingConvention = CallingConvention.Cdecl)]
        public static extern int softdimo_job_max_probability(JobHandle job, uint index, float[] probabilities, ulong capacity, out ulong needed);

        /// <summary>
        /// Copy the start embedding [positions, embedding] of picture `index` of a one-step job, after an
        /// optimisation its best one; give it back in `request.e_in` to start from the same point. Array convention.
        /// </summary>
        [DllImport(Library, CallingConvention = CallingConvention.Cdecl)]
        public static extern int softdimo_job_embedding(JobHandle job, uint index, float[] e_in, ulong capacity, out ulong needed);

        /// <summary>
        /// JSON about the job: the request with every default filled in, model, runtime, confidence, the course of an
        /// optimisation, what of the request nothing read (`warnings`), time. Text convention.
        /// </summary>
        [DllImport(Library, CallingConvention = CallingConvention.Cdecl)]
        public static extern int softdimo_job_report(JobHandle job, byte[] buffer, ulong capacity, out ulong needed);

        // Opening without waiting

        /// <summary>
        /// Begin to open the model file at `path` (UTF-8), and then to prepare the engine for `request`, as
        /// `softdimo_engine_warmup_request` does without its callbacks; NULL: for one picture, as `softdimo_engine_warmup`. Returns at
        /// once. On success `*opening` is to be freed with `softdimo_opening_free`. Errors: NULL, bad options, what of the request is
        /// wrong for any model, that no thread can be had; what goes wrong later is the opening's. What the request points to is
        /// copied; its edit is not looked at: it needs the model. Since ABI 1.2.
        /// </summary>
        [DllImport(Library, CallingConvention = CallingConvention.Cdecl)]
        public static extern int softdimo_engine_open_async(byte[] path, ref softdimo_engine_options options, ref softdimo_request request, out OpeningHandle opening);

        /// <summary>
        /// Begin to open the model file at `path` (UTF-8), and then to prepare the engine for `request`, as
        /// `softdimo_engine_warmup_request` does without its callbacks; NULL: for one picture, as `softdimo_engine_warmup`. Returns at
        /// once. On success `*opening` is to be freed with `softdimo_opening_free`. Errors: NULL, bad options, what of the request is
        /// wrong for any model, that no thread can be had; what goes wrong later is the opening's. What the request points to is
        /// copied; its edit is not looked at: it needs the model. Since ABI 1.2.
        /// </summary>
        [DllImport(Library, CallingConvention = CallingConvention.Cdecl)]
        public static extern int softdimo_engine_open_async(byte[] path, IntPtr options, IntPtr request, out OpeningHandle opening);

        /// <summary>
        /// State (`SOFTDIMO_JOB_*`: queued, running, done, failed or cancelled) and steps (the file, then a session each; a total of 0
        /// before the file is open), without waiting and without callbacks. Set struct_size before the call. Since ABI 1.2.
        /// </summary>
        [DllImport(Library, CallingConvention = CallingConvention.Cdecl)]
        public static extern int softdimo_opening_progress(OpeningHandle opening, ref softdimo_progress progress);

        /// <summary>
        /// Wait until the engine is prepared, at most `timeout_ms` milliseconds (negative: as long as it takes). Returns SOFTDIMO_OK,
        /// SOFTDIMO_ERR_TIMEOUT (opening goes on), SOFTDIMO_ERR_CANCELLED, or what opening failed with. Since ABI 1.2.
        /// </summary>
        [DllImport(Library, CallingConvention = CallingConvention.Cdecl)]
        public static extern int softdimo_opening_wait(OpeningHandle opening, long timeout_ms);

        /// <summary>
        /// Ask for the end; returns at once. Any thread, any number of times. An engine that is open already can still be taken, as it
        /// is. Since ABI 1.2.
        /// </summary>
        [DllImport(Library, CallingConvention = CallingConvention.Cdecl)]
        public static extern int softdimo_opening_cancel(OpeningHandle opening);

        /// <summary>What opening failed with; empty text for one that has not. Text convention. Since ABI 1.2.</summary>
        [DllImport(Library, CallingConvention = CallingConvention.Cdecl)]
        public static extern int softdimo_opening_error(OpeningHandle opening, byte[] buffer, ulong capacity, out ulong needed);

        /// <summary>
        /// Take the engine out, once: `*engine` is to be freed with `softdimo_engine_free`, before or after the opening. It is there as
        /// soon as the file is open, and stays so where preparing fails or is cancelled; jobs that are submitted while it is being
        /// prepared wait for that. Its log messages so far are sent inside this call. Errors: SOFTDIMO_ERR_NOT_READY before,
        /// SOFTDIMO_ERR_INVALID_ARGUMENT for the second time, SOFTDIMO_ERR_CANCELLED, what opening failed with. Since ABI 1.2.
        /// </summary>
        [DllImport(Library, CallingConvention = CallingConvention.Cdecl)]
        public static extern int softdimo_opening_engine(OpeningHandle opening, out EngineHandle engine);

        /// <summary>
        /// Free an opening: NULL is fine. What is left of it is cancelled and its thread joined, which waits for the file to be opened
        /// (milliseconds, unless SOFTDIMO_WEIGHTS_READ reads all of it). An engine that was not taken goes with it, as by
        /// `softdimo_engine_free`; one that was stays. In a forked child this does nothing. Since ABI 1.2.
        /// </summary>
        [DllImport(Library, CallingConvention = CallingConvention.Cdecl)]
        public static extern void softdimo_opening_free(IntPtr opening);

        // What a model is

        /// <summary>
        /// JSON about the engine: model, architecture, picture size, tokens, labels, defaults, provider, runtime.
        /// Text convention.
        /// </summary>
        [DllImport(Library, CallingConvention = CallingConvention.Cdecl)]
        public static extern int softdimo_engine_info(EngineHandle engine, byte[] buffer, ulong capacity, out ulong needed);

        /// <summary>Number of class labels of the model; 0 when it has no names for them.</summary>
        [DllImport(Library, CallingConvention = CallingConvention.Cdecl)]
        public static extern int softdimo_engine_label_count(EngineHandle engine, out uint count);

        /// <summary>Name of class `index`, UTF-8; valid until the engine is freed.</summary>
        [DllImport(Library, CallingConvention = CallingConvention.Cdecl)]
        public static extern int softdimo_engine_label(EngineHandle engine, uint index, out IntPtr label);

        /// <summary>
        /// Replay a golden file (safetensors with tensors `b0/in/..`, `b0/out/..`, `b1/in/..`) and write a JSON report with the
        /// largest difference of every tensor: proof that this model file computes what its reference computes. Every
        /// call runs the whole replay, so give it room at once (64 KiB is plenty for one file). Text convention.
        /// </summary>
        [DllImport(Library, CallingConvention = CallingConvention.Cdecl)]
        public static extern int softdimo_engine_verify(EngineHandle engine, byte[] golden, byte[] buffer, ulong capacity, out ulong needed);

        // Memory

        /// <summary>Memory of an engine in bytes. Set struct_size before the call that fills it.</summary>
        [StructLayout(LayoutKind.Sequential)]
        public struct softdimo_memory
        {
            /// <summary>To be set to `sizeof(softdimo_memory)`.</summary>
            public uint struct_size;
            /// <summary>Prepared sessions.</summary>
            public uint sessions;
            /// <summary>Mapped bytes of the model file, and of reward files in use: shared, reclaimable.</summary>
            public ulong mapped;
            /// <summary>Weights held as copies (read, packed or on the device).</summary>
            public ulong weights;
            /// <summary>
            /// What the prepared sessions hold beside weights: their values, where those are kept for the next run, and
            /// themselves; and the features of prompts that were encoded, 32 MiB at most.
            /// </summary>
            public ulong activations;
            /// <summary>
            /// Bytes that a run takes beside these, at most, and gives back after it: the values of large networks in
            /// SOFTDIMO_MEMORY_LEAN, of one network at a time. They count against the memory limit. Since ABI 1.2.
            /// </summary>
            public ulong transient;
        }

        /// <summary>
        /// Bytes the engine holds, by kind: mapped ones exact, the others as the runtime's allocators tell them, or from tensor
        /// sizes where they do not. Waits for the jobs before it. Set `memory-&gt;struct_size` before the call.
        /// </summary>
        [DllImport(Library, CallingConvention = CallingConvention.Cdecl)]
        public static extern int softdimo_engine_memory(EngineHandle engine, ref softdimo_memory memory);

        /// <summary>
        /// Prepare everything a one-step job of `batch` (1 to 256) pictures needs, so that the first job is as fast
        /// as the next. Blocks, and waits for the jobs before it.
        /// </summary>
        [DllImport(Library, CallingConvention = CallingConvention.Cdecl)]
        public static extern int softdimo_engine_warmup(EngineHandle engine, uint batch);

        /// <summary>
        /// Prepare everything that this request needs, of the student or the teacher, of an optimisation, of its prompts, so that
        /// the first job like it is as fast as the next. Jobs are alike that differ in their seed and labels, in numbers of
        /// sampling and optimising, and in what their rewards are given (targets, colours, weights, classes); the batch, the
        /// kinds of rewards and their order, reward files, variables, optimizer and `recompute` make another. Calls the request's
        /// progress callback with the sessions prepared and those in all (0 of 0 while jobs before it are waited for), also 20
        /// times a second without news; its STOP ends the call at once: SOFTDIMO_ERR_CANCELLED. An engine keeps the eight kinds of
        /// optimisations used last. Blocks. Since ABI 1.2.
        /// </summary>
        [DllImport(Library, CallingConvention = CallingConvention.Cdecl)]
        public static extern int softdimo_engine_warmup_request(EngineHandle engine, ref softdimo_request request);

        /// <summary>
        /// Prepare everything that this request needs, of the student or the teacher, of an optimisation, of its prompts, so that
        /// the first job like it is as fast as the next. Jobs are alike that differ in their seed and labels, in numbers of
        /// sampling and optimising, and in what their rewards are given (targets, colours, weights, classes); the batch, the
        /// kinds of rewards and their order, reward files, variables, optimizer and `recompute` make another. Calls the request's
        /// progress callback with the sessions prepared and those in all (0 of 0 while jobs before it are waited for), also 20
        /// times a second without news; its STOP ends the call at once: SOFTDIMO_ERR_CANCELLED. An engine keeps the eight kinds of
        /// optimisations used last. Blocks. Since ABI 1.2.
        /// </summary>
        [DllImport(Library, CallingConvention = CallingConvention.Cdecl)]
        public static extern int softdimo_engine_warmup_request(EngineHandle engine, IntPtr request);

        /// <summary>
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
        /// </summary>
        [DllImport(Library, CallingConvention = CallingConvention.Cdecl)]
        public static extern int softdimo_engine_tune(EngineHandle engine, softdimo_progress_fn progress, IntPtr progress_user_data, out uint in_f32);

        /// <summary>
        /// Give back what can be prepared again: sessions, packed weights, prompt features. Waits for the jobs before
        /// it, and for the end of what they have begun to prepare.
        /// </summary>
        [DllImport(Library, CallingConvention = CallingConvention.Cdecl)]
        public static extern int softdimo_engine_trim(EngineHandle engine);

        /// <summary>
        /// Most bytes that all engines of this process may hold together beyond mapped pages; 0, as it is at first, for any number.
        /// An engine that needs more drops what it keeps, then has others drop what they keep, each after its running job; where
        /// that is not enough within half a second, its job fails with SOFTDIMO_ERR_OUT_OF_MEMORY. A budget below what is held has
        /// all engines drop what they keep. Any time; does not wait. Since ABI 1.2.
        /// </summary>
        [DllImport(Library, CallingConvention = CallingConvention.Cdecl)]
        public static extern int softdimo_set_memory_budget(ulong bytes);

        /// <summary>
        /// Bytes that all engines of this process hold together beyond mapped pages: what counts against the budget. Sessions that
        /// have not run yet count with what they are foreseen to take. Does not wait. Since ABI 1.2.
        /// </summary>
        [DllImport(Library, CallingConvention = CallingConvention.Cdecl)]
        public static extern int softdimo_memory_in_use(out ulong bytes);

        /// <summary>
        /// Called once, when nothing reads the bytes given to `softdimo_engine_open_memory` or
        /// `softdimo_reward_open_memory` any more, on the thread that let go of them last.
        /// </summary>
        [UnmanagedFunctionPointer(CallingConvention.Cdecl)]
        public delegate void softdimo_release_fn(IntPtr user_data, IntPtr data, ulong length);

        /// <summary>
        /// Open a model whose file is in memory, at any alignment. The bytes must stay unchanged until `release` is
        /// called (once, possibly on another thread); a NULL `release` means they outlive the engine and its jobs. On
        /// failure `release` is not called and the bytes stay the caller's. Else as `softdimo_engine_open`.
        /// </summary>
        [DllImport(Library, CallingConvention = CallingConvention.Cdecl)]
        public static extern int softdimo_engine_open_memory(IntPtr data, ulong length, softdimo_release_fn release, IntPtr user_data, ref softdimo_engine_options options, out EngineHandle engine);

        /// <summary>
        /// Open a model whose file is in memory, at any alignment. The bytes must stay unchanged until `release` is
        /// called (once, possibly on another thread); a NULL `release` means they outlive the engine and its jobs. On
        /// failure `release` is not called and the bytes stay the caller's. Else as `softdimo_engine_open`.
        /// </summary>
        [DllImport(Library, CallingConvention = CallingConvention.Cdecl)]
        public static extern int softdimo_engine_open_memory(IntPtr data, ulong length, softdimo_release_fn release, IntPtr user_data, IntPtr options, out EngineHandle engine);

        // Editing

        /// <summary>
        /// The tokens [positions, splits] of a picture of the model's size, with its alpha where the model's have one, by the
        /// model's own image tokenizer: what a request's edit_image starts from, and what start_tokens take. Waits for the jobs
        /// before it. Needs a model file with an encoder. Array convention.
        /// </summary>
        [DllImport(Library, CallingConvention = CallingConvention.Cdecl)]
        public static extern int softdimo_encode(EngineHandle engine, ref softdimo_image image, uint[] tokens, ulong capacity, out ulong needed);

        /// <summary>
        /// The tokens [positions, splits] of a picture of the model's size, with its alpha where the model's have one, by the
        /// model's own image tokenizer: what a request's edit_image starts from, and what start_tokens take. Waits for the jobs
        /// before it. Needs a model file with an encoder. Array convention.
        /// </summary>
        [DllImport(Library, CallingConvention = CallingConvention.Cdecl)]
        public static extern int softdimo_encode(EngineHandle engine, IntPtr image, uint[] tokens, ulong capacity, out ulong needed);

        // Rewards

        /// <summary>
        /// A reward for looking like `target` (the model's picture size): −mean squared difference over the mask.
        /// `mask` holds `mask_count` = width·height weights of 0 or more, top row first, or is NULL for all pixels.
        /// Free with `softdimo_reward_free`.
        /// </summary>
        [DllImport(Library, CallingConvention = CallingConvention.Cdecl)]
        public static extern int softdimo_reward_target(ref softdimo_image target, float[] mask, ulong mask_count, out RewardHandle reward);

        /// <summary>
        /// A reward for looking like `target` (the model's picture size): −mean squared difference over the mask.
        /// `mask` holds `mask_count` = width·height weights of 0 or more, top row first, or is NULL for all pixels.
        /// Free with `softdimo_reward_free`.
        /// </summary>
        [DllImport(Library, CallingConvention = CallingConvention.Cdecl)]
        public static extern int softdimo_reward_target(IntPtr target, float[] mask, ulong mask_count, out RewardHandle reward);

        /// <summary>
        /// A reward for a direction in colour space: mean over the mask of r·R + g·G + b·B. Mask: see
        /// `softdimo_reward_target`.
        /// </summary>
        [DllImport(Library, CallingConvention = CallingConvention.Cdecl)]
        public static extern int softdimo_reward_color(float r, float g, float b, float[] mask, ulong mask_count, out RewardHandle reward);

        /// <summary>
        /// A reward for the colours of `target`, wherever in the picture they are: minus the mean squared difference
        /// of the running sums of both histograms, per channel; 0 when they agree, at least -1. `target` is a picture
        /// of any size, or NULL when `histogram` gives its shares [3, bins] of `histogram_count` = 3·bins values, 2
        /// to 256 bins evenly from 0 to 1; each channel is scaled to add up to 1. Mask: see `softdimo_reward_target`;
        /// it selects pixels of the generated picture.
        /// </summary>
        [DllImport(Library, CallingConvention = CallingConvention.Cdecl)]
        public static extern int softdimo_reward_histogram(ref softdimo_image target, float[] histogram, ulong histogram_count, float[] mask, ulong mask_count, out RewardHandle reward);

        /// <summary>
        /// A reward for the colours of `target`, wherever in the picture they are: minus the mean squared difference
        /// of the running sums of both histograms, per channel; 0 when they agree, at least -1. `target` is a picture
        /// of any size, or NULL when `histogram` gives its shares [3, bins] of `histogram_count` = 3·bins values, 2
        /// to 256 bins evenly from 0 to 1; each channel is scaled to add up to 1. Mask: see `softdimo_reward_target`;
        /// it selects pixels of the generated picture.
        /// </summary>
        [DllImport(Library, CallingConvention = CallingConvention.Cdecl)]
        public static extern int softdimo_reward_histogram(IntPtr target, float[] histogram, ulong histogram_count, float[] mask, ulong mask_count, out RewardHandle reward);

        /// <summary>
        /// A reward for staying what the label or prompt says, by the model's own teacher: its log-likelihood of the
        /// tokens under two complementary seeded masks, in nats per token. Add it to any simple reward.
        /// </summary>
        [DllImport(Library, CallingConvention = CallingConvention.Cdecl)]
        public static extern int softdimo_reward_prior(ulong seed, out RewardHandle reward);

        /// <summary>A reward for staying near the start embedding: −mean squared distance.</summary>
        [DllImport(Library, CallingConvention = CallingConvention.Cdecl)]
        public static extern int softdimo_reward_closeness(out RewardHandle reward);

        /// <summary>
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
        /// </summary>
        [UnmanagedFunctionPointer(CallingConvention.Cdecl)]
        public delegate int softdimo_reward_fn(IntPtr user_data, IntPtr pixels, uint batch, uint width, uint height, IntPtr scores, IntPtr gradient);

        /// <summary>
        /// The host's own reward. `callback` and `user_data` must stay valid until the reward is freed and every job
        /// that uses it has ended. Its calls come one at a time, even where several jobs use it: meanwhile a wait or poll of
        /// another such job keeps to its time.
        /// </summary>
        [DllImport(Library, CallingConvention = CallingConvention.Cdecl)]
        public static extern int softdimo_reward_from_callback(softdimo_reward_fn callback, IntPtr user_data, out RewardHandle reward);

        /// <summary>How the network of a reward file is opened. Call `softdimo_reward_options_init` first.</summary>
        [StructLayout(LayoutKind.Sequential)]
        public struct softdimo_reward_options
        {
            /// <summary>Set by `softdimo_reward_options_init`.</summary>
            public uint struct_size;
            /// <summary>`SOFTDIMO_WEIGHTS_*`; not read for a file in memory.</summary>
            public uint weights_mode;
            /// <summary>
            /// Of a classifier: what pictures should show. -1: class_label, or what the request's label says, by its
            /// name where both files name their classes, else by its id where both have as many.
            /// </summary>
            public int class_id;
            /// <summary>Must be zero.</summary>
            public uint reserved0;
            /// <summary>The same by its name, UTF-8, case ignored; NULL when class_id is used, or for neither.</summary>
            public IntPtr class_label;
            /// <summary>Must be zero.</summary>
            public uint reserved_0, reserved_1, reserved_2, reserved_3, reserved_4, reserved_5, reserved_6, reserved_7, reserved_8, reserved_9;
        }

        /// <summary>
        /// Fill `options` with defaults: mapped, no class; `struct_size` is `sizeof(softdimo_reward_options)`. Errors:
        /// NULL, unknown size.
        /// </summary>
        [DllImport(Library, CallingConvention = CallingConvention.Cdecl)]
        public static extern int softdimo_reward_options_init(ref softdimo_reward_options options, uint struct_size);

        /// <summary>
        /// Open the reward file at `path` (UTF-8), made by `softdimo convert`: a network that scores pictures, some
        /// of them against the request's prompt. It runs in the same session as the generator, on whatever engine a
        /// request goes to. `options` may be NULL for defaults. Blocks for milliseconds: weights are mapped, not
        /// read, and stay mapped until the reward is freed and the last job that uses it has ended. A generator's
        /// file is SOFTDIMO_ERR_CONFIG; a missing prompt, or a class that cannot be told, shows when a request uses
        /// the reward.
        /// </summary>
        [DllImport(Library, CallingConvention = CallingConvention.Cdecl)]
        public static extern int softdimo_reward_open(byte[] path, ref softdimo_reward_options options, out RewardHandle reward);

        /// <summary>
        /// Open the reward file at `path` (UTF-8), made by `softdimo convert`: a network that scores pictures, some
        /// of them against the request's prompt. It runs in the same session as the generator, on whatever engine a
        /// request goes to. `options` may be NULL for defaults. Blocks for milliseconds: weights are mapped, not
        /// read, and stay mapped until the reward is freed and the last job that uses it has ended. A generator's
        /// file is SOFTDIMO_ERR_CONFIG; a missing prompt, or a class that cannot be told, shows when a request uses
        /// the reward.
        /// </summary>
        [DllImport(Library, CallingConvention = CallingConvention.Cdecl)]
        public static extern int softdimo_reward_open(byte[] path, IntPtr options, out RewardHandle reward);

        /// <summary>
        /// The same for a reward whose file is in memory; bytes and `release` as in `softdimo_engine_open_memory`. They are in use
        /// until `release` is called, which may be after the reward and its jobs are gone: what a cancelled job had begun to prepare
        /// is finished first. With a NULL `release` they must outlive every engine that was given a job with this reward.
        /// </summary>
        [DllImport(Library, CallingConvention = CallingConvention.Cdecl)]
        public static extern int softdimo_reward_open_memory(IntPtr data, ulong length, softdimo_release_fn release, IntPtr user_data, ref softdimo_reward_options options, out RewardHandle reward);

        /// <summary>
        /// The same for a reward whose file is in memory; bytes and `release` as in `softdimo_engine_open_memory`. They are in use
        /// until `release` is called, which may be after the reward and its jobs are gone: what a cancelled job had begun to prepare
        /// is finished first. With a NULL `release` they must outlive every engine that was given a job with this reward.
        /// </summary>
        [DllImport(Library, CallingConvention = CallingConvention.Cdecl)]
        public static extern int softdimo_reward_open_memory(IntPtr data, ulong length, softdimo_release_fn release, IntPtr user_data, IntPtr options, out RewardHandle reward);

        /// <summary>
        /// JSON about a reward: its name, whether it reads a prompt, and of an opened file its family, title, licence,
        /// configuration, classes and size. Text convention.
        /// </summary>
        [DllImport(Library, CallingConvention = CallingConvention.Cdecl)]
        public static extern int softdimo_reward_info(RewardHandle reward, byte[] buffer, ulong capacity, out ulong needed);

        /// <summary>Free a reward: NULL is fine. Jobs that use it keep what they need. In a forked child this does nothing.</summary>
        [DllImport(Library, CallingConvention = CallingConvention.Cdecl)]
        public static extern void softdimo_reward_free(IntPtr reward);

        // Versions and providers

        /// <summary>
        /// ABI of this header: major &lt;&lt; 16 | minor. A library with another major number must be refused; one with
        /// a larger minor number only adds to what is declared here.
        /// </summary>
        public const int SOFTDIMO_ABI_VERSION = 65538;

        /// <summary>`SOFTDIMO_ABI_VERSION` of the loaded library.</summary>
        [DllImport(Library, CallingConvention = CallingConvention.Cdecl)]
        public static extern uint softdimo_abi_version();

        /// <summary>Version of the loaded library, e.g. "0.1.0". Static string.</summary>
        [DllImport(Library, CallingConvention = CallingConvention.Cdecl)]
        public static extern IntPtr softdimo_version();

        /// <summary>Number of execution providers this library knows.</summary>
        [DllImport(Library, CallingConvention = CallingConvention.Cdecl)]
        public static extern uint softdimo_provider_count();

        /// <summary>
        /// JSON about provider `index`: `{"name", "available", "reason"}`. Availability is known once an engine was
        /// opened. Text convention.
        /// </summary>
        [DllImport(Library, CallingConvention = CallingConvention.Cdecl)]
        public static extern int softdimo_provider_info(uint index, byte[] buffer, ulong capacity, out ulong needed);
    }
}
