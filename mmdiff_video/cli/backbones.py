"""The verbs that look into a backbone."""

import argparse
from pathlib import Path

from mmdiff_video.cli.arguments import FRAMES, SIDES, out_folder, verb


def add_verbs(verbs) -> None:
    """Add the verbs to the parser."""
    taps = verb(
        verbs,
        "taps",
        _taps,
        "print the blocks of a backbone that can be tapped, and what a tap costs",
        "Loads no weights. Names: wan, wan-14b, flux, flux-schnell, nano-wan, nano-flux, a hub id, "
        "or a local diffusers folder.",
    )
    taps.add_argument(
        "backbone", nargs="?", default="nano-wan", metavar="NAME", help="one of them (nano-wan)"
    )
    for name, what in (("frames", FRAMES), ("height", SIDES), ("width", SIDES)):
        taps.add_argument(
            f"--{name}", type=int, metavar="N", help=f"{what} (default: what the backbone is for)"
        )

    concepts = verb(
        verbs,
        "concepts",
        _concepts,
        "draw where the words of a list lie in a picture, as the backbone sees it",
        """\
examples:
  mmdiff-video concepts --prompt "a red ball on a table" --concepts ball,table,wall --out maps
  mmdiff-video concepts --image photo.jpg --backbone flux --concepts cat,sofa,background --out maps

FLUX: concept attention, by the first token of each concept. Wan: cross-attention, one map a latent
frame. --concepts "<prompt>" draws the attention to the prompt's own words instead. Each map is
stretched to its own range, which the sheet DIR/concepts.png states.""",
    )
    concepts.add_argument("--concepts", required=True, metavar="A,B,C", help="two words or more")
    concepts.add_argument("--prompt", help="what to draw, or what the image shows")
    concepts.add_argument("--image", type=Path, metavar="FILE", help="look at this, draw nothing")
    concepts.add_argument(
        "--backbone", default="nano-flux", metavar="NAME", help="which sees it (nano-flux)"
    )
    concepts.add_argument(
        "--blocks", metavar="A,B,C", help="average over these blocks: double.15, -1 (default: all)"
    )
    concepts.add_argument("--seed", type=int, default=0, help="of the noise (0)")
    concepts.add_argument(
        "--out", type=out_folder, required=True, metavar="DIR", help="for the maps and the sheet"
    )


def _taps(args: argparse.Namespace) -> None:
    from mmdiff_video.backbones import describe_taps

    print(describe_taps(args.backbone, frames=args.frames, height=args.height, width=args.width))


def _concepts(args: argparse.Namespace) -> None:
    from mmdiff_video.features.concept_pictures import draw_concepts

    files = draw_concepts(
        args.concepts.split(","),
        args.out,
        prompt=args.prompt,
        image=args.image,
        backbone=args.backbone,
        blocks=args.blocks.split(",") if args.blocks else None,
        seed=args.seed,
    )
    print("\n".join(map(str, files)))
