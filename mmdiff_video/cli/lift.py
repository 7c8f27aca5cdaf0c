"""Label a scene: what dense heads see in its pictures, on its Gaussians.

example:
  mmdiff-video dense --task seg --data rooms --out runs/seg
  mmdiff-video lift kitchen --heads runs/seg
  mmdiff-video lift kitchen --heads runs/seg runs/normals runs/depth

SCENE is a folder that `mmdiff-video reconstruct` made. Each head looks at every picture of it; a
Gaussian gets the mean of what is seen at the pixels that it draws, weighted by how much of each it
draws. No optimisation, nothing is learnt. Views correct each other: the labels are the same from
everywhere. Classes are fused as probabilities, saliency as it is, normals in the axes of the world;
a depth head is not fused but compared with the depth of the scene.

SCENE/labels.safetensors has the labels of each Gaussian, which `mmdiff-video view` shows;
labelled.ply is the scene in their colours, for any viewer; labels/ has maps of some views, and
labels/sheet.png beside the pictures and what the heads saw; lift.json says how far the labels agree
with the heads, on held-out pictures too if the scene has some, and how much is of which class. What
an earlier lift wrote is replaced.
"""

import argparse
from pathlib import Path


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare what the verb takes."""
    parser.add_argument("scene", type=Path, metavar="SCENE", help="the folder of a scene")
    parser.add_argument(
        "--heads",
        nargs="+",
        required=True,
        metavar="RUN",
        help="run folders of dense, or Hub ids: one for each of seg, saliency, normals, depth",
    )
    parser.add_argument(
        "--longest-side",
        type=int,
        default=640,
        metavar="N",
        help="pixels of the longer side at which labels are fused, if pictures are larger"
        " (default: 640)",
    )
    parser.add_argument(
        "--prompt", metavar="TEXT", help="what the pictures show (default: each run's prompt)"
    )


def run(args: argparse.Namespace) -> None:
    """Label."""
    from mmdiff_video.scenes.labels.lift import lift_scene

    report = lift_scene(args.scene, args.heads, longest_side=args.longest_side, prompt=args.prompt)
    print(report)
