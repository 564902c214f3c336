"""Rewards, and optimisations that climb them."""

from __future__ import annotations

import contextlib
import gc
import threading
from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt
import PIL.Image
import pytest
import softdimo
from softdimo import Engine, Picture, Reward

Floats = npt.NDArray[np.float32]


def blue(picture: Picture) -> float:
    array = picture.array.astype(float)
    return float((array[..., 2] - array[..., 0]).mean())


def bluer(pixels: Floats, scores: Floats, gradient: Floats) -> None:
    scores[:] = (pixels[:, 2] - pixels[:, 0]).mean((1, 2))
    gradient[:, 2], gradient[:, 0] = 1 / 1024, -1 / 1024


def test_a_function(engine: Engine) -> None:
    kept: list[Floats] = []
    threads = set()

    def reward(pixels: Floats, scores: Floats, gradient: Floats) -> None:
        assert pixels.shape == gradient.shape == (1, 3, 32, 32) and scores.shape == (1,)
        bluer(pixels, scores, gradient)
        kept.extend([pixels, scores, gradient])
        threads.add(threading.get_ident())
        gc.collect()

    before = blue(engine.generate("red apple", seed=3))
    steps: list[tuple[int, int]] = []
    # Nothing but the job refers to the rewards.
    picture = engine.optimize(
        "red apple",
        seed=3,
        steps=8,
        lr=0.03,
        optimizer="adam",
        momentum=0.0,
        rewards=[(Reward.from_function(reward), 1), (Reward.prior(), 0.01)],
        progress=lambda *step: steps.append(step),
    )
    assert isinstance(picture, Picture)
    assert blue(picture) > before + 1 and threads == {threading.get_ident()} and steps[-1][0] == steps[-1][1]
    assert picture.report["optimization"]["ended"] == "steps"
    # The arrays were its own to keep.
    assert len(kept) >= 24 and all(np.isfinite(array).all() for array in kept)


def test_the_same_function_for_jobs_on_several_threads(engine: Engine) -> None:
    begun, results = threading.Event(), []

    def score(*arrays: Floats) -> None:
        begun.set()
        bluer(*arrays)

    reward = Reward.from_function(score)

    def climb(seed: int) -> None:
        # Those that ask after it was closed are refused; those under way go on.
        with contextlib.suppress(ValueError):
            results.append(engine.optimize("dog", seed=seed, steps=2, rewards=[(reward, 1)]))

    threads = [threading.Thread(target=climb, args=(seed,)) for seed in range(4)]
    for thread in threads:
        thread.start()
    assert begun.wait(60)
    reward.close()
    for thread in threads:
        thread.join()
    assert 1 <= len(results) <= 4


def test_functions_that_fail_or_stop(engine: Engine) -> None:
    def broken(*_: Any) -> None:
        raise KeyError("no taste")

    reward = Reward.from_function(broken)
    with pytest.raises(KeyError, match="no taste"):
        engine.optimize("dog", steps=3, rewards=[(reward, 1)])
    with pytest.raises(softdimo.CancelledError):
        engine.optimize("dog", steps=3, rewards=[(Reward.from_function(lambda *_: False), 1)])

    # What comparing numpy's numbers gives is not Python's False.
    with pytest.raises(softdimo.CancelledError):
        engine.optimize("dog", steps=3, rewards=[(Reward.from_function(lambda p, s, g: s[0] > 0), 1)])
    with pytest.raises(softdimo.CancelledError):
        engine.generate("dog", steps=5, progress=lambda step, total: np.bool_(step < 2))

    def returned(pixels: Floats, scores: Floats, gradient: Floats) -> Any:
        return pixels.mean()

    with pytest.raises(TypeError, match="to be filled and nothing returned, found a float32"):
        engine.optimize("dog", steps=3, rewards=[(Reward.from_function(returned), 1)])

    def reentrant(pixels: Floats, scores: Floats, gradient: Floats) -> None:
        engine.memory()

    with pytest.raises(softdimo.UnsupportedError):
        engine.optimize("dog", steps=3, rewards=[(Reward.from_function(reentrant), 1)])


def test_a_cancelled_optimisation_has_its_best(engine: Engine) -> None:
    job = engine.submit(
        "dog",
        optimize_steps=1000,
        rewards=[(Reward.color(0, 0, 1), 1)],
        progress=lambda step, total: step < 3,
    )
    with pytest.raises(softdimo.CancelledError):
        job.wait()
    assert job.pictures()[0].array.shape == (32, 32, 4)


def test_every_kind(engine: Engine) -> None:
    dog = engine.generate("dog")
    mask = np.ones((32, 32))
    rewards = [
        (Reward.color(0, 0, 1, mask), 1.0),
        (Reward.target(dog, mask), -1.0),
        (Reward.target(dog.array), 0.5),
        (Reward.histogram(dog), 1.0),
        (Reward.histogram(histogram=np.ones((3, 8)), mask=mask), 1.0),
        (Reward.closeness(), 0.1),
        (Reward.prior(seed=3), 0.1),
    ]
    pictures = engine.optimize(
        "dog", batch=2, steps=2, rewards=rewards, variables=["embedding", "class"], recompute=True, clip=1.0
    )
    assert len(pictures) == 2
    assert "color" in str(rewards[0][0].info)
    out = np.zeros((32, 32, 4), np.uint8)
    engine.optimize("dog", steps=1, rewards=rewards[:1], out=out)
    assert out.any()
    for reward, _ in rewards:
        reward.close()
    with pytest.raises(ValueError, match="closed"):
        engine.optimize("dog", steps=1, rewards=rewards)


def test_rewards_that_will_not_do(engine: Engine) -> None:
    def climb(reward: Reward) -> object:
        return engine.optimize("dog", steps=1, rewards=[(reward, 1)])

    model = softdimo.BUNDLED_MODEL
    cases: list[tuple[Callable[[], object], type[Exception], str]] = [
        (lambda: climb(Reward.color(0, 0, 1, np.full((32, 32), -1.0))), ValueError, "mask"),
        (lambda: climb(Reward.color(0, 0, 1, np.ones(7))), ValueError, "mask"),
        (lambda: climb(Reward.histogram(histogram=np.ones((3, 1)))), ValueError, "bins|histogram"),
        (lambda: Reward.histogram(histogram=np.ones((8, 3))), ValueError, r"\[3, bins\], found \[8, 3\]"),
        (lambda: Reward.histogram(histogram=np.ones(24)), ValueError, r"\[3, bins\], found \[24\]"),
        (lambda: Reward.color(0, 0, 1, [["x"]]), ValueError, "mask"),
        (lambda: Reward.target(np.zeros((32, 32), np.uint8)), ValueError, "target"),
        (lambda: Reward.target(PIL.Image.new("CMYK", (32, 32))), ValueError, "RGB or RGBA, found CMYK"),
        (lambda: Reward.open("/nowhere"), FileNotFoundError, "/nowhere"),
        (lambda: Reward.open(model), softdimo.ConfigError, "generator"),
        (lambda: Reward.open(model.read_bytes()), softdimo.ConfigError, "generator"),
        (lambda: Reward.open("x", class_label="a\0b"), ValueError, "NUL"),
        (lambda: Reward.open("x", weights="mapped"), ValueError, "'map'"),  # type: ignore[arg-type]
        (lambda: Reward.prior(-1), ValueError, "seed"),
    ]
    for make, kind, words in cases:
        with pytest.raises(kind, match=words):
            make()
    two = [(Reward.from_function(bluer), 1.0), (Reward.from_function(bluer), 1.0)]
    with pytest.raises(softdimo.InvalidArgumentError, match="callback"):
        engine.optimize("dog", steps=1, rewards=two)
    with pytest.raises(softdimo.InvalidArgumentError, match="weight"):
        engine.optimize("dog", steps=1, rewards=[(Reward.closeness(), float("inf"))])
