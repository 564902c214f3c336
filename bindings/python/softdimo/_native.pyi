"""What the build makes of softdimo.h with cffi: `ffi`, its types, and `lib`, the loaded library."""

from typing import Any

ffi: Any
lib: Any
