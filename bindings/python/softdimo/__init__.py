"""Pictures in process, from one forward pass.

>>> import softdimo
>>> engine = softdimo.Engine.open()                     # the bundled model: 181 labels, 32x32 pixels
>>> picture = engine.generate("red apple", seed=7)
>>> picture.array.shape, picture.array.dtype
((32, 32, 4), dtype('uint8'))
>>> engine.close()

- Engine.open opens a model; its methods generate, optimize, encode and submit. Engines are for any thread.
- A Job is a request under way: result() or `await job`.
- A Picture has its pixels as a numpy array: RGBA, 8 bits a channel, sRGB, [height, width, 4] from the top.
- Calls that fail raise subclasses of Error; arguments of a wrong type, also TypeError.
- Calls that wait let other threads of Python go on, and end at Ctrl-C.
- Engines, jobs and rewards end with `with`, close(), or when nothing refers to them; in any order.
- A process that is forked cannot use what its parent has opened: ForkedError.
"""

from __future__ import annotations

import json as _json
from typing import Any as _Any

from ._callbacks import LogFunction, ProgressFunction, RewardFunction
from ._engines import BUNDLED_MODEL, Engine, Layout, Memory, Options
from ._errors import (
    BufferTooSmallError,
    CancelledError,
    ConfigError,
    Error,
    ForkedError,
    FormatError,
    InternalError,
    InvalidArgumentError,
    IoError,
    MissingTensorError,
    NotFoundError,
    NotReadyError,
    NullArgumentError,
    OnnxRuntimeError,
    OutOfMemoryError,
    ProviderError,
    RuntimeNotFoundError,
    StructSizeError,
    TensorMismatchError,
    TimeoutError,
    UnknownLabelError,
    UnsupportedError,
)
from ._errors import check as _check
from ._handles import text as _text
from ._handles import whole as _whole
from ._jobs import Job, Opening, Progress
from ._native import ffi as _ffi
from ._native import lib as _lib
from ._pictures import Picture, Style
from ._requests import CommonFields, Fields
from ._rewards import Reward

_found, _expected = _lib.softdimo_abi_version() >> 16, _lib.SOFTDIMO_ABI_VERSION >> 16
if _found != _expected:
    raise ImportError(f"softdimo: expected a library of ABI {_expected}, found one of ABI {_found}")

__version__: str = _ffi.string(_lib.softdimo_version()).decode()


def providers() -> list[dict[str, _Any]]:
    """Execution providers: `name`, `available` and the `reason` why not. Availability is known once an engine
    was opened."""
    count = _lib.softdimo_provider_count()
    return [_json.loads(_text(_lib.softdimo_provider_info, index)) for index in range(count)]


def seed(world: int, x: int = 0, y: int = 0, z: int = 0) -> int:
    """The seed of a place in a world, the same on every machine and in every version.

    >>> import softdimo
    >>> softdimo.seed(1, 2, 3) == softdimo.seed(1, 2, 3) != softdimo.seed(1, 3, 2)
    True
    """
    places = (_whole(place, name, signed=True) for place, name in ((x, "x"), (y, "y"), (z, "z")))
    return int(_lib.softdimo_seed(_whole(world, "world"), *places))


def set_memory_budget(limit: int) -> None:
    """The most bytes that all engines of this process may hold together beyond mapped pages; 0 for any
    number. Does not wait."""
    _check(_lib.softdimo_set_memory_budget(_whole(limit, "limit")))


def memory_in_use() -> int:
    """The bytes that all engines of this process hold together beyond mapped pages. Does not wait."""
    count = _ffi.new("uint64_t *")
    _check(_lib.softdimo_memory_in_use(count))
    return int(count[0])


__all__ = [
    "BUNDLED_MODEL",
    "BufferTooSmallError",
    "CancelledError",
    "CommonFields",
    "ConfigError",
    "Engine",
    "Error",
    "Fields",
    "ForkedError",
    "FormatError",
    "InternalError",
    "InvalidArgumentError",
    "IoError",
    "Job",
    "Layout",
    "LogFunction",
    "Memory",
    "MissingTensorError",
    "NotFoundError",
    "NotReadyError",
    "NullArgumentError",
    "OnnxRuntimeError",
    "Opening",
    "Options",
    "OutOfMemoryError",
    "Picture",
    "Progress",
    "ProgressFunction",
    "ProviderError",
    "Reward",
    "RewardFunction",
    "RuntimeNotFoundError",
    "StructSizeError",
    "Style",
    "TensorMismatchError",
    "TimeoutError",
    "UnknownLabelError",
    "UnsupportedError",
    "memory_in_use",
    "providers",
    "seed",
    "set_memory_budget",
]

# By the names they are used by, in messages as in pickles.
for _name in __all__:
    if isinstance(globals()[_name], type):
        globals()[_name].__module__ = __name__
del _name
