"""Upload the head of a run of dense to the Hugging Face Hub.

example:
  mmdiff-video push runs/depth me/depth-of-rooms
  mmdiff-video predict me/depth-of-rooms photo.jpg --out predictions

Config, facts and weights of the head are uploaded, without the frozen backbone and without the path
of the training data. Log in first: `hf auth login`.
"""

import argparse

from mmdiff_video.cli._arguments import run_argument


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare what the verb takes."""
    run_argument(parser, "dense for one task", data_root=False)
    parser.add_argument("repo", metavar="OWNER/NAME", help="repository, made where it is missing")
    parser.add_argument(
        "--public", action="store_true", help="make a new repository public (default: private)"
    )


def run(args: argparse.Namespace) -> None:
    """Upload."""
    from mmdiff_video.dense.saved import push_to_hub

    print(push_to_hub(args.run_dir, args.repo, private=not args.public))
