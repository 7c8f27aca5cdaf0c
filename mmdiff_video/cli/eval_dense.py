"""Score a run of dense on held-out pictures. The same as `eval`."""

import argparse

from mmdiff_video.cli._arguments import image_choice_arguments, run_argument

HIDDEN = True


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare what the verb takes."""
    run_argument(parser, "dense")
    image_choice_arguments(parser)


def run(args: argparse.Namespace) -> None:
    """Score."""
    from mmdiff_video.dense.run import score_dense

    print(score_dense(args.run_dir, data_root=args.data_root, max_images=args.max_images))
