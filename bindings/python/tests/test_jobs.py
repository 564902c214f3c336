"""Requests, and jobs: waited for, polled, awaited, cancelled."""

from __future__ import annotations

import asyncio
import decimal
import fractions
import threading
import time
from typing import Any

import numpy as np
import pytest
import softdimo
from softdimo import Engine, Job, Picture


@pytest.mark.parametrize(
    ("kind", "words", "label", "fields"),
    [
        (softdimo.UnknownLabelError, "red apple", "rad apple", {}),
        (softdimo.UnknownLabelError, "'Äpfel 苹果'", "Äpfel 苹果", {}),
        (ValueError, "NUL", "red\0apple", {}),
        (ValueError, "NUL", None, {"prompt": "\0"}),
        (softdimo.InvalidArgumentError, "surrogates", "\udc80", {}),
        (TypeError, "label", 7, {}),
        (TypeError, "label", b"dog", {}),
        (softdimo.UnsupportedError, "prompt", None, {"prompt": "an apple"}),
        (TypeError, "'labels'", None, {"labels": "x"}),
        (TypeError, "'reserved'", None, {"reserved": 1}),
        (softdimo.InvalidArgumentError, "expected 0 to 18446744073709551615", "dog", {"seed": -1}),
        (softdimo.InvalidArgumentError, "seed", "dog", {"seed": 2**64}),
        (TypeError, "seed: expected an integer, found str", "dog", {"seed": "1"}),
        (TypeError, "seed", "dog", {"seed": 1.5}),
        (TypeError, "seed", "dog", {"seed": np.float32(1.5)}),
        (TypeError, "steps", "dog", {"steps": fractions.Fraction(5, 2)}),
        (TypeError, "steps", "dog", {"steps": decimal.Decimal(2)}),
        (TypeError, "temperature: expected a number, found str", "dog", {"temperature": "1"}),
        (softdimo.InvalidArgumentError, "temperature", "dog", {"temperature": 10**400}),
        (softdimo.InvalidArgumentError, "temperature", "dog", {"temperature": float("nan")}),
        (softdimo.InvalidArgumentError, "top_p", "dog", {"top_p": 0.0}),
        (softdimo.InvalidArgumentError, "181", None, {"class_labels": 182}),
        (softdimo.InvalidArgumentError, "class_labels: expected integers of", None, {"class_labels": 2**70}),
        (TypeError, "class_labels: expected integers", None, {"class_labels": fractions.Fraction(5, 2)}),
        (softdimo.InvalidArgumentError, "e_in: ", "dog", {"e_in": [10**400]}),
        (TypeError, "class_labels", None, {"class_labels": 1.5}),
        (ValueError, "class_labels", None, {"class_labels": 2**40}),
        (softdimo.InvalidArgumentError, "class_label", None, {"class_labels": [1, 2, 3]}),
        (softdimo.InvalidArgumentError, "batch", "dog", {"batch": 257}),
        (softdimo.InvalidArgumentError, "batch", "dog", {"batch": 0}),
        (softdimo.InvalidArgumentError, "start_tokens", "dog", {"start_tokens": [[1]]}),
        (softdimo.InvalidArgumentError, "'hard', 'soft'", "dog", {"decode": "firm"}),
        (ValueError, "'embedding'", "dog", {"variables": "colour"}),
        (TypeError, "found (str, int)", "dog", {"rewards": [("color", 1)], "optimize_steps": 1}),
        (TypeError, "found Reward", "dog", {"rewards": [softdimo.Reward.closeness()], "optimize_steps": 1}),
        (TypeError, "found Reward", "dog", {"rewards": softdimo.Reward.closeness(), "optimize_steps": 1}),
        (TypeError, "edit_image: expected a Picture", "dog", {"edit_image": "dog.png"}),
        (softdimo.InvalidArgumentError, "reward", "dog", {"optimize_steps": 1}),
    ],
)
def test_requests_that_will_not_do(
    engine: Engine, kind: type[Exception], words: str, label: Any, fields: Any
) -> None:
    with pytest.raises(kind) as raised:
        engine.submit(label, **fields)
    assert words in str(raised.value), raised.value


def test_a_batch_that_will_not_do_has_no_arrays(engine: Engine) -> None:
    began = time.monotonic()
    with pytest.raises(softdimo.InvalidArgumentError, match="batch"):
        engine.generate("dog", batch=2**32 - 1)
    assert time.monotonic() - began < 10


def test_fields_are_the_library_s(engine: Engine) -> None:
    layout = engine.layout
    start = np.full((1, layout.positions, layout.splits), layout.mask_token)
    report = engine.generate(
        "dog",
        temperature=2.0,
        top_p=0.5,
        top_k=3,
        start_tokens=start,
        report_gap=True,
        decode="soft",
        priority=3,
        queue_key=5,
        seed=2**64 - 1,
    ).report
    assert (report["temperature"], report["top_p"], report["top_k"], report["decode"]) == (
        2.0,
        0.5,
        3,
        "soft",
    )
    assert report["custom_start"] is True and report["seed"] == 2**64 - 1 and report["soft_hard_difference"]
    teacher = engine.generate("dog", steps=3, guidance_scale=2.0, randomize_temperature=1.0).report
    assert teacher["steps"] == 3 and teacher["guidance_scale"] == 2.0
    scalars: Any = {"seed": np.uint8(3), "sigma": np.float32(0.5)}
    report = engine.submit("dog", **scalars).result().report
    assert (report["seed"], report["sigma"]) == (3, 0.5)
    by_id = engine.generate(class_labels=engine.labels.index("dog"))
    assert (
        by_id
        == engine.generate("dog")
        == engine.generate(class_labels=np.array([by_id.report["classes"][0]]))
    )
    two = engine.generate(class_labels=[3, 4], batch=2)
    assert [two[0], two[1].report["classes"]] == [engine.generate(class_labels=3), [3, 4]]


def test_edits(engine: Engine) -> None:
    rocket = engine.generate("rocket", seed=1)
    mask = np.zeros((32, 32), np.float32)
    mask[:16] = 1
    painted = engine.generate("dog", edit_image=rocket, edit_mask=mask)
    kept = engine.generate("dog", edit_image=rocket.array, edit_keep=1.0)

    def difference(rows: slice) -> float:
        return float(np.abs(painted.array[rows].astype(int) - kept.array[rows]).mean())

    assert difference(slice(20, 32)) < difference(slice(0, 12))
    with pytest.raises(softdimo.InvalidArgumentError, match="1024"):
        engine.generate("dog", edit_image=rocket, edit_mask=mask[:5])


def test_waiting(engine: Engine) -> None:
    steps: list[tuple[int, int]] = []
    job = engine.submit("dog", steps=5, progress=lambda *step: steps.append(step))
    assert isinstance(job.result(60), Picture) and job.wait(0) and job.done and job.error == ""
    assert (
        steps[-1] == (job.progress.step, job.progress.total) and steps == sorted(steps) and steps[-1][0] >= 5
    )
    assert job.report["steps"] == 5 and job.batch == 1


def test_polling(engine: Engine) -> None:
    job = engine.submit("red apple", seed=7)
    states = []
    while (state := job.poll()) not in ("done", "failed", "cancelled"):
        states.append(state)
        time.sleep(0.001)
    assert set(states) <= {"queued", "running"} and state == "done" and job.result().seed == 7


def test_timeouts(engine: Engine) -> None:
    job = engine.submit("dog", steps=5000)
    began = time.monotonic()
    assert not job.wait(0) and not job.wait(0.0001) and not job.wait(0.12)
    assert 0.12 <= time.monotonic() - began < 5
    with pytest.raises(TimeoutError) as raised:
        job.result(0.01)
    assert (
        isinstance(raised.value, softdimo.TimeoutError) and raised.value.status_name == "SOFTDIMO_ERR_TIMEOUT"
    )
    with pytest.raises(softdimo.NotReadyError):
        job.pictures()
    job.cancel()
    job.cancel()
    with pytest.raises(softdimo.CancelledError):
        job.wait()
    assert job.poll() == "cancelled" and "cancelled" in job.error


def test_queues(engine: Engine) -> None:
    engine.pause()
    order: list[str] = []
    last, first = engine.submit("dog"), engine.submit("cat", priority=1)
    replaced, latest = engine.submit("dog", queue_key=7), engine.submit("cat", queue_key=7)

    def note(job: Job[Picture], name: str) -> None:
        job.wait()
        order.append(name)

    threads = [threading.Thread(target=note, args=pair) for pair in ((last, "last"), (first, "first"))]
    for thread in threads:
        thread.start()
    engine.resume()
    for thread in threads:
        thread.join()
    assert order == ["first", "last"] and latest.wait()
    with pytest.raises(softdimo.CancelledError, match="newer job with the key 7"):
        replaced.wait()


def test_callbacks_stop_and_raise(engine: Engine) -> None:
    with pytest.raises(softdimo.CancelledError):
        engine.generate("dog", steps=50, progress=lambda step, total: False)
    with pytest.raises(ZeroDivisionError):
        engine.generate("dog", steps=50, progress=lambda step, total: 1 // 0)

    async def main() -> None:
        with pytest.raises(ZeroDivisionError):
            await engine.submit("dog", steps=50, progress=lambda step, total: 1 // 0)

        def stop(step: int, total: int) -> None:
            raise StopIteration

        with pytest.raises(RuntimeError, match="StopIteration"):
            await engine.submit("dog", steps=50, progress=stop)

    asyncio.run(main())
    # Closed by its own callback, it is freed once that is over.
    job: Job[Picture] = engine.submit("dog", steps=50, progress=lambda step, total: job.close())
    with pytest.raises((softdimo.CancelledError, ValueError)):
        job.wait()
    with pytest.raises(ValueError, match="closed"):
        job.poll()


def test_other_threads_go_on(engine: Engine) -> None:
    ticks = 0
    over = threading.Event()

    def tick() -> None:
        nonlocal ticks
        while not over.wait(0.001):
            ticks += 1

    thread = threading.Thread(target=tick)
    thread.start()
    engine.generate("dog", steps=20)
    over.set()
    thread.join()
    assert ticks > 20, ticks


def test_asyncio(engine: Engine) -> None:
    async def main() -> None:
        ticks = 0

        async def tick() -> None:
            nonlocal ticks
            while True:
                ticks += 1
                await asyncio.sleep(0.001)

        clock = asyncio.create_task(tick())
        pictures = await asyncio.gather(*(engine.submit("rocket", seed=seed) for seed in range(8)))
        assert pictures == engine.generate("rocket", batch=8)
        several = await engine.submit("rocket", batch=2)
        assert several == pictures[:2]
        job = engine.submit("dog", steps=5000)
        with pytest.raises(asyncio.TimeoutError):
            await asyncio.wait_for(job, 0.05)
        with pytest.raises(softdimo.CancelledError):
            await asyncio.to_thread(job.wait, 5)
        task = asyncio.ensure_future(engine.submit("dog", steps=5000))
        await asyncio.sleep(0.05)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        with pytest.raises(softdimo.CancelledError):
            stopped = engine.submit("dog", steps=5000)
            asyncio.get_running_loop().call_later(0.05, stopped.cancel)
            await stopped
        clock.cancel()
        assert ticks > 20, ticks

    began = time.monotonic()
    asyncio.run(main())
    assert time.monotonic() - began < 60


def test_many_at_once(engine: Engine) -> None:
    async def main() -> list[Picture]:
        return await asyncio.gather(*(engine.submit("dog", seed=seed % 4) for seed in range(100)))

    pictures = asyncio.run(main())
    assert all(picture == pictures[seed % 4] for seed, picture in enumerate(pictures))


def test_closing_a_job_sends_its_waiters_home(engine: Engine) -> None:
    job = engine.submit("dog", steps=5000)
    failures: list[BaseException] = []

    def wait() -> None:
        try:
            job.wait()
        except Exception as why:
            failures.append(why)

    threads = [threading.Thread(target=wait) for _ in range(4)]
    for thread in threads:
        thread.start()
    time.sleep(0.05)
    job.close()
    for thread in threads:
        thread.join(10)
        assert not thread.is_alive()
    assert {type(why) for why in failures} == {softdimo.CancelledError} and job.closed
