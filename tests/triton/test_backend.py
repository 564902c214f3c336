"""bindings/triton in a server: pictures are those of the command line, and whatever a client or an operator
gets wrong is told in the library's words and costs nobody else anything."""

import json
import os
import subprocess
import sys
import tempfile
import threading
import time
import unittest

import numpy
import tritonclient.grpc as grpc
import tritonclient.utils.shared_memory as shared_memory
from PIL import Image
from tritonclient.utils import InferenceServerException

from server import BUNDLED, Repository, Server, inputs

BACKENDS, SOFTDIMO, PROMPT_MODEL = (os.environ[name] for name in ("BACKENDS", "SOFTDIMO", "PROMPT_MODEL"))
EXAMPLE = os.path.join(BACKENDS, "models", "emoji-32")
MODEL = os.path.join(EXAMPLE, "1", BUNDLED)
LONG = 10000  # steps: minutes
SOON = 20  # seconds in which what is cancelled must end, on a machine that does other things too

# One picture at a time, and requests of any length.
SLOW = """
backend: "softdimo"
max_batch_size: 4
parameters { key: "max_steps", value: { string_value: "10000" } }
parameters { key: "threads", value: { string_value: "1" } }
"""
# No batch, and only what is named: a signed seed and a label.
PLAIN = """
backend: "softdimo"
input [ { name: "seed", data_type: TYPE_INT64, dims: [ 1 ] },
        { name: "label", data_type: TYPE_STRING, dims: [ 1 ], optional: true } ]
output [ { name: "image", data_type: TYPE_UINT8, dims: [ 32, 32, 3 ] } ]
"""
QUEUE = SLOW + "dynamic_batching { default_queue_policy { max_queue_size: 1 } }\n"
TWO = SLOW + "instance_group [ { kind: KIND_CPU, count: 2 } ]\n"
MEMORY = SLOW + 'parameters { key: "memory_mode", value: { string_value: "fast" } }\n'


def parameter(name, value):
    return f'backend: "softdimo"\nparameters {{ key: "{name}", value: {{ string_value: "{value}" }} }}\n'


# Configurations that are refused, and the words.
REFUSED = {
    "colour": (parameter("colour", "red"), r"parameter 'colour': expected one of .*threads.*"),
    "threads": (
        parameter("threads", "-1"),
        r"parameter 'threads': expected a whole number of 0 or more, found '-1'",
    ),
    "many-threads": (parameter("threads", "257"), r"threads: expected .*257"),
    "mode": (
        parameter("memory_mode", "big"),
        r"parameter 'memory_mode': expected one of fast, lean, found 'big'",
    ),
    "provider": (parameter("provider", "abacus"), r"abacus"),
    "above": (
        parameter("model", "../../emoji-32/1/" + BUNDLED),
        r"parameter 'model': expected a file below the folder",
    ),
    "absolute": (parameter("model", "/etc/passwd"), r"parameter 'model': expected a file below the folder"),
    "missing": (parameter("model", "other.safetensors"), r"other\.safetensors"),
    "work": (parameter("work_limit", "1"), r"work_limit|work limit|multiply-adds"),
    "memory": (parameter("memory_limit", "1000"), r"memory_limit|memory limit"),
    "gpu": ('backend: "softdimo"\ninstance_group [ { kind: KIND_GPU, count: 1 } ]\n', r"KIND_GPU"),
    "size": (
        PLAIN.replace("32, 32, 3", "16, 16, 3"),
        r"output 'image': expected TYPE_UINT8 \[32,32,3\], found TYPE_UINT8 \[16,16,3\]",
    ),
    "type": (
        PLAIN.replace("TYPE_INT64", "TYPE_FP32"),
        r"input 'seed': expected TYPE_UINT64 \[1\], found TYPE_FP32 \[1\]",
    ),
    "name": (PLAIN.replace('"label"', '"prompt"'), r"input 'prompt': expected one of seed, .*label"),
    "unseeded": (
        PLAIN.replace('"seed"', '"class_label"').replace("INT64", "INT32"),
        r"expected 'seed' among them",
    ),
    "output": (PLAIN.replace('"image"', '"picture"'), r"output 'picture': expected one of image, report"),
}


def setUpModule():
    global repository, server
    repository = Repository()
    unittest.addModuleCleanup(repository.__exit__)
    with open(os.path.join(EXAMPLE, "config.pbtxt")) as config:
        repository.add("emoji-32", config.read(), MODEL)
    # The example names its file.
    os.rename(
        f"{repository.folder}/emoji-32/1/model.softdimo.safetensors",
        f"{repository.folder}/emoji-32/1/{BUNDLED}",
    )
    for name, config in {"slow": SLOW, "plain": PLAIN, "queue": QUEUE, "two": TWO, "fast": MEMORY}.items():
        repository.add(name, config, MODEL)
    repository.add("prompt", SLOW, PROMPT_MODEL)
    with open(MODEL, "rb") as file:
        repository.add("corrupt", SLOW, file.read()[:-1000])
    repository.add("empty", SLOW, b"")
    for name, (config, _) in REFUSED.items():
        repository.add(name, config, MODEL)
    server = Server(repository, ["emoji-32", "slow", "plain", "queue", "two", "fast", "prompt"])
    unittest.addModuleCleanup(server.__exit__)


expected_pictures = {}


def expected(label, seed, model=MODEL, what="--label", steps=0):
    """The pixels of the command line's picture."""
    key = (label, seed, model, what, steps)
    if key not in expected_pictures:
        with tempfile.TemporaryDirectory() as folder:
            file = os.path.join(folder, "picture.png")
            ort = os.path.join(BACKENDS, "softdimo", "libonnxruntime.so")
            subprocess.run(
                [
                    SOFTDIMO,
                    "generate",
                    "--model",
                    model,
                    what,
                    label,
                    "--seed",
                    str(seed),
                    "--steps",
                    str(steps),
                    "--enlarge",
                    "1",
                    "--ort-library",
                    ort,
                    "-o",
                    file,
                ],
                check=True,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
            )
            with Image.open(file) as image:
                expected_pictures[key] = numpy.asarray(
                    image.convert("RGBA" if model == PROMPT_MODEL else "RGB")
                )
    return expected_pictures[key]


def infer(model, outputs=("image",), batched=True, **columns):
    wanted = [grpc.InferRequestedOutput(name) for name in outputs]
    return server.grpc.infer(model, inputs(batched, **columns), outputs=wanted, client_timeout=120)


class Asynchronous:
    """A request under way."""

    def __init__(self, model, timeout=None, **columns):
        self.done, self.result, self.error = threading.Event(), None, None
        self.call = server.grpc.async_infer(
            model,
            inputs(**columns),
            self._ended,
            timeout=timeout,
            outputs=[grpc.InferRequestedOutput("image")],
        )

    def _ended(self, result, error):
        self.result, self.error = result, error
        self.done.set()

    def image(self):
        assert self.done.wait(120), "no answer"
        if self.error is not None:
            raise self.error
        return self.result.as_numpy("image")


class Backend(unittest.TestCase):
    maxDiff = None

    def assert_pictures(self, images, wanted):
        self.assertEqual(images.dtype, numpy.uint8)
        numpy.testing.assert_array_equal(images, numpy.stack(wanted))

    def refused(self, words, model="emoji-32", **columns):
        """The request is refused, with these words, a pattern."""
        with self.assertRaises(InferenceServerException) as caught:
            infer(model, **columns)
        self.assertRegex(caught.exception.message(), words)
        self.assertEqual(caught.exception.status(), "StatusCode.INVALID_ARGUMENT")

    def failed(self, words, model="emoji-32", **columns):
        """The same, by the backend: the server counts it."""
        before = failures(model)
        self.refused(words, model, **columns)
        wait_for(lambda: failures(model) - before, lambda count: count == 1)


def failures(model):
    return int(server.statistics(model)["inference_stats"]["fail"].get("count", 0))


class Pictures(Backend):
    def test_grpc(self):
        result = infer("emoji-32", ("image", "report"), label=["red apple"], seed=[7])
        self.assert_pictures(result.as_numpy("image"), [expected("red apple", 7)])
        report = json.loads(result.as_numpy("report")[0][0])
        self.assertEqual((report["seed"], report["labels"], report["model"]), (7, ["red apple"], "emoji-32"))

    def test_http_in_json(self):
        body = {
            "inputs": [
                {"name": "label", "datatype": "BYTES", "shape": [1, 1], "data": ["rocket"]},
                {"name": "seed", "datatype": "UINT64", "shape": [1, 1], "data": [2**64 - 1]},
            ],
            "outputs": [{"name": "image"}],
        }
        status, answer = server.post("emoji-32", body)
        self.assertEqual(status, 200, answer)
        (image,) = json.loads(answer)["outputs"]
        self.assertEqual((image["datatype"], image["shape"]), ("UINT8", [1, 32, 32, 3]))
        self.assert_pictures(
            numpy.array(image["data"], numpy.uint8).reshape(1, 32, 32, 3), [expected("rocket", 2**64 - 1)]
        )

    def test_http_in_binary(self):
        body = {
            "inputs": [
                {"name": "seed", "datatype": "UINT64", "shape": [1, 1], "data": [3]},
                {"name": "label", "datatype": "BYTES", "shape": [1, 1], "data": ["cat"]},
            ],
            "outputs": [{"name": "image", "parameters": {"binary_data": True}}],
        }
        status, answer = server.post("emoji-32", body)
        self.assertEqual(status, 200, answer)
        pixels = numpy.frombuffer(answer[-32 * 32 * 3 :], numpy.uint8).reshape(1, 32, 32, 3)
        self.assert_pictures(pixels, [expected("cat", 3)])

    def test_batch(self):
        labels, seeds = ["red apple", "rocket", "cat", "red apple"], [7, 1, 3, 8]
        images = infer("emoji-32", label=labels, seed=seeds).as_numpy("image")
        self.assert_pictures(images, [expected(label, seed) for label, seed in zip(labels, seeds)])

    def test_class_label_and_no_label(self):
        apple = json.loads(
            infer("emoji-32", ("report",), label=["red apple"], seed=[7]).as_numpy("report")[0][0]
        )
        images = infer("emoji-32", class_label=apple["classes"], seed=[7]).as_numpy("image")
        self.assert_pictures(images, [expected("red apple", 7)])
        self.assertFalse(numpy.array_equal(infer("emoji-32", seed=[7]).as_numpy("image"), images))

    def test_steps_and_sampling(self):
        images = infer("emoji-32", label=["cat", "cat"], seed=[5, 5], steps=[0, 4]).as_numpy("image")
        self.assert_pictures(images, [expected("cat", 5), expected("cat", 5, steps=4)])
        names = {"temperature": 1.5, "top_p": 0.5, "top_k": 3, "mask_ratio": 0.25, "sigma": 0.125}
        columns = {name: [value] for name, value in names.items()}
        report = infer("emoji-32", ("report",), label=["cat"], seed=[5], **columns).as_numpy("report")[0][0]
        report = json.loads(report)
        self.assertEqual({name: report[name] for name in names}, names)
        columns = {"guidance_scale": [2.0], "randomize_temperature": [4.0]}
        report = infer("emoji-32", ("report",), label=["cat"], seed=[5], steps=[2], **columns).as_numpy(
            "report"
        )[0][0]
        self.assertEqual([json.loads(report)[name] for name in columns], [2.0, 4.0])

    def test_without_a_batch(self):
        image = infer("plain", batched=False, label=["cat"], seed=numpy.array([3])).as_numpy("image")
        numpy.testing.assert_array_equal(image, expected("cat", 3))

    def test_prompt_and_alpha(self):
        prompts = ["a red apple", "ein Apfel", "a red apple"]
        images = infer("prompt", prompt=prompts, seed=[1, 1, 2]).as_numpy("image")
        self.assertEqual(images.shape, (3, 32, 32, 4))
        self.assert_pictures(
            images, [expected(p, s, PROMPT_MODEL, "--prompt") for p, s in zip(prompts, [1, 1, 2])]
        )
        metadata = server.grpc.get_model_metadata("prompt", as_json=True)
        self.assertTrue(
            {"prompt", "negative_prompt", "aesthetic_score"} <= {i["name"] for i in metadata["inputs"]}
        )

    def test_memory_mode(self):
        self.assert_pictures(infer("fast", label=["cat"], seed=[3]).as_numpy("image"), [expected("cat", 3)])

    def test_shared_memory(self):
        size = 2 * 32 * 32 * 3
        region = shared_memory.create_shared_memory_region("pictures", f"/softdimo-{os.getpid()}", size)
        try:
            server.grpc.register_system_shared_memory("pictures", f"/softdimo-{os.getpid()}", size)
            output = grpc.InferRequestedOutput("image")
            output.set_shared_memory("pictures", size)
            answer = server.grpc.infer(
                "emoji-32", inputs(label=["cat", "rocket"], seed=[3, 1]), outputs=[output]
            )
            self.assertEqual(b"".join(answer.get_response().raw_output_contents), b"")
            images = shared_memory.get_contents_as_numpy(region, numpy.uint8, [2, 32, 32, 3])
            self.assert_pictures(images, [expected("cat", 3), expected("rocket", 1)])
            server.grpc.unregister_system_shared_memory("pictures")
        finally:
            shared_memory.destroy_shared_memory_region(region)

    def test_completed_configuration(self):
        config = server.grpc.get_model_config("emoji-32", as_json=True)["config"]
        self.assertEqual([o["name"] for o in config["output"]], ["image", "report"])
        required = [i["name"] for i in config["input"] if not i.get("optional")]
        self.assertEqual(required, ["seed"])
        self.assertEqual(len({i["name"] for i in config["input"]}), len(config["input"]))
        config = server.grpc.get_model_config("plain", as_json=True)["config"]
        self.assertEqual([i["name"] for i in config["input"]], ["seed", "label"])
        self.assertEqual([(g["kind"], g["count"]) for g in config["instance_group"]], [("KIND_CPU", 1)])


class Refusals(Backend):
    def setUp(self):
        """The server counts a failure after it has answered: those of the test before are counted by now."""
        super().setUp()
        for model in ("emoji-32", "plain"):
            seen = [failures(model)]
            wait_for(lambda: seen.append(failures(model)), lambda _: len(seen) > 10 and len(set(seen[-10:])) == 1)

    def test_the_librarys_words(self):
        one = {"seed": [1]}
        for words, columns in {
            r"label 'red aple'.*red apple": {"label": ["red aple"]},
            r"request\.label: expected text without NUL": {"label": ["cat\0dog"]},
            r"request\.label.*UTF-8": {"label": [b"\xff\xfe"]},
            r"label": {"label": [""]},
            r"class: expected 0 to 181 .*, found 400": {"class_label": [400]},
            r"class.*label": {"class_label": [1], "label": ["cat"]},
            r"temperature": {"temperature": [float("nan")]},
            r"top_p.*1\.5": {"top_p": [1.5]},
            r"sigma": {"sigma": [float("inf")]},
            r"mask_ratio.*-0\.5": {"mask_ratio": [-0.5]},
            r"top_k.*-7": {"top_k": [-7]},
            r"steps: expected at most 64 \(max_steps\), found 65": {"steps": [65]},
            r"input 'label': expected at most 4096 bytes": {"label": ["a" * 4097]},
        }.items():
            with self.subTest(words=words):
                self.failed(words, **one, **columns)
        self.failed("seed: expected 0 or more, found -1", "plain", batched=False, seed=numpy.array([-1]))

    def test_what_the_configuration_has_not(self):
        self.refused("steps", "plain", batched=False, seed=numpy.array([1]), steps=[2])
        self.refused("prompt", prompt=["cat"], seed=[1])
        self.refused("seed|expected", label=["cat"])
        self.refused("16", label=["cat"] * 17, seed=range(17))
        self.refused("batch|shape", label=["cat"] * 2, seed=[1])
        self.refused("shape|elements", "plain", batched=False, seed=numpy.array([1, 2]))
        self.refused("output", outputs=("picture",), label=["cat"], seed=[1])

    def test_http_status(self):
        body = {
            "inputs": [
                {"name": "label", "datatype": "BYTES", "shape": [1, 1], "data": ["red aple"]},
                {"name": "seed", "datatype": "UINT64", "shape": [1, 1], "data": [7]},
            ]
        }
        status, answer = server.post("emoji-32", body)
        self.assertEqual(status, 400)
        self.assertRegex(json.loads(answer)["error"], "red apple")

    def test_a_bad_picture_beside_good_ones(self):
        """A request has one answer, and so its good pictures go with the bad one; the words say which it is."""
        self.failed(r"picture 1: .*red apple", label=["cat", "red aple", "cat"], seed=[1, 2, 3])

    def test_a_bad_request_beside_good_ones(self):
        """While the instance is busy, others are put into one batch; of it the bad one fails alone."""
        before, failed = server.statistics("emoji-32"), failures("emoji-32")
        busy = Asynchronous("emoji-32", label=["cat"] * 2, seed=[1, 2], steps=[64, 64])
        good = [Asynchronous("emoji-32", label=["rocket"], seed=[seed]) for seed in (1, 2)]
        bad = Asynchronous("emoji-32", label=["red aple"], seed=[1])
        good.append(Asynchronous("emoji-32", label=["rocket"], seed=[3]))
        busy.image()
        for seed, request in zip((1, 2, 3), good):
            self.assert_pictures(request.image(), [expected("rocket", seed)])
        with self.assertRaisesRegex(InferenceServerException, "red apple"):
            bad.image()
        after = wait_for(
            lambda: server.statistics("emoji-32"), lambda s: inferences(s) >= inferences(before) + 5
        )
        self.assertEqual(inferences(after) - inferences(before), 5)
        self.assertEqual(executions(after) - executions(before), 2)
        wait_for(lambda: failures("emoji-32") - failed, lambda count: count == 1)

    def test_a_full_queue(self):
        busy = Asynchronous("queue", label=["cat"], seed=[1], steps=[LONG])
        self.assertFalse(busy.done.wait(1))
        others = [Asynchronous("queue", label=["cat"], seed=[seed]) for seed in range(4)]
        refused = [r for r in others if r.done.wait(2) and r.error is not None]
        busy.call.cancel()
        self.assertEqual(len(refused), 3)
        for request in refused:
            self.assertEqual(request.error.status(), "StatusCode.UNAVAILABLE")
        (waited,) = [r for r in others if r not in refused]
        waited.image()


def inferences(statistics):
    return int(statistics.get("inference_count", 0))


def executions(statistics):
    return int(statistics.get("execution_count", 0))


def wait_for(look, fine, within=SOON):
    """What `look` finds once it is fine."""
    until = time.monotonic() + within
    while True:
        found = look()
        if fine(found):
            return found
        if time.monotonic() > until:
            raise AssertionError(f"not within {within} s: {found}")
        time.sleep(0.05)


class Endings(Backend):
    def setUp(self):
        infer("slow", label=["cat"], seed=[1])  # nothing is left of what came before

    def busy(self, **more):
        request = Asynchronous("slow", label=["cat"] * 2, seed=[1, 2], steps=[LONG] * 2, **more)
        self.assertFalse(request.done.wait(1))
        return request

    def assert_free(self):
        """The only instance makes the next picture soon."""
        began = time.monotonic()
        self.assert_pictures(infer("slow", label=["cat"], seed=[1]).as_numpy("image"), [expected("cat", 1)])
        self.assertLess(time.monotonic() - began, SOON)

    def test_cancelled_over_grpc(self):
        request = self.busy()
        request.call.cancel()
        self.assert_free()
        self.assertTrue(request.done.wait(SOON))
        self.assertIn("CANCELLED", str(request.error.status()))

    def test_a_client_that_is_gone(self):
        channel = grpc.InferenceServerClient(f"127.0.0.1:{server.grpc_port}")
        channel.async_infer("slow", inputs(label=["cat"], seed=[1], steps=[LONG]), lambda result, error: None)
        time.sleep(1)
        channel.close()
        self.assert_free()

    def test_timeout(self):
        request = self.busy(timeout=1_500_000)
        with self.assertRaisesRegex(
            InferenceServerException, "timeout: expected the pictures within 1500000 microsec.*0 of 2"
        ):
            request.image()
        self.assertEqual(request.error.status(), "StatusCode.UNAVAILABLE")
        self.assert_free()

    def test_timeout_over_http(self):
        body = {
            "parameters": {"timeout": 500_000},
            "inputs": [
                {"name": "label", "datatype": "BYTES", "shape": [1, 1], "data": ["cat"]},
                {"name": "seed", "datatype": "UINT64", "shape": [1, 1], "data": [1]},
                {"name": "steps", "datatype": "UINT32", "shape": [1, 1], "data": [LONG]},
            ],
        }
        status, answer = server.post("slow", body)
        self.assertEqual(status, 503, answer)
        self.assertRegex(json.loads(answer)["error"], "timeout: expected the pictures within 500000 microsec")
        self.assert_free()

    def test_two_instances(self):
        busy = Asynchronous("two", label=["cat"], seed=[1], steps=[LONG])
        self.assertFalse(busy.done.wait(1))
        self.assert_pictures(infer("two", label=["cat"], seed=[1]).as_numpy("image"), [expected("cat", 1)])
        self.assertFalse(busy.done.is_set())
        busy.call.cancel()

    def test_sigterm(self):
        """What has begun is answered."""
        with Server(repository, ["slow"]) as own:
            answers = []
            own.grpc.async_infer(
                "slow",
                inputs(label=["cat"], seed=[1], steps=[100]),
                lambda result, error: answers.append((result, error)),
            )
            time.sleep(0.3)
            self.assertEqual(answers, [])
            self.assertEqual(own.stop(), 0, own.log())
            wait_for(lambda: answers, len)
            self.assertIsNone(answers[0][1])
            self.assert_pictures(answers[0][0].as_numpy("image"), [expected("cat", 1, steps=100)])


class Statistics(Backend):
    def test_counts(self):
        before, failed = server.statistics("fast"), failures("fast")
        infer("fast", label=["cat"] * 3, seed=[1, 2, 3])
        infer("fast", label=["cat"], seed=[4])
        with self.assertRaises(InferenceServerException):
            infer("fast", label=["no such label"], seed=[4])
        after = wait_for(lambda: server.statistics("fast"), lambda s: executions(s) >= executions(before) + 2)
        self.assertEqual(inferences(after) - inferences(before), 4)
        self.assertEqual(executions(after) - executions(before), 2)
        wait_for(lambda: failures("fast") - failed, lambda count: count == 1)
        sizes = {
            int(batch["batch_size"]): int(batch["compute_infer"]["count"]) for batch in after["batch_stats"]
        }
        self.assertGreaterEqual(sizes[3], 1)
        self.assertGreater(int(after["inference_stats"]["compute_infer"]["ns"]), 1_000_000)


class Loading(Backend):
    def not_loaded(self, name, words):
        with self.assertRaises(InferenceServerException) as caught:
            server.grpc.load_model(name)
        self.assertRegex(caught.exception.message(), words)
        self.assertFalse(server.grpc.is_model_ready(name))

    def test_bad_files(self):
        self.not_loaded("corrupt", r"corrupt/1/model\.softdimo\.safetensors.*expected")
        self.not_loaded("empty", r"empty/1/model\.softdimo\.safetensors")
        self.assert_alive()

    def test_bad_configurations(self):
        for name, (_, words) in REFUSED.items():
            with self.subTest(name):
                self.not_loaded(name, words)
        self.assert_alive()

    def assert_alive(self):
        self.assertIsNone(server.process.poll())
        self.assert_pictures(
            infer("emoji-32", label=["cat"], seed=[1]).as_numpy("image"), [expected("cat", 1)]
        )

    def test_again(self):
        """A model that was unloaded can be loaded again, also as the last of the backend."""
        with Server(repository, ["plain"]) as own:
            for rounds in (1, 2):
                image = own.grpc.infer("plain", inputs(False, label=["cat"], seed=numpy.array([3]))).as_numpy(
                    "image"
                )
                numpy.testing.assert_array_equal(image, expected("cat", 3))
                own.grpc.unload_model("plain")
                wait_for(
                    lambda: own.log().count("successfully unloaded 'plain'"), lambda count: count == rounds
                )
                self.assertFalse(own.grpc.is_model_ready("plain"))
                own.grpc.load_model("plain")
            self.assertEqual(own.stop(), 0)


class Page(Backend):
    """The examples of the backend's README, with the ports of this server."""

    def setUp(self):
        with open(os.path.join(BACKENDS, "softdimo", "README.md")) as page:
            text = page.read()
        self.blocks = text.replace("localhost:8000", f"127.0.0.1:{server.http_port}")
        self.blocks = self.blocks.replace("localhost:8001", f"127.0.0.1:{server.grpc_port}")

    def block(self, start):
        """The fenced block that begins so."""
        _, found = self.blocks.split("```" + start, 1)
        return start.split("\n", 1)[1] + found.split("\n```", 1)[0]

    def test_curl(self):
        """As urllib sends it: curl may not be there."""
        command = self.block("sh\ncurl -s ")
        url, body = command.removeprefix("curl -s ").split(" -d ")
        self.assertEqual(url, f"127.0.0.1:{server.http_port}/v2/models/emoji-32/infer")
        status, answer = server.post("emoji-32", json.loads(body.strip("'")))
        self.assertEqual(status, 200, answer)
        outputs = {output["name"]: output for output in json.loads(answer)["outputs"]}
        self.assertEqual(sorted(outputs), ["image", "report"])
        pixels = numpy.array(outputs["image"]["data"], numpy.uint8).reshape(1, 32, 32, 3)
        self.assert_pictures(pixels, [expected("red apple", 7)])

    def test_python(self):
        code = self.block("python\nimport numpy")
        with tempfile.TemporaryDirectory() as folder:
            subprocess.run([sys.executable, "-c", code], cwd=folder, check=True, timeout=120)
            with Image.open(os.path.join(folder, "apple.png")) as image:
                numpy.testing.assert_array_equal(numpy.asarray(image), expected("red apple", 7))


if __name__ == "__main__":
    unittest.main()
