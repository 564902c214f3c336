"""The peers. Each opens its student and its decoder, and computes logits of (e_in, class_id) and an image of tokens; all are numpy
arrays to whoever calls. Modules are imported by who needs them: a process holds one peer."""
import os


class Torch:
    def __init__(self, files, threads, dtype=None, autocast=False, compiled=False, channels_last=False):
        if compiled:
            os.environ["TORCHINDUCTOR_FREEZING"] = "1"  # folds and packs weights, as the other runtimes do
        import torch

        import maskbit

        torch.set_num_threads(threads)
        self.torch = torch
        self.autocast = autocast
        student, decoder = maskbit.load(files.model)
        if channels_last:
            decoder = decoder.to(memory_format=torch.channels_last)
        if dtype and not autocast:
            student, decoder = student.to(getattr(torch, dtype)), decoder.to(getattr(torch, dtype))
        self.dtype = getattr(torch, dtype or "float32")
        if compiled:
            student, decoder = torch.compile(student), torch.compile(decoder)
        self.modules = student, decoder

    def _run(self, module, *inputs):
        torch = self.torch
        with torch.inference_mode(), torch.autocast("cpu", self.dtype, enabled=self.autocast):
            return module(*map(torch.from_numpy, inputs)).float().numpy()

    def student(self, e_in, class_id):
        torch = self.torch
        kind = torch.float32 if self.autocast else self.dtype
        with torch.inference_mode(), torch.autocast("cpu", self.dtype, enabled=self.autocast):
            logits = self.modules[0](torch.from_numpy(e_in).to(kind), torch.from_numpy(class_id))
            return logits.float().numpy()

    def decoder(self, tokens):
        return self._run(self.modules[1], tokens)


class OnnxRuntime:
    def __init__(self, files, threads):
        import onnxruntime

        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = threads
        # Idle threads would take the processor from the next peer.
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")
        open = lambda name: onnxruntime.InferenceSession(files.at(name), options, providers=["CPUExecutionProvider"])
        self.sessions = open("student.onnx"), open("decoder.onnx")

    def student(self, e_in, class_id):
        return self.sessions[0].run(None, {"e_in": e_in, "class_id": class_id})[0]

    def decoder(self, tokens):
        return self.sessions[1].run(None, {"tokens": tokens})[0]


class OpenVino:
    def __init__(self, files, threads, suffix=".onnx", hint=None):
        import openvino

        settings = {"INFERENCE_NUM_THREADS": threads, "NUM_STREAMS": 1, "PERFORMANCE_HINT": "LATENCY"}
        if hint:
            settings["INFERENCE_PRECISION_HINT"] = hint
        core = openvino.Core()
        open = lambda name: core.compile_model(files.at(name + suffix), "CPU", settings)
        self.models = open("student"), open("decoder")

    def student(self, e_in, class_id):
        return self.models[0]({"e_in": e_in, "class_id": class_id})[0]

    def decoder(self, tokens):
        return self.models[1]({"tokens": tokens})[0]


class Softdimo:
    """The library, through its Python package. It makes whole pictures; its report says what each network took."""

    def __init__(self, files, threads, storage, memory):
        import softdimo

        library = softdimo._native
        modes = {"LEAN": library.SOFTDIMO_MEMORY_LEAN, "FAST": library.SOFTDIMO_MEMORY_FAST}
        self.engine = softdimo.open(files.ours(storage), threads=threads, memory=modes[memory])

    def parts(self):
        """Make a picture: the milliseconds of student and decoder."""
        with self.engine.submit(seed=1) as job:
            job.wait()
            networks = job.report["network_milliseconds"]
            job.picture()
        return networks["student"], networks["decode (hard)"]


# Who, in which precision, and how it is opened.
PEERS = {
    ("PyTorch", "f32"): lambda f, n: Torch(f, n),
    ("PyTorch", "f32, channels last"): lambda f, n: Torch(f, n, channels_last=True),
    ("PyTorch", "bf16"): lambda f, n: Torch(f, n, "bfloat16"),
    ("PyTorch", "bf16, channels last"): lambda f, n: Torch(f, n, "bfloat16", channels_last=True),
    ("PyTorch", "bf16 by autocast"): lambda f, n: Torch(f, n, "bfloat16", autocast=True, channels_last=True),
    ("torch.compile", "f32"): lambda f, n: Torch(f, n, compiled=True, channels_last=True),
    ("torch.compile", "bf16"): lambda f, n: Torch(f, n, "bfloat16", compiled=True, channels_last=True),
    ("ONNX Runtime", "f32"): OnnxRuntime,
    ("OpenVINO", "f32"): lambda f, n: OpenVino(f, n, hint="f32"),
    ("OpenVINO", "bf16"): lambda f, n: OpenVino(f, n, hint="bf16"),
    ("OpenVINO", "int8 (NNCF)"): lambda f, n: OpenVino(f, n, suffix="-int8.xml"),
    ("softdimo", "f32 LEAN"): lambda f, n: Softdimo(f, n, "f32", "LEAN"),
    ("softdimo", "f32 FAST"): lambda f, n: Softdimo(f, n, "f32", "FAST"),
    ("softdimo", "f16 LEAN"): lambda f, n: Softdimo(f, n, "f16", "LEAN"),
    ("softdimo", "f16 FAST"): lambda f, n: Softdimo(f, n, "f16", "FAST"),
    ("softdimo", "int8 LEAN"): lambda f, n: Softdimo(f, n, "int8", "LEAN"),
    ("softdimo", "int8 FAST"): lambda f, n: Softdimo(f, n, "int8", "FAST"),
}
OURS = "softdimo"


class Files:
    """What peers open, below a folder."""

    def __init__(self, folder):
        self.folder = folder
        self.model = self.ours("f32")

    def at(self, name):
        return os.path.join(self.folder, name)

    def ours(self, storage):
        return self.at(f"maskbit-{storage}.softdimo.safetensors")
