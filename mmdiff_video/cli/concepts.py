"""Draw where the words of a list lie in a picture, as the backbone sees it.

examples:
  mmdiff-video concepts --prompt "a red ball on a table" --concepts ball,table,wall --out maps
  mmdiff-video concepts --image photo.jpg --backbone flux --concepts cat,sofa,background --out maps

FLUX and Stable Diffusion 3.5: concept attention, by the first (SD 3.5: last) token of each concept.
Wan: cross-attention, one map a latent frame. --concepts "<prompt>" draws the attention to the
prompt's own words instead. Each map is stretched to its own range, which the sheet DIR/concepts.png
states.
"""

import argparse
from pathlib import Path

from mmdiff_video.cli._arguments import names, out_argument, seed_argument


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare what the verb takes."""
    parser.add_argument(
        "--concepts", required=True, type=names, metavar="A,B,C", help="two words or more"
    )
    parser.add_argument(
        "--prompt",
        metavar="TEXT",
        help="what is sampled, or what the image shows (default: nothing)",
    )
    parser.add_argument(
        "--image",
        type=Path,
        metavar="FILE",
        help="a picture to look at (default: one is sampled from the prompt)",
    )
    parser.add_argument(
        "--backbone",
        default="nano-flux",
        metavar="NAME",
        help="backbone that looks at it (default: nano-flux)",
    )
    parser.add_argument(
        "--blocks",
        type=names,
        metavar="A,B,C",
        help="blocks to average over, such as double.15 or -1 (default: all)",
    )
    seed_argument(parser, "the noise")
    out_argument(parser, "folder for the maps and the sheet")


def run(args: argparse.Namespace) -> None:
    """Draw."""
    from mmdiff_video.features.concept_pictures import draw_concepts

    files = draw_concepts(
        args.concepts,
        args.out,
        prompt=args.prompt,
        image=args.image,
        backbone=args.backbone,
        blocks=args.blocks,
        seed=args.seed,
    )
    print("\n".join(map(str, files)))
