// bindings/csharp in Mono: Api.exe ABI.txt MODEL PIXELS. The layout of every struct, errors, pictures, optimising with a reward
// of the host's while the collector runs, tasks, cancelling. PIXELS gets the picture of "red apple" with seed 7.

using System;
using System.Collections.Generic;
using System.IO;
using System.Linq;
using System.Reflection;
using System.Runtime.InteropServices;
using System.Threading;
using System.Threading.Tasks;
using Softdimo;

internal static class Api
{
    private static void Expect(bool right, string what)
    {
        if (!right)
        {
            throw new Exception("expected " + what);
        }
    }

    private static T Throws<T>(string words, Action call) where T : Exception
    {
        try
        {
            call();
        }
        catch (T e)
        {
            Expect(e.Message.Contains(words), "'" + words + "' in '" + e.Message + "'");
            return e;
        }
        throw new Exception("expected " + typeof(T).Name + " of '" + words + "', but nothing was thrown");
    }

    private static void Layout(string abi)
    {
        var checkedLines = 0;
        foreach (var line in File.ReadLines(abi))
        {
            var kind = line.Substring(0, line.IndexOf(' '));
            var name = line.Substring(kind.Length + 1, line.IndexOf('=') - kind.Length - 1);
            var what = line.Substring(line.IndexOf('=') + 1);
            long found, expected;
            if (kind == "constant")
            {
                found = Convert.ToInt64(typeof(Native).GetField(name).GetRawConstantValue());
                expected = long.Parse(what);
            }
            else if (kind == "struct")
            {
                found = Marshal.SizeOf(typeof(Native).GetNestedType(name));
                expected = long.Parse(what);
            }
            else if (kind == "field")
            {
                var parts = name.Split('.');
                var of = typeof(Native).GetNestedType(parts[0]);
                var numbers = what.Split(new[] { ' ' }, StringSplitOptions.RemoveEmptyEntries);
                var member = of.GetField(parts[1]) ?? of.GetField(parts[1] + "_0");
                Expect(member != null, "a field " + name);
                var count = of.GetField(parts[1]) != null ? 1 : of.GetFields().Count(f => f.Name.StartsWith(parts[1] + "_"));
                found = (long)Marshal.OffsetOf(of, member.Name) * 1000 + Marshal.SizeOf(member.FieldType) * count;
                expected = long.Parse(numbers[0]) * 1000 + long.Parse(numbers[1]);
            }
            else if (kind == "function")
            {
                var methods = typeof(Native).GetMember(name, MemberTypes.Method, BindingFlags.Public | BindingFlags.Static);
                found = methods.Length > 0 ? 1 : 0;
                expected = 1;
                // Every declaration is one that can be called.
                foreach (MethodInfo method in methods)
                {
                    Marshal.Prelink(method);
                }
            }
            else
            {
                // A callback, or a handle: softdimo_engine is EngineHandle.
                var words = name.Split('_').Skip(1).Select(word => char.ToUpper(word[0]) + word.Substring(1));
                var handle = typeof(Native).Assembly.GetType("Softdimo." + string.Concat(words) + "Handle");
                found = typeof(Native).GetNestedType(name) != null || handle != null ? 1 : 0;
                expected = 1;
            }
            Expect(found == expected, name + ": " + expected + ", found " + found);
            checkedLines++;
        }
        Expect(checkedLines > 150, "a table of more lines than " + checkedLines);
    }

    private static void Errors(Engine engine, string model)
    {
        var missing = Throws<SoftdimoNotFoundException>("'/nowhere' not found", () => Engine.Open("/nowhere"));
        Expect(missing.StatusName == "SOFTDIMO_ERR_NOT_FOUND" && missing.Status == 4, "a status, found " + missing.StatusName);
        Throws<SoftdimoFormatException>("", () => Engine.Open(new byte[100]));
        Throws<SoftdimoInvalidArgumentException>("threads", () => Engine.Open(model, new EngineOptions { Threads = 257 }));
        Throws<SoftdimoProviderException>("cuda", () => Engine.Open(model, new EngineOptions { Provider = "cuda" }));
        Throws<SoftdimoUnknownLabelException>("close: red apple", () => engine.Submit(new Request("rad apple")));
        Throws<SoftdimoUnknownLabelException>("'Äpfel 苹果'", () => engine.Submit(new Request("Äpfel 苹果")));
        Throws<ArgumentException>("NUL", () => engine.Submit(new Request("red\0apple")));
        Throws<ArgumentException>("", () => engine.Submit(new Request("\ud800")));
        Throws<SoftdimoUnsupportedException>("prompt", () => engine.Submit(new Request { Prompt = "an apple" }));
        Throws<OverflowException>("", () => new Request().Batch = -1);
        var disposed = engine.Submit(new Request("rocket"));
        disposed.Dispose();
        disposed.Dispose();
        Throws<ObjectDisposedException>("", () => disposed.Poll());
    }

    private static void Pictures(Engine engine, string model, string pixelsFile)
    {
        using (var job = engine.Submit(new Request("red apple", 7)))
        {
            while (job.Poll() != JobState.Done)
            {
                Thread.Sleep(1);
            }
            Expect(job.Wait() && job.Progress == 1 && job.Error == "" && job.HasPictures, "a job that is done");
            Expect(job.Report.Contains("\"red apple\""), "a report, found " + job.Report);
            var pixels = job.Pixels();
            File.WriteAllBytes(pixelsFile, pixels);
            var turned = job.Pixels(0, RowOrder.BottomUp);
            for (var i = 0; i < pixels.Length; i++)
            {
                var mirrored = (31 - i / 128) * 128 + i % 128;
                Expect(pixels[i] == turned[mirrored], "the rows from the bottom");
            }
            Throws<SoftdimoBufferTooSmallException>("4096", () => job.CopyTo(new byte[4095]));
            var memory = Marshal.AllocHGlobal(4096);
            job.CopyTo(memory, 4096);
            var copy = new byte[4096];
            Marshal.Copy(memory, copy, 0, copy.Length);
            Marshal.FreeHGlobal(memory);
            Expect(copy.SequenceEqual(pixels), "the same pixels at an address");

            // From memory, the engine let go while its job runs.
            var other = Engine.Open(File.ReadAllBytes(model), new EngineOptions { Threads = 1 });
            var again = other.Submit(new Request { ClassLabels = new[] { Array.IndexOf(engine.Labels, "red apple") }, Seed = 7 });
            other.Dispose();
            GC.Collect();
            again.Wait();
            Expect(again.Pixels().SequenceEqual(pixels), "the same picture from a model in memory");
            again.Dispose();

            // A variation that keeps everything.
            var edit = new Request("red apple") { EditPixels = pixels, EditWidth = 32, EditHeight = 32, EditKeep = 1 };
            using (var kept = engine.Submit(edit))
            {
                kept.Wait();
                Expect(kept.Pixels().Distinct().Count() > 20, "a picture");
            }
        }
    }

    // What has no method is called by the handles, which programs of other assemblies see.
    private static void Handles(Engine engine)
    {
        foreach (var type in new[] { typeof(Engine), typeof(Job), typeof(Reward) })
        {
            Expect(type.GetField("Handle") != null, type.Name + " shows its handle");
        }
        Expect(Native.softdimo_engine_pause(engine.Handle) == Native.SOFTDIMO_OK, "paused");
        using (var job = engine.Submit(new Request("red apple")))
        {
            Expect(!job.Wait(50) && job.Poll() == JobState.Queued, "a job of a paused engine");
            Expect(Native.softdimo_engine_resume(engine.Handle) == Native.SOFTDIMO_OK, "resumed");
            Expect(job.Wait(), "a job that went on");
        }
    }

    private static double Blue(byte[] pixels)
    {
        double sum = 0;
        for (var i = 0; i < pixels.Length; i += 4)
        {
            sum += pixels[i + 2] - pixels[i];
        }
        return sum / pixels.Length;
    }

    private static void Optimising(Engine engine)
    {
        var calls = 0;
        var thread = 0;
        // More blue, less red.
        Func<Reward> bluer = () => Reward.FromFunction((pixels, batch, width, height, scores, gradient) =>
        {
            calls++;
            thread = Thread.CurrentThread.ManagedThreadId;
            var plane = width * height;
            for (var b = 0; b < batch; b++)
            {
                for (var i = 0; i < plane; i++)
                {
                    var red = b * 3 * plane + i;
                    scores[b] += (pixels[red + 2 * plane] - pixels[red]) / plane;
                    gradient[red] = -1f / plane;
                    gradient[red + 2 * plane] = 1f / plane;
                }
            }
            GC.Collect();
            return true;
        });
        double before;
        using (var job = engine.Submit(new Request("red apple", 3)))
        {
            job.Wait();
            before = Blue(job.Pixels());
        }
        // The collector runs all the time, and the reward is out of reach but for its job.
        var done = false;
        var collector = new Thread(() =>
        {
            while (!Volatile.Read(ref done))
            {
                GC.Collect();
                GC.WaitForPendingFinalizers();
            }
        });
        collector.Start();
        Job climbing;
        using (var reward = bluer())
        {
            climbing = engine.Submit(new Request("red apple", 3) {
                OptimizeSteps = 12, Optimizer = Native.SOFTDIMO_OPTIMIZER_ADAM, LearningRate = 0.03f
            }.AddReward(reward));
        }
        climbing.Wait();
        Volatile.Write(ref done, true);
        collector.Join();
        Expect(calls >= 12 && thread == Thread.CurrentThread.ManagedThreadId, "12 calls on this thread, found " + calls);
        Expect(Blue(climbing.Pixels()) > before + 2, "a bluer picture than " + before + ", found " + Blue(climbing.Pixels()));
        climbing.Dispose();

        // What a reward throws comes out of the call that ran it, and the engine goes on.
        using (var broken = Reward.FromFunction((p, b, w, h, s, g) => { throw new InvalidOperationException("no taste"); }))
        using (var job = engine.Submit(new Request("red apple") { OptimizeSteps = 5 }.AddReward(broken)))
        {
            Throws<InvalidOperationException>("no taste", () => job.Wait());
        }
        // The library's own rewards, summed; and one that stops.
        using (var color = Reward.Color(-1, 0, 1))
        using (var prior = Reward.Prior())
        using (var job = engine.Submit(new Request("red apple") { OptimizeSteps = 3 }.AddReward(color).AddReward(prior, 0.15f)))
        {
            Expect(color.Info.Contains("color"), "a reward's name");
            job.Wait();
        }
        using (var stop = Reward.FromFunction((p, b, w, h, s, g) => false))
        using (var job = engine.Submit(new Request("red apple") { OptimizeSteps = 5 }.AddReward(stop)))
        {
            Throws<SoftdimoCancelledException>("", () => job.Wait());
        }
    }

    // As a game's loop drives them.
    private static void Pump(Task task, JobPump pump)
    {
        while (!task.IsCompleted)
        {
            pump.Update();
            Thread.Sleep(1);
        }
    }

    private static async Task<int> Paint(Engine engine, JobPump pump)
    {
        var bytes = 0;
        for (ulong seed = 0; seed < 5; seed++)
        {
            using (var job = await engine.GenerateAsync(new Request("rocket", seed), default(CancellationToken), pump))
            {
                bytes += job.Pixels().Length;
            }
        }
        return bytes;
    }

    private static void Tasks(Engine engine)
    {
        var pump = new JobPump();
        var painting = Paint(engine, pump);
        Pump(painting, pump);
        Expect(painting.Result == 5 * 4096, "five pictures");

        var tasks = Enumerable.Range(0, 6).Select(seed =>
            engine.GenerateAsync(new Request("dog", (ulong)seed), default(CancellationToken), pump)).ToList();
        Pump(Task.WhenAll(tasks), pump);
        tasks.ForEach(task => task.Result.Dispose());

        var source = new CancellationTokenSource();
        var cancelled = engine.GenerateAsync(new Request("dog") { Steps = 2000 }, source.Token, pump);
        pump.Update();
        Expect(!cancelled.IsCompleted && pump.Count == 1, "a job under way");
        source.Cancel();
        Pump(cancelled.ContinueWith(_ => { }), pump);
        Expect(cancelled.IsCanceled && pump.Count == 0, "a cancelled task, found " + cancelled.Status);

        // An optimisation that is cancelled has its best picture so far.
        source = new CancellationTokenSource();
        Task<Job> best;
        var steps = 0;
        using (var reward = Reward.FromFunction((p, b, w, h, s, g) => { g[0] = 1; s[0] = p[0]; return ++steps > 0; }))
        {
            best = engine.GenerateAsync(new Request("dog") { OptimizeSteps = 1000 }.AddReward(reward), source.Token, pump);
        }
        while (steps < 3)
        {
            pump.Update();
        }
        source.Cancel();
        Pump(best, pump);
        Expect(best.Result.HasPictures && best.Result.Pixels().Length == 4096, "the best picture so far");
        best.Result.Dispose();

        using (var broken = Reward.FromFunction((p, b, w, h, s, g) => { throw new InvalidOperationException("no taste"); }))
        {
            var failed = engine.GenerateAsync(new Request("dog") { OptimizeSteps = 9 }.AddReward(broken), default(CancellationToken), pump);
            Pump(failed.ContinueWith(_ => { }), pump);
            Expect(failed.Exception.InnerException is InvalidOperationException, "what the reward threw");
        }
    }

    // Handles that nobody frees, in any order, with jobs under way.
    private static void Forgotten(string model)
    {
        for (var i = 0; i < 10; i++)
        {
            var engine = Engine.Open(model, new EngineOptions { Threads = 1, Log = (level, text) => { }, LogLevel = Native.SOFTDIMO_LOG_INFO });
            for (var k = 0; k < 3; k++)
            {
                var reward = Reward.FromFunction((p, b, w, h, s, g) => true);
                engine.Submit(new Request("rocket"));
                engine.Submit(new Request("rocket") { OptimizeSteps = 3 }.AddReward(reward));
            }
            GC.Collect();
            GC.WaitForPendingFinalizers();
        }
    }

    private static int Main(string[] arguments)
    {
        var model = arguments[1];
        Layout(arguments[0]);
        Expect(Engine.LibraryVersion.Split('.').Length == 3, "a version");
        var log = new List<string>();
        var options = new EngineOptions { Threads = 1, Niceness = 10, Log = (level, text) => log.Add(text), LogLevel = Native.SOFTDIMO_LOG_INFO };
        using (var engine = Engine.Open(model, options))
        {
            Expect(engine.Width == 32 && engine.Height == 32 && engine.Labels.Length == 181, "emoji-32");
            Expect(engine.Info.Contains("emoji-32"), "its name");
            engine.Warmup();
            Expect(log.Count > 0, "messages of opening and preparing");
            Errors(engine, model);
            Pictures(engine, model, arguments[2]);
            Handles(engine);
            Optimising(engine);
            Tasks(engine);
            engine.Trim();
        }
        Forgotten(model);
        Console.WriteLine("ok");
        return 0;
    }
}
