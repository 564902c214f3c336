"""What tests share."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import softdimo

# A picture takes long enough for others to come between, without keeping them off the processor.
OPTIONS: dict[str, Any] = {"threads": 1, "niceness": 5}


@pytest.fixture(scope="session")
def engine() -> Iterator[softdimo.Engine]:
    with softdimo.Engine.open(**OPTIONS) as engine:
        yield engine


@pytest.fixture
def program() -> Callable[..., subprocess.CompletedProcess[str]]:
    """Runs a program in an interpreter of its own, with all of Python's warnings as errors; it ends well."""

    def run(source: str, **environment: str) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-X", "dev", "-W", "error", "-c", source]
        done = subprocess.run(
            command, env={**os.environ, **environment}, capture_output=True, text=True, timeout=280
        )
        assert done.returncode == 0, (done.returncode, done.stdout, done.stderr)
        return done

    return run
