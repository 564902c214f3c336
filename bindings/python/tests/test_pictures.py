"""Pictures: whose memory they are in, in which form, and what can be done with them."""

from __future__ import annotations

import pickle
from pathlib import Path
from typing import Any, cast

import numpy as np
import PIL.Image
import pytest
import softdimo
from softdimo import Engine, Picture, Style


@pytest.fixture(scope="module")
def apple(engine: Engine) -> Picture:
    return engine.generate("red apple", seed=7)


def test_a_picture_is_an_array(apple: Picture) -> None:
    assert apple.array.shape == (32, 32, 4) and apple.array.dtype == np.uint8
    assert (apple.width, apple.height, apple.seed) == (32, 32, 7)
    assert apple.report["labels"] == ["red apple"]
    # An apple on white: most is white, much of the rest is red.
    white = (apple.array[..., :3] > 230).all(-1)
    red = (apple.array[..., 0] > 150) & (apple.array[..., 1] < 130) & (apple.array[..., 2] < 130)
    assert white.mean() > 0.3 and red.mean() > 0.2 and (apple.array[..., 3] == 255).all()
    assert np.asarray(apple) is apple.array and apple == pickle.loads(pickle.dumps(apple))
    assert repr(apple) == "<softdimo.Picture 32x32 uint8>"


def test_the_caller_s_own_array(engine: Engine, apple: Picture) -> None:
    out = np.zeros((32, 32, 4), np.uint8)
    picture = engine.generate("red apple", seed=7, out=out)
    assert isinstance(picture, Picture) and picture.array is out and picture == apple


def test_rows_that_are_apart(engine: Engine, apple: Picture) -> None:
    atlas = np.full((64, 96, 4), 9, np.uint8)
    engine.generate("red apple", seed=7, out=atlas[16:48, 32:64])
    assert np.array_equal(atlas[16:48, 32:64], apple.array)
    assert (atlas == 9).all(-1).sum() >= 64 * 96 - 32 * 32


def test_batches(engine: Engine, apple: Picture) -> None:
    pictures = engine.generate("red apple", seed=6, batch=2)
    assert len(pictures) == 2 and pictures[1] == apple and [picture.seed for picture in pictures] == [6, 7]
    assert engine.generate("red apple", seed=7, batch=1) == [apple]
    out = np.zeros((2, 32, 32, 4), np.uint8)
    views = engine.generate("red apple", seed=6, out=out)
    assert isinstance(views, list) and np.array_equal(out[1], apple.array) and views[1].array.base is out
    # Every second picture of an array.
    out = np.zeros((4, 32, 32, 4), np.uint8)
    engine.generate("red apple", seed=6, batch=2, out=out[::2])
    assert np.array_equal(out[2], apple.array) and not out[1::2].any()


def test_forms(engine: Engine, apple: Picture) -> None:
    rgba = apple.array

    def make(**how: Any) -> Picture:
        return cast(Picture, engine.generate("red apple", seed=7, **how))

    assert np.array_equal(make(format="rgb8").array, rgba[..., :3])
    assert np.array_equal(make(format="bgra8").array, rgba[..., [2, 1, 0, 3]])
    assert np.array_equal(make(origin="bottom_left").array, rgba[::-1])
    floats = make(format="rgba32f").array
    assert floats.dtype == np.float32 and np.abs(floats * 255 - rgba).max() < 0.51
    assert np.array_equal(make(out=np.empty((32, 32, 3), np.uint8)).array, rgba[..., :3])
    assert np.array_equal(make(out=np.empty((32, 32, 4), np.float32)).array, floats)
    assert np.array_equal(
        make(out=np.empty((32, 32, 4), np.uint8), format="bgra8").array, rgba[..., [2, 1, 0, 3]]
    )
    large = make(size=(96, 64))
    assert np.array_equal(large.array, rgba.repeat(2, 0).repeat(3, 1))
    assert np.array_equal(make(out=np.empty((64, 96, 4), np.uint8)).array, large.array)


def test_styles(engine: Engine, apple: Picture) -> None:
    def make(style: Style, **how: Any) -> Any:
        return cast(Picture, engine.generate("red apple", seed=7, style=style, **how)).array

    for count in (4, np.int64(4)):
        assert len(np.unique(make(Style(palette=count)).reshape(-1, 4), axis=0)) == 4
    ink = make(Style(palette=[[0, 0, 0], [255, 0, 0], [255, 255, 255]], dither="bayer8", dither_strength=0.5))
    assert {tuple(colour) for colour in ink.reshape(-1, 4).tolist()} == {
        (0, 0, 0, 255),
        (255, 0, 0, 255),
        (255, 255, 255, 255),
    }
    cut = make(Style(matte=True, matte_tolerance=0.05, matte_hole_area=4))
    assert (cut[0, 0, 3], cut[16, 16, 3]) == (0, 255)
    assert not np.array_equal(make(Style(scaling="smooth"), size=(64, 64)), make(Style(), size=(64, 64)))
    for style, words in [
        (Style(palette=[[1, 2]]), "palette"),
        (Style(palette=np.array([[300, 0, 0], [0, 0, 0]])), "palette: .* 0 to 255"),
        (Style(palette=[[-1, 0, 0], [0, 0, 0]]), "palette: .* 0 to 255"),
        (Style(scaling="blurry"), "'nearest'"),  # type: ignore[arg-type]
        (Style(palette=1), "palette"),
        (Style(palette=[[300, 0, 0], [0, 0, 0]]), "palette: .* 0 to 255, found 0 to 300"),
        (Style(palette=np.array([[300, 0, 0], [0, 0, 0]])), "palette: .* found 0 to 300"),
        (Style(palette=np.array([[0, 0, -1]])), "palette: .* found -1 to 0"),
        (Style(palette=[[0, 0, 0], [1, 2]]), "palette: "),
        (Style(matte_tolerance=2.0, matte=True), "toleran"),
    ]:
        with pytest.raises(ValueError, match=words):
            make(style)
    for palette in (np.array([[0.5, 0, 0], [1, 1, 1]]), [[0.0, 0.5, 1.0]]):
        with pytest.raises(TypeError, match="palette: expected integers, found float64"):
            make(Style(palette=palette))
    with pytest.raises(TypeError, match="palette: expected an integer, found float"):
        make(Style(palette=4.5))


@pytest.mark.parametrize(
    ("out", "kind", "words"),
    [
        (np.zeros((32, 31, 4), np.uint8), ValueError, "32"),
        (np.zeros((31, 32, 4), np.uint8), ValueError, "32"),
        (np.zeros((32, 32, 2), np.uint8), ValueError, "channels"),
        (np.zeros((32, 32, 3), np.float32), ValueError, "channels"),
        (np.zeros((32, 32, 4), np.float64), ValueError, "float64"),
        (np.zeros((32, 32, 4), ">f4"), ValueError, ">f4"),
        (np.zeros((32, 32), np.uint8), ValueError, "shape"),
        (np.zeros((0, 32, 32, 4), np.uint8), ValueError, "batch|shape"),
        (np.zeros((32, 0, 4), np.uint8), ValueError, "32|strides"),
        (np.zeros((32, 32, 4), np.uint8)[::-1], ValueError, "strides"),
        (np.zeros((32, 64, 4), np.uint8)[:, ::2], ValueError, "strides"),
        (np.zeros((32, 32, 8), np.uint8)[..., ::2], ValueError, "strides"),
        (np.asfortranarray(np.zeros((32, 32, 4), np.uint8)), ValueError, "strides"),
        (np.broadcast_to(np.zeros((1, 32, 4), np.uint8), (32, 32, 4)), ValueError, "read only|strides"),
        (np.frombuffer(bytes(4096), np.uint8).reshape(32, 32, 4), ValueError, "read only"),
        (bytearray(4096), TypeError, "numpy"),
    ],
)
def test_arrays_that_will_not_do(engine: Engine, out: Any, kind: type[Exception], words: str) -> None:
    with pytest.raises(kind, match=words):
        engine.generate("dog", out=out)


def test_arrays_are_looked_at_before_anything_is_computed(engine: Engine) -> None:
    engine.pause()
    try:
        with pytest.raises(ValueError, match="strides"):
            engine.generate("dog", out=np.zeros((32, 32, 4), np.uint8)[::-1], progress=lambda *_: False)
    finally:
        engine.resume()


def test_other_arguments_that_will_not_do(engine: Engine) -> None:
    out = np.zeros((2, 32, 32, 4), np.uint8)
    for arguments, words in [
        ({"out": out, "batch": 3}, "3"),
        ({"out": out[0], "size": (64, 64)}, "64"),
        ({"size": (33, 32)}, "33"),
        ({"size": (0, 0)}, "size"),
        ({"format": "rgb16"}, "'rgba8'"),
        ({"origin": "middle"}, "'top_left'"),
        ({"out": out[0], "format": "rgb8"}, "rgb8"),
    ]:
        with pytest.raises(softdimo.InvalidArgumentError, match=words):
            engine.generate("dog", **arguments)
    with pytest.raises(TypeError, match="width, height"):
        engine.generate("dog", size=64)  # type: ignore[call-overload]
    with pytest.raises(TypeError, match="softdimo.Style"):
        engine.generate("dog", style={"palette": 4})  # type: ignore[call-overload]
    assert not out.any()


def test_png(engine: Engine, apple: Picture, tmp_path: Path) -> None:
    path = tmp_path / "äpple.png"
    apple.save(path, {"Title": "an apple", "Comment": "苹果"})
    with PIL.Image.open(path) as image:
        assert image.mode == "RGBA" and np.array_equal(np.asarray(image), apple.array)
        assert image.text == {"Title": "an apple", "Comment": "苹果"}  # type: ignore[attr-defined]
    for how in [{"format": "bgra8"}, {"format": "rgb8"}, {"format": "rgba32f"}, {"origin": "bottom_left"}]:
        other = engine.generate("red apple", seed=7, **how)  # type: ignore[call-overload]
        other.save(str(path))
        with PIL.Image.open(path) as image:
            assert np.array_equal(np.asarray(image.convert("RGBA")), apple.array), how
        assert np.array_equal(np.asarray(other.to_pil().convert("RGBA")), apple.array), how
    assert apple._repr_png_().startswith(b"\x89PNG")
    with pytest.raises(OSError):
        apple.save("/nowhere/apple.png")
    for text, words in [({"": "x"}, "keyword|text"), ({"Title": "a\0b"}, "NUL")]:
        with pytest.raises(ValueError, match=words):
            apple.save(path, text)
    assert not list(tmp_path.glob("*.part*"))


@pytest.mark.parametrize(
    ("array", "form", "words"),
    [
        (np.zeros((32, 32, 4)), {}, "expected rgba8, uint8 .*, found float64"),
        (np.zeros((32, 32, 4), object), {}, "found object"),
        (np.zeros((32, 32, 3), np.uint8), {}, "height, width, 4"),
        (np.zeros((0, 32, 4), np.uint8), {}, "0, 32, 4"),
        (np.zeros(4, np.uint8), {}, "found uint8"),
        (np.zeros((32, 32, 4), np.uint8), {"format": "rgba16"}, "'rgba8'"),
        (np.zeros((32, 32, 4), np.uint8), {"origin": "middle"}, "'top_left'"),
    ],
)
def test_pictures_that_are_none(engine: Engine, tmp_path: Path, array: Any, form: Any, words: str) -> None:
    """What lies in other arrays is not taken for pixels."""
    picture = Picture(array, **form)
    with pytest.raises(ValueError, match=words):
        picture.save(tmp_path / "none.png")
    with pytest.raises(ValueError, match=words):
        engine.encode(picture)


def test_what_a_job_has_made(engine: Engine) -> None:
    with engine.submit("rocket", seed=3, batch=2) as job:
        job.wait()
        assert job.planes(1).shape == (3, 32, 32) and job.planes().dtype == np.float32
        assert job.tokens(1).shape == job.max_probability(1).shape == (64, 2) and job.embedding(1).shape == (
            64,
            224,
        )
        again = engine.submit("rocket", seed=99, e_in=job.embedding()[None])
        assert np.array_equal(again.result().array, job.pictures()[0].array)
        for call in (job.planes, job.tokens, job.max_probability, job.embedding):
            with pytest.raises(ValueError, match="2"):
                call(2)
            with pytest.raises(ValueError, match="index"):
                call(-1)
