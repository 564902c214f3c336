"""What softdimo.h declares, for cffi: without what only a C compiler reads.

usage: declare.py softdimo.h OUT.h [OUT.py]

OUT.h is what maturin takes for the crate's header (target/header.h), OUT.py the module that cffi makes of it,
for a folder that is put together without maturin. Sizes and places are cffi's to find out, where it runs.
"""

import re
import sys

BEGIN, END = 'extern "C" {\n#endif\n', "#ifdef __cplusplus\n}"


def declarations(header: str) -> str:
    """The constants, types and functions of the header, without comments."""
    inside = header.split(BEGIN, 1)[1].split(END, 1)[0]
    code = re.sub(r"/\*.*?\*/|//[^\n]*", "", inside, flags=re.DOTALL)
    return "".join(line.rstrip() + "\n" for line in code.splitlines() if line.strip())


def main() -> None:
    if len(sys.argv) not in (3, 4):
        sys.exit(__doc__)
    with open(sys.argv[1]) as file:
        code = declarations(file.read())
    with open(sys.argv[2], "w") as file:
        file.write(code)
    if len(sys.argv) == 4:
        from cffi import FFI

        ffi = FFI()
        ffi.set_source("softdimo._native.ffi", None)
        ffi.cdef(code)
        ffi.emit_python_code(sys.argv[3])


main()
