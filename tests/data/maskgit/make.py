#!/usr/bin/env python3
"""Writes the MaskGIT fixture: two tiny networks with random weights, and what the official code computes.
The weights are f16 numbers, so that f16 files hold them exactly; everything is computed in f32.

    PYTHONPATH=DIMO python3 make.py OUT_DIR

DIMO is a checkout of yuanzhi-zhu/DiMO; OUT_DIR is tests/data/maskgit. Needs torch, einops, safetensors,
pytorch_lightning.
"""
import json
import os
import sys

import torch
from MaskGit_src.Network.Taming.models.vqgan import VQModel
from MaskGit_src.Network.transformer import MaskTransformer
from safetensors.torch import save_file

CONFIG = {
    "img_size": 64, "hidden_dim": 32, "codebook_size": 48, "depth": 2, "heads": 4, "mlp_dim": 64, "nclass": 7,
    "n_embed": 48, "embed_dim": 12,
    "ddconfig": {"double_z": False, "z_channels": 16, "resolution": 8, "in_channels": 3, "out_ch": 3, "ch": 32,
                 "ch_mult": [2, 1], "num_res_blocks": 1, "attn_resolutions": [4], "dropout": 0.0},
}
GENERATOR = ("img_size", "hidden_dim", "codebook_size", "depth", "heads", "mlp_dim", "nclass")
TARGET_SCALE, RATE = 25.0, 0.2


def randomize(network, generator):
    """Norms near 1, kernels of unit gain, everything else small but not zero: no term may hide."""
    for name, p in network.named_parameters():
        noise = torch.randn(p.shape, generator=generator)
        with torch.no_grad():
            if p.dim() == 1:
                p.copy_(0.2 * noise + (1.0 if name.endswith("weight") else 0.0))
            elif name in ("tok_emb.weight", "quantize.embedding.weight"):
                p.copy_(0.7 * noise)
            elif name in ("bias", "pos_emb"):
                p.copy_(0.5 * noise)
            else:
                p.copy_(noise * p[0].numel() ** -0.5)
            p.copy_(p.half())
    return network.eval()


def gap(scores):
    """Distance between the best and the second best."""
    best = scores.topk(2, dim=-1).values
    return (best[..., 0] - best[..., 1]).min().item()


def batch(model, vae, b, sigma, generator):
    v, n, d, side = model.codebook_size, model.num_visual_tokens, CONFIG["hidden_dim"], model.patch_size
    normal = lambda *shape: torch.randn(shape, generator=generator)
    integers = lambda high, *shape: torch.randint(high, shape, generator=generator)
    masked = torch.rand((b, side, side), generator=generator) < 0.6
    given = {
        "tokens": torch.where(masked, torch.full((), v), integers(v, b, side, side)),
        "labels": integers(model.nclass, b),
        "drop_label": (torch.arange(b) == b - 1).long(),
        "noise": normal(b, n, d),
        "sigma": torch.tensor([sigma]),
        "target": TARGET_SCALE * normal(b, 3, 8, 8),
        "enc_image": (0.6 * normal(b, 3, 8, 8)).clamp(-1, 1),
    }
    dropped = given["drop_label"].bool()
    codebook, embedding = vae.quantize.embedding.weight, model.tok_emb.weight

    def logits(e_in=None, drop=dropped):
        """The official forward, with e_in in place of the image tokens' embeddings."""
        inject = lambda module, args, out: out if e_in is None else torch.cat([e_in, out[:, n:]], 1)
        hook = model.tok_emb.register_forward_hook(inject)
        try:
            return model(given["tokens"], given["labels"].clone(), drop)
        finally:
            hook.remove()

    def codes(p):
        return (p @ codebook).reshape(b, side, side, -1).permute(0, 3, 1, 2)

    def picture(e_in):
        return vae.decode(codes(logits(e_in)[..., :v].softmax(-1)))

    e_clean = embedding[given["tokens"].view(b, -1)]
    e_in = sigma * given["noise"] + (1 - sigma ** 2) ** 0.5 * e_clean
    z = logits(e_in)
    p, with_mask = z[..., :v].softmax(-1), z.softmax(-1)
    raw = z.argmax(-1)
    hard = raw.clamp(0, v - 1).view(b, side, side)
    enc_z = vae.quant_conv(vae.encoder(given["enc_image"]))
    indices = vae.encode(given["enc_image"])[2][2].view(b, side, side)
    distances = torch.cdist(enc_z.permute(0, 2, 3, 1).reshape(-1, codebook.shape[1]), codebook) ** 2
    out = {
        "e_clean": e_clean,
        "e_in": e_in,
        "class_embedding": embedding[torch.where(dropped, model.nclass, given["labels"]) + v + 1][:, None],
        "logits_clean": logits(),
        "logits": z,
        "logits_uncond": logits(e_in, torch.ones(b, dtype=torch.bool)),
        "soft_emb_decoder": codes(p),
        "soft_emb_decoder_trunc": codes(with_mask[..., :v]),
        "soft_emb_generator": p @ embedding[:v],
        "soft_emb_generator_withmask": with_mask @ embedding[:v + 1],
        "logits_from_soft_emb_generator": logits(p @ embedding[:v]),
        "tokens_argmax_raw": raw,
        "tokens_argmax": hard,
        "image_hard": vae.decode_code(hard),
        "image_soft": vae.decode(codes(p)),
        "image_soft_trunc": vae.decode(codes(with_mask[..., :v])),
        "enc_z": enc_z,
        "enc_indices": indices,
        "enc_recon": vae.decode_code(indices),
    }
    e, rewards = e_in.detach(), []
    for k in range(4):
        e = e.detach().requires_grad_(True)
        image = picture(e)
        reward = (image * given["target"]).mean()
        gradient, = torch.autograd.grad(reward, e)
        rewards.append(reward)
        out[f"tteo/e_in_{k}"] = e
        if k < 3:
            out[f"tteo/grad_{k}"] = gradient
        if k == 0:
            out["reward"], out["grad_e_in"] = reward.view(1), gradient
        e = e + RATE * gradient
    out["tteo/image_final"], out["tteo/reward"] = image, torch.stack(rewards)

    moved = [(out[f"tteo/e_in_{k}"] - e_in).norm() / e_in.norm() for k in (1, 2, 3)]
    print(f"B={b}: gaps {gap(z):.1e}, codes {gap(z[..., :v]):.1e}, encoder {gap(-distances):.1e};",
          f"mask is best at {(raw == v).sum().item()} of {b * n}; rewards {[round(r.item(), 3) for r in rewards]};",
          f"e_in moves by {[round(m.item(), 3) for m in moved]}; pictures {out['image_hard'].std():.2f},"
          f" p_max {p.max(-1).values.mean():.2f}")
    tensors = {f"in/{k}": t for k, t in given.items()} | {f"out/{k}": t for k, t in out.items()}
    return {k: t.detach().contiguous().clone() for k, t in tensors.items()}


def main(folder):
    torch.set_num_threads(1)
    generator = torch.Generator().manual_seed(2202)
    model = randomize(MaskTransformer(dropout=0.1, **{k: CONFIG[k] for k in GENERATOR}), generator)
    with torch.no_grad():
        # So that the mask is the most probable token somewhere.
        model.bias[[2, 9], model.codebook_size] = 14.0
    vae = VQModel(CONFIG["ddconfig"], None, CONFIG["n_embed"], CONFIG["embed_dim"])
    vae = randomize(vae, generator)
    golden = {}
    for name, b, sigma in [("b0", 2, 0.0), ("b1", 3, 0.1)]:
        golden |= {f"{name}/{k}": t for k, t in batch(model, vae, b, sigma, generator).items()}
    path = lambda name: os.path.join(folder, name)
    half = lambda network, prefix="": {prefix + name: t.half() for name, t in network.state_dict().items()}
    metadata = {"config": json.dumps(CONFIG)}
    save_file(half(model), path("generator.safetensors"), metadata)
    save_file(golden, path("golden.safetensors"), metadata)
    # The layouts of the published files: a student, a teacher out of distributed training, a VQGAN.
    torch.save(half(model), path("pytorch_model.bin"))
    teacher = {"iter": 3, "global_epoch": 1, "model_state_dict": half(model, "module."),
               "optimizer_state_dict": {"state": {0: {"exp_avg": torch.ones(2)}}, "param_groups": [{"lr": 1e-4}]}}
    torch.save(teacher, path("MaskGIT.pth"))
    loss = {"loss.perceptual_loss.lin0.model.1.weight": torch.ones(1, 2, 1, 1), "loss.logvar": torch.zeros(())}
    torch.save({"epoch": 2, "global_step": 9, "state_dict": half(vae) | loss}, path("last.ckpt"))


if __name__ == "__main__":
    main(sys.argv[1])
