"""Our Muon beside torch's: the time of a step, and what training reaches in equal steps.

    python benchmarks/muon.py --json muon.json

``torch.optim.Muon`` takes matrices only and multiplies in bfloat16. It is run here as its users
would: on the hidden matrices, with AdamW on the rest (``torch``); and on views of the convolutions
as matrices too (``torch, flattened``), which is ours but for rounding and for stacking weights of
one shape. All have the same momentum, scale and decay. Learning is measured on small members of the
product: aggregator and decoder of the 3DGS task on tiny rooms, and nano-wan's video VAE on their
pixels. Each optimiser is given several learning rates; its best is compared.

One thread. About a quarter of an hour.
"""

import argparse
import itertools
import json
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from figures import Figure, median_figure, processor_name, ratio_figure, write_report
from torch import Tensor, nn
from torch.optim import AdamW, Optimizer

from mmdiff_video.backbones.cards import load_card
from mmdiff_video.backbones.features import DiTFeatures
from mmdiff_video.datasets.clips.views import PosedVideoDataset, collate
from mmdiff_video.datasets.loading import load_split
from mmdiff_video.nvs.objective import RenderLoss
from mmdiff_video.nvs.setup import resolve_config, set_up
from mmdiff_video.pretraining.coders import new_coder
from mmdiff_video.pretraining.config import VAELossConfig
from mmdiff_video.pretraining.denoisers import new_denoiser
from mmdiff_video.pretraining.vae_loss import VAELoss
from mmdiff_video.rooms.make import make_rooms
from mmdiff_video.tables import format_table
from mmdiff_video.training.muon import Muon, hidden_weights
from mmdiff_video.training.optimizers import parameter_groups, set_lr
from mmdiff_video.training.schedules import cosine

DECAY = 0.01
WARMUP = 10
SIDE = 64
"""Pixels a side of the rooms."""


class TorchMuon:
    """``torch.optim.Muon`` on hidden weights and AdamW on the rest, stepped as one optimiser.

    Args:
        model: what is trained.
        flatten: give Muon the convolutions too, as matrices that share their memory.
    """

    def __init__(self, model: nn.Module, *, flatten: bool):
        parameters = dict(model.named_parameters())
        hidden = hidden_weights(model)
        self.views: list[tuple[nn.Parameter, nn.Parameter]] = []
        if not flatten:
            hidden = {name for name in hidden if parameters[name].ndim == 2}
        groups = parameter_groups(model, {}, DECAY, apart=hidden)
        matrices, rest = [], []
        for group in groups:
            if group["params"][0][0] in hidden:
                matrices.append({**group, "params": [self._matrix(p) for _, p in group["params"]]})
            else:
                rest.append(group)
        # a model of convolutions alone has no matrix
        self.parts: list[Optimizer] = [AdamW(rest)]
        if matrices:
            self.parts.append(torch.optim.Muon(matrices, adjust_lr_fn="match_rms_adamw"))

    @property
    def param_groups(self) -> list[dict[str, Any]]:
        return [group for part in self.parts for group in part.param_groups]

    def step(self) -> None:
        for parameter, view in self.views:
            view.grad = None if parameter.grad is None else parameter.grad.flatten(1)
        for part in self.parts:
            part.step()

    def _matrix(self, parameter: nn.Parameter) -> nn.Parameter:
        if parameter.ndim == 2:
            return parameter
        view = nn.Parameter(parameter.detach().flatten(1))
        assert view.data_ptr() == parameter.data_ptr()
        self.views.append((parameter, view))
        return view


def ours(model: nn.Module, dtype: torch.dtype) -> Muon:
    hidden = hidden_weights(model)
    groups = parameter_groups(model, {}, DECAY, apart=hidden)
    for group in groups:
        group["orthogonal"] = group["params"][0][0] in hidden
    return Muon(groups, compute_dtype=dtype)


ARMS: dict[str, Callable[[nn.Module], Any]] = {
    "ours, float32": lambda model: ours(model, torch.float32),
    "ours, bfloat16": lambda model: ours(model, torch.bfloat16),
    "torch, flattened": lambda model: TorchMuon(model, flatten=True),
    "torch": lambda model: TorchMuon(model, flatten=False),
    "AdamW": lambda model: AdamW(parameter_groups(model, {}, DECAY)),
}
LEARNERS = ("ours, float32", "torch, flattened", "torch")
"""Whose learning is measured: in bfloat16, ours is ``torch, flattened``."""


def main() -> None:
    parser = argparse.ArgumentParser(description="Our Muon beside torch.optim.Muon.")
    parser.add_argument("--steps", type=int, default=100, help="steps of each training")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--repeats", type=int, default=9, help="timed steps; the median counts")
    parser.add_argument("--only", choices=["time", "decoder", "vae"], nargs="+")
    parser.add_argument("--json", type=Path, help="also write the figures here")
    args = parser.parse_args()
    parts = args.only or ["time", "decoder", "vae"]
    torch.set_num_threads(1)
    print(f"{processor_name()}, torch {torch.__version__}, 1 thread")
    lines = []
    with tempfile.TemporaryDirectory() as folder:
        if "time" in parts:
            lines += print_lines(step_times(Path(folder), args.repeats))
        for name, task in TASKS.items():
            if name in parts:
                lines += print_lines(learning(name, task(Path(folder)), args.steps, args.seeds))
    print(report(lines))
    if args.json:
        write_report(args.json, "muon", [f for line in lines for f in figures_of(line)], lines)


def print_lines(lines: Iterator[dict[str, Any]]) -> Iterator[dict[str, Any]]:
    for line in lines:
        print(json.dumps(line), flush=True)
        yield line


# -- the time of a step -------------------------------------------------------------------------


def step_times(folder: Path, repeats: int) -> Iterator[dict[str, Any]]:
    """Time ``step()`` alone on random gradients; the arms take turns."""
    card = load_card("nano-wan")
    setup = set_up(rooms_config(folder, []), None)
    models = {
        "3DGS: aggregator, decoder": setup.model,
        "nano-wan's DiT with its text encoder": new_denoiser(card),
        "nano-wan's VAE": new_coder(card),
    }
    for name, model in models.items():
        parameters = [p for p in model.parameters() if p.requires_grad]
        hidden = [p for n, p in model.named_parameters() if n in hidden_weights(model)]
        optimizers = {arm: make(model) for arm, make in ARMS.items()}
        seconds: dict[str, list[float]] = {arm: [] for arm in ARMS}
        for _ in range(repeats + 1):
            for arm, optimizer in optimizers.items():
                for parameter in parameters:
                    parameter.grad = torch.randn_like(parameter)
                set_lr(optimizer, 1e-6)
                started = time.perf_counter()
                optimizer.step()
                seconds[arm].append(time.perf_counter() - started)
        yield {
            "kind": "time",
            "model": name,
            "parameters": sum(p.numel() for p in parameters),
            "hidden": len(hidden),
            "hidden_shapes": len({p.shape for p in hidden}),
            "convolutions": sum(p.ndim > 2 for p in hidden),
            "ms": {arm: round(1e3 * statistics.median(s[1:]), 2) for arm, s in seconds.items()},
            "each_ms": {arm: [round(1e3 * t, 3) for t in s[1:]] for arm, s in seconds.items()},
        }


# -- what training reaches ----------------------------------------------------------------------

Loss = Callable[[nn.Module, Any], Tensor]


class Task:
    """A small training problem.

    Attributes:
        model: makes a fresh one, from torch's generator.
        batches: what is trained on, again and again.
        loss: of a model on a batch.
        rates: learning rates to try with every optimiser.
    """

    def __init__(
        self,
        model: Callable[[], nn.Module],
        batches: Sequence[Any],
        loss: Loss,
        rates: Sequence[float],
    ):
        self.model, self.batches, self.loss, self.rates = model, batches, loss, rates


def learning(name: str, task: Task, steps: int, seeds: int) -> Iterator[dict[str, Any]]:
    """Train with every optimiser at every rate from every seed."""
    for arm in LEARNERS:
        for rate in task.rates:
            losses = [round(train(task, ARMS[arm], rate, steps, seed), 5) for seed in range(seeds)]
            yield {"kind": name, "arm": arm, "lr": rate, "steps": steps, "losses": losses}


def train(task: Task, make: Callable[[nn.Module], Any], lr: float, steps: int, seed: int) -> float:
    """Train with warm-up and a cosine; returns the mean loss over all batches at the end."""
    torch.manual_seed(seed)
    model = task.model().train()
    optimizer = make(model)
    order = torch.randint(len(task.batches), (steps,)).tolist()
    for step, index in enumerate(order, start=1):
        model.zero_grad()
        task.loss(model, task.batches[index]).backward()
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        done = max(step - WARMUP, 0) / (steps - WARMUP)
        set_lr(optimizer, lr * min(step / WARMUP, 1) * cosine(done))
        optimizer.step()
    model.eval()
    with torch.no_grad():
        torch.manual_seed(0)
        return statistics.mean(float(task.loss(model, batch)) for batch in task.batches)


def rooms_config(folder: Path, overrides: Sequence[str]) -> Any:
    root = make_rooms(folder / "rooms", scenes=10, frames=24, width=SIDE, height=SIDE)
    return resolve_config(
        "3dgs-nano",
        [
            "backbone.name=nano-wan",
            "data.name=rooms",
            ("data.root", str(root)),
            f"data.height={SIDE}",
            f"data.width={SIDE}",
            "data.frames=9",
            "data.span=[9,24]",
            "loss.perceptual=0",
            *overrides,
        ],
    )


def decoder_task(folder: Path) -> Task:
    """Rooms to Gaussians from features of the shipped nano-wan, with the task's own loss."""
    config = rooms_config(
        folder, ["decoder.width=96", "aggregator.width=24", "decoder.output_space_stride=4"]
    )
    setup = set_up(config, None)
    data = config.data
    loaded = load_split(setup.card, Path(str(data.root)), "train")
    samples = PosedVideoDataset(
        loaded.clips,
        setup.card,
        frames=setup.frames,
        targets=data.targets,
        height=setup.height,
        width=setup.width,
        samplings_per_clip=2,
    )
    batches = []
    for index in range(len(samples)):
        batch = collate([samples.sample(index, 0)])  # type: ignore[list-item]
        batches.append((features_of(setup.source, batch), batch))
    measure = RenderLoss(config.loss, torch.device("cpu"))

    def loss(model: nn.Module, pair: Any) -> Tensor:
        features, batch = pair
        gaussians = model(features, batch.input_viewmats, batch.input_Ks, SIDE, SIDE)
        return measure(gaussians, batch.target_images, batch.target_viewmats, batch.target_Ks)[0]

    def model() -> nn.Module:
        return set_up(config, setup.backbone).model

    return Task(model, batches, loss, (7.5e-4, 1.5e-3, 3e-3, 6e-3))


@torch.no_grad()
def features_of(source: Callable[..., DiTFeatures], batch: Any) -> DiTFeatures:
    return source(batch.video, batch.keys, batch.captions)


def vae_task(folder: Path) -> Task:
    """Pixels of rooms through a narrow VAE of nano-wan's architecture.

    It has no matrix: ``torch`` is AdamW alone.
    """
    card = load_card("nano-wan")
    card = replace(card, vae={**card.vae, "base_dim": 16, "decoder_base_dim": 16})
    config = rooms_config(folder, [])
    setup = set_up(config, None)
    loaded = load_split(setup.card, Path(str(config.data.root)), "train")
    samples = PosedVideoDataset(
        loaded.clips, setup.card, frames=5, targets=1, height=SIDE, width=SIDE
    )
    batches = []
    for index in range(len(samples)):
        video = collate([samples.sample(index, 0)]).video  # type: ignore[list-item]
        pixels = (video * 255).round().byte().movedim(1, -1)  # [1, F, H, W, 3]
        for y, x in itertools.product((0, SIDE - 32), repeat=2):
            batches.append(pixels[:, :, y : y + 32, x : x + 32])
    measure = VAELoss(VAELossConfig(perceptual=0), torch.device("cpu"))
    return Task(
        lambda: new_coder(card),
        batches,
        lambda coder, batch: measure(coder, batch)[0],
        (5e-4, 1e-3, 2.5e-3, 5e-3),
    )


TASKS: dict[str, Callable[[Path], Task]] = {"decoder": decoder_task, "vae": vae_task}


def figures_of(line: Mapping[str, Any]) -> Iterator[Figure]:
    """Of a line: the time of each arm and over torch's, or the loss that an arm reached."""
    if line["kind"] != "time":
        name = f"{line['kind']}, {line['arm']}, lr {line['lr']:g}, {line['steps']} steps, loss"
        yield median_figure(name, line["losses"], "")
        return
    times = {
        arm: median_figure(f"{line['model']}, {arm}", each, "ms")
        for arm, each in line["each_ms"].items()
    }
    theirs = times["torch, flattened"]
    yield from times.values()
    for arm in ("ours, float32", "ours, bfloat16"):
        name = f"{line['model']}, {arm}, of torch's"
        yield ratio_figure(name, times[arm], theirs, "ours / torch, flattened")


# -- tables -------------------------------------------------------------------------------------


def report(lines: Sequence[Mapping[str, Any]]) -> str:
    tables = []
    times = [line for line in lines if line["kind"] == "time"]
    if times:
        rows = [[t["model"], *(f"{t['ms'][arm]:.1f}" for arm in ARMS)] for t in times]
        tables.append(format_table(["milliseconds a step", *ARMS], rows))
    for name in TASKS:
        tried = [line for line in lines if line["kind"] == name]
        if tried:
            tables.append(format_table([name, "best rate", "loss", "seeds"], best_rows(tried)))
    return "\n\n".join(tables)


def best_rows(tried: Sequence[Mapping[str, Any]]) -> list[list[str]]:
    rows = []
    for arm in LEARNERS:
        own = [line for line in tried if line["arm"] == arm]
        best = min(own, key=lambda line: statistics.mean(line["losses"]))
        seeds = ", ".join(f"{loss:.4f}" for loss in best["losses"])
        rows.append([arm, f"{best['lr']:g}", f"{statistics.mean(best['losses']):.4f}", seeds])
    return rows


if __name__ == "__main__":
    main()
