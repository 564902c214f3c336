"""Pointers of the library's, who uses them, and when they are freed."""

from __future__ import annotations

import atexit
import collections
import operator
import os
import threading
import time
import weakref
from collections.abc import Callable
from types import TracebackType
from typing import Any, NoReturn, Self

from ._errors import ForkedError, InvalidArgumentError, check
from ._native import ffi, lib

# Seconds that the interpreter's end waits for threads that are inside calls, all of whose jobs are cancelled.
_PATIENCE = 10.0


class Handle:
    """A pointer that threads use, `with handle as pointer`, and that is freed once: when it is closed and
    nobody uses it.

    Whoever closes it while others use it cancels what they wait for, and the last of them frees it.
    """

    def __init__(
        self,
        what: str,
        pointer: Any,
        free: Callable[[Any], None],
        cancel: Callable[[Any], Any] | None,
        keep: list[Any],
    ) -> None:
        self.what, self.keep = what, keep
        self._pointer, self._free, self._cancel = pointer, free, cancel
        self._users, self._closed, self._process = 0, False, os.getpid()
        # A signal's handler may close what its own thread is about to use.
        self._lock = threading.RLock()
        _live[id(self)] = self

    def __enter__(self) -> Any:
        if self._process != os.getpid():
            raise ForkedError(
                f"this {self.what} was opened in process {self._process}, of which this one was forked:"
                " open one here after exec, or with multiprocessing's start method 'spawn' or 'forkserver'"
            )
        with self._lock:
            # First counted, then looked at: see above.
            self._users += 1
            if not self._closed:
                return self._pointer
            self._users -= 1
        raise ValueError(f"the {self.what} is closed")

    def __exit__(self, *_: object) -> None:
        with self._lock:
            self._users -= 1
            last = self._closed and self._users == 0
        if last:
            self._release()
        if _waiting and not _thread.callbacks:
            _release_waiting()
        # What it waited for was ended for the interpreter's sake: nobody is left to be told.
        while _ending not in (None, threading.get_ident()):
            time.sleep(_PATIENCE)

    def close(self) -> None:
        """Free it, now or when its last user is done. In a forked child this does nothing."""
        if self._process != os.getpid():
            return
        with self._lock:
            if self._closed:
                return
            self._closed = True
            used = self._users > 0
            if used and self._cancel:
                self._cancel(self._pointer)
        if not used:
            self._release()

    @property
    def closed(self) -> bool:
        return self._closed

    def _release(self) -> None:
        # Garbage may be collected inside a callback, where the library must not be called.
        if _thread.callbacks:
            _waiting.append(self)
            return
        if _live.pop(id(self), None) is not None:
            self._free(self._pointer)
            self.keep.clear()


class _Thread(threading.local):
    """How many callbacks of the library this thread is inside."""

    callbacks = 0


_thread = _Thread()
# The thread that ends the interpreter.
_ending: int | None = None
_live: dict[int, Handle] = {}
_waiting: collections.deque[Handle] = collections.deque()


def _release_waiting() -> None:
    while True:
        try:
            handle = _waiting.popleft()
        except IndexError:
            return
        handle._release()


class InCallback:
    """Held while a callback of the library runs Python."""

    def __enter__(self) -> None:
        _thread.callbacks += 1

    def __exit__(self, *_: object) -> None:
        _thread.callbacks -= 1


def _at_exit() -> None:
    """No thread may be on its way from the library into an interpreter that is gone, so all ends before: the
    latest first."""
    global _ending
    _ending = threading.get_ident()
    left = [handle for handle in reversed(list(_live.values())) if handle._process == os.getpid()]
    for handle in left:
        handle.close()
    _release_waiting()
    end = time.monotonic() + _PATIENCE
    while any(id(handle) in _live for handle in left) and time.monotonic() < end:
        time.sleep(0.001)


atexit.register(_at_exit)


class Owner:
    """Something with a handle: freed by close(), at the end of a `with`, or when nothing refers to it any
    more."""

    _handle: Handle

    def _own(
        self,
        pointer: Any,
        free: Callable[[Any], None],
        cancel: Callable[[Any], Any] | None = None,
        keep: list[Any] | None = None,
    ) -> None:
        self._handle = Handle(type(self).__name__, pointer, free, cancel, keep if keep is not None else [])
        weakref.finalize(self, self._handle.close).atexit = False

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


def whole(value: int, what: str, bits: int = 64, signed: bool = False) -> int:
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
    threading.Thread(target=run, name="softdimo-call", daemon=True).start()
    done.wait()
    if failure:
        raise failure[0]
    return outcome[0]
