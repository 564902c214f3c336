using System;
using System.Collections.Generic;
using System.Runtime.InteropServices;
using System.Threading;
using System.Threading.Tasks;

namespace Softdimo
{
    /// <summary>How an engine computes. What is not set is the library's default.</summary>
    public sealed class EngineOptions
    {
        /// <summary>The struct of softdimo.h, for every field that has no property here.</summary>
        public Native.softdimo_engine_options Raw;

        /// <summary>The defaults.</summary>
        public EngineOptions()
        {
            // Opening an engine comes by here before it calls the library.
            Engine.CheckLibrary();
            SoftdimoException.Check(Native.softdimo_engine_options_init(ref Raw, (uint)Marshal.SizeOf(Raw)));
        }

        /// <summary>Threads that compute one run; 0: one per core, at most 8. One leaves a game its processors.</summary>
        public int Threads { get { return (int)Raw.threads; } set { Raw.threads = checked((uint)value); } }
        /// <summary>Niceness added to the engine's threads, 0 to 19.</summary>
        public int Niceness { get { return Raw.niceness; } set { Raw.niceness = value; } }
        /// <summary>SOFTDIMO_MEMORY_*</summary>
        public int MemoryMode { get { return (int)Raw.memory_mode; } set { Raw.memory_mode = checked((uint)value); } }
        /// <summary>Bytes the engine may hold beyond mapped pages; 0: no limit.</summary>
        public ulong MemoryLimit { get { return Raw.memory_limit; } set { Raw.memory_limit = value; } }
        /// <summary>"cpu" (also null), "cuda" or "openvino".</summary>
        public string Provider { get; set; }
        /// <summary>Path of the ONNX Runtime library; null: beside libsoftdimo.</summary>
        public string OrtLibrary { get; set; }
        /// <summary>Receives severity and text, on threads that are inside a call of the engine or its jobs.</summary>
        public Action<int, string> Log { get; set; }
        /// <summary>Least severe messages wanted, SOFTDIMO_LOG_*.</summary>
        public int LogLevel { get { return Raw.log_level; } set { Raw.log_level = value; } }
    }

    /// <summary>An opened model. May be used from any thread. Dispose it; jobs of it that are alive keep it running.</summary>
    public sealed class Engine : IDisposable
    {
        /// <summary>For the functions of Native. It stays this object's, which frees it.</summary>
        public readonly EngineHandle Handle;
        // What the library holds while the engine or a job of it lives: the log, the bytes of a model.
        private readonly List<Held> held;

        /// <summary>Width of its pictures in pixels.</summary>
        public int Width { get; private set; }
        /// <summary>Height of its pictures in pixels.</summary>
        public int Height { get; private set; }

        private Engine(EngineHandle handle, List<Held> held)
        {
            Handle = handle;
            this.held = held;
            handle.Freed = () => held.ForEach(what => what.LetGo());
            var layout = new Native.softdimo_layout();
            layout.struct_size = (uint)Marshal.SizeOf(layout);
            SoftdimoException.Check(Native.softdimo_engine_layout(handle, ref layout));
            Width = (int)layout.width;
            Height = (int)layout.height;
        }

        private delegate int Opening(ref Native.softdimo_engine_options options, out EngineHandle engine);

        private static Engine Open(EngineOptions options, List<Held> held, Opening opening)
        {
            var opened = false;
            try
            {
                options = options ?? new EngineOptions();
                using (var memory = new Pinned())
                {
                    var raw = options.Raw;
                    raw.provider = memory.Text(options.Provider);
                    raw.ort_library = memory.Text(options.OrtLibrary);
                    if (options.Log != null)
                    {
                        var log = new Held(options.Log, GCHandleType.Normal);
                        held.Add(log);
                        raw.log = Callbacks.LogAddress;
                        raw.log_user_data = log.UserData;
                    }
                    EngineHandle handle;
                    SoftdimoException.Check(opening(ref raw, out handle));
                    opened = true;
                    return new Engine(handle, held);
                }
            }
            finally
            {
                if (!opened)
                {
                    held.ForEach(what => what.LetGo());
                }
            }
        }

        /// <summary>Open the model file at a path. Takes milliseconds.</summary>
        public static Engine Open(string path, EngineOptions options = null)
        {
            var bytes = Text.Bytes(path);
            return Open(options, new List<Held>(), (ref Native.softdimo_engine_options raw, out EngineHandle handle) =>
                Native.softdimo_engine_open(bytes, ref raw, out handle));
        }

        /// <summary>Open a model whose file is in memory. It stays pinned until the engine and its jobs are freed.</summary>
        public static Engine Open(byte[] model, EngineOptions options = null)
        {
            if (model == null)
            {
                throw new ArgumentNullException("model");
            }
            var pinned = new Held(model, GCHandleType.Pinned);
            var held = new List<Held> { pinned };
            return Open(options, held, (ref Native.softdimo_engine_options raw, out EngineHandle handle) =>
                Native.softdimo_engine_open_memory(pinned.Address, (ulong)model.LongLength, null, IntPtr.Zero, ref raw, out handle));
        }

        /// <summary>Queue a request; returns at once. Jobs of an engine run one after the other.</summary>
        public Job Submit(Request request)
        {
            if (request == null)
            {
                throw new ArgumentNullException("request");
            }
            var states = new List<RewardState>();
            var kept = new List<Held>();
            held.ForEach(what => kept.Add(what.Hold()));
            JobHandle handle = null;
            try
            {
                handle = request.Submit(Handle, states, kept);
            }
            finally
            {
                if (handle == null)
                {
                    kept.ForEach(what => what.LetGo());
                }
            }
            handle.Freed = () => kept.ForEach(what => what.LetGo());
            return new Job(handle, states, Width, Height, request.Batch);
        }

        /// <summary>
        /// Make pictures without waiting: the task ends in a JobPump.Update, JobPump.Main's unless another is given. The job is
        /// the caller's to read and to dispose. Cancelling the token cancels the job.
        /// </summary>
        public Task<Job> GenerateAsync(Request request, CancellationToken cancel = default(CancellationToken), JobPump pump = null)
        {
            return (pump ?? JobPump.Main).Add(Submit(request), cancel);
        }

        /// <summary>Prepare what the first job needs, so that it is as fast as the next. Waits.</summary>
        public void Warmup(int batch = 1)
        {
            SoftdimoException.Check(Native.softdimo_engine_warmup(Handle, checked((uint)batch)));
        }

        /// <summary>Give back what can be prepared again.</summary>
        public void Trim()
        {
            SoftdimoException.Check(Native.softdimo_engine_trim(Handle));
        }

        /// <summary>The names of the model's labels.</summary>
        public string[] Labels
        {
            get
            {
                uint count;
                SoftdimoException.Check(Native.softdimo_engine_label_count(Handle, out count));
                var labels = new string[count];
                for (uint i = 0; i < count; i++)
                {
                    IntPtr name;
                    SoftdimoException.Check(Native.softdimo_engine_label(Handle, i, out name));
                    labels[i] = Text.Read(name);
                }
                GC.KeepAlive(this);
                return labels;
            }
        }

        /// <summary>JSON about the model, its labels and defaults.</summary>
        public string Info
        {
            get
            {
                return Text.Of((byte[] buffer, ulong capacity, out ulong needed) =>
                    Native.softdimo_engine_info(Handle, buffer, capacity, out needed));
            }
        }

        /// <summary>Version of the loaded library; throws where its ABI is another than these declarations'.</summary>
        public static string LibraryVersion
        {
            get
            {
                CheckLibrary();
                return Text.Read(Native.softdimo_version());
            }
        }

        /// <summary>Throw where the library's ABI is another than these declarations'.</summary>
        internal static void CheckLibrary()
        {
            var found = Native.softdimo_abi_version() >> 16;
            var expected = (uint)Native.SOFTDIMO_ABI_VERSION >> 16;
            if (found != expected)
            {
                throw new NotSupportedException("expected a library of ABI " + expected + ", found one of ABI " + found);
            }
        }

        /// <summary>Free it. Its threads are joined unless jobs of it are still alive.</summary>
        public void Dispose()
        {
            Handle.Dispose();
        }
    }
}
