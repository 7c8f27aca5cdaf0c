"""Train a latent-to-3DGS decoder on posed clips.

examples:
  laptop   mmdiff-video train-3dgs --data re10k --data-root DIR --out runs/nano cache.dir=cache
  GPU      mmdiff-video train-3dgs --data re10k --data-root DIR --backbone wan --out runs/wan
  8 GPUs   accelerate launch --multi_gpu --num_processes 8 -m mmdiff_video train-3dgs ...

The run folder receives config.yaml, run.json, checkpoints/, metrics.jsonl, TensorBoard events and
previews/. A run that was stopped goes on with the same command and --resume.
"""

import argparse

from mmdiff_video.cli._arguments import overrides, reading_arguments, training_arguments


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare what the verb takes."""
    reading_arguments(parser, data="re10k or rooms", backbone="nano-wan")
    training_arguments(parser, "decoder")


def run(args: argparse.Namespace) -> None:
    """Train."""
    from mmdiff_video.nvs.setup import resolve_config
    from mmdiff_video.nvs.train import train_3dgs
    from mmdiff_video.training import processes

    train_3dgs(resolve_config(args.config, overrides(args)), args.out, resume=args.resume)
    processes().destroy_process_group()
