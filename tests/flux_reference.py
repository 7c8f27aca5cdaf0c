"""FLUX's double blocks with concepts beside the text, in float64 from the weights alone.

Written from the papers' formulas, on no module of any library: the concept maps are held to it.
"""

import math

import torch
import torch.nn.functional as F
from torch import Tensor


class FluxReference:
    """Args: the transformer's state dict and config, then one forward's inputs to :meth:`run`."""

    def __init__(self, weights: dict[str, Tensor], config):
        self.weights = {name: w.double() for name, w in weights.items()}
        self.heads = config.num_attention_heads
        self.width = config.attention_head_dim
        self.axes = config.axes_dims_rope
        self.depth = config.num_layers

    def linear(self, name: str, x: Tensor) -> Tensor:
        return x @ self.weights[f"{name}.weight"].T + self.weights[f"{name}.bias"]

    def mlp(self, name: str, x: Tensor) -> Tensor:
        return self.linear(f"{name}.linear_2", F.silu(self.linear(f"{name}.linear_1", x)))

    def modulation(self, t: Tensor, guidance: float, pooled: Tensor) -> Tensor:
        number = torch.full_like(t, guidance)
        return (
            self.mlp("time_text_embed.timestep_embedder", sinusoids(t))
            + self.mlp("time_text_embed.guidance_embedder", sinusoids(number))
            + self.mlp("time_text_embed.text_embedder", pooled)
        )

    def split(self, x: Tensor) -> Tensor:
        return x.unflatten(-1, (self.heads, self.width)).transpose(1, 2)  # [N, H, L, d]

    def rms(self, name: str, x: Tensor) -> Tensor:
        return x * (x.square().mean(-1, keepdim=True) + 1e-6).rsqrt() * self.weights[name]

    def rotate(self, x: Tensor, grid: tuple[int, int]) -> Tensor:
        """Turn [N, H, rows * columns, d] by each token's place."""
        rows, columns = (g.flatten().double() for g in torch.meshgrid(
            torch.arange(grid[0]), torch.arange(grid[1]), indexing="ij"
        ))  # fmt: skip
        angles = []
        for size, place in zip(self.axes, (torch.zeros_like(rows), rows, columns), strict=True):
            rate = 10000.0 ** (-torch.arange(0, size, 2).double() / size)
            angles.append(place[:, None] * rate)
        turn = torch.polar(torch.ones(()).double(), torch.cat(angles, 1))  # [L, d / 2]
        pairs = torch.view_as_complex(x.unflatten(-1, (-1, 2)).contiguous())
        return torch.view_as_real(pairs * turn).flatten(-2)

    def run(
        self,
        picture: Tensor,
        text: Tensor,
        pooled: Tensor,
        concepts: Tensor,
        t: Tensor,
        guidance: float,
        grid: tuple[int, int],
    ) -> tuple[list[Tensor], list[Tensor]]:
        """Return per block the concept maps [N, K, L] and the attention [N, H, L, text + L]."""
        x = self.linear("x_embedder", picture.double())
        streams = {
            "text": self.linear("context_embedder", text.double()),
            "concepts": self.linear("context_embedder", concepts.double()).expand(len(x), -1, -1),
        }
        modulations = {
            "text": self.modulation(t, guidance, pooled.double()),
            "concepts": self.modulation(t, guidance, 0 * pooled.double()),
        }
        maps, attentions = [], []
        for i in range(self.depth):
            block = f"transformer_blocks.{i}"
            mods = {
                name: self.six(f"{block}.norm1_context", modulation)
                for name, modulation in modulations.items()
            }
            mod = self.six(f"{block}.norm1", modulations["text"])
            q, k, v = self.project(block, ("to_q", "to_k", "to_v"), "", x, mod)
            q, k = self.rotate(q, grid), self.rotate(k, grid)
            out, o_x = {}, x
            for name, stream in streams.items():
                names = ("add_q_proj", "add_k_proj", "add_v_proj")
                qs, ks, vs = self.project(block, names, "added_", stream, mods[name])
                joint_k, joint_v = torch.cat([ks, k], 2), torch.cat([vs, v], 2)
                out[name] = attend(qs, joint_k, joint_v)
                if name == "text":
                    attentions.append(weights_of(q, joint_k))
                    o_x = attend(q, joint_k, joint_v)
            maps.append((out["concepts"] @ o_x.transpose(1, 2)).softmax(dim=1))
            x = self.finish(block, ("to_out.0", "ff"), x, o_x, mod)
            streams = {
                name: self.finish(block, ("to_add_out", "ff_context"), s, out[name], mods[name])
                for name, s in streams.items()
            }
        return maps, attentions

    def six(self, name: str, modulation: Tensor) -> list[Tensor]:
        return list(self.linear(f"{name}.linear", F.silu(modulation))[:, None].chunk(6, dim=-1))

    def project(
        self, block: str, names: tuple[str, str, str], added: str, x: Tensor, mod: list[Tensor]
    ) -> tuple[Tensor, Tensor, Tensor]:
        x = layer_norm(x) * (1 + mod[1]) + mod[0]
        q, k, v = (self.split(self.linear(f"{block}.attn.{name}", x)) for name in names)
        norms = f"{block}.attn.norm_{added}"
        return self.rms(f"{norms}q.weight", q), self.rms(f"{norms}k.weight", k), v

    def finish(
        self, block: str, names: tuple[str, str], x: Tensor, out: Tensor, mod: list[Tensor]
    ) -> Tensor:
        x = x + mod[2] * self.linear(f"{block}.attn.{names[0]}", out)
        hidden = layer_norm(x) * (1 + mod[4]) + mod[3]
        hidden = F.gelu(self.linear(f"{block}.{names[1]}.net.0.proj", hidden), approximate="tanh")
        return x + mod[5] * self.linear(f"{block}.{names[1]}.net.2", hidden)


def sinusoids(value: Tensor) -> Tensor:
    """256 cosines and sines of 1000 times the value, in float32 as the model has them."""
    rate = torch.exp(-math.log(10000) * torch.arange(128, dtype=torch.float32) / 128)
    angle = (value.float() * 1000)[:, None] * rate
    return torch.cat([angle.cos(), angle.sin()], dim=1).double()


def layer_norm(x: Tensor) -> Tensor:
    centred = x - x.mean(-1, keepdim=True)
    return centred * (centred.square().mean(-1, keepdim=True) + 1e-6).rsqrt()


def weights_of(q: Tensor, k: Tensor) -> Tensor:
    return (q @ k.transpose(2, 3) / math.sqrt(q.shape[-1])).softmax(dim=-1)


def attend(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    return (weights_of(q, k) @ v).transpose(1, 2).flatten(2)
