"""Look at a scene in the browser, or make a page of it.

what can be looked at:
  a scene folder, a file of Gaussians (.ply, .spz, .splat), a run of train-3dgs (one clip of its
  data), or a capture (a COLMAP project, or a transforms.json): its cameras and points.

examples:
  mmdiff-video view scenes/kitchen
  mmdiff-video view scenes/kitchen/scene.ply --html kitchen.html
  mmdiff-video view runs/nano --clip KEY
"""

import argparse
from pathlib import Path

from mmdiff_video.cli._arguments import data_root_argument, out_file, split_argument


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare what the verb takes."""
    parser.add_argument(
        "path",
        type=Path,
        metavar="SCENE",
        help="a scene, a file of Gaussians, a run of train-3dgs, or a capture",
    )
    parser.add_argument(
        "--html",
        type=out_file(".html", ".htm"),
        metavar="FILE.html",
        help="write one page that needs no server and no network (default: serve the scene)",
    )
    parser.add_argument(
        "--host",
        default="127.0.0.1",
        metavar="ADDRESS",
        help="address to listen on; 0.0.0.0 lets all machines of the network look (default:"
        " 127.0.0.1, this machine alone)",
    )
    parser.add_argument(
        "--port",
        type=_port,
        metavar="N",
        help="port to listen on, 0 for any (default: the first from 8080 on that is free)",
    )
    parser.add_argument(
        "--no-cameras", action="store_true", help="leave out the pictures and their cameras"
    )
    parser.add_argument(
        "--most-gaussians",
        type=_count,
        metavar="N",
        help="show N Gaussians at most, the largest and most opaque (default: all)",
    )
    of_runs = parser.add_argument_group("of a run")
    of_runs.add_argument(
        "--clip", metavar="KEY", help="clip of its data (default: the first of the split)"
    )
    split_argument(of_runs, "split of the data that the clip is in")
    data_root_argument(of_runs, "the folder its data lies in now (default: where the run found it)")


def run(args: argparse.Namespace) -> None:
    """Look."""
    from mmdiff_video.scenes.look.content import load_content
    from mmdiff_video.scenes.look.page import write_page
    from mmdiff_video.scenes.look.serve import serve
    from mmdiff_video.scenes.look.stage import import_viser

    import_viser()
    content = load_content(
        args.path, clip=args.clip, split=args.split or "test", data_root=args.data_root
    )
    what = {"frusta": not args.no_cameras, "most_gaussians": args.most_gaussians}
    if args.html is not None:
        write_page(content, args.html, **what)
    else:
        serve(content, host=args.host, port=args.port, **what)


def _port(text: str) -> int:
    if not text.isdecimal() or int(text) > 65535:
        raise argparse.ArgumentTypeError(f"'{text}' is no port: those are 0 to 65535")
    return int(text)


def _count(text: str) -> int:
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"'{text}' is no number of Gaussians: give 1 or more")
    return int(text)
