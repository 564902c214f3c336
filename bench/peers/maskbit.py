"""MaskBit in PyTorch, with the weights of a model file: what src/families/maskbit/ computes, written as PyTorch users write it."""
import json

import torch
import torch.nn.functional as F
from safetensors import safe_open
from torch import nn


class Attention(nn.Module):
    """LayerNorm(x + attention(x)), with the official names."""

    def __init__(self, d, heads):
        super().__init__()
        self.heads = heads
        # Only holds the weights: its own fast path does not export.
        self.mha = nn.MultiheadAttention(d, heads, batch_first=True)
        self.norm = nn.LayerNorm(d, eps=1e-12)

    def forward(self, x):
        b, n, d = x.shape
        qkv = F.linear(x, self.mha.in_proj_weight, self.mha.in_proj_bias)
        q, k, v = qkv.view(b, n, 3, self.heads, d // self.heads).permute(2, 0, 3, 1, 4)
        y = F.scaled_dot_product_attention(q, k, v)
        return self.norm(self.mha.out_proj(y.transpose(1, 2).reshape(b, n, d)) + x)


class FeedForward(nn.Module):
    """LayerNorm(x + W2·gelu(W1·x))."""

    def __init__(self, d, hidden):
        super().__init__()
        self.net = nn.Sequential(nn.Linear(d, hidden), nn.GELU(), nn.Linear(hidden, d))
        self.norm = nn.LayerNorm(d, eps=1e-12)

    def forward(self, x):
        return self.norm(self.net(x) + x)


class Transformer(nn.Module):
    def __init__(self, d, depth, heads, hidden):
        super().__init__()
        layers = (nn.ModuleList([Attention(d, heads), FeedForward(d, hidden)]) for _ in range(depth))
        self.layers = nn.ModuleList(layers)


class Student(nn.Module):
    """e_in [B, N, D], class_id [B] → logits [B, N, splits, V]."""

    def __init__(self, c):
        super().__init__()
        d, grid = c["hidden_dim"], c["img_size"] // c["input_stride"]
        self.splits = c["codebook_splits"]
        self.codes = 2 ** (c["token_size"] // self.splits)
        self.positions = grid * grid
        self.input_proj = nn.Linear(c["token_size"], d)
        self.class_emb = nn.Embedding(c["nclass"] + 1, d)
        self.pos_emb = nn.Parameter(torch.empty(1, self.positions + 1, d))
        self.first_layer = nn.Sequential(nn.LayerNorm(d, eps=1e-12))
        self.transformer = Transformer(d, c["depth"], c["heads"], c["mlp_dim"])
        self.last_layer = nn.Sequential(nn.Linear(d, d), nn.GELU(), nn.LayerNorm(d, eps=1e-12))
        self.prediction_layer = nn.Linear(d, self.splits * self.codes)

    def forward(self, e_in, class_id):
        x = torch.cat([e_in, self.class_emb(class_id)[:, None]], 1)
        x = self.first_layer(x + self.pos_emb)
        for attention, feed_forward in self.transformer.layers:
            x = feed_forward(attention(x))
        x = self.last_layer(x)[:, : self.positions]
        return self.prediction_layer(x).view(-1, self.positions, self.splits, self.codes)

    def embed(self, tokens):
        """Token ids [B, N, splits], V where masked → e_in."""
        table = torch.cat([bits_table(self.codes), torch.zeros(1, self.codes.bit_length() - 1)])
        return self.input_proj(table[tokens].flatten(2))


def bits_table(codes):
    """The bits of each code as ±1, least significant first: [V, bits]."""
    ids = torch.arange(codes)[:, None]
    return ((ids >> torch.arange(codes.bit_length() - 1)) & 1) * 2.0 - 1.0


def group_norm(channels):
    return nn.GroupNorm(32, channels, eps=1e-6)


class ResidualBlock(nn.Module):
    """The shortcut of a block that changes the channels is a map of the block's own output, as in the published weights."""

    def __init__(self, channels, out):
        super().__init__()
        self.norm1, self.norm2 = group_norm(channels), group_norm(out)
        self.conv1 = nn.Conv2d(channels, out, 3, padding=1, bias=False)
        self.conv2 = nn.Conv2d(out, out, 3, padding=1, bias=False)
        if channels != out:
            self.nin_shortcut = nn.Conv2d(out, out, 1, bias=False)

    def forward(self, x):
        h = self.conv1(F.silu(self.norm1(x)))
        h = self.conv2(F.silu(self.norm2(h)))
        return h + (self.nin_shortcut(h) if hasattr(self, "nin_shortcut") else x)


class Stage(nn.Module):
    def __init__(self, channels, out, blocks, enlarge=False):
        super().__init__()
        blocks = (ResidualBlock(channels if i == 0 else out, out) for i in range(blocks))
        self.res_blocks = nn.Sequential(*blocks)
        if enlarge:
            self.upsample_conv = nn.Conv2d(out, out, 3, padding=1)

    def forward(self, x):
        x = self.res_blocks(x)
        if hasattr(self, "upsample_conv"):
            x = self.upsample_conv(F.interpolate(x, scale_factor=2.0, mode="nearest"))
        return x


class Decoder(nn.Module):
    """tokens [B, N, splits] → image [B, channels, H, W], nominally in [0, 1]."""

    def __init__(self, c, splits):
        super().__init__()
        widths = [c["hidden_channels"] * m for m in c["channel_mult"]]
        blocks = c.get("num_res_blocks_decoder") or c["num_res_blocks"]
        self.register_buffer("table", bits_table(2 ** (c["token_size"] // splits)), persistent=False)
        self.conv_in = nn.Conv2d(c["token_size"], widths[-1], 3, padding=1)
        self.mid = Stage(widths[-1], widths[-1], blocks)
        stages, channels = [], widths[-1]
        for level in reversed(range(len(widths))):
            stages.append(Stage(channels, widths[level], blocks, enlarge=level > 0))
            channels = widths[level]
        self.up = nn.Sequential(*stages)
        self.norm_out = group_norm(channels)
        self.conv_out = nn.Conv2d(channels, c["num_channels"], 3, padding=1)

    def forward(self, tokens):
        bits = self.table[tokens].flatten(2).transpose(1, 2)
        side = int(tokens.shape[1] ** 0.5)
        x = self.mid(self.conv_in(bits.unflatten(2, (side, side))))
        return self.conv_out(F.silu(self.norm_out(self.up(x))))


def load(path):
    """The student and the decoder of a model file of f32 weights."""
    with safe_open(path, "pt") as file:
        config = json.loads(file.metadata()["softdimo.config"])
        tensors = {name: file.get_tensor(name) for name in file.keys()}
    student = Student(config["generator"])
    decoder = Decoder(config["tokenizer"], config["generator"]["codebook_splits"])
    for module, scope in [(student, "student."), (decoder, "decoder.")]:
        own = {name.removeprefix(scope): t for name, t in tensors.items() if name.startswith(scope)}
        module.load_state_dict(own)
        module.eval().requires_grad_(False)
    return student, decoder
