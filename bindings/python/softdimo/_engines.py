"""Engines: opened models."""

from __future__ import annotations

import importlib.util
import json
import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal, NamedTuple, TypedDict, Unpack, overload

import numpy as np
import numpy.typing as npt

from ._callbacks import Callback, LogFunction, ProgressFunction, nothing, on_log, on_progress
from ._errors import check
from ._handles import Owner, encoded, interruptible, reraise, text, whole
from ._jobs import Job, Opening
from ._native import ffi, lib
from ._pictures import (
    Array,
    Format,
    Origin,
    Picture,
    PictureLike,
    Style,
    Target,
    address,
    assign,
    choice,
    readable,
)
from ._requests import CommonFields, Fields, Request, Rewards
from ._rewards import WEIGHTS, Bytes, contents

Model = str | os.PathLike[str] | Bytes | None

BUNDLED_MODEL = Path(__file__).with_name("emoji-32.softdimo.safetensors")
"""The model file of this package: pictures of 32x32 pixels for 181 labels."""

_MEMORIES = {"lean": lib.SOFTDIMO_MEMORY_LEAN, "fast": lib.SOFTDIMO_MEMORY_FAST}
_ARITHMETICS = {"auto": lib.SOFTDIMO_ARITHMETIC_AUTO, "f32": lib.SOFTDIMO_ARITHMETIC_F32}
_LOG_LEVELS = {
    "error": lib.SOFTDIMO_LOG_ERROR,
    "warning": lib.SOFTDIMO_LOG_WARNING,
    "info": lib.SOFTDIMO_LOG_INFO,
}


class Options(TypedDict, total=False):
    """Keyword arguments of Engine.open and Engine.open_async. Beside a game's or a window's own threads:
    `threads=1, niceness=10`.

    - `provider`: where to compute, "cpu" (default), "cuda" or "openvino"; one that is not usable is a
      ProviderError, never a silent fallback. `device_id`: of a GPU.
    - `threads`: 1 to 256 that compute one run; 0 (default) is one a core, at most 8.
    - `memory`: "lean" (default: weights are used where they lie) or "fast" (packed: one more copy).
    - `memory_limit`: bytes to hold beyond mapped pages; 0 (default) is no limit.
    - `weights`: "map" (default), "read" or "map_guarded".
    - `niceness`: 0 (default) to 19 added to the engine's threads.
    - `yielding`: see pause() and limit_cpu() within milliseconds, on the CPU.
    - `arithmetic`: "auto" (default) or "f32", of weights for int8 arithmetic.
    - `untuned`: leave what tune() remembered unread.
    - `work_limit`: billions of multiply-adds a network may take; 0 (default) is 40000.
    - `log`: called with a level and a message as logging.Logger.log is (`logging.getLogger("softdimo").log`),
      inside calls of this engine and its jobs, whose methods it must not call. `log_level`: the least severe
      wanted, "error", "warning" (default) or "info".
    - `ort_library`: the ONNX Runtime library. Without it the one that SOFTDIMO_ORT_LIBRARY names, that lies
      beside the library, that pip has installed (it is not imported), or that the system has. One serves the
      whole process: that of its first engine.
    """

    provider: str
    device_id: int
    threads: int
    memory: Literal["lean", "fast"]
    memory_limit: int
    weights: Literal["map", "read", "map_guarded"]
    niceness: int
    yielding: bool
    arithmetic: Literal["auto", "f32"]
    untuned: bool
    work_limit: int
    log: LogFunction | None
    log_level: Literal["error", "warning", "info"]
    ort_library: str | os.PathLike[str] | None


class Layout(NamedTuple):
    """Shapes of a model: pictures [height, width] of `channels` 3 or 4; tokens [positions, splits], ids below
    `codes`, or `mask_token`; start embeddings [positions, embedding]; class ids below `classes`, which itself
    means no label."""

    width: int
    height: int
    positions: int
    splits: int
    codes: int
    mask_token: int
    embedding: int
    classes: int
    channels: int


class Memory(NamedTuple):
    """What an engine holds, in bytes: `mapped` of files, shared and reclaimable; `weights` as copies;
    `activations` and what else `sessions`, as many as are prepared, hold; `transient` is what a run takes
    beside these, at most, and gives back after it."""

    sessions: int
    mapped: int
    weights: int
    activations: int
    transient: int


class _Opened:
    """softdimo_engine_options from keyword arguments; `keep` lives with the engine."""

    def __init__(self, options: dict[str, Any]) -> None:
        self.native = ffi.new("softdimo_engine_options *")
        check(lib.softdimo_engine_options_init(self.native, ffi.sizeof(self.native[0])))
        self.keep: list[Any] = []
        self._texts: list[Any] = []
        native = self.native
        for name, value in options.items():
            if value is None:
                continue
            if name in ("device_id", "threads", "memory_limit", "niceness", "work_limit"):
                assign(native, name, value)
            elif name in ("yielding", "untuned"):
                setattr(native, name, bool(value))
            elif name in ("provider", "ort_library"):
                self._text(name, value)
            elif name == "memory":
                native.memory_mode = choice(_MEMORIES, value, name)
            elif name == "weights":
                native.weights_mode = choice(WEIGHTS, value, name)
            elif name == "arithmetic":
                native.arithmetic = choice(_ARITHMETICS, value, name)
            elif name == "log_level":
                native.log_level = choice(_LOG_LEVELS, value, name)
            elif name == "log":
                callback = Callback(value)
                native.log, native.log_user_data = on_log, callback.handle
                self.keep.append(callback)
            else:
                raise TypeError(f"unexpected keyword argument '{name}'")
        if native.ort_library == ffi.NULL and "SOFTDIMO_ORT_LIBRARY" not in os.environ:
            found = _installed_runtime()
            if found:
                self._text("ort_library", found)

    def _text(self, name: str, value: Any) -> None:
        self._texts.append(ffi.new("char[]", encoded(value, name)))
        setattr(self.native, name, self._texts[-1])


def _runtime_in(folder: Path) -> Path | None:
    """ONNX Runtime's library in a folder."""
    pattern = {"win32": "onnxruntime.dll", "darwin": "libonnxruntime*.dylib"}.get(
        sys.platform, "libonnxruntime.so*"
    )
    return next(iter(sorted(folder.glob(pattern))), None)


def _installed_runtime() -> Path | None:
    """What pip has installed, where none lies beside the library; it is not imported, which would run more
    than is needed."""
    if _runtime_in(Path(__file__).with_name("_native")):
        return None
    spec = importlib.util.find_spec("onnxruntime")
    folders = (spec.submodule_search_locations if spec else None) or []
    return next(filter(None, (_runtime_in(Path(folder, "capi")) for folder in folders)), None)


class Engine(Owner):
    """An opened model on an execution provider, with threads of its own. Any thread may use it, several at
    once.

    Freed at close(), at the end of a `with`, or when nothing refers to it: after that its threads are gone,
    unless jobs of it are alive, which keep it running. Every call raises what Error's subclasses stand for,
    and ValueError after close().
    """

    def __init__(self) -> None:
        raise TypeError("an Engine is made by Engine.open, or Engine.open_async")

    layout: Layout
    """Shapes of the model."""

    @classmethod
    def open(cls, model: Model = None, **options: Unpack[Options]) -> Engine:
        """Open a model file by its path, or its bytes (not copied where they are read only); None is the
        bundled one.

        Takes milliseconds, longer for a model in int4; other threads of Python go on. For `options` see
        Options. Raises NotFoundError, IoError, FormatError, ConfigError (a reward's file),
        RuntimeNotFoundError, ProviderError, InvalidArgumentError.
        """
        opened = _Opened(dict(options))
        engine = ffi.new("softdimo_engine **")
        if isinstance(model, (bytes, bytearray, memoryview)):
            data = contents(model)
            opened.keep.append(data)
            check(lib.softdimo_engine_open_memory(data, len(data), ffi.NULL, ffi.NULL, opened.native, engine))
        else:
            path = encoded(BUNDLED_MODEL if model is None else model, "model")
            check(lib.softdimo_engine_open(path, opened.native, engine))
        return cls._made(engine[0], opened.keep)

    @classmethod
    def open_async(
        cls,
        model: str | os.PathLike[str] | None = None,
        label: str | None = None,
        *,
        batch: int = 1,
        warm: Fields | None = None,
        **options: Unpack[Options],
    ) -> Opening:
        """Begin to open a model file, and then to prepare it for a request like `label`, `batch` and the
        fields `warm`; returns at once. `await` it, or look at its progress. What goes wrong later is the
        opening's. A model is a path here."""
        opened = _Opened(dict(options))
        request = Request(label, batch, dict(warm or {}))
        opening = ffi.new("softdimo_opening **")
        path = encoded(BUNDLED_MODEL if model is None else model, "model")
        # Whoever takes the engine keeps what it uses, longer than the opening does.
        keep = [*request.keep, *opened.keep]
        own = [*opened.keep, *request.buffers]
        with request as native:
            check(lib.softdimo_engine_open_async(path, opened.native, native, opening))
            return Opening._begun(opening[0], lambda pointer: cls._made(pointer, list(own)), keep)

    @classmethod
    def _made(cls, pointer: Any, keep: list[Any]) -> Engine:
        engine = cls.__new__(cls)
        engine._own(pointer, lib.softdimo_engine_free, _send_home, keep)
        layout = ffi.new("softdimo_layout *")
        layout.struct_size = ffi.sizeof(layout[0])
        check(lib.softdimo_engine_layout(pointer, layout))
        engine.layout = Layout(*(getattr(layout, field) for field in Layout._fields))
        try:
            reraise()
        except BaseException:
            engine.close()
            raise
        return engine

    @overload
    def submit(
        self, label: str | None = None, *, batch: None = None, **fields: Unpack[Fields]
    ) -> Job[Picture]: ...
    @overload
    def submit(
        self, label: str | None = None, *, batch: int, **fields: Unpack[Fields]
    ) -> Job[list[Picture]]: ...
    def submit(
        self, label: str | None = None, *, batch: int | None = None, **fields: Unpack[Fields]
    ) -> Job[Any]:
        """Queue a request and return its Job at once, whose result is a Picture, or a list of them if `batch`
        (1 to 256) is given.

        `label`: a class name for all pictures or a synonym of one, case ignored; None for no label. For
        `fields` see Fields. Arrays and pictures are copied; callbacks live with the job. Raises
        UnknownLabelError, InvalidArgumentError, UnsupportedError; what goes wrong later is the job's.
        """
        return self._submit(label, batch, dict(fields))

    def _submit(self, label: str | None, batch: int | None, fields: dict[str, Any]) -> Job[Any]:
        request = Request(label, 1 if batch is None else batch, fields)
        job = ffi.new("softdimo_job **")
        with self._handle.used() as pointer, request as native:
            # What is prepared for a job may be in use after it: the engine keeps it too.
            self._keep(request.buffers)
            check(lib.softdimo_submit(pointer, native, job))
            return Job._made(job[0], self, batch, [*self._kept, *request.keep])

    def _keep(self, buffers: list[Any]) -> None:
        for buffer in buffers:
            if not any(kept is buffer for kept in self._kept):
                self._kept.append(buffer)

    @overload
    def generate(
        self,
        label: str | None = None,
        *,
        batch: None = None,
        out: None = None,
        size: tuple[int, int] | None = None,
        format: Format | None = None,
        origin: Origin = "top_left",
        style: Style | None = None,
        **fields: Unpack[Fields],
    ) -> Picture: ...
    @overload
    def generate(
        self,
        label: str | None = None,
        *,
        batch: int,
        out: Array | None = None,
        size: tuple[int, int] | None = None,
        format: Format | None = None,
        origin: Origin = "top_left",
        style: Style | None = None,
        **fields: Unpack[Fields],
    ) -> list[Picture]: ...
    @overload
    def generate(
        self,
        label: str | None = None,
        *,
        batch: None = None,
        out: Array,
        size: tuple[int, int] | None = None,
        format: Format | None = None,
        origin: Origin = "top_left",
        style: Style | None = None,
        **fields: Unpack[Fields],
    ) -> Picture | list[Picture]: ...
    def generate(
        self,
        label: str | None = None,
        *,
        batch: int | None = None,
        out: Array | None = None,
        size: tuple[int, int] | None = None,
        format: Format | None = None,
        origin: Origin = "top_left",
        style: Style | None = None,
        **fields: Unpack[Fields],
    ) -> Picture | list[Picture]:
        """Make a picture and wait for it; with `batch`, or `out` [batch, height, width, channels], a list of
        pictures.

        For `fields` see Fields; for `out`, an array of yours that is written without a copy, `size`,
        `format`, `origin` and `style` see Job.pictures. Nothing is written unless all succeed. Other threads
        of Python go on; Ctrl-C, or what a callback raises, ends the job.
        """
        return self._generate(label, batch, out, size, format, origin, style, dict(fields))

    def _generate(
        self,
        label: str | None,
        batch: int | None,
        out: Array | None,
        size: tuple[int, int] | None,
        format: Format | None,
        origin: Origin,
        style: Style | None,
        fields: dict[str, Any],
    ) -> Picture | list[Picture]:
        if batch is None and isinstance(out, np.ndarray) and out.ndim == 4:
            batch = len(out)
        count = 1 if batch is None else batch
        # An array that will not do is told before anything is computed; new ones are made after that.
        target = Target(self.layout[:2], count, out, size, format, origin, style)
        with self._submit(label, batch, fields) as job:
            job.wait()
            pictures = job._written(target)
        return pictures if batch is not None else pictures[0]

    @overload
    def optimize(
        self,
        label: str | None = None,
        *,
        rewards: Rewards,
        steps: int,
        batch: None = None,
        out: None = None,
        size: tuple[int, int] | None = None,
        format: Format | None = None,
        origin: Origin = "top_left",
        style: Style | None = None,
        **fields: Unpack[CommonFields],
    ) -> Picture: ...
    @overload
    def optimize(
        self,
        label: str | None = None,
        *,
        rewards: Rewards,
        steps: int,
        batch: int,
        out: Array | None = None,
        size: tuple[int, int] | None = None,
        format: Format | None = None,
        origin: Origin = "top_left",
        style: Style | None = None,
        **fields: Unpack[CommonFields],
    ) -> list[Picture]: ...
    @overload
    def optimize(
        self,
        label: str | None = None,
        *,
        rewards: Rewards,
        steps: int,
        batch: None = None,
        out: Array,
        size: tuple[int, int] | None = None,
        format: Format | None = None,
        origin: Origin = "top_left",
        style: Style | None = None,
        **fields: Unpack[CommonFields],
    ) -> Picture | list[Picture]: ...
    def optimize(
        self,
        label: str | None = None,
        *,
        rewards: Rewards,
        steps: int,
        batch: int | None = None,
        out: Array | None = None,
        size: tuple[int, int] | None = None,
        format: Format | None = None,
        origin: Origin = "top_left",
        style: Style | None = None,
        **fields: Unpack[CommonFields],
    ) -> Picture | list[Picture]:
        """Test-time embedding optimisation: generate(), which then climbs Σ weight·reward for `steps`
        updates and keeps the best.

        `rewards`: pairs of a Reward and its weight, negative to move away from it; 64 at most, one of them a
        function at most. `lr`, `optimizer`, `momentum`, `clip`, `variables` and more: see Fields. The course
        is in Picture.report["optimization"].
        """
        more = {**fields, "rewards": rewards, "optimize_steps": steps}
        return self._generate(label, batch, out, size, format, origin, style, more)

    def encode(self, picture: PictureLike) -> npt.NDArray[np.uint32]:
        """The tokens [positions, splits] of a picture of the model's size, uint8 [height, width, 3 or 4], by
        the model's own image tokenizer: what `start_tokens` take. Waits for the jobs before it. Raises
        UnsupportedError for a model without an encoder."""
        image, _array = readable(picture, "picture")
        tokens = np.empty((self.layout.positions, self.layout.splits), np.uint32)

        def encode() -> None:
            with self._handle.used() as pointer:
                check(
                    lib.softdimo_encode(
                        pointer, image, ffi.cast("uint32_t *", address(tokens)), tokens.size, ffi.NULL
                    )
                )

        interruptible(encode)
        return tokens

    def warmup(self, label: str | None = None, *, batch: int = 1, **fields: Unpack[Fields]) -> None:
        """Prepare what a request like this one needs, so that the first is as fast as the next: `rewards`,
        `steps`, prompts count, seeds and labels do not. Waits for the jobs before it. `progress` is called
        with the sessions prepared and in all."""
        request = Request(label, batch, dict(fields))
        request.told()
        with self._handle.used() as pointer, request as native:
            self._keep(request.buffers)
            check(lib.softdimo_engine_warmup_request(pointer, native))

    def tune(self, progress: ProgressFunction | None = None) -> int:
        """Measure which convolutions of a model for int8 arithmetic this machine computes faster in f32, and
        remember it in the user's cache folder (SOFTDIMO_CACHE); returns how many. About a second for each
        kind of convolution; waits for the jobs before it. Raises UnsupportedError where there is nothing to
        choose."""
        callback, count = Callback(progress or nothing), ffi.new("uint32_t *")
        with self._handle.used() as pointer:
            check(lib.softdimo_engine_tune(pointer, on_progress, callback.handle, count))
        return int(count[0])

    def trim(self) -> None:
        """Give back what can be prepared again: sessions, packed weights, features of prompts. Waits for the
        jobs before it."""
        interruptible(lambda: self._call(lib.softdimo_engine_trim))

    def pause(self) -> None:
        """Compute nothing until resume(); what runs is finished first. Returns at once. Waits for jobs then
        wait too."""
        self._call(lib.softdimo_engine_pause)

    def resume(self) -> None:
        """Go on after pause()."""
        self._call(lib.softdimo_engine_resume)

    def limit_cpu(self, percent: int) -> None:
        """Compute for at most `percent` percent of the time of one core: 1 to 100 for each thread; 0 for no
        limit."""
        with self._handle.used() as pointer:
            check(lib.softdimo_engine_set_cpu_share(pointer, whole(percent, "percent", 32)))

    def cancel_pending(self) -> int:
        """Cancel all jobs that have not begun; returns how many there were."""
        count = ffi.new("uint32_t *")
        with self._handle.used() as pointer:
            check(lib.softdimo_engine_cancel_pending(pointer, count))
        return int(count[0])

    def memory(self) -> Memory:
        """What it holds. Waits for the jobs before it."""
        memory = ffi.new("softdimo_memory *")
        memory.struct_size = ffi.sizeof(memory[0])

        def ask() -> None:
            with self._handle.used() as pointer:
                check(lib.softdimo_engine_memory(pointer, memory))

        interruptible(ask)
        return Memory(memory.sessions, memory.mapped, memory.weights, memory.activations, memory.transient)

    def verify(self, golden: str | os.PathLike[str]) -> dict[str, Any]:
        """Replay a golden file: the largest difference of every tensor. Waits for the jobs before it."""
        path = encoded(golden, "golden")

        def replay() -> str:
            with self._handle.used() as pointer:
                return text(lib.softdimo_engine_verify, pointer, path, capacity=1 << 16)

        return dict(json.loads(interruptible(replay)))

    @property
    def labels(self) -> list[str]:
        """The names of the model's classes, by their ids; none for a model that reads prompts."""
        count, name = ffi.new("uint32_t *"), ffi.new("char **")
        names = []
        with self._handle.used() as pointer:
            check(lib.softdimo_engine_label_count(pointer, count))
            for index in range(count[0]):
                check(lib.softdimo_engine_label(pointer, index, name))
                names.append(ffi.string(name[0]).decode())
        return names

    @property
    def info(self) -> dict[str, Any]:
        """Model, architecture, tokens, labels, defaults, provider and runtime."""
        with self._handle.used() as pointer:
            return dict(json.loads(text(lib.softdimo_engine_info, pointer)))

    def _call(self, function: Callable[[Any], int]) -> None:
        with self._handle.used() as pointer:
            check(function(pointer))

    def __repr__(self) -> str:
        return f"<softdimo.Engine {self.layout.width}x{self.layout.height}{' closed' if self.closed else ''}>"


def _send_home(pointer: Any) -> None:
    """End what threads inside calls of an engine wait for: its jobs."""
    lib.softdimo_engine_cancel_pending(pointer, ffi.NULL)
    lib.softdimo_engine_resume(pointer)
