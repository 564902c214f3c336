"""Pictures over HTTP, from one process and one engine.

    uvicorn fastapi_app:app --port 8000
    curl -s 'http://127.0.0.1:8000/v1/pictures?label=rocket&seed=7' -o rocket.png

- What a request may ask for is bounded (422 says what is wrong). At most SOFTDIMO_SLOTS requests are under way; one more is
  told to come later (503, Retry-After). One that takes longer than SOFTDIMO_TIMEOUT seconds is given up (504).
- A client that goes away cancels its job.
- /metrics is for Prometheus, /healthz for whoever starts it, /docs has the OpenAPI description.

One engine computes one picture at a time, on SOFTDIMO_THREADS threads: for more cores start more processes (`uvicorn --workers N`),
each with places of its own; they share the pages of the model file. /metrics counts for all of them if PROMETHEUS_MULTIPROC_DIR names
an empty folder, else for whichever answers. SOFTDIMO_MODEL names a model (default: the bundled one).
"""
import asyncio
import contextlib
import io
import os
import time
from typing import Annotated

import prometheus_client as prometheus
import prometheus_client.multiprocess
import softdimo
from fastapi import FastAPI, HTTPException, Query, Request, Response
from fastapi.exception_handlers import request_validation_exception_handler
from fastapi.exceptions import RequestValidationError
from pydantic import BaseModel, ConfigDict, Field

SLOTS = int(os.environ.get("SOFTDIMO_SLOTS", 16))
TIMEOUT = float(os.environ.get("SOFTDIMO_TIMEOUT", 30))
THREADS = int(os.environ.get("SOFTDIMO_THREADS", 0))
# Seconds between two looks whether a client is still there.
LOOK = 0.05

REQUESTS = prometheus.Counter("softdimo_requests_total", "Requests for pictures, by their HTTP status.", ["status"])
SECONDS = prometheus.Histogram("softdimo_seconds", "From a request to its picture (status 200), waiting included.")
UNDER_WAY = prometheus.Gauge("softdimo_under_way", "Requests that wait for a picture or compute one.", multiprocess_mode="livesum")


class Picture(BaseModel):
    """What a picture may be asked for. 64 bits of a seed do not fit into every JSON reader's numbers: 53 do."""

    model_config = ConfigDict(extra="forbid")
    label: str | None = Field(None, max_length=200, description="one of /v1/labels")
    prompt: str | None = Field(None, max_length=2000, description="for text-to-image models")
    seed: int = Field(0, ge=0, lt=2**53)
    steps: int | None = Field(None, ge=1, le=64, description="1: one step; more: the multi-step teacher; default: the model's own way")
    temperature: float | None = Field(None, ge=0, le=10)
    top_k: int | None = Field(None, ge=0, le=1_000_000)
    top_p: float | None = Field(None, gt=0, le=1)


@contextlib.asynccontextmanager
async def lifespan(app: FastAPI):
    with softdimo.Engine.open(os.environ.get("SOFTDIMO_MODEL"), threads=THREADS) as engine:
        await asyncio.to_thread(engine.warmup)
        app.state.engine, app.state.under_way = engine, 0
        yield


app = FastAPI(title="Pictures", version=softdimo.__version__, lifespan=lifespan)


@contextlib.contextmanager
def slot():
    """A place among those under way, if there is one."""
    if app.state.under_way >= SLOTS:
        raise HTTPException(503, f"{SLOTS} requests are under way", headers={"Retry-After": "1"})
    app.state.under_way += 1
    try:
        with UNDER_WAY.track_inprogress():
            yield
    finally:
        app.state.under_way -= 1


async def picture_of(asked: Picture, client: Request) -> bytes:
    """The PNG, unless the client goes away or the time is over: both cancel the job."""
    try:
        job = app.state.engine.submit(**asked.model_dump(exclude_none=True))
    except (softdimo.InvalidArgumentError, softdimo.UnknownLabelError, softdimo.UnsupportedError) as why:
        raise HTTPException(422, str(why)) from None
    with job:
        done = asyncio.ensure_future(job)
        try:
            async with asyncio.timeout(TIMEOUT):
                while not done.done():
                    await asyncio.wait([done], timeout=LOOK)
                    if await client.is_disconnected():
                        raise HTTPException(499, "the client is gone")
                return await asyncio.to_thread(png, done.result())
        finally:
            done.cancel()


def png(picture: softdimo.Picture) -> bytes:
    out = io.BytesIO()
    picture.to_pil().save(out, "PNG")
    return out.getvalue()


@contextlib.contextmanager
def counted():
    """Every request is counted under the status it ends with."""
    status, began = 500, time.monotonic()
    try:
        yield
        status = 200
        SECONDS.observe(time.monotonic() - began)
    except HTTPException as why:
        status = why.status_code
        raise
    finally:
        REQUESTS.labels(status).inc()


@app.exception_handler(RequestValidationError)
async def refused(client: Request, why: RequestValidationError) -> Response:
    REQUESTS.labels(422).inc()
    return await request_validation_exception_handler(client, why)


@app.get("/v1/pictures", response_class=Response, responses={200: {"content": {"image/png": {}}}, 503: {}, 504: {}})
async def picture(asked: Annotated[Picture, Query()], client: Request) -> Response:
    """A picture, as PNG. The same request gives the same picture."""
    with counted(), slot():
        try:
            made = await picture_of(asked, client)
        except TimeoutError:
            raise HTTPException(504, f"not done after {TIMEOUT:g} s") from None
        except softdimo.OutOfMemoryError as why:
            raise HTTPException(503, str(why), headers={"Retry-After": "10"}) from None
        return Response(made, media_type="image/png")


@app.get("/v1/labels")
async def labels() -> list[str]:
    """What a model with labels knows; empty for text-to-image models."""
    return app.state.engine.labels


@app.get("/healthz")
async def healthz() -> dict[str, str]:
    return {"status": "ok", "library": softdimo.__version__}


@app.get("/metrics", response_class=Response)
async def metrics() -> Response:
    registry = prometheus.REGISTRY
    if "PROMETHEUS_MULTIPROC_DIR" in os.environ:
        registry = prometheus.CollectorRegistry()
        prometheus.multiprocess.MultiProcessCollector(registry)
    return Response(prometheus.generate_latest(registry), media_type=prometheus.CONTENT_TYPE_LATEST)
