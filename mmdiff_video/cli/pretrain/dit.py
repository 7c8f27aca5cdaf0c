"""Train a DiT and its text encoders on the latents of a finished VAE.

example:
  mmdiff-video pretrain dit --backbone nano-wan --out runs/nano-wan-dit vae=runs/nano-wan-vae

Encodes the corpus first, unless its latents are there. The run folder is as for a VAE, with sample
sheets as previews and the validation loss of right, shuffled and empty captions in metrics.jsonl.
A run that was stopped goes on with the same command and --resume.
"""

import argparse

from mmdiff_video.cli._arguments import pretraining_arguments


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare what the action takes."""
    pretraining_arguments(parser, "a backbone's folder, as `pretrain export` writes it")


def run(args: argparse.Namespace) -> None:
    """Train."""
    from mmdiff_video.pretraining.config import dit_config
    from mmdiff_video.pretraining.dit import train_dit
    from mmdiff_video.training import processes

    config = dit_config(args.backbone, args.config, args.overrides)
    train_dit(config, args.out, resume=args.resume, init=args.init)
    processes().destroy_process_group()
