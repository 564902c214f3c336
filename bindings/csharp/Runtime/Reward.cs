using System;
using System.Runtime.ExceptionServices;
using System.Runtime.InteropServices;

namespace Softdimo
{
    /// <summary>
    /// Scores pictures [batch, 3, height, width], nominally in [0, 1]: fill scores [batch] and gradient = dscore/dpixels, of the
    /// pictures' shape; both are zeros at first. False ends the optimisation like a cancel. Called on the thread that is inside
    /// Job.Poll or Job.Wait (in Unity the pump's: the main thread). What it throws cancels the job, and is thrown there.
    /// The arrays are used again for the next call.
    /// </summary>
    public delegate bool RewardFunction(float[] pixels, int batch, int width, int height, float[] scores, float[] gradient);

    internal sealed class RewardState
    {
        private readonly RewardFunction function;
        private float[] pixels = new float[0], gradient = new float[0], scores = new float[0];
        private ExceptionDispatchInfo failure;

        internal RewardState(RewardFunction function)
        {
            this.function = function;
        }

        internal bool Score(IntPtr pixelsAt, uint batch, uint width, uint height, IntPtr scoresAt, IntPtr gradientAt)
        {
            try
            {
                var count = checked((int)(batch * 3L * width * height));
                if (pixels.Length != count)
                {
                    pixels = new float[count];
                    gradient = new float[count];
                    scores = new float[batch];
                }
                Marshal.Copy(pixelsAt, pixels, 0, count);
                Array.Clear(gradient, 0, count);
                Array.Clear(scores, 0, scores.Length);
                if (!function(pixels, (int)batch, (int)width, (int)height, scores, gradient))
                {
                    return false;
                }
                Marshal.Copy(scores, 0, scoresAt, scores.Length);
                Marshal.Copy(gradient, 0, gradientAt, count);
                return true;
            }
            catch (Exception e)
            {
                failure = ExceptionDispatchInfo.Capture(e);
                return false;
            }
        }

        /// <summary>Throw what the function has thrown.</summary>
        internal void Rethrow()
        {
            var thrown = failure;
            failure = null;
            if (thrown != null)
            {
                thrown.Throw();
            }
        }
    }

    /// <summary>What an optimisation climbs. May be used by several jobs; may be disposed while they use it.</summary>
    public sealed class Reward : IDisposable
    {
        /// <summary>For the functions of Native. It stays this object's, which frees it.</summary>
        public readonly RewardHandle Handle;
        internal readonly RewardState State;
        internal readonly Held Held;

        private Reward(RewardHandle handle)
        {
            Handle = handle;
        }

        private Reward(RewardHandle handle, RewardState state, Held held) : this(handle)
        {
            State = state;
            Held = held;
            handle.Freed = held.LetGo;
        }

        /// <summary>The host's own.</summary>
        public static Reward FromFunction(RewardFunction function)
        {
            if (function == null)
            {
                throw new ArgumentNullException("function");
            }
            var state = new RewardState(function);
            var held = new Held(state, GCHandleType.Normal);
            RewardHandle handle;
            var status = Native.softdimo_reward_from_callback(Callbacks.Reward, held.UserData, out handle);
            if (status != Native.SOFTDIMO_OK)
            {
                held.LetGo();
                SoftdimoException.Check(status);
            }
            return new Reward(handle, state, held);
        }

        /// <summary>The mean over the picture of r·R + g·G + b·B.</summary>
        public static Reward Color(float r, float g, float b)
        {
            RewardHandle handle;
            SoftdimoException.Check(Native.softdimo_reward_color(r, g, b, null, 0, out handle));
            return new Reward(handle);
        }

        /// <summary>Staying what the label or prompt says, by the model's own teacher.</summary>
        public static Reward Prior(ulong seed = 0)
        {
            RewardHandle handle;
            SoftdimoException.Check(Native.softdimo_reward_prior(seed, out handle));
            return new Reward(handle);
        }

        /// <summary>Staying near the start.</summary>
        public static Reward Closeness()
        {
            RewardHandle handle;
            SoftdimoException.Check(Native.softdimo_reward_closeness(out handle));
            return new Reward(handle);
        }

        /// <summary>Looking like a picture of the model's size, RGBA with 8 bits a channel, from the top.</summary>
        public static Reward Target(byte[] pixels, int width, int height)
        {
            RewardHandle handle = null;
            ImageOf.Bytes(pixels, width, height, PixelFormat.Rgba8, RowOrder.TopDown,
                (ref Native.softdimo_image image) => Native.softdimo_reward_target(ref image, null, 0, out handle));
            return new Reward(handle);
        }

        /// <summary>The network of a reward file.</summary>
        public static Reward Open(string path)
        {
            RewardHandle handle;
            SoftdimoException.Check(Native.softdimo_reward_open(Text.Bytes(path), IntPtr.Zero, out handle));
            return new Reward(handle);
        }

        /// <summary>JSON about it.</summary>
        public string Info
        {
            get
            {
                return Text.Of((byte[] buffer, ulong capacity, out ulong needed) =>
                    Native.softdimo_reward_info(Handle, buffer, capacity, out needed));
            }
        }

        /// <summary>Free it.</summary>
        public void Dispose()
        {
            Handle.Dispose();
        }
    }
}
