"""Make a backbone's diffusers folder of a run of `pretrain dit`.

example:
  mmdiff-video pretrain export runs/nano-wan-dit --out nano-wan
  mmdiff-video taps ./nano-wan
"""

import argparse

from mmdiff_video.cli._arguments import out_argument, run_argument


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare what the action takes."""
    run_argument(parser, "pretrain dit", data_root=False)
    out_argument(parser, "a new folder, to be made")


def run(args: argparse.Namespace) -> None:
    """Export."""
    from mmdiff_video.pretraining.export import export_backbone

    export_backbone(args.run_dir, args.out)
