"""Statuses of the library as exceptions."""

from __future__ import annotations

import builtins
import errno
from typing import NoReturn

from ._native import ffi, lib


class Error(Exception):
    """A call failed; its text names the thing, what was expected and what was found.

    `status` is its number and `status_name` its name in softdimo.h. Every subclass stands for one of them
    and, where Python has a word for it, is that too: NotFoundError is a FileNotFoundError.
    """

    status: int = 0

    def __init__(self, message: str, status: int | None = None) -> None:
        super().__init__(message)
        if status is not None:
            self.status = status

    @property
    def status_name(self) -> str:
        """The status as softdimo.h has it, such as "SOFTDIMO_ERR_IO"."""
        return _text(lib.softdimo_status_name(self.status))


class InvalidArgumentError(Error, ValueError):
    """An argument is out of range or of the wrong kind."""

    status = lib.SOFTDIMO_ERR_INVALID_ARGUMENT


class NullArgumentError(Error, ValueError):
    """Something that is needed is None."""

    status = lib.SOFTDIMO_ERR_NULL_ARGUMENT


class StructSizeError(Error):
    """The library and this package are not of one version."""

    status = lib.SOFTDIMO_ERR_STRUCT_SIZE


class IoError(Error, OSError):
    """Reading or writing a file failed."""

    status = lib.SOFTDIMO_ERR_IO


class NotFoundError(Error, FileNotFoundError):
    """The file does not exist."""

    status = lib.SOFTDIMO_ERR_NOT_FOUND

    def __init__(self, message: str, status: int | None = None) -> None:
        super().__init__(message, status)
        self.errno = errno.ENOENT


class FormatError(Error, ValueError):
    """The file breaks a rule of its format, or has lost bytes since it was opened."""

    status = lib.SOFTDIMO_ERR_FORMAT


class MissingTensorError(Error, ValueError):
    """A tensor that the model needs is not in the file."""

    status = lib.SOFTDIMO_ERR_MISSING_TENSOR


class TensorMismatchError(Error, ValueError):
    """A tensor has another shape or dtype than the model needs."""

    status = lib.SOFTDIMO_ERR_TENSOR_MISMATCH


class ConfigError(Error, ValueError):
    """The file's configuration is missing, makes no sense, or is of the other kind (generator, reward)."""

    status = lib.SOFTDIMO_ERR_CONFIG


class UnknownLabelError(Error, ValueError):
    """The label is not one of the model's; the text suggests close ones."""

    status = lib.SOFTDIMO_ERR_UNKNOWN_LABEL


class UnsupportedError(Error):
    """The model or this build cannot do what was asked."""

    status = lib.SOFTDIMO_ERR_UNSUPPORTED


class BufferTooSmallError(Error, ValueError):
    """An array of the caller's is too small."""

    status = lib.SOFTDIMO_ERR_BUFFER_TOO_SMALL


class RuntimeNotFoundError(Error, ImportError):
    """No usable ONNX Runtime; the text lists every place tried and says what to install."""

    status = lib.SOFTDIMO_ERR_RUNTIME_NOT_FOUND


class OnnxRuntimeError(Error, RuntimeError):
    """ONNX Runtime reported a failure."""

    status = lib.SOFTDIMO_ERR_RUNTIME


class ProviderError(Error, RuntimeError):
    """The execution provider asked for is not usable; the text says what is missing."""

    status = lib.SOFTDIMO_ERR_PROVIDER


class OutOfMemoryError(Error, MemoryError):
    """The work would exceed the engine's memory_limit or the budget of all engines, or the system has no
    more."""

    status = lib.SOFTDIMO_ERR_OUT_OF_MEMORY


class CancelledError(Error):
    """The job was cancelled. Not asyncio's: awaiting a job that somebody else cancels is a failure, not the
    task's end."""

    status = lib.SOFTDIMO_ERR_CANCELLED


class NotReadyError(Error):
    """The job has not finished yet."""

    status = lib.SOFTDIMO_ERR_NOT_READY


class TimeoutError(Error, builtins.TimeoutError):
    """The wait ended before the job did; the job goes on."""

    status = lib.SOFTDIMO_ERR_TIMEOUT

    def __init__(self, message: str, status: int | None = None) -> None:
        super().__init__(message, status)
        self.errno = errno.ETIMEDOUT


class ForkedError(Error, RuntimeError):
    """Called in a forked child of a process that has opened an engine."""

    status = lib.SOFTDIMO_ERR_FORKED


class InternalError(Error, RuntimeError):
    """A bug in the library; the engine refuses further work and the process is unharmed."""

    status = lib.SOFTDIMO_ERR_INTERNAL


_BY_STATUS: dict[int, type[Error]] = {kind.status: kind for kind in Error.__subclasses__()}

# What a person is to do, where the library cannot know.
_ADVICE = {
    lib.SOFTDIMO_ERR_RUNTIME_NOT_FOUND: "; install one with: pip install softdimo[cpu] (or softdimo[cuda])",
    lib.SOFTDIMO_ERR_FORKED: "; with multiprocessing, use the start method 'spawn' or 'forkserver'",
}


def check(status: int) -> None:
    """Raise what a status stands for, with the message of this thread's last failed call."""
    if status != lib.SOFTDIMO_OK:
        fail(status)


def fail(status: int) -> NoReturn:
    """Raise what a status other than OK stands for."""
    size = lib.softdimo_last_error(ffi.NULL, 0)
    buffer = ffi.new("char[]", size)
    lib.softdimo_last_error(buffer, size)
    raise _BY_STATUS.get(status, Error)(_text(buffer) + _ADVICE.get(status, ""), status)


def _text(pointer: object) -> str:
    return str(ffi.string(pointer).decode())
