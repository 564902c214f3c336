"""What pip has installed."""

from __future__ import annotations

import importlib.metadata
import re
import subprocess
from collections.abc import Callable
from pathlib import Path

import softdimo

Program = Callable[..., "subprocess.CompletedProcess[str]"]


def test_what_is_in_it() -> None:
    found = importlib.metadata.distribution("softdimo")
    assert found.version == softdimo.__version__
    names = {str(file) for file in found.files or []}
    for name in ("LICENSE-MIT", "LICENSE-APACHE", "crates.txt", "rust-library.html", "emoji-32.md"):
        assert any(f"licenses/licences/{name}" in file for file in names), (name, names)
    assert any(".dist-info/sboms/" in file for file in names) and "softdimo/py.typed" in names
    assert set(found.metadata.get_all("Provides-Extra") or []) == {"cpu", "cuda", "pillow"}
    assert softdimo.BUNDLED_MODEL.is_file() and "softdimo/" + softdimo.BUNDLED_MODEL.name in names


def test_it_does_not_say_where_it_was_built() -> None:
    (sbom,) = (
        file for file in importlib.metadata.files("softdimo") or [] if ".dist-info/sboms/" in str(file)
    )
    assert set(re.findall(r"file:///[^/#]*", sbom.read_text())) == {"file:///softdimo"}


def test_onnxruntime_is_found_and_not_imported(program: Program) -> None:
    done = program("""
import sys, softdimo
with softdimo.Engine.open(threads=1) as engine:
    assert "onnxruntime" not in sys.modules
    assert "PIL" not in sys.modules and "pycparser" not in sys.modules
    print(engine.info["runtime"])
""")
    assert done.stdout.strip()


def test_without_a_runtime(program: Program) -> None:
    source = """
import sys, softdimo
sys.modules["onnxruntime"] = None
try:
    softdimo.Engine.open(threads=1)
except softdimo.RuntimeNotFoundError as why:
    assert isinstance(why, ImportError)
    print(why)
"""
    done = program(source)
    assert "pip install softdimo[cpu]" in done.stdout and "libonnxruntime.so" in done.stdout, done.stdout


def test_orders_are_obeyed(program: Program, tmp_path: Path) -> None:
    wrong = tmp_path / "libonnxruntime.so"
    wrong.write_text("not a library")
    source = "import softdimo\ntry: softdimo.Engine.open({})\nexcept softdimo.RuntimeNotFoundError as why: print(why)"
    assert str(wrong) in program(source.format(f"ort_library={str(wrong)!r}")).stdout
    assert str(wrong) in program(source.format(""), SOFTDIMO_ORT_LIBRARY=str(wrong)).stdout
