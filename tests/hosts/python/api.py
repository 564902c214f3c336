"""bindings/python in Python: api.py MODEL PIXELS PNG. PIXELS gets the picture of "red apple" with seed 7, PNG the same."""
import asyncio
import gc
import sys
import threading
import time

import softdimo

model, pixels_file, png = sys.argv[1:]


def raises(kind, words, call, *arguments, **fields):
    try:
        call(*arguments, **fields)
    except kind as why:
        assert words in str(why), f"expected '{words}' in '{why}'"
        return why
    raise AssertionError(f"expected {kind.__name__}: {words}")


def errors(engine):
    why = raises(softdimo.NotFoundError, "'/nowhere' not found", softdimo.open, "/nowhere")
    assert why.status == softdimo.SOFTDIMO_ERR_NOT_FOUND and why.status_name == "SOFTDIMO_ERR_NOT_FOUND"
    raises(softdimo.FormatError, "", softdimo.open, b"x" * 100)
    raises(softdimo.InvalidArgumentError, "threads", softdimo.open, model, threads=257)
    raises(TypeError, "no field 'thread'", softdimo.open, model, thread=1)
    raises(TypeError, "no field 'labels'", engine.submit, labels="x")
    raises(TypeError, "no field 'reserved'", engine.submit, reserved=1)
    raises(softdimo.UnknownLabelError, "close: red apple", engine.generate, "rad apple")
    raises(softdimo.UnknownLabelError, "'Äpfel 苹果'", engine.generate, "Äpfel 苹果")
    raises(ValueError, "NUL", engine.generate, "red\0apple")
    raises(softdimo.UnsupportedError, "prompt", engine.generate, prompt="an apple")
    job = engine.submit("rocket")
    job.close()
    job.close()
    raises(ValueError, "closed", job.poll)


def pictures(engine):
    job = engine.submit("red apple", seed=7)
    while job.poll() != "done":
        time.sleep(0.001)
    assert job.wait() and job.error == "" and job.progress[0] == job.progress[1] > 0
    assert job.report["seed"] == 7, job.report
    picture = job.picture()
    with open(pixels_file, "wb") as out:
        out.write(picture.pixels)
    picture.save(png, {"Title": "an apple"})
    turned = bytearray(32 * 32 * 4)
    job.read_into(turned, origin=softdimo.SOFTDIMO_ORIGIN_BOTTOM_LEFT)
    rows = [picture.pixels[i * 128:(i + 1) * 128] for i in range(32)]
    assert bytes(turned) == b"".join(reversed(rows))
    raises(softdimo.BufferTooSmallError, "4096", job.read_into, bytearray(4095))
    raises(TypeError, "", job.read_into, b"read only")
    batch = engine.generate("red apple", seed=6, batch=2)
    assert len(batch) == 2 and batch[1] == picture
    with open(model, "rb") as file, softdimo.open(file.read(), threads=1) as other:
        job = other.submit("red apple", seed=7)
    del other
    gc.collect()
    job.wait()
    assert job.picture() == picture
    kept = engine.generate("red apple", edit=picture, edit_keep=1)
    assert len(set(kept.pixels)) > 20
    long = engine.submit("dog", steps=5000)
    assert not long.wait(0.01)
    raises(softdimo.NotReadyError, "", long.picture)
    long.cancel()
    raises(softdimo.CancelledError, "", long.wait)


def handles(engine):
    """What has no method is called by the handles."""
    assert softdimo.library.softdimo_engine_pause(engine.handle) == softdimo.SOFTDIMO_OK
    with engine.submit("red apple") as job:
        assert not job.wait(0.05) and job.poll() == "queued"
        assert softdimo.library.softdimo_engine_resume(engine.handle) == softdimo.SOFTDIMO_OK
        assert job.wait() and softdimo.library.softdimo_job_cancel(job.handle) == softdimo.SOFTDIMO_OK
    raises(ValueError, "closed", lambda: job.handle)


def rewards(engine):
    calls = []

    def bluer(pixels, scores, gradient, shape):
        batch, _, height, width = shape
        for b in range(batch):
            total = 0
            for y in range(height):
                for x in range(width):
                    total += pixels[b, 2, y, x] - pixels[b, 0, y, x]
                    gradient[b, 0, y, x], gradient[b, 2, y, x] = -1 / (height * width), 1 / (height * width)
            scores[b] = total / (height * width)
        calls.append(threading.get_ident())
        gc.collect()

    def blue(picture):
        return sum(picture.pixels[2::4]) - sum(picture.pixels[::4])

    before = blue(engine.generate("red apple", seed=3))
    # Nothing but the job refers to the reward.
    job = engine.submit("red apple", seed=3, optimize_steps=8, optimizer=softdimo.SOFTDIMO_OPTIMIZER_ADAM, lr=0.03,
                        rewards=[(softdimo.Reward.from_function(bluer), 1), (softdimo.Reward.prior(), 0.01)])
    gc.collect()
    job.wait()
    assert len(calls) >= 8 and set(calls) == {threading.get_ident()}
    assert blue(job.picture()) > before + 1000, (blue(job.picture()), before)

    def broken(*_):
        raise KeyError("no taste")

    reward = softdimo.Reward.from_function(broken)
    raises(KeyError, "no taste", engine.generate, "dog", optimize_steps=3, rewards=[(reward, 1)])
    stop = softdimo.Reward.from_function(lambda *_: False)
    raises(softdimo.CancelledError, "", engine.generate, "dog", optimize_steps=3, rewards=[(stop, 1)])
    color = softdimo.Reward.color(0, 0, 1)
    assert "color" in str(color.info)
    target = softdimo.Reward.target(engine.generate("dog"))
    engine.generate("dog", optimize_steps=2, rewards=[(color, 1), (target, -1), (softdimo.Reward.closeness(), 0.1)])


def tasks(engine):
    async def main():
        ticks = 0

        async def ticking():
            nonlocal ticks
            while True:
                ticks += 1
                await asyncio.sleep(0.001)

        clock = asyncio.ensure_future(ticking())
        done = await asyncio.gather(*(engine.generate_async("rocket", seed=seed) for seed in range(4)))
        assert len({picture.pixels for picture in done}) == 4
        long = asyncio.ensure_future(engine.generate_async("dog", steps=5000))
        await asyncio.sleep(0.05)
        long.cancel()
        try:
            await long
            raise AssertionError("expected a cancelled task")
        except asyncio.CancelledError:
            pass
        clock.cancel()
        assert ticks > 10, ticks

    asyncio.run(main())


def forgotten():
    """Handles that nobody closes, with jobs under way, some until the interpreter ends."""
    left = []
    for i in range(10):
        engine = softdimo.open(model, threads=1, log=lambda level, text: None, log_level=softdimo.SOFTDIMO_LOG_INFO)
        reward = softdimo.Reward.from_function(lambda *_: None)
        left.append(engine.submit("rocket"))
        engine.submit("rocket", optimize_steps=2, rewards=[(reward, 1)])
    del left[::2]
    return left


messages = []
with softdimo.open(model, threads=1, niceness=10, log=lambda level, text: messages.append(text),
                   log_level=softdimo.SOFTDIMO_LOG_INFO) as engine:
    assert (engine.width, engine.height, len(engine.labels)) == (32, 32, 181)
    assert "emoji-32" in str(engine.info) and softdimo.version.count(".") == 2
    engine.warmup()
    assert messages
    errors(engine)
    pictures(engine)
    handles(engine)
    rewards(engine)
    tasks(engine)
    engine.trim()
raises(ValueError, "closed", engine.generate, "dog")
left = forgotten()
print("ok")
