"""Take the paths of the machine that built it out of a wheel.

usage: clean.py WHEEL ROOT [PATH...]

The SBOM names the packages of this repository by where they lay: below ROOT, which becomes /softdimo. Ends with an error where
a file of the wheel has one of the PATHs in it; the wheel is as it was then.
"""

import base64
import hashlib
import os
import sys
import zipfile


def record_line(name: str, data: bytes) -> bytes:
    digest = base64.urlsafe_b64encode(hashlib.sha256(data).digest()).rstrip(b"=").decode()
    return f"{name},sha256={digest},{len(data)}".encode()


def main() -> None:
    if len(sys.argv) < 3:
        sys.exit(__doc__)
    wheel, root, *paths = sys.argv[1:]
    with zipfile.ZipFile(wheel) as archive:
        files = {info: archive.read(info) for info in archive.infolist()}
    changed = {}
    for info, data in files.items():
        if ".dist-info/sboms/" in info.filename:
            files[info] = data.replace(b"file://" + os.fsencode(root), b"file:///softdimo")
            changed[info.filename.encode()] = record_line(info.filename, files[info])
    for info, data in files.items():
        if info.filename.endswith(".dist-info/RECORD"):
            lines = [changed.get(line.split(b",")[0], line) for line in data.splitlines()]
            files[info] = b"".join(line + b"\n" for line in lines)
        for path in paths:
            if os.fsencode(path) in files[info]:
                sys.exit(f"{wheel}: {info.filename}: expected nothing of {path}, where it was built, found that in it")
    with zipfile.ZipFile(wheel + ".part", "w") as archive:
        for info, data in files.items():
            archive.writestr(info, data)
    os.replace(wheel + ".part", wheel)


main()
