"""The commands that are killed, on data that takes them seconds."""

import os
import shutil
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from unittest import mock

from disc_clips import Discs, overrides
from tiny_cards import tiny_card
from tiny_dense import TINY as DENSE
from tiny_vlm import save_tiny_vlm

NVS = [
    *("data.frames=5", "data.height=32", "data.width=48", "data.targets=1", "data.eval_targets=2"),
    *("data.span=[7,12]", "data.samplings_per_clip=1", "aggregator.width=32", "aggregator.depth=1"),
    *("aggregator.heads=4", "backbone.taps=[1,3]", "decoder.width=32", "decoder.depth=1"),
    *("decoder.heads=4", "decoder.output_space_stride=4", "train.checkpoint_every=2"),
    *("train.preview_every=2", "train.log_every=1", "train.workers=0"),
]


def main(words: Sequence[str | Path]) -> int:
    """Run the command line."""
    from mmdiff_video.cli import main as run

    return run([str(word) for word in words])


@dataclass(frozen=True)
class Command:
    """A command, its inputs, and how it goes on.

    Attributes:
        name: for tables.
        words: given the folder of inputs and its output.
        resume: words that are added to go on; empty: the same command does.
        inputs: makes the folder of inputs, once.
        within: copied from the inputs to where the output goes: what the command adds to.
        cheap: whether CI has seconds for it.
        patched: runs it, where that takes more than the command line.
    """

    name: str
    words: Callable[[Path, Path], list[str | Path]]
    resume: tuple[str, ...] = ()
    inputs: Callable[[Path], object] = lambda folder: None
    within: str | None = None
    cheap: bool = False
    patched: Callable[[Sequence[str | Path]], int] = main

    def place(self, inputs: Path, out: Path) -> None:
        """Put what the command adds to where its output goes."""
        if self.within is not None:
            shutil.copytree(inputs / self.within, out, dirs_exist_ok=True)


def _clips(folder: Path) -> object:
    words = ["data", "make", "rooms", "--out", folder / "clips", "--scenes", "4", "--frames", "14"]
    return main([*words, "--size", "64x48", "--jobs", "1"])


def _stills(folder: Path) -> object:
    words = ["data", "make", "rooms", "--out", folder / "stills", "--scenes", "5"]
    return main([*words, "--layout", "folders", "--size", "64x48", "--jobs", "1"])


def _vlm_and_stills(folder: Path) -> object:
    _stills(folder)
    (folder / "stills" / "captions.jsonl").unlink()
    return save_tiny_vlm(folder / "vlm")


def _head(folder: Path) -> object:
    _stills(folder)
    made = main(_dense(folder, folder / "run", ["depth"], "train.steps=1"))
    pictures = folder / "pictures"
    shutil.copytree(folder / "stills" / "train" / "images", pictures)
    from video_files import encode, grey

    encode(pictures / "walk.mp4", pictures=[grey(i) for i in range(6)])
    return made


def _train_3dgs(inputs: Path, out: Path) -> list[str | Path]:
    words = ["train-3dgs", "--data", "rooms", "--data-root", inputs / "clips", "--out", out]
    cache = [f"cache.dir={out / 'cache'}"]
    return [*words, "--backbone", "nano-wan-random", "train.steps=4", *NVS, *cache]


def _compare(inputs: Path, out: Path) -> list[str | Path]:
    words = ["compare-3dgs", "--data", "rooms", "--data-root", inputs / "clips", "--out", out]
    cache = [f"cache.dir={out / 'cache'}"]
    return [*words, "--backbone", "nano-wan-random", "train.steps=2", *NVS, *cache]


def _dense(inputs: Path, out: Path, tasks: Sequence[str], *more: str) -> list[str | Path]:
    named = [word for task in tasks for word in ("--task", task)]
    words = ["dense", *named, "--data", "rooms", "--data-root", inputs / "stills", "--out", out]
    steps = ["train.steps=4", f"cache.dir={out / 'cache'}", "train.preview_every=2"]
    return [*words, "--backbone", "nano-wan-random", *DENSE, *steps, *more]


def _pretrain(words: Sequence[str | Path]) -> int:
    """Discs in the place of rooms, and a tiny architecture."""
    from mmdiff_video.pretraining import dit, runs, vae

    with (
        mock.patch.object(runs, "RoomSource", Discs),
        mock.patch.object(vae, "load_card", tiny_card),
        mock.patch.object(dit, "load_card", tiny_card),
    ):
        return main(words)


def _capture(folder: Path) -> object:
    from small_captures import small_capture

    return small_capture(folder / "capture")


def _without_colmap(words: Sequence[str | Path]) -> int:
    """Its points differ by chance from one capture to the next."""
    from mmdiff_video.scenes.capture import given_poses

    with mock.patch.object(given_poses, "is_installed", return_value=False):
        return main(words)


def _reconstruct(inputs: Path, out: Path) -> list[str | Path]:
    words = ["reconstruct", inputs / "capture", "--out", out, "--steps", "12", "--hold-out", "4"]
    more = ["--max-gaussians", "80", "--no-check-poses", "--keep-poses"]
    return [*words, *more, "--flight-frames", "0"]


def _vae(inputs: Path, out: Path) -> list[str | Path]:
    stages = "stages=[{name: first, steps: 4, batch_size: 2, frames: 5, crop: 16}"
    stages += ", {name: second, steps: 2, batch_size: 1, frames: 5, crop: 32}]"
    settings = [*overrides("nano-wan", out / "corpus"), stages, "loss.perceptual=0"]
    settings += ["train.checkpoint_every=2", "train.preview_every=2", "decoder_base_dim=null"]
    return ["pretrain", "vae", "--backbone", "nano-wan", "--out", out, *settings]


def _trained_vae(folder: Path) -> object:
    return _pretrain(_vae(folder, folder / "vae-run"))


def _dit(inputs: Path, out: Path) -> list[str | Path]:
    stages = (
        "stages=[{name: first, steps: 4, batch_size: 2}, {name: second, steps: 2, batch_size: 2}]"
    )
    settings = [*overrides("nano-wan", out / "corpus"), stages, "sample_steps=2"]
    settings += ["train.checkpoint_every=2", "train.preview_every=2", f"vae={inputs / 'vae-run'}"]
    return ["pretrain", "dit", "--backbone", "nano-wan", "--out", out, *settings]


COMMANDS = [
    Command(
        "data make folders",
        lambda inputs, out: [
            *("data", "make", "rooms", "--out", out, "--scenes", "3", "--layout", "folders"),
            *("--size", "32", "--jobs", "1"),
        ],
        cheap=True,
    ),
    Command(
        "data make re10k, two processes",
        lambda inputs, out: [
            *("data", "make", "rooms", "--out", out, "--scenes", "3", "--frames", "4"),
            *("--size", "32", "--jobs", "2"),
        ],
    ),
    Command(
        "caption",
        lambda inputs, out: [
            *("caption", "--data", "folders", "--data-root", out, "--model", inputs / "vlm"),
            *("--max-new-tokens", "6", "--batch-size", "1"),
        ],
        inputs=_vlm_and_stills,
        within="stills",
        cheap=True,
    ),
    Command("train-3dgs", _train_3dgs, resume=("--resume",), inputs=_clips),
    Command(
        "dense",
        lambda i, o: _dense(i, o, ["depth"]),
        resume=("--resume",),
        inputs=_stills,
    ),
    Command(
        "dense, two tasks, a worker",
        lambda i, o: _dense(i, o, ["depth", "seg"], "train.workers=1"),
        resume=("--resume",),
        inputs=_stills,
    ),
    Command("compare-3dgs", _compare, inputs=_clips),
    Command(
        "reconstruct",
        _reconstruct,
        resume=("--resume",),
        inputs=_capture,
        patched=_without_colmap,
        cheap=True,
    ),
    Command("pretrain vae", _vae, resume=("--resume",), patched=_pretrain, cheap=True),
    Command("pretrain dit", _dit, resume=("--resume",), inputs=_trained_vae, patched=_pretrain),
    Command(
        "predict",
        lambda inputs, out: ["predict", inputs / "run", inputs / "pictures", "--out", out],
        inputs=_head,
    ),
]


def warm_up() -> None:
    """Import what children would import, each for itself."""
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    import diffusers
    import torch.utils.tensorboard

    import mmdiff_video.captioning.run
    import mmdiff_video.dense.run
    import mmdiff_video.nvs.compare
    import mmdiff_video.pretraining.dit
    import mmdiff_video.pretraining.vae
    import mmdiff_video.rooms.make
    import mmdiff_video.scenes.fitting.reconstruct

    assert diffusers
    assert torch
    assert mmdiff_video
