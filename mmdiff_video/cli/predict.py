"""Predict for pictures, folders of pictures and videos.

example:
  mmdiff-video predict runs/depth photo.jpg holidays/ walk.mp4 --out predictions

Each picture gives OUT/NAME.png (depth in 16-bit millimetres, palette labels, 8-bit saliency,
normals in 3 times 16 bits) and OUT/NAME_overlay.png; one of a folder gives OUT/FOLDER/NAME.png and
so on. Each video gives a folder of such pictures, one a frame, and NAME_overlay.mp4. A video
backbone sees many frames at once. With a run of several tasks, all of this lies in OUT/TASK for
each task. Depth that goes beyond 65.5 m is NAME.npy, float32 metres.

OUT/report.json lists what was written, and what was skipped and why: what is wrong with one input
does not stop the others. Results of inputs of one name get a number.
"""

import argparse
from pathlib import Path

from mmdiff_video.cli._arguments import out_argument


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare what the verb takes."""
    parser.add_argument("run_dir", metavar="RUN", help="a run folder of dense, or a Hub id")
    parser.add_argument(
        "paths", nargs="+", type=Path, metavar="PATH", help="pictures, folders of them, videos"
    )
    out_argument(parser, "folder for the predictions", metavar="OUT")
    parser.add_argument(
        "--prompt", metavar="TEXT", help="what the pictures show (default: the run's prompt)"
    )


def run(args: argparse.Namespace) -> int:
    """Predict."""
    from mmdiff_video.dense.run import predict_with

    reports = predict_with(args.run_dir, args.paths, args.out, prompt=args.prompt)
    print("\n".join(map(str, reports)))
    return 0 if all(report.written for report in reports) else 2
