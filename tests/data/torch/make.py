#!/usr/bin/env python3
"""Writes the PyTorch fixtures of the checkpoint tests.

    python3 make.py GENERATOR.safetensors OUT_DIR

GENERATOR.safetensors is tests/data/maskbit/generator.safetensors; OUT_DIR is tests/data. Needs torch only.
With FILE.bin in place of OUT_DIR, the tensors of the first argument are saved to that zip file and nothing else.
"""
import collections
import json
import os
import struct
import sys

import torch

DTYPES = {"F64": torch.float64, "F32": torch.float32, "F16": torch.float16, "BF16": torch.bfloat16,
          "I64": torch.int64, "I32": torch.int32, "I16": torch.int16, "I8": torch.int8, "U8": torch.uint8,
          "BOOL": torch.bool}


def read_safetensors(path):
    with open(path, "rb") as f:
        blob = f.read()
    length = struct.unpack("<Q", blob[:8])[0]
    header = json.loads(blob[8:8 + length])
    header.pop("__metadata__", None)
    data = bytearray(blob[8 + length:])
    tensors = collections.OrderedDict()
    for name, info in header.items():
        begin, end = info["data_offsets"]
        flat = torch.frombuffer(data[begin:end], dtype=DTYPES[info["dtype"]])
        tensors[name] = flat.reshape(info["shape"]).clone()
    return tensors


def write_safetensors(path, tensors):
    header, chunks, at = {}, [], 0
    for name, tensor in tensors.items():
        tensor = tensor.detach().contiguous()
        raw = bytes(tensor.reshape(-1).view(torch.uint8).tolist()) if tensor.numel() else b""
        dtype = next(k for k, v in DTYPES.items() if v == tensor.dtype)
        header[name] = {"dtype": dtype, "shape": list(tensor.shape), "data_offsets": [at, at + len(raw)]}
        chunks.append(raw)
        at += len(raw)
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    with open(path, "wb") as f:
        f.write(struct.pack("<Q", len(text)) + text + b"".join(chunks))


def small_state():
    """Every layout the reader must undo, in one state dict."""
    base = torch.arange(120, dtype=torch.float32) * 0.5 - 7
    state = collections.OrderedDict()
    state["base"] = base
    state["slice"] = base[10:34]  # storage offset, shared storage
    state["matrix"] = base[:24].reshape(4, 6)
    state["transposed"] = base[:24].reshape(4, 6).t()
    state["permuted"] = base.reshape(2, 3, 4, 5).permute(3, 1, 0, 2)
    state["columns"] = base.reshape(10, 12)[:, 3:9:2]
    state["expanded"] = base[5:8].reshape(3, 1).expand(3, 4)
    state["channels_last"] = base.reshape(1, 4, 5, 6).to(memory_format=torch.channels_last)
    state["scalar"] = torch.tensor(2.5)
    state["empty"] = torch.zeros(0, 3)
    state["f64"] = torch.linspace(-1, 1, 7, dtype=torch.float64)
    state["f16"] = torch.linspace(-2, 2, 9).half()
    state["bf16"] = torch.linspace(-2, 2, 9).bfloat16()
    state["bf16.t"] = torch.linspace(-2, 2, 6).bfloat16().reshape(2, 3).t()
    state["i64"] = torch.tensor([[-(2 ** 40), 3], [5, 2 ** 40]])
    state["i32"] = torch.tensor([-70000, 70000], dtype=torch.int32)
    state["i16"] = torch.tensor([-300, 300], dtype=torch.int16)
    state["i8"] = torch.tensor([-128, 127], dtype=torch.int8)
    state["u8"] = torch.tensor([[0, 255], [1, 2]], dtype=torch.uint8).t()
    state["bool"] = torch.tensor([True, False, True])
    state["parameter"] = torch.nn.Parameter(base[40:46].reshape(2, 3))
    state["été.重み"] = base[1:3].clone()
    return state


def main():
    source, out = sys.argv[1:]
    generator = read_safetensors(source)
    if out.endswith(".bin"):
        torch.save(generator, out)
        return
    torch.save(generator, os.path.join(out, "maskbit", "generator.bin"))
    torch.save(generator, os.path.join(out, "maskbit", "generator.legacy.bin"),
               _use_new_zipfile_serialization=False)

    torch.manual_seed(0)
    state = small_state()
    model = torch.nn.Linear(3, 2)
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3)
    model(torch.ones(1, 3)).sum().backward()
    optimizer.step()
    nested = {"epoch": 3, "optimizer": optimizer.state_dict(), "model_state_dict": state, "best": None,
              "args": {"name": "small", "lr": 1e-3, "betas": (0.9, 0.95), "tags": ["a", "b"], "seen": {1, 2},
                       "big": 2 ** 70, "raw": b"\x00\xff", "shape": torch.Size([2, 3]), "dtype": torch.bfloat16}}
    folder = os.path.join(out, "torch")
    write_safetensors(os.path.join(folder, "small.safetensors"), state)
    for protocol in (2, 4, 5):
        for legacy in (False, True):
            name = f"small.proto{protocol}{'.legacy' if legacy else ''}.pth"
            torch.save(nested, os.path.join(folder, name), pickle_protocol=protocol,
                       _use_new_zipfile_serialization=not legacy)
    # A bare state dict as nn.Module.state_dict() makes it: an OrderedDict with a _metadata attribute.
    torch.save(model.state_dict(), os.path.join(folder, "linear.pth"))
    write_safetensors(os.path.join(folder, "linear.safetensors"), model.state_dict())
    # A whole module: classes, not tensors, at the top.
    torch.save(model, os.path.join(folder, "module.pth"))
    torch.save(torch.ones(2, dtype=torch.complex64), os.path.join(folder, "bare_tensor.pth"))


main()
