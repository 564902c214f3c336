"""The functions of Python's that the library calls: one C function for each kind, told by its user data whom
to call."""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt

from ._handles import in_callback, raised
from ._native import ffi, lib

LogFunction = Callable[[int, str], object]
ProgressFunction = Callable[[int, int], object]
RewardFunction = Callable[
    [npt.NDArray[np.float32], npt.NDArray[np.float32], npt.NDArray[np.float32]], bool | np.bool_ | None
]

_LEVELS = {
    lib.SOFTDIMO_LOG_ERROR: logging.ERROR,
    lib.SOFTDIMO_LOG_WARNING: logging.WARNING,
    lib.SOFTDIMO_LOG_INFO: logging.INFO,
}


class Callback:
    """A function of Python's. `handle` is the user data of C, valid as long as this object."""

    def __init__(self, function: Callable[..., Any]) -> None:
        self.function = function
        self.handle = ffi.new_handle(self)


def nothing(*_: object) -> None:
    """Progress that nobody asked for: being called is enough for Ctrl-C."""


def _on_log(user_data: Any, level: int, message: Any) -> int:
    """A message. Failing to take it stops nothing that is computed: it is raised when the call ends."""
    callback: Callback = ffi.from_handle(user_data)
    callback.function(_LEVELS.get(level, logging.INFO), ffi.string(message).decode())
    return int(lib.SOFTDIMO_CONTINUE)


def _on_progress(user_data: Any, step: int, total: int) -> int:
    """Steps done and steps in all."""
    callback: Callback = ffi.from_handle(user_data)
    return int(lib.SOFTDIMO_STOP if _is_false(callback.function(step, total)) else lib.SOFTDIMO_CONTINUE)


def _is_false(answer: object) -> bool:
    """Also numpy's, which is another object: what comparing its numbers gives."""
    return isinstance(answer, (bool, np.bool_)) and not answer


def _on_reward(
    user_data: Any, pixels: Any, batch: int, width: int, height: int, scores: Any, gradient: Any
) -> int:
    """Pictures to score. The function has arrays of its own, which it may keep: the library's are gone after
    the call."""
    callback: Callback = ffi.from_handle(user_data)
    shape = (batch, 3, height, width)
    pictures = _floats(pixels, shape).copy()
    own_scores, own_gradient = np.zeros(batch, np.float32), np.zeros(shape, np.float32)
    answer = callback.function(pictures, own_scores, own_gradient)
    if answer is not None and not isinstance(answer, (bool, np.bool_)):
        # Scores that were returned instead would all be 0, and nothing would climb.
        expected = "scores and gradient to be filled and nothing returned"
        raise TypeError(f"reward function: expected {expected}, found a {type(answer).__name__}")
    _floats(scores, (batch,))[:] = own_scores
    _floats(gradient, shape)[:] = own_gradient
    return int(lib.SOFTDIMO_STOP if _is_false(answer) else lib.SOFTDIMO_CONTINUE)


def _floats(pointer: Any, shape: tuple[int, ...]) -> npt.NDArray[np.float32]:
    count = int(np.prod(shape))
    return np.frombuffer(ffi.buffer(pointer, count * 4), np.float32, count).reshape(shape)


# Not by `try` in the functions: a signal's handler may raise before their first line.
on_log = ffi.callback("softdimo_log_fn", in_callback(_on_log), lib.SOFTDIMO_STOP, raised)
on_progress = ffi.callback("softdimo_progress_fn", in_callback(_on_progress), lib.SOFTDIMO_STOP, raised)
on_reward = ffi.callback("softdimo_reward_fn", in_callback(_on_reward), lib.SOFTDIMO_STOP, raised)
