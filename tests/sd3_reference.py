"""Concept attention of SD3 written out: float64, explicit softmax, every weight by its name.

The picture's way through the blocks is diffusers' own, in float64; all that concerns the concepts
is done here by hand from what enters the blocks.
"""

import copy
from typing import Any

import torch
from torch import Tensor


class SD3Reference:
    def __init__(self, transformer: Any):
        self.model = copy.deepcopy(transformer).double()
        self.weights = self.model.state_dict()
        self.heads = self.model.config.num_attention_heads
        self.depth = self.model.config.num_layers

    def linear(self, name: str, x: Tensor) -> Tensor:
        return x @ self.weights[f"{name}.weight"].T + self.weights[f"{name}.bias"]

    def qkv(self, block: int, names: tuple[str, str, str], norms: tuple[str, str], x: Tensor):
        """[N, L, D] -> queries, keys, values, each [N, heads, L, d]."""
        parts = []
        for projection, norm in zip(names, (*norms, None), strict=True):
            part = self.linear(f"transformer_blocks.{block}.attn.{projection}", x)
            part = part.unflatten(2, (self.heads, -1)).transpose(1, 2)
            gain = self.weights.get(f"transformer_blocks.{block}.attn.{norm}.weight")
            if gain is not None:
                part = part * (part.square().mean(-1, keepdim=True) + 1e-6).rsqrt() * gain
            parts.append(part)
        return parts

    @torch.no_grad()
    def run(
        self, noisy: Tensor, t: float, tokens: Tensor, pooled: Tensor, concepts: Tensor
    ) -> tuple[list[Tensor], list[Tensor]]:
        """Maps [N, K, L], and the share of attention on every text token [N, L, text], by block.

        Args:
            noisy: [N, 16, h, w].
            t: sigma.
            tokens, pooled: of the prompts.
            concepts: [1 + K, text width], the begin-of-text token first.
        """
        entered: list[dict[str, Tensor]] = []
        conditioning: list[Tensor] = []
        handles = [
            block.attn.register_forward_pre_hook(
                lambda module, args, kwargs: entered.append(kwargs), with_kwargs=True
            )
            for block in self.model.transformer_blocks
        ]
        handles.append(
            self.model.time_text_embed.register_forward_hook(
                lambda module, args, output: conditioning.append(output)
            )
        )
        self.model(
            noisy.double(),
            tokens.double(),
            pooled.double(),
            torch.full([len(noisy)], 1000 * t).double(),
        )
        for handle in handles:
            handle.remove()
        c = self.linear("context_embedder", concepts.double())[None].expand(len(noisy), -1, -1)
        maps, shares = [], []
        for i, seen in enumerate(entered):
            name = f"transformer_blocks.{i}"
            modulation = torch.nn.functional.silu(conditioning[0])
            parts = self.linear(f"{name}.norm1_context.linear", modulation)[:, None]
            last = i == self.depth - 1
            if last:
                scale, shift = parts.chunk(2, dim=-1)
            else:
                shift, scale, gate, mlp_shift, mlp_scale, mlp_gate = parts.chunk(6, dim=-1)
            normed = layer_norm(c) * (1 + scale) + shift
            added = ("add_q_proj", "add_k_proj", "add_v_proj"), ("norm_added_q", "norm_added_k")
            q_c, k_c, v_c = self.qkv(i, *added, normed)
            own = ("to_q", "to_k", "to_v"), ("norm_q", "norm_k")
            q_x, k_x, v_x = self.qkv(i, *own, seen["hidden_states"])
            keys, values = torch.cat([k_x, k_c], 2), torch.cat([v_x, v_c], 2)
            o_c, o_x = (attend(q, keys, values) for q in (q_c, q_x))
            unit = o_c / o_c.norm(dim=-1, keepdim=True)
            maps.append((unit[:, 1:] @ o_x.transpose(1, 2)).softmax(dim=1))

            _, k_t, _ = self.qkv(i, *added, seen["encoder_hidden_states"])
            scores = q_x @ torch.cat([k_x, k_t], 2).transpose(2, 3) / q_x.shape[-1] ** 0.5
            shares.append(scores.softmax(-1)[..., k_x.shape[2] :].mean(1))
            if not last:
                c = c + gate * self.linear(f"{name}.attn.to_add_out", o_c)
                hidden = layer_norm(c) * (1 + mlp_scale) + mlp_shift
                hidden = self.linear(f"{name}.ff_context.net.0.proj", hidden)
                hidden = torch.nn.functional.gelu(hidden, approximate="tanh")
                c = c + mlp_gate * self.linear(f"{name}.ff_context.net.2", hidden)
        return maps, shares


def layer_norm(x: Tensor) -> Tensor:
    x = x - x.mean(-1, keepdim=True)
    return x / (x.square().mean(-1, keepdim=True) + 1e-6).sqrt()


def attend(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    """[N, heads, L, d] and keys and values of all tokens -> [N, L, heads * d]."""
    weights = (q @ k.transpose(2, 3) / q.shape[-1] ** 0.5).softmax(dim=-1)
    return (weights @ v).transpose(1, 2).flatten(2)
