"""examples/serve/fastapi_app.py under uvicorn, with clients of its own and too many of them."""
import asyncio
import contextlib
import io
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import httpx
import numpy
import PIL.Image
import pytest
import softdimo
from prometheus_client.parser import text_string_to_metric_families

SERVE = Path(__file__).parents[2] / "examples" / "serve"
SLOTS = 6
# A job that takes long enough to be interrupted.
LONG = {"label": "dog", "steps": 64}


@contextlib.contextmanager
def server(*options, **environment):
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = [sys.executable, "-m", "uvicorn", "fastapi_app:app", "--port", str(port), "--log-level", "warning", *options]
    process = subprocess.Popen(command, cwd=SERVE, env={**os.environ, **environment})
    url = f"http://127.0.0.1:{port}"
    try:
        deadline = time.monotonic() + 60
        while True:
            try:
                assert httpx.get(f"{url}/healthz").json()["status"] == "ok"
                break
            except httpx.ConnectError:
                assert process.poll() is None and time.monotonic() < deadline
                time.sleep(0.1)
        yield url
        process.send_signal(signal.SIGTERM)
        # uvicorn shuts down, then ends as the signal would have had it.
        assert process.wait(20) in (0, -signal.SIGTERM)
    finally:
        process.kill()
        process.wait()


@pytest.fixture(scope="module")
def url():
    with server(SOFTDIMO_SLOTS=str(SLOTS), SOFTDIMO_THREADS="1") as url:
        yield url


def metric(url, name, **labels):
    for family in text_string_to_metric_families(httpx.get(f"{url}/metrics").text):
        for sample in family.samples:
            if sample.name == name and sample.labels == labels:
                return sample.value
    return 0


def pixels(png):
    return numpy.asarray(PIL.Image.open(io.BytesIO(png)).convert("RGBA"))


def soon(condition, seconds=2.0):
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.02)


def test_pictures(url):
    labels = httpx.get(f"{url}/v1/labels").json()
    assert "rocket" in labels and len(labels) == 181
    got = httpx.get(f"{url}/v1/pictures", params={"label": "rocket", "seed": 7})
    assert got.status_code == 200 and got.headers["content-type"] == "image/png"
    with softdimo.Engine.open(threads=1) as engine:
        assert (pixels(got.content) == engine.generate("rocket", seed=7).array).all()
    described = httpx.get(f"{url}/openapi.json").json()["paths"]["/v1/pictures"]["get"]
    assert {"200", "422", "503", "504"} <= described["responses"].keys() and "image/png" in described["responses"]["200"]["content"]
    assert {"label", "seed"} <= {parameter["name"] for parameter in described["parameters"]}


@pytest.mark.parametrize("asked, words", [
    ({"label": "rokcet"}, "rocket"),
    ({"label": "x" * 201}, "at most 200"),
    ({"label": "red\0apple"}, "NUL"),
    ({"label": "rocket", "seed": -1}, "greater than or equal to 0"),
    ({"label": "rocket", "seed": 2**53}, "less than 9007199254740992"),
    ({"label": "rocket", "steps": 65}, "less than or equal to 64"),
    ({"label": "rocket", "temperature": "nan"}, ""),
    ({"label": "rocket", "batch": 1000}, "not permitted"),
    ({"prompt": "an apple"}, "prompt"),
])
def test_what_cannot_be_asked(url, asked, words):
    before, timed = metric(url, "softdimo_requests_total", status="422"), metric(url, "softdimo_seconds_count")
    refused = httpx.get(f"{url}/v1/pictures", params=asked)
    assert refused.status_code == 422 and words in refused.text, refused.text
    assert metric(url, "softdimo_requests_total", status="422") == before + 1
    assert metric(url, "softdimo_seconds_count") == timed


def test_too_many(url):
    async def load():
        async with httpx.AsyncClient(timeout=60, limits=httpx.Limits(max_connections=100)) as client:
            asked = [client.get(f"{url}/v1/pictures", params={"label": "rocket", "seed": i, "steps": 8}) for i in range(60)]
            return await asyncio.gather(*asked)

    timed = metric(url, "softdimo_seconds_count")
    answers = asyncio.run(load())
    done = {i: answer for i, answer in enumerate(answers) if answer.status_code == 200}
    refused = [answer for answer in answers if answer.status_code == 503]
    assert len(done) + len(refused) == 60 and len(done) >= SLOTS and refused
    assert all(answer.headers["retry-after"] == "1" for answer in refused)
    with softdimo.Engine.open(threads=1) as engine:
        for seed, answer in done.items():
            assert (pixels(answer.content) == engine.generate("rocket", seed=seed, steps=8).array).all()
    assert metric(url, "softdimo_under_way") == 0
    # Who was sent away has waited for nothing.
    assert metric(url, "softdimo_seconds_count") == timed + len(done)


def test_a_failure_of_the_model_is_not_the_client_s(tmp_path):
    model = tmp_path / "model.softdimo.safetensors"
    shutil.copy(softdimo.BUNDLED_MODEL, model)
    with server(SOFTDIMO_MODEL=str(model), SOFTDIMO_THREADS="1") as url:
        assert httpx.get(f"{url}/v1/pictures", params={"label": "dog"}).status_code == 200
        for size in (model.stat().st_size - 4096, 4096):
            os.truncate(model, size)
            failed = httpx.get(f"{url}/v1/pictures", params={"label": "dog", "steps": 2})
            assert failed.status_code == 500 and str(tmp_path) not in failed.text, failed.text
        assert metric(url, "softdimo_requests_total", status="500") == 2
        soon(lambda: metric(url, "softdimo_under_way") == 0)


def test_processes_count_together(tmp_path):
    with server("--workers", "2", SOFTDIMO_THREADS="1", PROMETHEUS_MULTIPROC_DIR=str(tmp_path)) as url:
        for seed in range(8):
            assert httpx.get(f"{url}/v1/pictures", params={"label": "dog", "seed": seed}).status_code == 200
        assert metric(url, "softdimo_requests_total", status="200") == 8


def test_who_goes_away_is_not_computed_for(url):
    gone = metric(url, "softdimo_requests_total", status="499")

    async def leave():
        async with httpx.AsyncClient() as client:
            asked = [asyncio.create_task(client.get(f"{url}/v1/pictures", params=LONG, timeout=60)) for _ in range(SLOTS)]
            await asyncio.sleep(0.2)
            for task in asked:
                task.cancel()
            await asyncio.gather(*asked, return_exceptions=True)

    asyncio.run(leave())
    soon(lambda: metric(url, "softdimo_under_way") == 0)
    assert metric(url, "softdimo_requests_total", status="499") > gone
    assert httpx.get(f"{url}/v1/pictures", params={"label": "dog"}).status_code == 200


def test_what_takes_too_long_is_given_up():
    with server(SOFTDIMO_TIMEOUT="0.1", SOFTDIMO_THREADS="1") as url:
        late = httpx.get(f"{url}/v1/pictures", params=LONG)
        assert late.status_code == 504 and "0.1 s" in late.text
        soon(lambda: metric(url, "softdimo_under_way") == 0)
        assert httpx.get(f"{url}/v1/pictures", params={"label": "dog"}).status_code in (200, 504)
