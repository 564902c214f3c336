"""The library of this folder, and its declarations: in a wheel maturin writes this file."""

import os
import sys

from .ffi import ffi

lib = ffi.dlopen(
    os.path.join(os.path.dirname(__file__), "softdimo.dll" if sys.platform == "win32" else "libsoftdimo.so")
)
