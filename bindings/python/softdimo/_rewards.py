"""What an optimisation climbs."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from typing import Any, Literal

import numpy.typing as npt

from ._callbacks import Callback, RewardFunction, on_reward
from ._errors import InvalidArgumentError, check
from ._handles import Owner, encoded, text, whole
from ._native import ffi, lib
from ._pictures import PictureLike, address, assign, choice, floats, readable

Bytes = bytes | bytearray | memoryview
WEIGHTS = {
    "map": lib.SOFTDIMO_WEIGHTS_MAP,
    "read": lib.SOFTDIMO_WEIGHTS_READ,
    "map_guarded": lib.SOFTDIMO_WEIGHTS_MAP_GUARDED,
}


class Reward(Owner):
    """A reward for test-time optimisation: made by one of the functions below, given to Engine.optimize with
    its weight.

    Immutable; any thread, several jobs at once. It may be closed while jobs use it. Pictures, masks and names
    are copied.
    """

    def __init__(self) -> None:
        raise TypeError(
            "a Reward is made by Reward.target, color, histogram, prior, closeness, open or from_function"
        )

    @classmethod
    def _made(cls, call: Callable[[Any], int], keep: list[Any] | None = None) -> Reward:
        pointer = ffi.new("softdimo_reward **")
        check(call(pointer))
        reward = cls.__new__(cls)
        reward._own(pointer[0], lib.softdimo_reward_free, keep=keep)
        return reward

    @classmethod
    def target(cls, picture: PictureLike, mask: npt.ArrayLike | None = None) -> Reward:
        """For looking like `picture` (the model's size): minus the mean squared difference over the mask,
        float32 [height, width] of weights of 0 or more, or None for all pixels."""
        image, _array = readable(picture, "target")
        weights, count, _mask = _masked(mask)
        return cls._made(lambda out: lib.softdimo_reward_target(image, weights, count, out))

    @classmethod
    def color(cls, r: float, g: float, b: float, mask: npt.ArrayLike | None = None) -> Reward:
        """For a direction in colour space: the mean over the mask (see target) of r·R + g·G + b·B."""
        weights, count, _mask = _masked(mask)
        return cls._made(lambda out: lib.softdimo_reward_color(r, g, b, weights, count, out))

    @classmethod
    def histogram(
        cls,
        target: PictureLike | None = None,
        histogram: npt.ArrayLike | None = None,
        mask: npt.ArrayLike | None = None,
    ) -> Reward:
        """For the colours of `target`, a picture of any size, wherever they are; or for `histogram`, shares
        [3, bins] of 2 to 256 bins evenly from 0 to 1. 0 where they agree, at least -1. The mask (see target)
        selects pixels of the generated picture."""
        image, _array = readable(target, "target") if target is not None else (ffi.NULL, None)
        values, bins = ffi.NULL, 0
        if histogram is not None:
            shares = floats(histogram, "histogram")
            if shares.ndim != 2 or len(shares) != 3:
                raise InvalidArgumentError(f"histogram: expected shape [3, bins], found {list(shares.shape)}")
            values, bins = ffi.cast("float *", address(shares)), shares.size
        weights, count, _mask = _masked(mask)
        return cls._made(lambda out: lib.softdimo_reward_histogram(image, values, bins, weights, count, out))

    @classmethod
    def prior(cls, seed: int = 0) -> Reward:
        """For staying what the label or prompt says, by the model's own teacher: log-likelihood of the tokens
        in nats a token."""
        return cls._made(lambda out: lib.softdimo_reward_prior(whole(seed, "seed"), out))

    @classmethod
    def closeness(cls) -> Reward:
        """For staying near the start embedding: minus the mean squared distance."""
        return cls._made(lib.softdimo_reward_closeness)

    @classmethod
    def open(
        cls,
        file: str | os.PathLike[str] | Bytes,
        *,
        weights: Literal["map", "read", "map_guarded"] = "map",
        class_id: int | None = None,
        class_label: str | None = None,
    ) -> Reward:
        """The network of a reward file, by its path or its bytes (kept without a copy where they are read
        only).

        `class_id` or `class_label`: of a classifier, what pictures should show; neither: what the request's
        label says. Raises NotFoundError, FormatError, ConfigError for a generator's file.
        """
        options = ffi.new("softdimo_reward_options *")
        check(lib.softdimo_reward_options_init(options, ffi.sizeof(options[0])))
        options.weights_mode = choice(WEIGHTS, weights, "weights")
        if class_id is not None:
            assign(options, "class_id", class_id)
        label = (
            ffi.new("char[]", encoded(class_label, "class_label")) if class_label is not None else ffi.NULL
        )
        options.class_label = label
        if isinstance(file, (bytes, bytearray, memoryview)):
            data = contents(file)
            return cls._made(
                lambda out: lib.softdimo_reward_open_memory(
                    data, len(data), ffi.NULL, ffi.NULL, options, out
                ),
                keep=[data],
            )
        path = encoded(file, "path")
        return cls._made(lambda out: lib.softdimo_reward_open(path, options, out))

    @classmethod
    def from_function(cls, function: RewardFunction) -> Reward:
        """Your own: `function(pixels, scores, gradient)`.

        `pixels` is float32 [batch, 3, height, width], nominally in [0, 1], not clamped; the function fills
        `scores` [batch] and `gradient` = dscore/dpixels, of the pictures' shape, both zeros at first. The
        arrays are the function's to keep. It returns nothing: False ends the optimisation like a cancel; what
        it raises cancels the job, and is raised by the call that waits for the job. It is called on the
        thread that waits for or polls the job (for `await job` a thread of its own), one call at a time;
        without such a thread the job stands still. It must not wait for this engine: such calls raise
        UnsupportedError.
        """
        callback = Callback(function)
        return cls._made(
            lambda out: lib.softdimo_reward_from_callback(on_reward, callback.handle, out),
            keep=[callback],
        )

    @property
    def info(self) -> dict[str, Any]:
        """Its name, whether it reads a prompt, and of an opened file its family, title, licence,
        configuration, classes and size."""
        with self._handle.used() as pointer:
            return dict(json.loads(text(lib.softdimo_reward_info, pointer)))


def contents(data: Bytes) -> Any:
    """The bytes of a file in memory, as C has them: those that nobody can change are not copied."""
    view = memoryview(data)
    return ffi.from_buffer(data if view.readonly and view.c_contiguous else bytes(view))


def _masked(mask: npt.ArrayLike | None) -> tuple[Any, int, Any]:
    if mask is None:
        return ffi.NULL, 0, None
    weights = floats(mask, "mask")
    return ffi.cast("float *", address(weights)), weights.size, weights
