// Frames.exe MODEL RUNS SECONDS: the worst frame of runs without a job and with jobs, in a loop of 60 frames a second.

using System;
using System.Diagnostics;
using System.Globalization;
using System.Threading;
using Softdimo;

internal static class Frames
{
    private const double Frame = 1000.0 / 60;

    private static void Main(string[] arguments)
    {
        var runs = int.Parse(arguments[1], CultureInfo.InvariantCulture);
        var milliseconds = 1000 * double.Parse(arguments[2], CultureInfo.InvariantCulture);
        var pixels = new byte[32 * 32 * 4];
        ulong seed = 0;
        using (var engine = Engine.Open(arguments[0], new EngineOptions { Threads = 1, Niceness = 10 }))
        {
            engine.Warmup();
            Job job = null;
            for (var run = 0; run < 2 * runs; run++)
            {
                var busy = run % 2 == 1;
                var clock = Stopwatch.StartNew();
                double worst = 0, last = 0;
                for (var frame = 1; clock.Elapsed.TotalMilliseconds < milliseconds; frame++)
                {
                    if (job == null && busy)
                    {
                        job = engine.Submit(new Request("red apple", ++seed));
                    }
                    else if (job != null && job.Poll() == JobState.Done)
                    {
                        job.CopyTo(pixels);
                        job.Dispose();
                        job = null;
                    }
                    // What a game would do: 4 ms of work, then the rest of the frame asleep.
                    var until = clock.Elapsed.TotalMilliseconds + 4;
                    while (clock.Elapsed.TotalMilliseconds < until)
                    {
                        Thread.SpinWait(100);
                    }
                    var rest = frame * Frame - clock.Elapsed.TotalMilliseconds;
                    if (rest > 0)
                    {
                        Thread.Sleep(TimeSpan.FromMilliseconds(rest));
                    }
                    var now = clock.Elapsed.TotalMilliseconds;
                    if (frame > 3)
                    {
                        worst = Math.Max(worst, now - last);
                    }
                    last = now;
                }
                if (job != null)
                {
                    job.Dispose();
                    job = null;
                }
                Console.WriteLine("frames {0}: worst {1} ms", busy ? "busy" : "idle", worst.ToString("F2", CultureInfo.InvariantCulture));
            }
        }
    }
}
