using System;
using System.Collections.Generic;
using System.Runtime.InteropServices;

namespace Softdimo
{
    /// <summary>
    /// What to make. What is not set is the library's default, which for most is the model's own. May be used for any number
    /// of jobs, and changed between them.
    /// </summary>
    public sealed class Request
    {
        /// <summary>The struct of softdimo.h, for every field that has no property here.</summary>
        public Native.softdimo_request Raw;

        private readonly List<KeyValuePair<Reward, float>> rewards = new List<KeyValuePair<Reward, float>>();

        /// <summary>One picture, seed 0, no label.</summary>
        public Request()
        {
            SoftdimoException.Check(Native.softdimo_request_init(ref Raw, (uint)Marshal.SizeOf(Raw)));
        }

        /// <summary>One picture of a label.</summary>
        public Request(string label, ulong seed = 0) : this()
        {
            Label = label;
            Seed = seed;
        }

        /// <summary>Class name for all pictures.</summary>
        public string Label { get; set; }
        /// <summary>Class ids instead: one, or one a picture.</summary>
        public int[] ClassLabels { get; set; }
        /// <summary>Text prompt, for text-to-image models and rewards.</summary>
        public string Prompt { get; set; }
        /// <summary>What guidance leads away from; with Steps above 1.</summary>
        public string NegativePrompt { get; set; }
        /// <summary>Seed of the first picture; the next has the next one.</summary>
        public ulong Seed { get { return Raw.seed; } set { Raw.seed = value; } }
        /// <summary>Pictures, 1 to 256.</summary>
        public int Batch { get { return (int)Raw.batch; } set { Raw.batch = checked((uint)value); } }
        /// <summary>0: the model's own way. 1: one step. More: the multi-step teacher.</summary>
        public int Steps { get { return (int)Raw.steps; } set { Raw.steps = checked((uint)value); } }
        /// <summary>Sampling temperature.</summary>
        public float Temperature { get { return Raw.temperature; } set { Raw.temperature = value; } }
        /// <summary>The teacher's classifier-free guidance.</summary>
        public float GuidanceScale { get { return Raw.guidance_scale; } set { Raw.guidance_scale = value; } }

        /// <summary>Updates of an optimisation that climbs the rewards.</summary>
        public int OptimizeSteps { get { return (int)Raw.optimize_steps; } set { Raw.optimize_steps = checked((uint)value); } }
        /// <summary>Its learning rate.</summary>
        public float LearningRate { get { return Raw.lr; } set { Raw.lr = value; } }
        /// <summary>SOFTDIMO_OPTIMIZER_*</summary>
        public int Optimizer { get { return (int)Raw.optimizer; } set { Raw.optimizer = checked((uint)value); } }
        /// <summary>Milliseconds for the whole job: preparing, optimising, making the picture; -1: no deadline.</summary>
        public long DeadlineMilliseconds { get { return Raw.deadline_ms; } set { Raw.deadline_ms = value; } }

        /// <summary>Add a reward with its weight in the sum that is climbed.</summary>
        public Request AddReward(Reward reward, float weight = 1)
        {
            if (reward == null)
            {
                throw new ArgumentNullException("reward");
            }
            rewards.Add(new KeyValuePair<Reward, float>(reward, weight));
            return this;
        }

        /// <summary>Start from this picture of the model's size: RGBA, 8 bits a channel, from the top.</summary>
        public byte[] EditPixels { get; set; }
        /// <summary>Size of EditPixels.</summary>
        public int EditWidth { get; set; }
        /// <summary>Size of EditPixels.</summary>
        public int EditHeight { get; set; }
        /// <summary>Inpainting: weights [height, width] from the top; what is above 0 is painted anew.</summary>
        public float[] EditMask { get; set; }
        /// <summary>Variation: share of the picture's tokens that are kept, 0 to 1.</summary>
        public float EditKeep { get { return Raw.edit_keep; } set { Raw.edit_keep = value; } }

        /// <summary>Queue it.</summary>
        internal JobHandle Submit(EngineHandle engine, List<RewardState> states, List<Held> held)
        {
            using (var memory = new Pinned())
            {
                var request = Raw;
                request.label = memory.Text(Label);
                request.prompt = memory.Text(Prompt);
                request.negative_prompt = memory.Text(NegativePrompt);
                if (ClassLabels != null)
                {
                    request.class_labels = memory.Array(ClassLabels);
                    request.class_label_count = (uint)ClassLabels.Length;
                }
                if (EditPixels != null)
                {
                    var image = new Native.softdimo_image();
                    SoftdimoException.Check(Native.softdimo_image_init(ref image, (uint)Marshal.SizeOf(image)));
                    image.width = checked((uint)EditWidth);
                    image.height = checked((uint)EditHeight);
                    image.data = memory.Array(EditPixels);
                    image.capacity = (ulong)EditPixels.LongLength;
                    request.edit_image = memory.Array(new[] { image });
                }
                if (EditMask != null)
                {
                    request.edit_mask = memory.Array(EditMask);
                    request.edit_mask_count = (ulong)EditMask.LongLength;
                }
                if (rewards.Count > 0)
                {
                    var terms = new Native.softdimo_reward_term[rewards.Count];
                    for (var i = 0; i < terms.Length; i++)
                    {
                        var reward = rewards[i].Key;
                        terms[i].reward = memory.Handle(reward.Handle);
                        terms[i].weight = rewards[i].Value;
                        if (reward.State != null)
                        {
                            states.Add(reward.State);
                            held.Add(reward.Held.Hold());
                        }
                    }
                    request.rewards = memory.Array(terms);
                    request.reward_count = (uint)terms.Length;
                }
                JobHandle job;
                SoftdimoException.Check(Native.softdimo_submit(engine, ref request, out job));
                return job;
            }
        }
    }

    /// <summary>What a struct points to, while a call reads it.</summary>
    internal sealed class Pinned : IDisposable
    {
        private readonly List<GCHandle> pins = new List<GCHandle>();
        private readonly List<SafeHandle> handles = new List<SafeHandle>();

        internal IntPtr Array(Array array)
        {
            var pin = GCHandle.Alloc(array, GCHandleType.Pinned);
            pins.Add(pin);
            return pin.AddrOfPinnedObject();
        }

        internal IntPtr Text(string text)
        {
            return text == null ? IntPtr.Zero : Array(Softdimo.Text.Bytes(text));
        }

        internal IntPtr Handle(SafeHandle handle)
        {
            var added = false;
            handle.DangerousAddRef(ref added);
            handles.Add(handle);
            return handle.DangerousGetHandle();
        }

        public void Dispose()
        {
            pins.ForEach(pin => pin.Free());
            handles.ForEach(handle => handle.DangerousRelease());
        }
    }
}
