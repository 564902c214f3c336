using System;
using System.Collections.Generic;

namespace Softdimo
{
    /// <summary>How far a job is.</summary>
    public enum JobState : uint
    {
        /// <summary>Others of its engine come first.</summary>
        Queued = Native.SOFTDIMO_JOB_QUEUED,
        /// <summary>The engine works on it.</summary>
        Running = Native.SOFTDIMO_JOB_RUNNING,
        /// <summary>The end: pictures can be read.</summary>
        Done = Native.SOFTDIMO_JOB_DONE,
        /// <summary>The end: Error says why.</summary>
        Failed = Native.SOFTDIMO_JOB_FAILED,
        /// <summary>The end; an optimisation still has its best pictures.</summary>
        Cancelled = Native.SOFTDIMO_JOB_CANCELLED
    }

    /// <summary>A request under way. It advances on the engine's own threads; reward functions run inside Poll and Wait.</summary>
    public sealed class Job : IDisposable
    {
        /// <summary>For the functions of Native. It stays this object's, which frees it.</summary>
        public readonly JobHandle Handle;
        private readonly List<RewardState> states;

        /// <summary>Width of its pictures in pixels.</summary>
        public int Width { get; private set; }
        /// <summary>Height of its pictures in pixels.</summary>
        public int Height { get; private set; }
        /// <summary>How many pictures it makes.</summary>
        public int Batch { get; private set; }

        internal Job(JobHandle handle, List<RewardState> states, int width, int height, int batch)
        {
            Handle = handle;
            this.states = states;
            Width = width;
            Height = height;
            Batch = batch;
        }

        /// <summary>Its state, without waiting. Calls the reward function that the job waits for, and throws what that throws.</summary>
        public JobState Poll()
        {
            uint state;
            var status = Native.softdimo_job_poll(Handle, out state);
            states.ForEach(reward => reward.Rethrow());
            SoftdimoException.Check(status);
            return (JobState)state;
        }

        /// <summary>Wait for its end, at most so many milliseconds (-1: as long as it takes). False if the time is over; throws
        /// what went wrong.</summary>
        public bool Wait(long milliseconds = -1)
        {
            var status = Native.softdimo_job_wait(Handle, milliseconds);
            var why = status == Native.SOFTDIMO_OK ? null : Text.LastError();
            states.ForEach(reward => reward.Rethrow());
            if (status == Native.SOFTDIMO_ERR_TIMEOUT)
            {
                return false;
            }
            if (status != Native.SOFTDIMO_OK)
            {
                throw SoftdimoException.Of(status, why);
            }
            return true;
        }

        /// <summary>Ask it to end; returns at once. Any thread.</summary>
        public void Cancel()
        {
            SoftdimoException.Check(Native.softdimo_job_cancel(Handle));
        }

        private Native.softdimo_progress Read()
        {
            var progress = new Native.softdimo_progress();
            progress.struct_size = (uint)System.Runtime.InteropServices.Marshal.SizeOf(progress);
            SoftdimoException.Check(Native.softdimo_job_progress(Handle, ref progress));
            return progress;
        }

        /// <summary>Share of its steps that are done, 0 to 1; no callbacks are called.</summary>
        public float Progress
        {
            get
            {
                var progress = Read();
                return progress.total == 0 ? 0 : (float)progress.step / progress.total;
            }
        }

        /// <summary>Steps that are done.</summary>
        public int Step
        {
            get { return (int)Read().step; }
        }

        /// <summary>Why it failed or was cancelled; "" otherwise.</summary>
        public string Error
        {
            get
            {
                return Text.Of((byte[] buffer, ulong capacity, out ulong needed) =>
                    Native.softdimo_job_error(Handle, buffer, capacity, out needed));
            }
        }

        /// <summary>JSON about what it did: all that is needed to make the picture again.</summary>
        public string Report
        {
            get
            {
                return Text.Of((byte[] buffer, ulong capacity, out ulong needed) =>
                    Native.softdimo_job_report(Handle, buffer, capacity, out needed));
            }
        }

        /// <summary>Whether there are pictures to read: of a job that is done, or of an optimisation that was cancelled.</summary>
        public bool HasPictures
        {
            get
            {
                ulong needed;
                return Native.softdimo_job_tokens(Handle, 0, null, 0, out needed) == Native.SOFTDIMO_OK;
            }
        }

        /// <summary>Picture `index`: RGBA, 8 bits a channel.</summary>
        public byte[] Pixels(int index = 0, RowOrder rows = RowOrder.TopDown)
        {
            var pixels = new byte[checked(Width * Height * 4)];
            CopyTo(pixels, index, PixelFormat.Rgba8, rows);
            return pixels;
        }

        /// <summary>Copy picture `index` into an array that is large enough.</summary>
        public void CopyTo(byte[] pixels, int index = 0, PixelFormat format = PixelFormat.Rgba8, RowOrder rows = RowOrder.TopDown)
        {
            ImageOf.Bytes(pixels, Width, Height, format, rows,
                (ref Native.softdimo_image image) => Native.softdimo_job_image(Handle, checked((uint)index), ref image));
        }

        /// <summary>Copy picture `index` to memory of `capacity` bytes, such as a NativeArray's.</summary>
        public void CopyTo(IntPtr data, long capacity, int index = 0, PixelFormat format = PixelFormat.Rgba8,
            RowOrder rows = RowOrder.TopDown)
        {
            ImageOf.Memory(data, checked((ulong)capacity), Width, Height, format, rows,
                (ref Native.softdimo_image image) => Native.softdimo_job_image(Handle, checked((uint)index), ref image));
        }

        /// <summary>Free it. One that has not ended is cancelled and waited for.</summary>
        public void Dispose()
        {
            Handle.Dispose();
        }
    }
}
