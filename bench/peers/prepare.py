"""Makes what the peers read, from a model file of f32 weights: what PyTorch computes of one input, ONNX files, and OpenVINO's int8.

usage: prepare.py MODEL FOLDER
"""
import os
import sys

os.environ["NNCF_CI"] = "1"  # no telemetry

import nncf
import numpy as np
import openvino as ov
import torch
from safetensors.torch import save_file

import maskbit

# Pictures that quantisation sees.
CALIBRATION = 8


def golden(student, decoder, batch, seed):
    """Inputs, and what PyTorch makes of them, under the names that `softdimo verify` replays."""
    random = torch.Generator().manual_seed(seed)
    tokens = torch.randint(student.codes + 1, (batch, student.positions, student.splits), generator=random)
    classes = torch.randint(student.class_emb.num_embeddings - 1, (batch,), generator=random)
    e_in = student.embed(tokens)
    logits = student(e_in, classes)
    found = logits.argmax(3)
    return {
        "in/tokens": tokens,
        "in/labels": classes,
        "in/drop_label": torch.zeros(batch, dtype=torch.int64),
        "out/e_clean": e_in,
        "out/logits_clean": logits,
        "out/logits": logits.clone(),
        "out/tokens_argmax": found,
        "out/image_hard": decoder(found),
    }


def export(module, inputs, names, result, path):
    # The exporter by tracing needs no further package, and what it writes is what both runtimes are used to.
    torch.onnx.export(module, inputs, path, input_names=names, output_names=[result], opset_version=20, dynamo=False)


def quantize(onnx, samples, path, **how):
    model = ov.convert_model(onnx)
    data = nncf.Dataset(samples)
    ov.save_model(nncf.quantize(model, data, subset_size=len(samples), **how), path, compress_to_fp16=False)


@torch.inference_mode()
def main(model, folder):
    os.makedirs(folder, exist_ok=True)
    path = lambda name: os.path.join(folder, name)
    student, decoder = maskbit.load(model)
    outputs = golden(student, decoder, 1, 0)
    save_file({f"b0/{name}": t.contiguous() for name, t in outputs.items()}, path("golden.safetensors"))
    e_in, classes, tokens = outputs["out/e_clean"], outputs["in/labels"], outputs["out/tokens_argmax"]
    export(student, (e_in, classes), ["e_in", "class_id"], "logits", path("student.onnx"))
    export(decoder, (tokens,), ["tokens"], "image", path("decoder.onnx"))
    several = [golden(student, decoder, 1, 1 + i) for i in range(CALIBRATION)]
    students = [{"e_in": s["out/e_clean"].numpy(), "class_id": s["in/labels"].numpy()} for s in several]
    decoders = [{"tokens": s["out/tokens_argmax"].numpy()} for s in several]
    transformer = {"model_type": nncf.ModelType.TRANSFORMER}
    quantize(path("student.onnx"), students, path("student-int8.xml"), **transformer)
    quantize(path("decoder.onnx"), decoders, path("decoder-int8.xml"))
    assert np.isfinite(outputs["out/image_hard"].numpy()).all()


if __name__ == "__main__":
    main(*sys.argv[1:])
