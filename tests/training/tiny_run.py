"""A tiny task for the tests of the training loop; also a program, to be launched and killed.

python tiny_run.py RUN '{"steps": 12, "dropout": 0.1}'
"""

import contextlib
import json
import os
import signal
import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path

import torch
from torch import Tensor, nn

from mmdiff_video.process import processes
from mmdiff_video.skipped import Skipped
from mmdiff_video.tensors import save_tensors
from mmdiff_video.training import TrainConfig, Trainer


class Samples:
    """Twelve points of a plane, drawn anew every epoch."""

    def __init__(self, broken: tuple[int, ...] = (), seconds: float = 0.0):
        self.broken = broken
        self.seconds = seconds

    def __len__(self) -> int:
        return 12

    def sample(self, index: int, epoch: int) -> dict[str, Tensor] | Skipped:
        time.sleep(self.seconds)
        if index in self.broken:
            return Skipped(f"sample-{index}", "made broken")
        generator = torch.Generator().manual_seed(1000 * epoch + index)
        x = torch.randn(4, generator=generator)
        return {"x": x, "y": x.sum()}


class Tiny(nn.Module):
    def __init__(self, width: int = 16, dropout: float = 0.0):
        super().__init__()
        self.trunk = nn.Linear(4, width)
        self.drop = nn.Dropout(dropout)
        self.head = nn.Linear(width, 1)
        self.register_buffer("calls", torch.zeros((), dtype=torch.int64))

    def forward(self, x: Tensor) -> Tensor:
        if self.training:
            self.calls += 1
        return self.head(self.drop(torch.relu(self.trunk(x))))[:, 0]


def loss_fn(model: nn.Module, batch: Mapping[str, Tensor]) -> tuple[Tensor, dict[str, Tensor]]:
    error = model(batch["x"]) - batch["y"]
    return error.square().mean(), {"l1": error.abs().mean().detach()}


def tiny_trainer(
    run: Path,
    *,
    broken: tuple[int, ...] = (),
    seconds: float = 0.0,
    dropout: float = 0.0,
    width: int = 16,
    loss: Callable = loss_fn,
    preview: Callable | None = None,
    lr_factors: Mapping[str, float] | None = None,
    identity: Mapping[str, object] | None = None,
    notice: str = "",
    resume: bool = False,
    **config,
) -> Trainer:
    torch.manual_seed(0)
    settings = {
        "steps": 12,
        "batch_size": 2,
        "lr": 1e-2,
        "warmup_steps": 3,
        "log_every": 3,
        "checkpoint_every": 4,
        "preview_every": 0,
        "precision": "fp32",
    }
    return Trainer(
        run,
        Tiny(width, dropout),
        Samples(tuple(broken), seconds),
        loss,
        TrainConfig(**(settings | config)),
        preview=preview,
        lr_factors=lr_factors,
        identity=identity,
        notice=notice,
        resume=resume,
    )


def die_while_writing(step: int) -> None:
    """Arrange for SIGKILL when half of the checkpoint of a step is on disk."""
    from mmdiff_video.training import checkpoint

    def save_and_die(path: Path, tensors: dict[str, Tensor], metadata: dict[str, str]) -> None:
        save_tensors(path, tensors, metadata)
        if f"step-{step:06d}" in str(path) and path.name == "ema.safetensors":
            os.kill(os.getpid(), signal.SIGKILL)

    checkpoint.save_tensors = save_and_die


def thread_names() -> list[str]:
    """What the threads of this process call themselves; empty where there is no /proc (macOS)."""
    names = []
    for thread in Path("/proc/self/task").glob("*/comm"):
        with contextlib.suppress(OSError):  # threads of others may end while they are listed
            names.append(thread.read_text().strip())
    return names


if __name__ == "__main__":
    arguments = json.loads(sys.argv[2])
    if "die_while_writing" in arguments:
        die_while_writing(arguments.pop("die_while_writing"))
    tiny_trainer(Path(sys.argv[1]), **arguments).fit()
    processes().destroy_process_group()
    # threads of gloo that are still there at exit can abort the interpreter
    left = [name for name in thread_names() if "gloo" in name]
    assert not left, f"threads of the process group are left: {left}"
