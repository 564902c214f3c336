using System;
using System.Collections.Generic;
using System.Threading;
using System.Threading.Tasks;

namespace Softdimo
{
    /// <summary>
    /// Turns jobs into tasks, without a thread: whoever has a loop calls Update once a turn, which polls the jobs, runs their
    /// reward functions and ends their tasks, and does not wait. In Unity that is done for Main every frame.
    /// </summary>
    public sealed class JobPump
    {
        private sealed class Pending
        {
            internal Job Job;
            internal TaskCompletionSource<Job> Task;
            internal CancellationTokenRegistration Cancel;
        }

        private readonly object gate = new object();
        private List<Pending> pending = new List<Pending>();

        /// <summary>The one that Unity's frames drive.</summary>
        public static readonly JobPump Main = new JobPump();

        /// <summary>A task of the job, which ends in an Update: with the job, or with what went wrong; the job is then disposed.</summary>
        public Task<Job> Add(Job job, CancellationToken cancel = default(CancellationToken))
        {
            var added = new Pending { Job = job, Task = new TaskCompletionSource<Job>() };
            added.Cancel = cancel.Register(() =>
            {
                try
                {
                    job.Cancel();
                }
                catch (ObjectDisposedException)
                {
                    // It has ended meanwhile.
                }
            });
            lock (gate)
            {
                pending.Add(added);
            }
            return added.Task.Task;
        }

        /// <summary>How many jobs have not ended yet.</summary>
        public int Count
        {
            get
            {
                lock (gate)
                {
                    return pending.Count;
                }
            }
        }

        /// <summary>Poll every job once.</summary>
        public void Update()
        {
            List<Pending> all;
            lock (gate)
            {
                if (pending.Count == 0)
                {
                    return;
                }
                all = pending;
                pending = new List<Pending>();
            }
            var ended = new List<Action>();
            var going = new List<Pending>();
            foreach (var one in all)
            {
                var end = Poll(one);
                if (end == null)
                {
                    going.Add(one);
                }
                else
                {
                    ended.Add(end);
                }
            }
            lock (gate)
            {
                // Those that were added meanwhile are younger.
                going.AddRange(pending);
                pending = going;
            }
            // What waits for a task may add jobs, or call Update.
            ended.ForEach(end => end());
        }

        // How the task ends, or null while it does not.
        private static Action Poll(Pending one)
        {
            Exception why;
            try
            {
                var state = one.Job.Poll();
                if (state == JobState.Done)
                {
                    one.Cancel.Dispose();
                    return () => one.Task.SetResult(one.Job);
                }
                // A newer library may know more states of a job that goes on.
                if (state != JobState.Failed && state != JobState.Cancelled)
                {
                    return null;
                }
                // It has ended: this does not wait, and throws why.
                one.Job.Wait(0);
                why = null;
            }
            catch (SoftdimoCancelledException)
            {
                why = null;
            }
            catch (Exception e)
            {
                why = e;
            }
            one.Cancel.Dispose();
            // An optimisation that was cancelled has pictures all the same.
            if (why == null && !one.Job.HasPictures)
            {
                one.Job.Dispose();
                return () => one.Task.SetCanceled();
            }
            if (why == null)
            {
                return () => one.Task.SetResult(one.Job);
            }
            one.Job.Dispose();
            return () => one.Task.SetException(why);
        }
    }
}
