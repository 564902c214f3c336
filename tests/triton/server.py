"""A Triton server with a model repository of its own, and what its clients are."""

import json
import os
import shutil
import signal
import socket
import subprocess
import tempfile
import time
import urllib.error
import urllib.request

import numpy
import tritonclient.grpc as grpc

READY_WITHIN = 60  # seconds, on a machine that does other things too
BUNDLED = "emoji-32.softdimo.safetensors"


def free_ports(count):
    """Ports that nobody listens on; all are held until the last is found."""
    sockets = [socket.socket() for _ in range(count)]
    try:
        for each in sockets:
            each.bind(("127.0.0.1", 0))
        return [each.getsockname()[1] for each in sockets]
    finally:
        for each in sockets:
            each.close()


class Repository:
    """A folder of models below a temporary one; gone at the end of a `with`."""

    def __init__(self):
        self.folder = tempfile.mkdtemp(prefix="softdimo-triton-")

    def __enter__(self):
        return self

    def __exit__(self, *_):
        shutil.rmtree(self.folder)

    def add(self, name, config, file, version=1):
        """A model of this configuration; `file`, a path or bytes, becomes its `model.softdimo.safetensors`."""
        place = os.path.join(self.folder, name, str(version))
        os.makedirs(place)
        with open(os.path.join(self.folder, name, "config.pbtxt"), "w") as out:
            out.write(config)
        if isinstance(file, bytes):
            with open(os.path.join(place, "model.softdimo.safetensors"), "wb") as out:
                out.write(file)
        else:
            shutil.copy(file, os.path.join(place, "model.softdimo.safetensors"))


class Server:
    """The server over a repository, ready once it is there; it loads `models`, and others when asked to."""

    def __init__(self, repository, models, options=()):
        self.http_port, self.grpc_port, metrics = free_ports(3)
        self.log_path = os.path.join(tempfile.mkdtemp(prefix="softdimo-triton-log-"), "log")
        command = [
            os.environ["TRITON_SERVER"],
            f"--backend-directory={os.environ['BACKENDS']}",
            f"--model-repository={repository.folder}",
            "--model-control-mode=explicit",
            *[f"--load-model={model}" for model in models],
            "--http-address=127.0.0.1",
            f"--http-port={self.http_port}",
            "--grpc-address=127.0.0.1",
            f"--grpc-port={self.grpc_port}",
            f"--metrics-port={metrics}",
            *options,
        ]
        with open(self.log_path, "wb") as log:
            self.process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=log, stderr=log)
        self.grpc = grpc.InferenceServerClient(f"127.0.0.1:{self.grpc_port}")
        self._wait_until_ready()

    def _wait_until_ready(self):
        until = time.monotonic() + READY_WITHIN
        while time.monotonic() < until and self.process.poll() is None:
            try:
                if self.get("v2/health/ready")[0] == 200:
                    return
            except OSError:
                pass
            time.sleep(0.1)
        self.process.kill()
        raise AssertionError(f"the server is not ready within {READY_WITHIN} s:\n{self.log()}")

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.grpc.close()
        if self.process.poll() is None:
            self.stop()
        shutil.rmtree(os.path.dirname(self.log_path))

    def log(self):
        with open(self.log_path, errors="replace") as log:
            return log.read()

    def stop(self, within=60):
        """SIGTERM; the exit status, negative for a signal."""
        self.process.send_signal(signal.SIGTERM)
        try:
            return self.process.wait(within)
        except subprocess.TimeoutExpired:
            self.process.kill()
            raise AssertionError(f"the server does not end within {within} s:\n{self.log()}") from None

    def get(self, path):
        """Status and body of a GET."""
        return self._answer(urllib.request.Request(f"http://127.0.0.1:{self.http_port}/{path}"))

    def post(self, model, body):
        """Status and body of an inference over HTTP: KServe v2 without a client of Triton's."""
        url = f"http://127.0.0.1:{self.http_port}/v2/models/{model}/infer"
        return self._answer(urllib.request.Request(url, json.dumps(body).encode()))

    @staticmethod
    def _answer(request):
        try:
            with urllib.request.urlopen(request, timeout=120) as answer:
                return answer.status, answer.read()
        except urllib.error.HTTPError as error:
            with error:
                return error.code, error.read()

    def statistics(self, model):
        """Of its only version."""
        return self.grpc.get_inference_statistics(model, as_json=True)["model_stats"][0]


TYPES = {
    "seed": ("UINT64", numpy.uint64),
    "label": ("BYTES", object),
    "prompt": ("BYTES", object),
    "negative_prompt": ("BYTES", object),
    "class_label": ("INT32", numpy.int32),
    "steps": ("UINT32", numpy.uint32),
    "top_k": ("INT32", numpy.int32),
}


def inputs(batched=True, **columns):
    """Inputs by name: a list each, an element for every picture. Of an array of numpy its own type."""
    made = []
    for name, column in columns.items():
        datatype, dtype = TYPES.get(name, ("FP32", numpy.float32))
        if isinstance(column, numpy.ndarray):
            datatype, dtype = {"int64": "INT64"}[str(column.dtype)], column.dtype
        array = numpy.array(column, dtype=dtype).reshape((-1, 1) if batched else (-1,))
        tensor = grpc.InferInput(name, list(array.shape), datatype)
        tensor.set_data_from_numpy(array)
        made.append(tensor)
    return made
