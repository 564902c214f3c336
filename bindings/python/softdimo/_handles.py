"""Pointers of the library's, who uses them, and when they are freed."""

from __future__ import annotations

import atexit
import gc
import operator
import os
import threading
import time
from _thread import start_new_thread
from collections.abc import Callable
from types import TracebackType
from typing import Any, NoReturn, Self

from ._errors import ForkedError, InvalidArgumentError, check
from ._native import ffi, lib

# Seconds that the interpreter's end waits for threads that are inside calls, all of whose jobs are cancelled.
_PATIENCE = 10.0


class Handle:
    """A pointer that threads use, `with handle.used() as pointer`, and that is freed once: when it is closed
    and nobody uses it.

    Whoever closes it while others use it cancels what they wait for, and the last of them frees it.

    A signal's handler may raise, or close it, wherever Python calls something. So nothing is locked or
    counted: a use ends, at the latest, when nothing refers to it.
    """

    def __init__(
        self, what: str, pointer: Any, free: Callable[[Any], None], cancel: Callable[[Any], Any] | None
    ) -> None:
        # What the library refers to, once the owner is gone.
        self.keep: list[Any] = []
        self.what, self._key = what, id(self)
        self._pointer, self._free, self._cancel = pointer, free, cancel
        self._closed, self._process = False, os.getpid()
        # Every use is a view of it, before whose end it cannot be emptied.
        self._users = bytearray(1)
        _live[self._key] = self

    def used(self) -> Use:
        """The pointer, for calls of the library."""
        return Use(self)

    def close(self) -> None:
        """Free it, now or when its last user is done. In a forked child this does nothing."""
        if self._closed or self._process != os.getpid():
            return
        _waiting[self._key] = self
        self._closed = True
        if not self._release() and self._cancel:
            with memoryview(self._users) as use:
                if use:
                    self._cancel(self._pointer)
            self._release()

    @property
    def closed(self) -> bool:
        return self._closed

    def _release(self) -> bool:
        """Free it if it is closed and not used; False if it is used."""
        if not self._closed or self._process != os.getpid():
            return True
        try:
            self._users.clear()
        except BufferError:
            return False
        # Garbage may be collected inside a callback, where the library must not be called.
        if _thread.callbacks:
            return True
        # Nothing is called, so nobody comes between.
        pointer, self._pointer = self._pointer, None
        if pointer is not None:
            raised = _thread.raised
            try:
                self._free(pointer)
            finally:
                self.keep, _thread.raised = [], raised
                _live.pop(self._key, None)
                _waiting.pop(self._key, None)
        return True


class Use:
    """That a thread is inside calls with a handle's pointer. At its end it raises what a callback has raised
    meanwhile."""

    __slots__ = ("_handle", "_view", "thread")

    def __init__(self, handle: Handle) -> None:
        if handle._process != os.getpid():
            raise ForkedError(
                f"this {handle.what} was opened in process {handle._process}, of which this one was forked:"
                " open one here after exec, or with multiprocessing's start method 'spawn' or 'forkserver'"
            )
        self._handle, self.thread = handle, threading.get_ident()
        # First it counts, then it looks.
        self._view = memoryview(handle._users)
        if handle._closed:
            self._view.release()
            raise ValueError(f"the {handle.what} is closed")

    def __enter__(self) -> Any:
        return self._handle._pointer

    def __exit__(self, *_: object) -> None:
        self.end()
        if _waiting:
            _release_waiting()
        # What it waited for was ended for the interpreter's sake: nobody is left to be told.
        while _ending not in (None, self.thread):
            time.sleep(_PATIENCE)
        reraise()

    def end(self) -> None:
        """Use it no more."""
        self._view.release()


class _Thread(threading.local):
    """How many callbacks of the library this thread is inside, and what one of them has raised: nothing may
    pass through the library, which calls on the thread that called it."""

    callbacks = 0
    raised: BaseException | None = None


_thread = _Thread()
# The thread that ends the interpreter.
_ending: int | None = None
_live: dict[int, Handle] = {}
# Those of them that are closed.
_waiting: dict[int, Handle] = {}


def _release_waiting() -> None:
    for handle in list(_waiting.values()):
        handle._release()


def in_callback(function: Callable[..., int]) -> Callable[..., int]:
    """A function that the library calls."""

    def run(*arguments: Any) -> int:
        # Not by a `with`, whose end a signal's handler may forestall.
        _thread.callbacks += 1
        try:
            return function(*arguments)
        finally:
            _thread.callbacks -= 1

    return run


def raised(kind: object, why: BaseException, trace: TracebackType | None) -> None:
    """What to do with what a callback raises."""
    _thread.raised = why.with_traceback(trace)


def reraise() -> None:
    """Raise what a callback has raised, once the library has returned."""
    why, _thread.raised = _thread.raised, None
    if why is not None:
        raise why


def _at_exit() -> None:
    """No thread may be on its way from the library into an interpreter that is gone, so all ends before: the
    latest first."""
    global _ending
    _ending = threading.get_ident()
    left = list(reversed(_live.values()))
    for handle in left:
        handle.close()
        if handle._process != os.getpid():
            handle._closed = True
    left = [handle for handle in left if handle._process == os.getpid()]
    # This thread is inside no call. A use of its own was interrupted, and a traceback refers to it.
    for use in gc.get_referrers(*left):
        if isinstance(use, Use) and use.thread == _ending:
            use.end()
    end = time.monotonic() + _PATIENCE
    while any(handle._key in _live for handle in left) and time.monotonic() < end:
        _release_waiting()
        time.sleep(0.001)


atexit.register(_at_exit)


class Owner:
    """Something with a handle: freed by close(), at the end of a `with`, or when nothing refers to it any
    more, itself and its callbacks excepted."""

    _handle: Handle
    # What the library refers to. Not the handle's: callbacks may refer to their owner.
    _kept: list[Any]

    def _own(
        self,
        pointer: Any,
        free: Callable[[Any], None],
        cancel: Callable[[Any], Any] | None = None,
        keep: list[Any] | None = None,
    ) -> None:
        self._kept = keep if keep is not None else []
        self._handle = Handle(type(self).__name__, pointer, free, cancel)

    def __del__(self) -> None:
        handle = getattr(self, "_handle", None)
        if handle is not None and not handle.closed:
            handle.keep = self._kept
            handle.close()

    def close(self) -> None:
        """Free it; any number of times. Other threads that are inside a call of it are sent home first."""
        self._handle.close()

    @property
    def closed(self) -> bool:
        """Whether it was closed."""
        return self._handle.closed

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def __reduce__(self) -> NoReturn:
        name = type(self).__name__
        raise TypeError(f"a softdimo.{name} cannot be pickled or copied: make one in each process")


def text(function: Callable[..., int], *arguments: Any, capacity: int = 4096) -> str:
    """A text, by the header's text convention: it may have become longer between two calls."""
    needed = ffi.new("uint64_t *")
    while True:
        buffer = ffi.new("char[]", capacity)
        status = function(*arguments, buffer, capacity, needed)
        if status != lib.SOFTDIMO_ERR_BUFFER_TOO_SMALL:
            check(status)
            return str(ffi.string(buffer).decode())
        capacity = needed[0]


def encoded(value: str | bytes | os.PathLike[str], what: str) -> bytes:
    """A string or a path as the library reads it, without its NUL."""
    try:
        data = value.encode() if isinstance(value, str) else os.fsencode(value)
    except UnicodeEncodeError as why:
        raise InvalidArgumentError(f"{what}: expected a text that UTF-8 can hold: {why}") from None
    if b"\0" in data:
        raise InvalidArgumentError(f"{what}: expected a text without NUL characters, found {value!r}")
    return data


def whole(value: Any, what: str, bits: int = 64, signed: bool = False) -> int:
    """A whole number that C can take: others are refused by their name."""
    try:
        number = operator.index(value)
    except TypeError:
        raise TypeError(f"{what}: expected an integer, found {type(value).__name__}") from None
    low, high = (-(2 ** (bits - 1)), 2 ** (bits - 1) - 1) if signed else (0, 2**bits - 1)
    if not low <= number <= high:
        raise InvalidArgumentError(f"{what}: expected {low} to {high}, found {number}")
    return number


def interruptible(work: Callable[[], Any]) -> Any:
    """What `work` returns, where it may wait in one call of the library: on the main thread Ctrl-C ends the
    wait."""
    # Inside a callback the library refuses what would wait for it: it has to see that it is this thread.
    if threading.current_thread() is not threading.main_thread() or _thread.callbacks:
        return work()
    outcome: list[Any] = []
    failure: list[BaseException] = []

    def run() -> None:
        try:
            outcome.append(work())
        except BaseException as why:
            failure.append(why)
        done.set()

    done = threading.Event()
    # Not a Thread, whose start complains when it is interrupted.
    start_new_thread(run, ())
    done.wait()
    if failure:
        raise failure[0]
    return outcome[0]
