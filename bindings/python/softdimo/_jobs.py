"""Requests under way, and engines that are being opened: what is waited for."""

from __future__ import annotations

import asyncio
import contextlib
import json
import math
import threading
import time
from collections.abc import Callable, Generator
from typing import TYPE_CHECKING, Any, Generic, Literal, NamedTuple, TypeVar, cast

import numpy as np
import numpy.typing as npt

from ._errors import TimeoutError, check
from ._handles import Owner, text, whole
from ._native import ffi, lib
from ._pictures import Array, Format, Origin, Picture, Style, Target, address

if TYPE_CHECKING:
    from ._engines import Engine, Layout

R = TypeVar("R")
State = Literal["queued", "running", "done", "failed", "cancelled", "waiting"]
_STATES: dict[int, State] = {
    lib.SOFTDIMO_JOB_QUEUED: "queued",
    lib.SOFTDIMO_JOB_RUNNING: "running",
    lib.SOFTDIMO_JOB_DONE: "done",
    lib.SOFTDIMO_JOB_FAILED: "failed",
    lib.SOFTDIMO_JOB_CANCELLED: "cancelled",
    lib.SOFTDIMO_JOB_WAITING: "waiting",
}

# Milliseconds that the main thread waits before it looks for signals.
_PIECE = 50
_LONG = 2**31


class Progress(NamedTuple):
    """`step` of `total` steps, one network call each; `total` is 0 before the start. `waiting_ms`: how long
    the reward function has been due, where `state` is "waiting"."""

    state: State
    step: int
    total: int
    waiting_ms: int


class Waitable(Owner, Generic[R]):
    """What ends on its own, and can be waited for: by wait() and result(), or `await`."""

    _wait: Callable[[Any, int], int]
    _progress: Callable[[Any, Any], int]
    _cancel: Callable[[Any], int]
    _error: Callable[..., int]

    def wait(self, timeout: float | None = None) -> bool:
        """Wait for the end, at most `timeout` seconds; False if they are over first.

        Runs the callbacks, on this thread. Raises what the failure was, CancelledError, or what a callback
        raised. Other threads of Python go on meanwhile; Ctrl-C ends the wait, not the job.
        """
        end = None if timeout is None else time.monotonic() + timeout
        signals = threading.current_thread() is threading.main_thread()
        while True:
            left = math.inf if end is None else max(0.0, end - time.monotonic()) * 1000
            piece = min(left, _PIECE if signals else _LONG)
            with self._handle.used() as pointer:
                status = self._wait(pointer, math.ceil(piece))
            if status != lib.SOFTDIMO_ERR_TIMEOUT:
                check(status)
                return True
            if left <= piece:
                return False

    def result(self, timeout: float | None = None) -> R:
        """What came of it, waiting for it as wait() does. Raises TimeoutError too."""
        if not self.wait(timeout):
            raise TimeoutError(
                f"the {type(self).__name__.lower()} has not ended within {timeout} s",
                lib.SOFTDIMO_ERR_TIMEOUT,
            )
        return self._outcome()

    def _outcome(self) -> R:
        raise NotImplementedError

    def __await__(self) -> Generator[Any, None, R]:
        return self._awaited().__await__()

    async def _awaited(self) -> R:
        """A thread waits, inside the library: no event loop's time is taken by polling, and no executor's
        thread."""
        loop = asyncio.get_running_loop()
        ended: asyncio.Future[None] = loop.create_future()

        def settle(why: BaseException | None) -> None:
            if not ended.done():
                if why is None:
                    ended.set_result(None)
                else:
                    ended.set_exception(why)

        def wait() -> None:
            why: BaseException | None = None
            try:
                self.wait()
            except StopIteration as stop:  # which a future refuses
                why = RuntimeError("a callback raised StopIteration")
                why.__cause__ = stop
            except BaseException as raised:
                why = raised
            try:
                loop.call_soon_threadsafe(settle, why)
            except RuntimeError:
                pass  # the loop was closed meanwhile, and with it whoever awaited

        threading.Thread(target=wait, name="softdimo-wait", daemon=True).start()
        try:
            await ended
        except asyncio.CancelledError:
            with contextlib.suppress(ValueError):  # it may be closed at any moment
                self.cancel()
            raise
        return self._outcome()

    def cancel(self) -> None:
        """Ask it to end; returns at once. Any thread, any number of times."""
        with self._handle.used() as pointer:
            check(self._cancel(pointer))

    @property
    def progress(self) -> Progress:
        """How far it is, without waiting and without callbacks."""
        progress = ffi.new("softdimo_progress *")
        progress.struct_size = ffi.sizeof(progress[0])
        with self._handle.used() as pointer:
            check(self._progress(pointer, progress))
        return Progress(_STATES[progress.state], progress.step, progress.total, progress.waiting_ms)

    @property
    def done(self) -> bool:
        """Whether it has ended, in whatever way."""
        return self.progress.state in ("done", "failed", "cancelled")

    @property
    def error(self) -> str:
        """Why it failed or was cancelled; "" otherwise."""
        with self._handle.used() as pointer:
            return text(self._error, pointer)


class Job(Waitable[R]):
    """A request under way, made by Engine.submit. It advances on the engine's own threads.

    Callbacks run only on a thread that is inside wait(), result() or poll(), or on one that `await job`
    starts. Any thread. It is freed when nothing refers to it: then, or at close(), a job that has not ended
    is cancelled and waited for.

    `await job` is its result: a Picture, or a list of them if `batch` was given. Cancelling the task that
    awaits cancels the job.
    """

    _wait = lib.softdimo_job_wait
    _progress = lib.softdimo_job_progress
    _cancel = lib.softdimo_job_cancel
    _error = lib.softdimo_job_error
    _layout: Layout
    _batch: int | None

    def __init__(self) -> None:
        raise TypeError("a Job is made by Engine.submit")

    @classmethod
    def _made(cls, pointer: Any, engine: Engine, batch: int | None, keep: list[Any]) -> Job[R]:
        job = cls.__new__(cls)
        job._layout, job._batch = engine.layout, batch
        job._own(pointer, lib.softdimo_job_free, lib.softdimo_job_cancel, keep)
        return job

    def poll(self) -> State:
        """How it is, without waiting; runs the callbacks that are due, for loops of frames. Raises what a
        callback raised; a failure is a state."""
        state = ffi.new("uint32_t *")
        with self._handle.used() as pointer:
            check(lib.softdimo_job_poll(pointer, state))
        return _STATES[state[0]]

    def _outcome(self) -> R:
        pictures = self.pictures()
        return cast(R, pictures if self._batch is not None else pictures[0])

    @property
    def batch(self) -> int:
        """How many pictures it makes."""
        return self._batch or 1

    def pictures(
        self,
        *,
        out: Array | None = None,
        size: tuple[int, int] | None = None,
        format: Format | None = None,
        origin: Origin = "top_left",
        style: Style | None = None,
    ) -> list[Picture]:
        """The pictures of a job that is done, or the best so far of an optimisation that was cancelled.

        They are written into new arrays, or straight into `out`: [batch, height, width, channels], or
        [height, width, channels] for one, whose rows may be apart. `format`: "rgba8" (uint8, 4 channels;
        default), "rgb8" (3), "bgra8" (4) or "rgba32f" (float32, 4); of `out` it is told by dtype and
        channels. `size`: (width, height), multiples of the model's. `origin`: "bottom_left" has the last row
        first. Raises NotReadyError before the end, InvalidArgumentError for an array that will not do.
        """
        return self._written(Target(self._layout[:2], self.batch, out, size, format, origin, style))

    def _written(self, target: Target) -> list[Picture]:
        images = target.images()
        with self._handle.used() as pointer:
            for index, image in enumerate(images):
                check(lib.softdimo_job_image(pointer, index, image))
            report = text(lib.softdimo_job_report, pointer)
        return [target.picture(index, report) for index in range(len(images))]

    def _array(
        self, function: Callable[..., int], index: int, c_type: str, dtype: Any, *shape: int
    ) -> npt.NDArray[Any]:
        values, place = np.empty(shape, dtype), whole(index, "index", 32)
        with self._handle.used() as pointer:
            data = ffi.cast(c_type, address(values))
            check(function(pointer, place, data, values.size, ffi.NULL))
        return values

    def planes(self, index: int = 0) -> npt.NDArray[np.float32]:
        """The decoder's floats [channels, height, width] of picture `index`, nominally in [0, 1], not
        clamped. A new array."""
        shape = self._layout.channels, self._layout.height, self._layout.width
        return self._array(lib.softdimo_job_image_f32, index, "float *", np.float32, *shape)

    def tokens(self, index: int = 0) -> npt.NDArray[np.uint32]:
        """The tokens [positions, splits] of picture `index`: the picture, bit for bit. A new array."""
        return self._array(
            lib.softdimo_job_tokens,
            index,
            "uint32_t *",
            np.uint32,
            self._layout.positions,
            self._layout.splits,
        )

    def max_probability(self, index: int = 0) -> npt.NDArray[np.float32]:
        """The largest softmax probability of each token [positions, splits], one step only. A new array."""
        shape = self._layout.positions, self._layout.splits
        return self._array(lib.softdimo_job_max_probability, index, "float *", np.float32, *shape)

    def embedding(self, index: int = 0) -> npt.NDArray[np.float32]:
        """The start embedding [positions, embedding] of a one-step job, after an optimisation its best one,
        for `e_in`. A new array."""
        shape = self._layout.positions, self._layout.embedding
        return self._array(lib.softdimo_job_embedding, index, "float *", np.float32, *shape)

    @property
    def report(self) -> dict[str, Any]:
        """What it did: the request with every default, model, runtime, the course of an optimisation,
        `warnings`, times."""
        with self._handle.used() as pointer:
            return dict(json.loads(text(lib.softdimo_job_report, pointer)))


class Opening(Waitable["Engine"]):
    """An engine that is being opened, made by Engine.open_async. Any thread.

    result() and `await opening` are the prepared engine, once; take() is the engine as soon as its file is
    open, while it is still being prepared. Freed like a Job; an engine that was taken stays.
    """

    _wait = lib.softdimo_opening_wait
    _progress = lib.softdimo_opening_progress
    _cancel = lib.softdimo_opening_cancel
    _error = lib.softdimo_opening_error
    _made_engine: Callable[[Any], Engine]

    def __init__(self) -> None:
        raise TypeError("an Opening is made by Engine.open_async")

    @classmethod
    def _begun(cls, pointer: Any, engine: Callable[[Any], Engine], keep: list[Any]) -> Opening:
        opening = cls.__new__(cls)
        opening._made_engine = engine
        opening._own(pointer, lib.softdimo_opening_free, lib.softdimo_opening_cancel, keep)
        return opening

    def take(self) -> Engine:
        """The engine, once. Raises NotReadyError before the file is open, InvalidArgumentError the second
        time."""
        engine = ffi.new("softdimo_engine **")
        with self._handle.used() as pointer:
            check(lib.softdimo_opening_engine(pointer, engine))
            return self._made_engine(engine[0])

    def _outcome(self) -> Engine:
        return self.take()
