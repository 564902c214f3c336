"""What to generate: keyword arguments as the request of C."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from contextlib import ExitStack
from typing import Any, Literal, TypedDict

import numpy as np
import numpy.typing as npt

from ._callbacks import Callback, ProgressFunction, nothing, on_progress
from ._errors import check
from ._handles import Handle, encoded
from ._native import ffi, lib
from ._pictures import PictureLike, address, assign, choice, floats, integers, readable
from ._rewards import Reward

Variable = Literal["embedding", "noise", "class"]
Rewards = Sequence[tuple[Reward, float]]

_DECODES = {"hard": lib.SOFTDIMO_DECODE_HARD, "soft": lib.SOFTDIMO_DECODE_SOFT}
_OPTIMIZERS = {"sgd": lib.SOFTDIMO_OPTIMIZER_SGD, "adam": lib.SOFTDIMO_OPTIMIZER_ADAM}
_VARIABLES = {
    "embedding": lib.SOFTDIMO_VARIABLE_EMBEDDING,
    "noise": lib.SOFTDIMO_VARIABLE_NOISE,
    "class": lib.SOFTDIMO_VARIABLE_CLASS,
}


class CommonFields(TypedDict, total=False):
    """Keyword arguments of every request; what is left out, or None, is the model's own default.

    - `seed`: 0 to 2**64 - 1, of the first picture; picture b has seed + b and equals the one picture of it.
    - `class_labels`: ids instead of a label, one for all pictures or one each; the number of classes is none.
    - `prompt`, `negative_prompt`: for text-to-image models, the former also for rewards that read one.
    - `temperature` 0 to 10000 (0 is arg-max), `top_p` above 0 to 1, `top_k` (0 is all), `mask_ratio` 0 to 1,
      `sigma` 0 to 1: one step only.
    - `guidance_scale`, `randomize_temperature` 0 to 10000: several steps only.
    - `decode`: "hard" or "soft" (the expected code; one step only).
    - `report_gap`: also decode the other way, and report how much they differ.
    - `start_tokens`: uint32 [batch, positions, splits] to start from, the mask token allowed.
    - `e_in`: float32 [batch, positions, embedding] to start from; one step only.
    - `edit_image`: a picture of the model's size to start from, with `edit_mask`, float32 [height, width],
      above 0 where it is painted anew, or `edit_keep`, 0 to 1, the share of its tokens that stay.
    - `aesthetic_score` 0 to 100, `original_width`, `original_height`, `crop_left`, `crop_top` 0 to 65536: of
      text-to-image models.
    - `lr` (0.2), `optimizer` ("sgd" or "adam"), `momentum` 0 to below 1, `clip` (a norm, 0 is off),
      `norm_regularizer`, `variables` ("embedding", "noise", "class"), `recompute` (less memory, more time):
      with rewards.
    - `deadline_ms`: with rewards, milliseconds for the whole job, from when the engine begins with it.
    - `priority`: higher goes first.
    - `queue_key`: jobs with the same one that have not begun are cancelled by this one; 0 is none.
    - `progress`: called with the steps done and in all, on the thread that waits for the job; False, or an
      exception, cancels it.
    """

    seed: int
    class_labels: int | Sequence[int] | npt.NDArray[np.integer[Any]] | None
    prompt: str | None
    negative_prompt: str | None
    temperature: float | None
    top_p: float | None
    top_k: int | None
    mask_ratio: float | None
    sigma: float | None
    guidance_scale: float | None
    randomize_temperature: float | None
    decode: Literal["hard", "soft"]
    report_gap: bool
    start_tokens: npt.ArrayLike | None
    e_in: npt.ArrayLike | None
    edit_image: PictureLike | None
    edit_mask: npt.ArrayLike | None
    edit_keep: float | None
    aesthetic_score: float | None
    original_width: int | None
    original_height: int | None
    crop_left: int | None
    crop_top: int | None
    lr: float | None
    optimizer: Literal["sgd", "adam"]
    momentum: float | None
    clip: float | None
    norm_regularizer: float | None
    variables: Sequence[Variable] | Variable
    recompute: bool
    deadline_ms: int | None
    priority: int
    queue_key: int
    progress: ProgressFunction | None


class Fields(CommonFields, total=False):
    """CommonFields, and:

    - `steps`: 0 is the model's own way, 1 one step, 2 to 10000 the multi-step teacher.
    - `rewards`: pairs of a Reward and its weight, whose sum is maximised; `optimize_steps`: updates.
    """

    steps: int
    rewards: Rewards
    optimize_steps: int


# Fields of C whose value needs no more than its type.
_PLAIN = set(
    "seed steps temperature top_p top_k mask_ratio sigma guidance_scale randomize_temperature optimize_steps"
    " lr momentum clip norm_regularizer deadline_ms edit_keep aesthetic_score original_width original_height"
    " crop_left crop_top priority queue_key".split()
)
_FLAGS = {"report_gap", "recompute"}
_WORDS = {"decode": _DECODES, "optimizer": _OPTIMIZERS}
_TEXTS = {"label", "prompt", "negative_prompt"}


class Request:
    """A softdimo_request from keyword arguments. It lives through the call that takes it; `keep` with the
    job."""

    def __init__(self, label: str | None, batch: int, fields: dict[str, Any]) -> None:
        self.native = ffi.new("softdimo_request *")
        check(lib.softdimo_request_init(self.native, ffi.sizeof(self.native[0])))
        self.batch = batch
        self.keep: list[Any] = []
        self._terms: list[tuple[Handle, Any]] = []
        self._alive: list[Any] = []
        assign(self.native, "batch", batch)
        for name, value in {"label": label, **fields}.items():
            if value is not None:
                self._set(name, value)

    def __enter__(self) -> Any:
        """The request, for a call; its rewards stay meanwhile."""
        self._stack = ExitStack()
        try:
            for handle, term in self._terms:
                term.reward = self._stack.enter_context(handle.used())
        except BaseException:
            self._stack.close()
            raise
        return self.native

    def __exit__(self, *_: object) -> None:
        self._stack.close()

    @property
    def buffers(self) -> list[Any]:
        """Files in memory, which the engine reads as long as it lives."""
        return [kept for kept in self.keep if isinstance(kept, ffi.CData)]

    def told(self) -> None:
        """Give it a progress callback if it has none: by its calls comes Ctrl-C."""
        if self.native.progress == ffi.NULL:
            self._progress(None)

    def _set(self, name: str, value: Any) -> None:
        native = self.native
        if name in _PLAIN:
            assign(native, name, value)
        elif name in _TEXTS:
            if not isinstance(value, str):
                raise TypeError(f"{name}: expected a str, found {type(value).__name__}")
            setattr(native, name, self._held(ffi.new("char[]", encoded(value, name))))
        elif name in _FLAGS:
            setattr(native, name, bool(value))
        elif name in _WORDS:
            setattr(native, name, choice(_WORDS[name], value, name))
        elif name == "variables":
            for variable in [value] if isinstance(value, str) else value:
                native.variables |= choice(_VARIABLES, variable, name)
        elif name == "class_labels":
            ids = self._held(integers(value, np.int32, name))
            native.class_labels, native.class_label_count = ffi.cast("int32_t *", address(ids)), ids.size
        elif name == "start_tokens":
            tokens = self._held(integers(value, np.uint32, name))
            native.start_tokens, native.start_token_count = (
                ffi.cast("uint32_t *", address(tokens)),
                tokens.size,
            )
        elif name in ("e_in", "edit_mask"):
            numbers = self._held(floats(value, name))
            setattr(native, name, ffi.cast("float *", address(numbers)))
            setattr(native, f"{name}_count", numbers.size)
        elif name == "edit_image":
            image, array = readable(value, name)
            self._held(array)
            native.edit_image = self._held(image)
        elif name == "rewards":
            self._rewards(value)
        elif name == "progress":
            self._progress(value)
        else:
            raise TypeError(f"unexpected keyword argument '{name}'")

    def _held(self, what: Any) -> Any:
        self._alive.append(what)
        return what

    def _rewards(self, terms: Rewards) -> None:
        pairs = list(terms) if isinstance(terms, Iterable) else [terms]
        native = self._held(ffi.new("softdimo_reward_term[]", len(pairs)))
        for term, pair in zip(native, pairs):
            if not isinstance(pair, (tuple, list)) or len(pair) != 2 or not isinstance(pair[0], Reward):
                found = ", ".join(type(part).__name__ for part in pair) if isinstance(pair, tuple) else None
                found = f"({found})" if found is not None else type(pair).__name__
                raise TypeError(f"rewards: expected pairs (Reward, weight), found {found}")
            reward, weight = pair
            self._terms.append((reward._handle, term))
            assign(term, "weight", weight)
            self.keep.extend(reward._kept)
        if pairs:
            self.native.rewards, self.native.reward_count = native, len(pairs)

    def _progress(self, function: ProgressFunction | None) -> None:
        callback = Callback(function or nothing)
        self.native.progress, self.native.progress_user_data = on_progress, callback.handle
        self.keep.append(callback)
