"""Pictures, and the arrays that they are written into."""

from __future__ import annotations

import json
import os
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal, Union

import numpy as np
import numpy.typing as npt

from ._errors import InvalidArgumentError, check
from ._handles import encoded, whole
from ._native import ffi, lib

if TYPE_CHECKING:
    from PIL.Image import Image

Format = Literal["rgba8", "rgb8", "bgra8", "rgba32f"]
Origin = Literal["top_left", "bottom_left"]
Array = npt.NDArray[Any]

# The library's number of a format, the dtype of its channels and how many there are.
_FORMATS: dict[str, tuple[int, type[Any], int]] = {
    "rgba8": (lib.SOFTDIMO_FORMAT_RGBA8, np.uint8, 4),
    "rgb8": (lib.SOFTDIMO_FORMAT_RGB8, np.uint8, 3),
    "bgra8": (lib.SOFTDIMO_FORMAT_BGRA8, np.uint8, 4),
    "rgba32f": (lib.SOFTDIMO_FORMAT_RGBA32F, np.float32, 4),
}
_ORIGINS = {"top_left": lib.SOFTDIMO_ORIGIN_TOP_LEFT, "bottom_left": lib.SOFTDIMO_ORIGIN_BOTTOM_LEFT}
_SCALINGS = {"nearest": lib.SOFTDIMO_SCALING_NEAREST, "smooth": lib.SOFTDIMO_SCALING_SMOOTH}
_DITHERS = {
    "none": lib.SOFTDIMO_DITHER_NONE,
    "bayer4": lib.SOFTDIMO_DITHER_BAYER4,
    "bayer8": lib.SOFTDIMO_DITHER_BAYER8,
}


def choice(table: Mapping[str, Any], value: str, what: str) -> Any:
    """What a word stands for."""
    try:
        return table[value]
    except (KeyError, TypeError):
        words = ", ".join(map(repr, table))
        raise InvalidArgumentError(f"{what}: expected one of {words}, found {value!r}") from None


@dataclass(frozen=True)
class Style:
    """How pictures are written: their background is taken away, colours are chosen, then they are enlarged.

    - `scaling`: of pictures larger than the model's, "nearest" (pixel art) or "smooth" (Catmull-Rom).
    - `palette`: None for all colours; 2 to 256 for as many of the picture's own; or colours, [n, 3 or 4].
    - `dither`: "none", "bayer4" or "bayer8", with a palette; `dither_strength` 0 to 1.
    - `matte`: make the background transparent, where it differs from the border's colour by at most
      `matte_tolerance` (a distance in OKLab, 0 to 1; None is 0.04); holes of `matte_hole_area` of the model's
      pixels or more as well, 0 for none.
    """

    scaling: Literal["nearest", "smooth"] = "nearest"
    palette: int | npt.ArrayLike | None = None
    dither: Literal["none", "bayer4", "bayer8"] = "none"
    dither_strength: float = 1.0
    matte: bool = False
    matte_tolerance: float | None = None
    matte_hole_area: int = 0


def native_style(style: Style) -> tuple[Any, list[Any]]:
    """A softdimo_picture_style, and what it points to."""
    if not isinstance(style, Style):
        raise TypeError(f"style: expected a softdimo.Style, found {type(style).__name__}")
    native, keep = ffi.new("softdimo_picture_style *"), []
    check(lib.softdimo_picture_style_init(native, ffi.sizeof(native[0])))
    native.scaling = choice(_SCALINGS, style.scaling, "scaling")
    native.dither = choice(_DITHERS, style.dither, "dither")
    assign(native, "dither_strength", style.dither_strength)
    native.matte = bool(style.matte)
    assign(native, "matte_hole_area", style.matte_hole_area)
    if style.matte_tolerance is not None:
        assign(native, "matte_tolerance", style.matte_tolerance)
    if np.isscalar(style.palette):
        native.palette_count = whole(style.palette, "palette", 32)
    elif style.palette is not None:
        colours = integers(style.palette, np.uint8, "palette")
        if colours.ndim != 2 or colours.shape[1] not in (3, 4):
            expected = "a number of colours, or colours [n, 3] or [n, 4]"
            raise InvalidArgumentError(f"palette: expected {expected}, found shape {list(colours.shape)}")
        native.palette, native.palette_count = ffi.cast("uint8_t *", address(colours)), len(colours)
        native.palette_format = _FORMATS["rgb8" if colours.shape[1] == 3 else "rgba8"][0]
        keep.append(colours)
    return native, keep


def assign(struct: Any, field: str, value: Any) -> None:
    """A field of C's, with an error that names it."""
    owner = ffi.typeof(struct)
    kind = dict((owner.item if owner.kind == "pointer" else owner).fields)[field].type
    if kind.cname in ("float", "double"):
        try:
            setattr(struct, field, value)
        except TypeError:
            raise TypeError(f"{field}: expected a number, found {type(value).__name__}") from None
        except OverflowError:
            raise InvalidArgumentError(f"{field}: expected a number that a float holds") from None
    else:
        signed = int(ffi.cast(kind, -1)) < 0
        setattr(struct, field, whole(value, field, 8 * ffi.sizeof(kind), signed))


def address(array: Array) -> int:
    """Where an array's first element lies."""
    return int(array.__array_interface__["data"][0])


class Target:
    """How pictures are to be written: into the caller's array, or into new ones."""

    def __init__(
        self,
        layout: tuple[int, int],
        count: int,
        out: Array | None,
        size: tuple[int, int] | None,
        format: Format | None,
        origin: Origin,
        style: Style | None,
    ) -> None:
        if size is not None:
            size = _size(size)
        width, height = size or layout
        choice(_ORIGINS, origin, "origin")
        self.origin: str = origin
        self.format: str = format or "rgba8"
        self._style, self._keep = native_style(style) if style is not None else (ffi.NULL, [])
        _, self._dtype, channels = choice(_FORMATS, self.format, "format")
        self._count, self._shape = count, (height, width, channels)
        self.arrays: list[Array] = []
        if out is not None:
            self._take(out, count, size, format)
            self.images()  # tells strides that will not do

    def images(self) -> list[Any]:
        """The softdimo_image of each, which live as long as this object. New arrays are made here."""
        self.arrays = self.arrays or [np.empty(self._shape, self._dtype) for _ in range(self._count)]
        images = [native_image(array, self.format, self.origin) for array in self.arrays]
        for image in images:
            image.style = self._style
        return images

    def _take(self, out: Array, count: int, size: tuple[int, int] | None, format: Format | None) -> None:
        """The caller's array."""
        arrays = [out] if _dimensions(out) == 3 else list(out) if _dimensions(out) == 4 else []
        if len(arrays) != count:
            kind = "[height, width, channels]" if count == 1 else f"[{count}, height, width, channels]"
            raise InvalidArgumentError(f"out: expected an array {kind}, found shape {list(out.shape)}")
        names = [
            name
            for name, (_, dtype, channels) in _FORMATS.items()
            if out.dtype == dtype and out.shape[-1] == channels and format in (None, name)
        ]
        if not names:
            expected = "uint8 with 4 or 3 channels, or float32 with 4"
            if format is not None:
                _, dtype, channels = choice(_FORMATS, format, "format")
                expected = f"{np.dtype(dtype).name} with {channels} channels, as format {format!r} is"
            found = f"{out.dtype} with {out.shape[-1]} channels"
            raise InvalidArgumentError(f"out: expected {expected}, found {found}")
        if size and out.shape[-2:-4:-1] != size:
            raise InvalidArgumentError(
                f"out: expected pictures of size {size}, found shape {list(out.shape)}"
            )
        if not out.flags.writeable:
            raise InvalidArgumentError(
                "out: expected an array that can be written, found one that is read only"
            )
        self.format, self.arrays = names[0], arrays

    def picture(self, index: int, report: str) -> Picture:
        """The picture, once it is written."""
        return Picture(self.arrays[index], report, index, self.format, self.origin)


def _size(size: Any) -> tuple[int, int]:
    try:
        width, height = size
    except (TypeError, ValueError):
        raise TypeError(f"size: expected (width, height), found {size!r}") from None
    width, height = whole(width, "size", 32), whole(height, "size", 32)
    if min(width, height) < 1:
        raise InvalidArgumentError(f"size: expected a width and a height of 1 or more, found {size}")
    return width, height


def _dimensions(out: Any) -> int:
    if not isinstance(out, np.ndarray):
        raise TypeError(f"out: expected a numpy array, found a {type(out).__name__}")
    return out.ndim


def native_image(array: Array, format: str, origin: str) -> Any:
    """A softdimo_image of [height, width, channels], whose rows may be apart."""
    height, width, channels = array.shape
    item = array.itemsize
    row, pixel, channel = array.strides
    if channel != item or pixel != channels * item or (height > 1 and row < width * pixel):
        expected = f"strides [{width * channels * item} or more, {channels * item}, {item}]"
        raise InvalidArgumentError(
            f"out: expected an array of pixels side by side, {expected}, found strides {list(array.strides)}"
        )
    image = ffi.new("softdimo_image *")
    check(lib.softdimo_image_init(image, ffi.sizeof(image[0])))
    stride = row if height > 1 else width * pixel
    image.width, image.height = width, height
    image.format, image.origin = _FORMATS[format][0], _ORIGINS[origin]
    assign(image, "stride", stride)
    image.data, image.capacity = ffi.cast("void *", address(array)), (height - 1) * stride + width * pixel
    return image


PictureLike = Union["Picture", npt.NDArray[np.uint8], "Image"]


def readable(picture: PictureLike, what: str) -> tuple[Any, Array]:
    """The softdimo_image of a picture that the library reads, and the array that it points to."""
    if isinstance(picture, Picture):
        array = np.ascontiguousarray(picture.array)
        _, dtype, channels = choice(_FORMATS, picture.format, f"{what}: format")
        choice(_ORIGINS, picture.origin, f"{what}: origin")
        if array.dtype != dtype or array.ndim != 3 or array.shape[2] != channels or 0 in array.shape:
            expected = f"{picture.format}, {np.dtype(dtype)} [height, width, {channels}]"
            found = f"{array.dtype} {list(array.shape)}"
            raise InvalidArgumentError(f"{what}: expected {expected}, found {found}")
        return native_image(array, picture.format, picture.origin), array
    if isinstance(picture, (str, bytes, os.PathLike)):
        kind = type(picture).__name__
        raise TypeError(f"{what}: expected a Picture, an image of Pillow's or an array, found a {kind}")
    mode = getattr(picture, "mode", None)  # of an image of Pillow's
    if mode not in (None, "RGB", "RGBA"):
        expected = "an image of mode RGB or RGBA"
        raise InvalidArgumentError(f"{what}: expected {expected}, found {mode}: convert('RGBA') makes one")
    array = np.asarray(picture)
    if array.ndim != 3 or array.dtype != np.uint8 or array.shape[2] not in (3, 4) or 0 in array.shape:
        found = f"{array.dtype} {list(array.shape)}"
        raise InvalidArgumentError(
            f"{what}: expected a picture, uint8 [height, width, 3 or 4], found {found}"
        )
    array = np.ascontiguousarray(array)
    return native_image(array, "rgba8" if array.shape[2] == 4 else "rgb8", "top_left"), array


class Picture:
    """A picture that was made: an array, and how it came to be.

    `array`: [height, width, channels], uint8 with 4 channels RGBA, alpha straight, from the top, unless
    another `format` or `origin` was asked for; the caller's own where `out` was given. `index`: its place in
    the batch. A Picture can be pickled, and shared between threads as any array.
    """

    __slots__ = ("_report", "array", "format", "index", "origin")

    def __init__(
        self,
        array: Array,
        report: str = "{}",
        index: int = 0,
        format: str = "rgba8",
        origin: str = "top_left",
    ) -> None:
        self.array, self.index, self.format, self.origin, self._report = array, index, format, origin, report

    @property
    def width(self) -> int:
        """Pixels of a row."""
        return int(self.array.shape[1])

    @property
    def height(self) -> int:
        """Rows."""
        return int(self.array.shape[0])

    @property
    def report(self) -> dict[str, Any]:
        """What the job did, with every default filled in: all that is needed to make the picture again. A new
        dictionary."""
        return dict(json.loads(self._report))

    @property
    def seed(self) -> int:
        """Its own seed: that of the request, plus its place in the batch."""
        return (int(self.report["seed"]) + self.index) % 2**64

    def save(self, path: str | os.PathLike[str], text: Mapping[str, str] | None = None) -> None:
        """Write a PNG (RGB for 3 channels of 8 bits, else RGBA), with texts (keyword: value) in it.

        The file appears complete or not at all, and replaces one of its name. Raises IoError,
        InvalidArgumentError for a keyword that PNG does not allow.
        """
        image, _array = readable(self, "the picture")
        words = [ffi.new("char[]", encoded(word, "text")) for pair in (text or {}).items() for word in pair]
        pairs = ffi.new("char *[]", words) if words else ffi.NULL
        check(lib.softdimo_image_write_png(image, encoded(path, "path"), pairs, len(words) // 2))

    def to_pil(self) -> Image:
        """The same as an image of Pillow's (softdimo[pillow]), which copies it. Raises ImportError without
        Pillow."""
        import PIL.Image

        array = self.array
        if array.dtype == np.float32:
            array = np.rint(np.clip(array, 0, 1) * 255).astype(np.uint8)
        if self.format == "bgra8":
            array = array[:, :, [2, 1, 0, 3]]
        if self.origin == "bottom_left":
            array = array[::-1]
        return PIL.Image.fromarray(np.ascontiguousarray(array))

    def _repr_png_(self) -> bytes:
        """For notebooks."""
        with tempfile.TemporaryDirectory() as folder:
            path = os.path.join(folder, "picture.png")
            self.save(path)
            with open(path, "rb") as file:
                return file.read()

    def __array__(self, dtype: npt.DTypeLike | None = None, copy: bool | None = None) -> Array:
        if copy is None:
            return np.asarray(self.array, dtype)
        return np.array(self.array, dtype, copy=copy)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Picture) and np.array_equal(self.array, other.array)

    __hash__ = None  # type: ignore[assignment]

    def __repr__(self) -> str:
        return f"<softdimo.Picture {self.width}x{self.height} {self.array.dtype}>"


def floats(values: npt.ArrayLike, what: str) -> npt.NDArray[np.float32]:
    """Numbers as the library reads them."""
    try:
        return np.ascontiguousarray(values, np.float32)
    except TypeError as why:
        raise TypeError(f"{what}: {why}") from None
    except (ValueError, OverflowError) as why:
        raise InvalidArgumentError(f"{what}: {why}") from None


def integers(values: npt.ArrayLike, dtype: type[Any], what: str) -> Array:
    """Whole numbers as `dtype`; no other number becomes one of them."""
    try:
        found = np.asarray(values)
    except ValueError as why:  # rows of several lengths
        raise InvalidArgumentError(f"{what}: {why}") from None
    # Objects are what numpy makes of integers beyond 64 bits.
    kind = found.dtype.kind
    if kind not in "iuO" or (kind == "O" and not all(isinstance(value, int) for value in found.flat)):
        raise TypeError(f"{what}: expected integers, found {found.dtype}")
    limits = np.iinfo(dtype)
    if found.size and not (limits.min <= int(found.min()) and int(found.max()) <= limits.max):
        expected = f"integers of {limits.min} to {limits.max}"
        raise InvalidArgumentError(f"{what}: expected {expected}, found {found.min()} to {found.max()}")
    return np.ascontiguousarray(found, dtype)
