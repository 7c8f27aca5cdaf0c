"""Train and score latent against features under equal settings (the paper's Table 9).

Three runs: the latent, the latent with a trunk widened to the parameter count of the features run,
and the aggregated features. A comparison that was stopped goes on with the same command.
"""

import argparse

from mmdiff_video.cli._arguments import out_argument, overrides, reading_arguments


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare what the verb takes."""
    reading_arguments(parser, data="re10k or rooms", backbone="nano-wan")
    out_argument(parser, "folder for the three runs, the tables and pictures")


def run(args: argparse.Namespace) -> None:
    """Compare."""
    from mmdiff_video.nvs.compare import compare_3dgs
    from mmdiff_video.nvs.setup import resolve_config

    print(compare_3dgs(resolve_config(args.config, overrides(args)), args.out))
