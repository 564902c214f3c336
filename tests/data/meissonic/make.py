#!/usr/bin/env python3
"""Writes the Meissonic fixture: two tiny networks with random weights, and what the official code computes.
The weights are f16 numbers, so that f16 files hold them exactly; everything is computed in f32.

    PYTHONPATH=DIMO python3 make.py OUT_DIR          # the fixture
    PYTHONPATH=DIMO python3 make.py --replay FOLDER  # other golden tensors again, and how far they are off

DIMO is a checkout of yuanzhi-zhu/DiMO; OUT_DIR is tests/data/meissonic. Needs torch, diffusers 0.32.2, safetensors,
transformers. FOLDER has meissonic_transformer, meissonic_vqvae and meissonic.golden (.safetensors), and the networks'
sizes in meissonic.json under tiny_config.
"""
import json
import os
import sys

import torch
from diffusers import VQModel
from Meissonic_src.transformer import Transformer2DModel
from safetensors.torch import load_file, save_file

TRANSFORMER = {
    "patch_size": 1, "in_channels": 16, "num_layers": 2, "num_single_layers": 2, "attention_head_dim": 16,
    "num_attention_heads": 2, "joint_attention_dim": 24, "pooled_projection_dim": 32, "guidance_embeds": False,
    "axes_dims_rope": [4, 6, 6], "vocab_size": 56, "codebook_size": 48, "downsample": True, "upsample": True,
}
VQVAE = {
    "in_channels": 3, "out_channels": 3, "down_block_types": ["DownEncoderBlock2D"] * 2,
    "up_block_types": ["UpDecoderBlock2D"] * 2, "block_out_channels": [64, 32], "layers_per_block": 1,
    "act_fn": "silu", "latent_channels": 12, "sample_size": 32, "num_vq_embeddings": 48, "norm_num_groups": 32,
    "vq_embed_dim": None, "scaling_factor": 0.18215, "norm_type": "group", "mid_block_add_attention": False,
    "lookup_from_codebook": True, "force_upcast": True,
}
SIDE, TEXT = 4, 7
TARGET_SCALE, RATE = 60.0, 0.2


def randomize(network, generator):
    """Norms near 1, kernels of unit gain, everything else small but not zero: no term may hide."""
    for name, p in network.named_parameters():
        noise = torch.randn(p.shape, generator=generator)
        with torch.no_grad():
            if p.dim() == 1:
                p.copy_(0.2 * noise + (1.0 if name.endswith("weight") else 0.0))
            elif name in ("embed.embeddings.weight", "quantize.embedding.weight"):
                p.copy_(0.7 * noise)
            elif name == "mlm_layer.conv2.weight":
                p.copy_(2.0 * noise * p[0].numel() ** -0.5)
            elif name == "up_block.upsample.conv.weight":
                p.copy_(noise * p.shape[0] ** -0.5)
            else:
                p.copy_(noise * p[0].numel() ** -0.5)
            p.copy_(p.half())
    return network.eval()


def gap(scores):
    """Distance between the best and the second best."""
    best = scores.topk(2, dim=-1).values
    return (best[..., 0] - best[..., 1]).min().item()


def given(model, vae, side, text, b, sigma, timestep, generator):
    cfg = model.config
    normal = lambda *shape: torch.randn(shape, generator=generator)
    masked = torch.rand((b, side, side), generator=generator) < 0.5
    codes = torch.randint(cfg.codebook_size, (b, side, side), generator=generator)
    pixels = side * 2 ** (len(vae.config.block_out_channels) - 1)
    inner = side // 2 if cfg.downsample else side
    place = torch.arange(inner * inner)
    micro = torch.tensor([1024.0, 768.0, 16.0, 32.0, 5.5]).repeat(b, 1)
    micro[:, 4] += torch.arange(b)
    return {
        "tokens": torch.where(masked, torch.full((), cfg.vocab_size - 1), codes),
        "encoder_hidden_states": normal(b, text, cfg.joint_attention_dim),
        "pooled": normal(b, cfg.pooled_projection_dim),
        "uncond_encoder_hidden_states": normal(1, text, cfg.joint_attention_dim).repeat(b, 1, 1),
        "uncond_pooled": normal(1, cfg.pooled_projection_dim).repeat(b, 1),
        "micro_conds": micro,
        "img_ids": torch.stack([0 * place, place // inner, place % inner], 1).float(),
        "txt_ids": torch.zeros(text, 3),
        "timestep": torch.tensor([timestep]),
        "noise": normal(b, model.inner_dim, side, side),
        "sigma": torch.tensor([sigma]),
        "target": TARGET_SCALE * normal(b, 3, pixels, pixels),
        "enc_image": (0.5 + 0.3 * normal(b, 3, pixels, pixels)).clamp(0, 1),
    }


def batch(model, vae, given):
    b, side = given["tokens"].shape[:2]
    v = model.config.codebook_size
    codebook, embedding = vae.quantize.embedding.weight, model.embed.embeddings.weight
    inner = {}

    def keep(name):
        return lambda module, args, out: inner.__setitem__(name, out)

    def logits(e_in=None, prefix=""):
        """The official forward, with e_in in place of the image tokens' embeddings."""
        hooks = [model.embed.register_forward_hook(lambda module, args, out: out if e_in is None else e_in),
                 model.cond_embed.register_forward_hook(keep("pooled_after_cond_embed")),
                 model.cond_embed.register_forward_pre_hook(
                     lambda module, args: inner.__setitem__("micro_cond_embeds", args[0][:, -1280:])),
                 model.time_text_embed.time_proj.register_forward_hook(keep("time_proj")),
                 model.time_text_embed.register_forward_hook(keep("temb")),
                 model.pos_embed.register_forward_hook(keep("rope"))]
        try:
            out = model(hidden_states=given["tokens"],
                        encoder_hidden_states=given[prefix + "encoder_hidden_states"],
                        pooled_projections=given[prefix + "pooled"], timestep=given["timestep"],
                        img_ids=given["img_ids"], txt_ids=given["txt_ids"], micro_conds=given["micro_conds"])
            return out.reshape(b, v, -1).permute(0, 2, 1)
        finally:
            for hook in hooks:
                hook.remove()

    def codes(p):
        return (p @ codebook).reshape(b, side, side, -1).permute(0, 3, 1, 2)

    def soft_picture(code):
        return vae.decoder(vae.post_quant_conv(code))

    def lookup(ids):
        shape = (b, side, side, codebook.shape[1])
        return vae.decode(ids, force_not_quantize=True, shape=shape).sample

    e_clean = model.embed(given["tokens"])
    sigma = given["sigma"]
    e_in = sigma * given["noise"] + (1 - sigma ** 2) ** 0.5 * e_clean
    z_uncond, z = logits(e_in, "uncond_"), logits(e_in)
    condition = dict(inner)
    p = z.softmax(-1)
    hard = z.argmax(-1).view(b, side, side)
    soft = (p @ embedding[:v]).view(b, side, side, -1)
    soft_e_in = model.embed.conv(model.embed.layer_norm(soft).permute(0, 3, 1, 2))
    enc_z = vae.encode(given["enc_image"]).latents
    indices = vae.quantize(enc_z)[2][2].view(b, side, side)
    distances = torch.cdist(enc_z.permute(0, 2, 3, 1).reshape(-1, codebook.shape[1]), codebook) ** 2
    out = {
        "e_clean": e_clean,
        "e_in": e_in,
        "micro_cond_embeds": condition["micro_cond_embeds"],
        "pooled_after_cond_embed": condition["pooled_after_cond_embed"],
        "time_proj": condition["time_proj"],
        "temb": condition["temb"],
        "rope_cos": condition["rope"][0],
        "rope_sin": condition["rope"][1],
        "logits_clean": logits(),
        "logits": z,
        "logits_uncond": z_uncond,
        "soft_emb_decoder": codes(p),
        "soft_emb_generator": soft,
        "soft_emb_generator_e_in": soft_e_in,
        "logits_from_soft_emb_generator": logits(soft_e_in),
        "tokens_argmax": hard,
        "image_hard": lookup(hard),
        "image_soft": soft_picture(codes(p)),
        "enc_z": enc_z,
        "enc_indices": indices,
        "enc_recon": lookup(indices),
    }
    e, rewards = e_in.detach(), []
    for k in range(4):
        e = e.detach().requires_grad_(True)
        image = soft_picture(codes(logits(e).softmax(-1)))
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
    print(f"B={b}: gaps {gap(z):.1e}, encoder {gap(-distances):.1e}; rewards"
          f" {[round(r.item(), 3) for r in rewards]}; e_in moves by {[round(m.item(), 3) for m in moved]};"
          f" pictures {out['image_hard'].std():.2f}, p_max {p.max(-1).values.mean():.2f}")
    return {k: t.detach().contiguous().clone() for k, t in out.items()}


def attention(vae, golden, generator):
    """The second batch through the same VQ-VAE with attention in its middle: those weights, and what changes."""
    other = VQModel(**VQVAE | {"mid_block_add_attention": True}).eval()
    randomize(other, generator)
    other.load_state_dict(vae.state_dict(), strict=False)
    more = {name: t.half() for name, t in other.state_dict().items() if name not in vae.state_dict()}
    with torch.no_grad():
        ids = golden["b1/out/tokens_argmax"]
        image = other.decode(ids, force_not_quantize=True, shape=(*ids.shape, VQVAE["latent_channels"])).sample
        more |= {"attention/enc_z": other.encode(golden["b1/in/enc_image"]).latents, "attention/image_hard": image}
    return {name: t.contiguous().clone() for name, t in more.items()}


def full_grid(model, golden):
    """The second batch through the same generator without down and up block, as for 512 pixels."""
    other = Transformer2DModel(**TRANSFORMER | {"downsample": False, "upsample": False}).eval()
    other.load_state_dict({name: t for name, t in model.state_dict().items()
                           if not name.startswith(("down_block", "up_block"))})
    at = lambda name: golden[f"b1/in/{name}"]
    place = torch.arange(SIDE * SIDE)
    img_ids = torch.stack([0 * place, place // SIDE, place % SIDE], 1).float()
    hook = other.embed.register_forward_hook(lambda module, args, out: golden["b1/out/e_in"])
    with torch.no_grad():
        out = other(at("tokens"), at("encoder_hidden_states"), at("pooled"), at("timestep"), img_ids, at("txt_ids"),
                    micro_conds=at("micro_conds"))
    hook.remove()
    return {"full_grid/logits": out.flatten(2).permute(0, 2, 1).contiguous()}


def replay(folder):
    """Golden tensors that somebody else made with the same code."""
    at = lambda name: os.path.join(folder, name)
    with open(at("meissonic.json")) as file:
        config = json.load(file)["tiny_config"]
    model, vae = Transformer2DModel(**config["transformer"]).eval(), VQModel(**config["vqvae"]).eval()
    model.load_state_dict(load_file(at("meissonic_transformer.safetensors")))
    vae.load_state_dict(load_file(at("meissonic_vqvae.safetensors")))
    golden = load_file(at("meissonic.golden.safetensors"))
    for name in ("b0", "b1"):
        inputs = {k[len("b0/in/"):]: t for k, t in golden.items() if k.startswith(f"{name}/in/")}
        found = batch(model, vae, inputs)
        for key, expected in ((k, t) for k, t in golden.items() if k.startswith(f"{name}/out/")):
            key = key[len("b0/out/"):]
            same = f"{(found[key].double() - expected.double()).abs().max():.1e}" if key in found else "not made here"
            print(f"{name} {key:<34} {same}")


def main(folder):
    # A seed whose climb is well conditioned: f32 is within 1e-5 of f64, gradients after two steps included.
    generator = torch.Generator().manual_seed(9)
    model = randomize(Transformer2DModel(**TRANSFORMER), generator)
    vae = randomize(VQModel(**VQVAE), generator)
    golden = {}
    for name, b, sigma, timestep in [("b0", 1, 0.0, 0.0), ("b1", 2, 0.3, 1.0)]:
        inputs = given(model, vae, SIDE, TEXT, b, sigma, timestep, generator)
        golden |= {f"{name}/in/{k}": t for k, t in inputs.items()}
        golden |= {f"{name}/out/{k}": t for k, t in batch(model, vae, inputs).items()}
    half = lambda network: {name: t.half().contiguous() for name, t in network.state_dict().items()}
    variants = attention(vae, golden, generator) | full_grid(model, golden)
    path = lambda name: os.path.join(folder, name)
    save_file(half(model), path("transformer.safetensors"), {"format": "pt"})
    save_file(half(vae), path("vqvae.safetensors"), {"format": "pt"})
    save_file(golden, path("golden.safetensors"))
    save_file(variants, path("variants.safetensors"))
    for name, network in [("transformer", model), ("vqvae", vae)]:
        with open(path(f"{name}.json"), "w") as file:
            file.write(json.dumps(dict(network.config), indent=2, sort_keys=True) + "\n")


if __name__ == "__main__":
    torch.set_num_threads(1)
    replay(sys.argv[2]) if sys.argv[1] == "--replay" else main(sys.argv[1])
