"""Sample a picture or clip, with its dense maps in the same pass.

example:
  mmdiff-video generate --prompt "A red sofa." --heads runs/seg runs/depth --out sofa

Writes sample.png (or .mp4), for each head what `predict` writes, and report.json. The heads read
the sampling run itself, and the sample is the same as without them.
"""

import argparse

from mmdiff_video.cli._arguments import (
    FRAMES,
    SIDES,
    out_argument,
    seed_argument,
    size_argument,
)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare what the verb takes."""
    own = "(default: the backbone's own)"
    parser.add_argument("--prompt", required=True, metavar="TEXT", help="what the sample shows")
    parser.add_argument(
        "--heads",
        nargs="*",
        default=[],
        metavar="RUN",
        help="run folders of dense or Hub ids, on one backbone (default: none, the sample alone)",
    )
    parser.add_argument(
        "--backbone", metavar="NAME", help="what samples (default: the heads', or nano-flux)"
    )
    out_argument(parser, "folder for the sample and its maps")
    size_argument(parser, f"pixels of the sample, {SIDES} {own}", old_spelling=True)
    parser.add_argument(
        "--frames", type=int, metavar="N", help=f"frames of the sample: {FRAMES} {own}"
    )
    parser.add_argument("--steps", type=int, metavar="N", help=f"steps of the sampler {own}")
    parser.add_argument(
        "--guidance", type=float, metavar="G", help=f"how strictly it keeps to the prompt {own}"
    )
    seed_argument(parser, "the noise")


def run(args: argparse.Namespace) -> None:
    """Sample."""
    from mmdiff_video.dense.generate import SampleConfig, generate_dense

    sample = SampleConfig(
        height=args.height,
        width=args.width,
        frames=args.frames,
        steps=args.steps,
        guidance=args.guidance,
        seed=args.seed,
    )
    files = generate_dense(args.prompt, args.heads, args.out, backbone=args.backbone, sample=sample)
    print("\n".join(map(str, files)))
