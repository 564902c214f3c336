"""What outlives what: forks, signals, the interpreter's end, and thousands of calls. Each in a process of its own."""

from __future__ import annotations

import copy
import pickle
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from typing import Any

import pytest
from softdimo import Engine, Reward

Program = Callable[..., "subprocess.CompletedProcess[str]"]

# A program that hangs says where, and ends.
OPEN = """
import faulthandler; faulthandler.dump_traceback_later(60, exit=True)
import asyncio, gc, os, signal, sys, threading, time
import softdimo
from softdimo import Engine, Reward
engine = Engine.open(threads=1, niceness=5)
"""
# What the interpreter's end would give up after ten seconds hangs, which those 60 seconds tell from a slow machine.
PATIENT = """
from softdimo import _handles
_handles._PATIENCE = 1000
"""


def test_handles_are_not_pickled(engine: Engine) -> None:
    with engine.submit("dog") as job:
        for handle in (engine, job, Reward.closeness()):
            for take in (pickle.dumps, copy.copy, copy.deepcopy):
                with pytest.raises(TypeError, match="in each process"):
                    take(handle)


def test_a_forked_child(program: Program) -> None:
    program(
        OPEN
        + """
reward = Reward.closeness()
job = engine.submit("dog", steps=10000)
# Users that nobody in the child will ever send home.
taken, over = threading.Event(), threading.Event()
def hold():
    with engine._handle.used(), job._handle.used():
        taken.set()
        over.wait()
holder = threading.Thread(target=hold)
holder.start()
taken.wait()
faulthandler.cancel_dump_traceback_later()  # which has a thread, and waits for it
pid = os.fork()
if pid == 0:
    for call in (lambda: engine.generate("dog"), job.poll, lambda: reward.info, Engine.open, engine.memory, job.cancel):
        try:
            call()
        except softdimo.ForkedError as why:
            assert "spawn" in str(why), why
        else:
            os._exit(2)
    job.close()
    del engine, job, reward
    gc.collect()
    sys.exit(7)  # with all that an interpreter does at its end
status = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
over.set()
holder.join()
assert status == 7, status
"""
    )


def test_multiprocessing(program: Program, tmp_path: Any) -> None:
    script = tmp_path / "spawned.py"
    script.write_text("""
import multiprocessing
import softdimo

def make(seed):
    with softdimo.Engine.open(threads=1) as engine:
        return engine.generate("dog", seed=seed)

if __name__ == "__main__":
    with softdimo.Engine.open(threads=1) as engine:
        expected = [engine.generate("dog", seed=seed) for seed in range(2)]
        for method in ("spawn", "forkserver"):
            with multiprocessing.get_context(method).Pool(2) as pool:
                assert pool.map(make, range(2)) == expected
    print("ok")
""")
    done = subprocess.run(
        [sys.executable, "-X", "dev", str(script)], capture_output=True, text=True, timeout=120
    )
    assert (done.returncode, done.stdout) == (0, "ok\n"), done.stderr


@pytest.mark.parametrize(
    "waiting",
    [
        'engine.generate("dog", steps=10000)',
        'engine.submit("dog", steps=10000).wait()',
        'engine.submit("dog", steps=10000).result(100)',
        'engine.generate("dog", steps=10000, progress=lambda step, total: None)',
        'asyncio.run(asyncio.wait_for(engine.submit("dog", steps=10000), 100))',
        'job = engine.submit("dog", steps=10000); engine.memory()',
        'job = engine.submit("dog", steps=10000); engine.trim()',
        'job = engine.submit("dog", steps=10000); engine.encode(softdimo.Picture(__import__("numpy").zeros((32, 32, 4), "u1")))',
        'engine.pause(); engine.warmup("dog", steps=3)',
        'engine.optimize("dog", steps=10000, rewards=[(Reward.from_function(lambda *arrays: None), 1), (Reward.closeness(), 1)])',
        'job = engine.submit("dog", steps=10000); threading.Thread(target=job.wait, daemon=True).start(); time.sleep(100)',
    ],
)
def test_interrupts(waiting: str) -> None:
    """Ctrl-C ends what waits, and then the program, soon, whatever its threads do."""
    source = (
        OPEN
        + f"""
signal.signal(signal.SIGINT, signal.default_int_handler)
engine.warmup("dog", steps=2)
print("ready", flush=True)
try:
    {waiting}
except KeyboardInterrupt:
    print("interrupted", flush=True)
"""
    )
    with subprocess.Popen(
        [sys.executable, "-X", "dev", "-c", source], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout and process.stderr
        try:
            assert process.stdout.readline() == "ready\n", process.stderr.read()
            time.sleep(0.3)
            process.send_signal(signal.SIGINT)
            began = time.monotonic()
            assert process.stdout.readline() == "interrupted\n", process.stderr.read()
            assert time.monotonic() - began < 5
            assert process.wait(20) == 0
            assert process.stderr.read() == ""
        finally:
            process.kill()


@pytest.mark.parametrize(
    "left",
    [
        'kept = [engine.submit("dog", steps=10000) for _ in range(3)]',
        'threading.Thread(target=engine.submit("dog", steps=10000).wait, daemon=True).start(); time.sleep(0.1)',
        'threading.Thread(target=lambda: engine.generate("dog", steps=10000, progress=lambda *step: None), daemon=True).start(); time.sleep(0.1)',
        'loop = asyncio.new_event_loop(); task = loop.create_task(asyncio.wait_for(engine.submit("dog", steps=10000), 60));'
        " loop.call_later(0.1, loop.stop); loop.run_forever(); task._log_destroy_pending = False; loop.close()",
        "opening = Engine.open_async()",
        'engine.pause(); kept = engine.submit("dog")',
        'cycle = [engine.submit("dog", steps=10000)]; cycle.append(cycle); del cycle, engine',
        'sys.modules["kept"] = engine; kept = engine.submit("dog", optimize_steps=9999, steps=0,'
        " rewards=[(Reward.from_function(lambda *arrays: None), 1)]); threading.Thread(target=lambda: kept.wait(), daemon=True).start()",
        'import atexit; atexit.register(lambda: engine.generate("dog"))',
    ],
)
def test_the_end_of_the_interpreter(program: Program, left: str) -> None:
    """Jobs under way, threads inside calls and callbacks: nothing crashes, hangs or is said."""
    done = program(OPEN + PATIENT + left + '\nprint("ok")')
    assert (done.stdout, [line for line in done.stderr.splitlines() if "ResourceWarning" not in line]) == (
        "ok\n",
        [],
    )


def test_callbacks_may_refer_to_what_they_are_of(program: Program) -> None:
    """An object that has an engine or a job and is its callback as well is garbage like any other."""
    program(
        OPEN
        + """
import weakref
class Game:
    def __init__(self):
        self.engine = Engine.open(threads=1, log=self.log, log_level="info")
        self.job = self.engine.submit("dog", steps=10000, progress=self.progress)
        self.reward = Reward.from_function(self.score)
    def log(self, level, text): pass
    def progress(self, step, total): pass
    def score(self, pixels, scores, gradient): pass
for inside in (False, True):
    game = weakref.ref(Game())
    if inside:  # where nothing can be freed yet
        engine.generate("dog", steps=2, progress=lambda *step: gc.collect() and None)
    gc.collect()
    assert game() is None
    engine.memory()
    from softdimo import _handles
    assert [handle.what for handle in _handles._live.values()] == ["Engine"], _handles._live
"""
    )


def test_handlers_of_signals_that_raise(program: Program) -> None:
    """Wherever they do, what they come between is freed, and nobody waits for it at the end."""
    program(
        OPEN
        + PATIENT
        + """
import random
class Alarm(Exception): pass
def alarm(*_): raise Alarm
signal.signal(signal.SIGALRM, alarm)
engine.warmup("dog", steps=2)
random.seed(1)
def poll():
    job = engine.submit("dog")
    while job.poll() in ("queued", "running"):
        job.progress
def ask():
    for _ in range(300):
        engine.cancel_pending()
def wait():
    engine.generate("dog", steps=2, progress=lambda *step: None)
raised = 0
while raised < 400:
    try:
        try:
            signal.setitimer(signal.ITIMER_REAL, random.uniform(1e-5, 0.01))
            random.choice((poll, ask, wait))()
        finally:
            signal.setitimer(signal.ITIMER_REAL, 0)
    except Alarm:
        raised += 1
gc.collect()
engine.memory()
assert _handles._thread.callbacks == 0
assert not any(handle.closed for handle in _handles._live.values())
"""
    )


@pytest.mark.slow
def test_order_of_freeing(program: Program) -> None:
    program(
        OPEN
        + """
import itertools, random
random.seed(1)
def collect(*_):
    gc.collect()
for order in itertools.permutations(range(4)):
    engine = Engine.open(threads=1, log=collect, log_level="info")
    reward = Reward.from_function(collect)
    parts = [engine, reward, engine.submit("dog", optimize_steps=2, rewards=[(reward, 1)]), engine.submit("cat")]
    del engine, reward
    if random.random() < 0.5:
        parts[2].wait()
    for index in order:
        if random.random() < 0.5:
            parts[index].close()
        parts[index] = None
assert {thread.name for thread in threading.enumerate()} == {"MainThread"}
"""
    )


@pytest.mark.slow
def test_nothing_grows(program: Program) -> None:
    """Memory, threads and file descriptors over 1000 calls, after 100 in which pools fill."""
    done = program(
        OPEN
        + """
faulthandler.dump_traceback_later(240, exit=True)
import numpy as np
def held():
    gc.collect()
    with open("/proc/self/status") as status:
        rss = next(int(line.split()[1]) for line in status if line.startswith("RssAnon"))
    return rss, len(os.listdir("/proc/self/task")), len(os.listdir("/proc/self/fd"))
reward = Reward.color(0, 0, 1)
async def awaited(seed):
    return await engine.submit("dog", seed=seed)
out = np.empty((32, 32, 4), np.uint8)
def once(seed):
    engine.generate("dog", seed=seed, out=out)
    if seed % 20 == 0:
        asyncio.run(awaited(seed))
        engine.submit("dog", steps=3, progress=lambda *step: None).close()
        engine.optimize("dog", steps=1, rewards=[(reward, 1)], seed=seed)
        try:
            engine.generate("nobody")
        except softdimo.UnknownLabelError:
            pass
for seed in range(100):
    once(seed)
before = held()
for seed in range(1000):
    once(seed)
after = held()
print(*before, *after)
"""
    )
    rss, threads, files, rss_after, threads_after, files_after = map(int, done.stdout.split())
    assert (threads_after, files_after) == (threads, files)
    assert rss_after - rss < 4096, (rss, rss_after)


@pytest.mark.slow
def test_many_threads(program: Program) -> None:
    """Threads that generate, await, cancel and close, all at once, on engines that come and go."""
    done = program(
        OPEN
        + """
import random
expected = [engine.generate("dog", seed=seed) for seed in range(4)]
failures = []
def work(number):
    own = random.Random(number)
    try:
        for _ in range(15):
            what, seed = own.randrange(6), own.randrange(4)
            if what == 0:
                assert engine.generate("dog", seed=seed) == expected[seed]
            elif what == 1:
                engine.submit("dog", steps=20).close()
            elif what == 2:
                job = engine.submit("dog", steps=20)
                threading.Timer(0.01, job.cancel).start()
                try:
                    job.wait()
                except softdimo.CancelledError:
                    pass
            elif what == 3:
                async def several():
                    return await asyncio.gather(*(engine.submit("dog", seed=seed) for seed in range(4)))
                assert asyncio.run(several()) == expected
            elif what == 4:
                with Engine.open(threads=1) as other:
                    assert other.generate("dog", seed=seed) == expected[seed]
            else:
                def reward(pixels, scores, gradient):
                    gradient[:] = 1
                engine.optimize("dog", steps=1, rewards=[(Reward.from_function(reward), 1)])
    except BaseException as why:
        failures.append(why)
threads = [threading.Thread(target=work, args=(number,)) for number in range(16)]
for thread in threads: thread.start()
for thread in threads: thread.join()
assert not failures, failures
print("ok")
"""
    )
    assert done.stdout == "ok\n"
