"""Turn a video, photographs or a capture into a scene of 3D Gaussians, on this machine's CPU.

examples:
  mmdiff-video reconstruct --example --out scene             a video that comes with the package
  mmdiff-video reconstruct walk.mp4 --out scene              poses, fit, scores, a flight
  mmdiff-video reconstruct walk.mp4 --out scene --time 60    as good as 60 seconds of fit allow
  mmdiff-video reconstruct project/ --out scene              a COLMAP project or transforms.json
  mmdiff-video reconstruct walk.mp4 --out scene --init runs/nano   start from a run's Gaussians
  mmdiff-video reconstruct walk.mp4 --out scene --resume     go on after a stop

DIR receives scene.ply (every viewer opens it), flight.mp4, comparisons.png (held-out pictures
beside the scene and beside a copy of the nearest picture), report.json with the scores,
transforms.json (the cameras), capture/ (a COLMAP project) and previews/. Look at it with
`mmdiff-video view DIR`.

To film: walk sideways, slowly, in good light, past things that stand still.
"""

import argparse
from pathlib import Path

from mmdiff_video.cli._arguments import given, out_argument
from mmdiff_video.cli.capture import capture_arguments


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare what the verb takes."""
    parser.add_argument(
        "source",
        type=Path,
        nargs="?",
        metavar="SOURCE",
        help="a video, a folder of photographs, a COLMAP project, a transforms.json (or its"
        " folder), or a RealEstate10K camera file beside its video (default: none; --example)",
    )
    parser.add_argument(
        "--example",
        action="store_true",
        help="take the video that comes with the package: a walk through a drawn room",
    )
    out_argument(parser, "folder for the scene")
    parser.add_argument("--resume", action="store_true", help="go on with what was begun in DIR")
    fit = parser.add_argument_group("the fit")
    fit.add_argument(
        "--init",
        metavar="START",
        help="what the fit starts from: points (of the capture), chance, or a run folder of"
        " train-3dgs (default: points)",
    )
    length = fit.add_mutually_exclusive_group()
    length.add_argument("--steps", type=int, metavar="N", help="steps of the fit (default: 2000)")
    length.add_argument(
        "--time",
        dest="seconds",
        type=float,
        metavar="SECONDS",
        help="end the fit after so long instead, not counting poses (default: after --steps)",
    )
    fit.add_argument(
        "--max-gaussians",
        type=int,
        metavar="N",
        help="how many Gaussians (default: one for four pixels of a picture, 20000 to 200000)",
    )
    fit.add_argument(
        "--sh-degree",
        type=int,
        metavar="N",
        help="degree of the colours' spherical harmonics, 0 to 3 (default: 3)",
    )
    fit.add_argument(
        "--picture-side",
        type=int,
        metavar="PIXELS",
        help="longest side to which pictures are shrunk for the fit (default: 640)",
    )
    fit.add_argument(
        "--hold-out",
        type=int,
        metavar="N",
        help="keep every Nth picture from the fit and score it; 0 fits all (default: 8)",
    )
    fit.add_argument(
        "--refine-cameras",
        dest="fit_cameras",
        action="store_true",
        help="move the cameras in the fit, too (default: trust the capture)",
    )
    fit.add_argument(
        "--exposures",
        action="store_true",
        help="fit a gain and an offset for each picture, for a camera that changes them",
    )
    fit.add_argument(
        "--engine",
        choices=("auto", "cpu", "gsplat", "torch"),
        help="rasterizer (default: gsplat where there is a GPU, else cpu)",
    )
    fit.add_argument(
        "--flight-frames",
        type=int,
        metavar="N",
        help="frames of flight.mp4, 0 for none (default: 120)",
    )
    parser.add_argument(
        "--heads",
        nargs="+",
        default=[],
        metavar="RUN",
        help="label the scene with runs of dense, as `mmdiff-video lift` does (default: do not)",
    )
    capture_arguments(parser.add_argument_group("the capture"))


def run(args: argparse.Namespace) -> int:
    """Make the scene."""
    from mmdiff_video.cli.capture import capture_settings
    from mmdiff_video.errors import InputError
    from mmdiff_video.resources import example_video
    from mmdiff_video.scenes.fitting.job import Stopped
    from mmdiff_video.scenes.fitting.reconstruct import reconstruct
    from mmdiff_video.scenes.fitting.report import lines
    from mmdiff_video.scenes.fitting.settings import SceneSettings
    from mmdiff_video.scenes.labels.lift import check_heads, lift_scene
    from mmdiff_video.scenes.progress import stage_line

    if (args.source is None) == (not args.example):
        raise InputError("name a video, photographs or a capture, or take --example")
    names = ("init", "steps", "seconds", "max_gaussians", "sh_degree", "picture_side", "hold_out")
    settings = SceneSettings(
        **given(args, *names, "engine", "flight_frames", "seed"),
        refine_poses=args.fit_cameras,
        exposures=args.exposures,
    )
    if args.heads:
        check_heads(args.heads)
    try:
        report = reconstruct(
            args.source or example_video(),
            args.out,
            capture_settings(args),
            settings,
            resume=args.resume,
            progress=stage_line,
        )
    except Stopped as stopped:
        print(f"{stopped}: go on with the same command and --resume")
        return 130
    print(lines(report, args.out))
    if args.heads:
        print(lift_scene(args.out, args.heads))
    return 0
