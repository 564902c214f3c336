"""Opening engines, what they say of themselves, and everything of theirs that is no picture."""

from __future__ import annotations

import asyncio
import logging
import mmap
import pickle
import re
import threading
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import softdimo
from conftest import OPTIONS
from softdimo import Engine


def test_it_says_what_it_is(engine: Engine) -> None:
    layout = engine.layout
    assert (layout.width, layout.height, layout.channels, layout.classes) == (32, 32, 3, 181)
    assert len(engine.labels) == layout.classes and "red apple" in engine.labels
    assert engine.info["model"] == "emoji-32" and engine.info["provider"] == "cpu"
    assert softdimo.__version__.count(".") == 2
    assert repr(engine) == "<softdimo.Engine 32x32>"
    assert [p["name"] for p in softdimo.providers() if p["available"]] == ["cpu"]


@pytest.mark.parametrize(
    "kind",
    [
        str,
        Path,
        lambda path: str(path).encode(),
        lambda path: Path(path).read_bytes(),
        lambda path: bytearray(Path(path).read_bytes()),
        lambda path: memoryview(Path(path).read_bytes()),
    ],
)
def test_models_are_paths_or_bytes(engine: Engine, kind: Any) -> None:
    model = kind(softdimo.BUNDLED_MODEL)
    if isinstance(model, bytes) and len(model) < 1000:
        pytest.raises(softdimo.FormatError, Engine.open, model, **OPTIONS)
        return
    with Engine.open(model, **OPTIONS) as other:
        del model
        assert other.generate("dog", seed=5) == engine.generate("dog", seed=5)


def test_a_mapping_is_not_copied(engine: Engine) -> None:
    with (
        open(softdimo.BUNDLED_MODEL, "rb") as file,
        mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as mapping,
    ):
        view = memoryview(mapping)
        with Engine.open(view, **OPTIONS) as other:
            assert other.generate("dog") == engine.generate("dog")
            with pytest.raises(BufferError):
                mapping.close()
        del view, other


@pytest.mark.parametrize(
    ("kind", "also", "words", "model", "options"),
    [
        (softdimo.NotFoundError, FileNotFoundError, "'/nowhere' not found", "/nowhere", {}),
        (softdimo.FormatError, ValueError, "found a directory", "/", {}),
        (softdimo.FormatError, ValueError, "", b"x" * 100, {}),
        (softdimo.InvalidArgumentError, ValueError, "threads", None, {"threads": 257}),
        (softdimo.InvalidArgumentError, ValueError, "nopu", None, {"provider": "nopu"}),
        (softdimo.ProviderError, RuntimeError, "onnxruntime-gpu", None, {"provider": "cuda"}),
        (softdimo.InvalidArgumentError, ValueError, "threads", None, {"threads": -1}),
        (softdimo.InvalidArgumentError, ValueError, "'lean', 'fast'", None, {"memory": "slow"}),
        (softdimo.InvalidArgumentError, ValueError, "NUL", "a\0b", {}),
        (softdimo.InvalidArgumentError, ValueError, "NUL", None, {"provider": "cpu\0"}),
        (TypeError, TypeError, "'thread'", None, {"thread": 1}),
        (TypeError, TypeError, "threads", None, {"threads": "1"}),
        (TypeError, TypeError, "threads", None, {"threads": np.float32(1.5)}),
        (TypeError, TypeError, "int", 7, {}),
    ],
)
def test_errors_of_opening(
    kind: type[Exception], also: type[Exception], words: str, model: Any, options: Any
) -> None:
    with pytest.raises(kind) as raised:
        Engine.open(model, **options)
    assert issubclass(kind, also) and words in str(raised.value), raised.value
    if isinstance(raised.value, softdimo.Error):
        assert raised.value.status_name.startswith("SOFTDIMO_ERR_") and raised.value.status > 0
        again = pickle.loads(pickle.dumps(raised.value))
        assert (type(again), str(again), again.status) == (kind, str(raised.value), raised.value.status)


def test_every_status_has_an_exception() -> None:
    from softdimo._errors import _BY_STATUS
    from softdimo._native import lib

    names = [name for name in dir(lib) if name.startswith("SOFTDIMO_ERR_")]
    assert {getattr(lib, name) for name in names} == set(_BY_STATUS) and len(names) == 21
    for name in names:
        assert _BY_STATUS[getattr(lib, name)]("x").status_name == name


def test_every_function_of_the_library_has_a_use() -> None:
    from softdimo._native import lib

    package = Path(softdimo.__file__).parent
    used = set(re.findall(r"lib\.(softdimo_\w+)", "".join(path.read_text() for path in package.glob("*.py"))))
    # Engine.open has options; submit and wait are what generate does; handles are not lost in Python.
    left = {
        "softdimo_engine_options_init_game",
        "softdimo_generate",
        "softdimo_job_free_all",
        "softdimo_engine_warmup",
    }
    functions = {name for name in dir(lib) if name.startswith("softdimo_")}
    assert len(functions) > 50 and functions - used == left


def test_constructors_say_what_to_call() -> None:
    for kind in (Engine, softdimo.Job, softdimo.Opening, softdimo.Reward):
        with pytest.raises(TypeError, match="is made by"):
            kind()


def test_log_takes_a_logger(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    with Engine.open(log=logging.getLogger("softdimo").log, log_level="info", **OPTIONS) as engine:
        engine.generate("dog")
    assert any("prepared 'student'" in record.message for record in caplog.records)
    assert {record.levelno for record in caplog.records} == {logging.INFO}


def test_what_a_log_raises_is_raised_by_the_call() -> None:
    def log(level: int, message: str) -> None:
        raise KeyError(message)

    with pytest.raises(KeyError, match="ONNX Runtime"):
        Engine.open(log=log, log_level="info", **OPTIONS)


def test_pausing(engine: Engine) -> None:
    engine.pause()
    engine.pause()
    job = engine.submit("dog")
    assert not job.wait(0.05) and job.progress.state == "queued" and not job.done
    waiting = engine.submit("cat")
    assert engine.cancel_pending() == 2
    engine.resume()
    for one in (job, waiting):
        with pytest.raises(softdimo.CancelledError):
            one.wait()
        assert one.done and one.error
    engine.limit_cpu(50)
    engine.limit_cpu(0)
    assert engine.generate("dog").array.any()
    with pytest.raises(ValueError, match="percent|101|share"):
        engine.limit_cpu(10**6)


def test_memory(engine: Engine) -> None:
    engine.generate("dog")
    held = engine.memory()
    assert held.mapped >= softdimo.BUNDLED_MODEL.stat().st_size and held.sessions > 0
    assert softdimo.memory_in_use() >= held.activations > 0
    softdimo.set_memory_budget(1 << 34)
    softdimo.set_memory_budget(0)
    engine.trim()
    assert engine.memory().sessions == 0
    with Engine.open(memory_limit=1, **OPTIONS) as small:
        with pytest.raises(softdimo.OutOfMemoryError) as raised:
            small.generate("dog")
        assert isinstance(raised.value, MemoryError)


def test_warming_up() -> None:
    steps: list[tuple[int, int]] = []
    with Engine.open(**OPTIONS) as engine:
        engine.warmup("dog", steps=3, progress=lambda *step: steps.append(step))
        assert steps and steps[-1][0] == steps[-1][1] > 1 and engine.memory().sessions > 1
        with pytest.raises(ZeroDivisionError):
            engine.warmup(batch=2, progress=lambda step, total: 1 // 0)
        with pytest.raises(softdimo.CancelledError):
            engine.warmup(batch=3, progress=lambda step, total: False)
        engine.warmup(batch=2)


def test_tuning(engine: Engine) -> None:
    with pytest.raises(softdimo.UnsupportedError, match="int8 arithmetic"):
        engine.tune(lambda done, total: None)


def test_encoding(engine: Engine) -> None:
    with engine.submit("rocket", seed=1) as job:
        picture = job.result()
        tokens = job.tokens()
    found = engine.encode(picture)
    assert found.shape == tokens.shape == (64, 2) and found.dtype == np.uint32
    assert np.array_equal(found, engine.encode(picture.array)) and np.array_equal(
        found, engine.encode(picture.to_pil())
    )
    assert (found == tokens).mean() > 0.2
    with pytest.raises(ValueError, match="uint8"):
        engine.encode(np.zeros((32, 32, 4), np.float32))
    for shape in ((31, 32, 4), (16, 64, 4)):  # also with as many pixels
        with pytest.raises(softdimo.InvalidArgumentError, match=f"32x32, found {shape[1]}x{shape[0]}"):
            engine.encode(np.zeros(shape, np.uint8))
        with pytest.raises(softdimo.InvalidArgumentError, match=f"32x32, found {shape[1]}x{shape[0]}"):
            engine.submit("dog", edit_image=np.zeros(shape, np.uint8), edit_keep=0.5)


def test_opening_without_waiting() -> None:
    opening = Engine.open_async(label="dog", warm={"steps": 2}, **OPTIONS)
    with opening.result(60) as engine:
        assert opening.progress.state == "done" and opening.progress.step == opening.progress.total > 1
        assert engine.memory().sessions > 0 and engine.generate("dog", steps=2).width == 32
        with pytest.raises(softdimo.InvalidArgumentError):
            opening.take()
    opening.close()
    broken = Engine.open_async("/nowhere")
    with pytest.raises(FileNotFoundError):
        broken.result()
    assert "/nowhere" in broken.error and broken.done
    Engine.open_async(**OPTIONS).close()


def test_opening_in_asyncio() -> None:
    async def main() -> None:
        engine = await Engine.open_async(**OPTIONS)
        assert (await engine.submit("dog")).height == 32
        engine.close()
        task = asyncio.ensure_future(Engine.open_async(**OPTIONS))
        await asyncio.sleep(0)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    asyncio.run(main())


def test_closing_sends_threads_home() -> None:
    engine = Engine.open(**OPTIONS)
    job = engine.submit("dog", steps=10000)
    threads = [threading.Thread(target=engine.memory), threading.Thread(target=engine.trim)]
    for thread in threads:
        thread.start()
    time.sleep(0.05)
    assert all(thread.is_alive() for thread in threads)
    engine.close()
    engine.close()
    # Its jobs are others' to end: they keep it running.
    assert not job.wait(0.01)
    job.close()
    for thread in threads:
        thread.join(10)
        assert not thread.is_alive()
    assert engine.closed
    with pytest.raises(ValueError, match="closed"):
        engine.generate("dog")
