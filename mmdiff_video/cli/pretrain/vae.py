"""Train a VAE, the first half of a backbone.

example:
  mmdiff-video pretrain vae --backbone nano-wan --out runs/nano-wan-vae

Renders the corpus first, unless it is there. The run folder receives config.yaml, a folder for each
stage (checkpoints, metrics.jsonl, previews) and, at the end, vae/ and report.json.
A run that was stopped goes on with the same command and --resume.
"""

import argparse

from mmdiff_video.cli._arguments import pretraining_arguments


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare what the action takes."""
    pretraining_arguments(parser, "a finished run, or a backbone's folder")


def run(args: argparse.Namespace) -> None:
    """Train."""
    from mmdiff_video.pretraining.config import vae_config
    from mmdiff_video.pretraining.vae import train_vae
    from mmdiff_video.training import processes

    config = vae_config(args.backbone, args.config, args.overrides)
    train_vae(config, args.out, resume=args.resume, init=args.init)
    processes().destroy_process_group()
