using System;
using System.Runtime.InteropServices;
using System.Threading;

namespace Softdimo
{
    /// <summary>
    /// Says to IL2CPP that native code calls a static method. Unity's own attribute of this name is found by name as well,
    /// so this compiles where there is no Unity.
    /// </summary>
    [AttributeUsage(AttributeTargets.Method)]
    internal sealed class MonoPInvokeCallbackAttribute : Attribute
    {
        public MonoPInvokeCallbackAttribute(Type type) { }
    }

    /// <summary>
    /// Something managed that the library holds on to, by a GCHandle or an address, until everything that uses it has been
    /// freed: an engine, its jobs, a reward. Whoever holds it last lets it go.
    /// </summary>
    internal sealed class Held
    {
        private GCHandle handle;
        private int holders = 1;

        internal Held(object what, GCHandleType type)
        {
            handle = GCHandle.Alloc(what, type);
        }

        /// <summary>To be given as user_data.</summary>
        internal IntPtr UserData
        {
            get { return GCHandle.ToIntPtr(handle); }
        }

        /// <summary>Of what is pinned.</summary>
        internal IntPtr Address
        {
            get { return handle.AddrOfPinnedObject(); }
        }

        internal Held Hold()
        {
            Interlocked.Increment(ref holders);
            return this;
        }

        internal void LetGo()
        {
            if (Interlocked.Decrement(ref holders) == 0)
            {
                handle.Free();
            }
        }
    }

    /// <summary>The library's callbacks: static, and kept for ever, as native code holds their addresses.</summary>
    internal static class Callbacks
    {
        internal static readonly Native.softdimo_reward_fn Reward = OnReward;
        internal static readonly Native.softdimo_log_fn Log = OnLog;

        internal static readonly IntPtr LogAddress = Marshal.GetFunctionPointerForDelegate(Log);

        // No exception may pass through the library: it stops the job, and is thrown by the call that was waiting.
        [MonoPInvokeCallback(typeof(Native.softdimo_reward_fn))]
        private static int OnReward(IntPtr userData, IntPtr pixels, uint batch, uint width, uint height, IntPtr scores,
            IntPtr gradient)
        {
            var state = (RewardState)GCHandle.FromIntPtr(userData).Target;
            return state.Score(pixels, batch, width, height, scores, gradient) ? Native.SOFTDIMO_CONTINUE : Native.SOFTDIMO_STOP;
        }

        [MonoPInvokeCallback(typeof(Native.softdimo_log_fn))]
        private static int OnLog(IntPtr userData, int level, IntPtr message)
        {
            try
            {
                var log = (Action<int, string>)GCHandle.FromIntPtr(userData).Target;
                log(level, Text.Read(message));
                return Native.SOFTDIMO_CONTINUE;
            }
            catch (Exception)
            {
                return Native.SOFTDIMO_STOP;
            }
        }
    }
}
