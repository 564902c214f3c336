"""The peers. Each opens its student and its decoder, and computes logits of (e_in, class_id) and an image of tokens; all are numpy
arrays to whoever calls. Modules are imported by who needs them: a process holds one peer."""
import os


class Torch:
    """Convolutions in the layout that PyTorch recommends for processors. Autocast is left out: it converts the weights anew for
    every picture."""

    def __init__(self, files, threads, dtype="float32", compiled=False):
        if compiled:
            os.environ["TORCHINDUCTOR_FREEZING"] = "1"  # folds and packs weights, as the other runtimes do
        import torch

        import maskbit

        torch.set_num_threads(threads)
        self.torch, self.dtype = torch, getattr(torch, dtype)
        student, decoder = maskbit.load(files.model)
        student, decoder = student.to(self.dtype), decoder.to(self.dtype, memory_format=torch.channels_last)
        if compiled:
            student, decoder = torch.compile(student), torch.compile(decoder)
        self.modules = student, decoder

    def student(self, e_in, class_id):
        with self.torch.inference_mode():
            e_in = self.torch.from_numpy(e_in).to(self.dtype)
            return self.modules[0](e_in, self.torch.from_numpy(class_id)).float().numpy()

    def decoder(self, tokens):
        with self.torch.inference_mode():
            return self.modules[1](self.torch.from_numpy(tokens)).float().numpy()


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

        self.engine = softdimo.Engine.open(files.ours(storage), threads=threads, memory=memory.lower())

    def parts(self):
        """Make a picture: the milliseconds of student and decoder."""
        with self.engine.submit(seed=1) as job:
            networks = job.result().report["network_milliseconds"]
        return networks["student"], networks["decode (hard)"]


# Who, in which precision, and how it is opened.
PEERS = {
    ("PyTorch", "f32"): Torch,
    ("PyTorch", "bf16"): lambda f, n: Torch(f, n, "bfloat16"),
    ("torch.compile", "f32"): lambda f, n: Torch(f, n, compiled=True),
    ("torch.compile", "bf16"): lambda f, n: Torch(f, n, "bfloat16", compiled=True),
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
    ("softdimo", "int8-all LEAN"): lambda f, n: Softdimo(f, n, "int8-all", "LEAN"),
    ("softdimo", "int8-all FAST"): lambda f, n: Softdimo(f, n, "int8-all", "FAST"),
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
