"""The verbs around data sets."""

import argparse
from pathlib import Path

from mmdiff_video.cli.arguments import out_file, out_folder, size, verb
from mmdiff_video.errors import InputError


def add_verbs(verbs) -> None:
    """Add the verbs to the parser."""
    data = verbs.add_parser("data", help="list, check and make data sets")
    actions = data.add_subparsers(title="actions", required=True, metavar="ACTION")
    verb(actions, "list", _data_list, "list the data sets there are cards for")
    show = verb(actions, "show", _data_show, "say where to get a data set and how it must lie")
    show.add_argument("name", help="a data set, for instance re10k")
    show.add_argument(
        "--sheet",
        type=out_file(".png", ".jpg", ".jpeg"),
        metavar="FILE.png",
        help="draw rooms with depth, labels, captions",
    )
    show.add_argument("--scenes", type=int, default=6, metavar="N", help="rooms on the sheet (6)")
    show.add_argument("--seed", type=int, default=0, help="of the rooms (0)")
    show.add_argument("--size", type=int, default=160, metavar="PIXELS", help="of a picture (160)")
    check = verb(
        actions,
        "check",
        _data_check,
        "validate every clip's cameras and video, or every picture and its labels",
        "Draws the camera paths of clips. Exit status 2 when nothing is usable.",
    )
    check.add_argument("name", help="a data set, for instance re10k")
    check.add_argument("--data-root", type=Path, metavar="DIR", help="where the data lies")
    check.add_argument(
        "--out", type=out_folder, default=Path("data-check"), help="folder for report + PNG"
    )
    make = verb(
        actions,
        "make",
        _data_make,
        "draw procedural rooms into a folder, on all cores",
        """\
examples:
  mmdiff-video data make rooms --out rooms --scenes 200                  posed clips
  mmdiff-video data make rooms --out rooms-voc --scenes 2000 --layout voc --size 256

Layouts: re10k (cameras, mp4), voc (labels), nyu (depth), duts (saliency), folders (all
labels); captions.jsonl beside each. A run that was stopped goes on with the same command.""",
    )
    make.add_argument("name", choices=("rooms",), help="what to draw")
    make.add_argument(
        "--out", type=out_folder, required=True, metavar="DIR", help="the data's folder"
    )
    make.add_argument("--scenes", type=int, default=100, metavar="N", help="rooms (100)")
    make.add_argument("--seed", type=int, default=0, help="of the rooms (0)")
    make.add_argument(
        "--layout", default="re10k", help="re10k (default), voc, nyu, duts or folders"
    )
    make.add_argument(
        "--frames", type=int, metavar="F", help="per room (40 for clips, 1 for pictures)"
    )
    make.add_argument(
        "--size", type=size, default=(256, 256), metavar="WxH", help="pixels (256, or 320x180)"
    )
    make.add_argument("--jobs", type=int, metavar="N", help="processes (one per core)")

    caption = verb(
        verbs,
        "caption",
        _caption,
        "write captions of a data set's pictures and clips with a vision-language model",
        """\
examples:
  mmdiff-video caption --data voc --data-root DIR
  mmdiff-video caption --data folders --data-root DIR --limit 8          look at a few first
  mmdiff-video caption --data re10k --data-root DIR --model ./gemma-3-4b-it --batch-size 16

Adds {"key": ..., "caption": ..., "model": ...} lines to captions.jsonl in the data root, where
training, evaluation and `data check` look for it: a caption prompts the backbone with what it is
shown. What has a line is left alone, so a run that was stopped goes on with the same command, and
captions of your own stay; delete the file (or lines of it) to have others written.

Of pictures, every split is captioned; of clips, the middle frame of those that training and
evaluation take by default. Pictures that cannot be read are skipped and named.

The default model is the paper's, gated (accept its licence on the hub, then `hf auth login`), and
takes 9 GB of memory. Any image-text-to-text model of transformers with a chat template does, a
smaller one on a laptop: --model HuggingFaceTB/SmolVLM-256M-Instruct.""",
    )
    caption.add_argument(
        "--data", required=True, metavar="NAME", help="a data set: voc, duts, nyu, folders, re10k"
    )
    caption.add_argument("--data-root", type=Path, metavar="DIR", help="the folder it lies in")
    caption.add_argument(
        "--model", metavar="MODEL", help="a hub id or a local folder (google/gemma-3-4b-it)"
    )
    caption.add_argument("--instruction", metavar="TEXT", help="what the model is told")
    caption.add_argument(
        "--max-new-tokens", type=int, metavar="N", help="longest caption, in tokens (96)"
    )
    caption.add_argument("--batch-size", type=int, metavar="N", help="pictures in one go (4)")
    caption.add_argument("--limit", type=int, metavar="N", help="at most N pictures in this run")


def _data_list(args: argparse.Namespace) -> None:
    from mmdiff_video.datasets.catalogue import list_datasets

    print(list_datasets())


def _data_show(args: argparse.Namespace) -> None:
    from mmdiff_video.datasets.catalogue import show_dataset

    if args.sheet is None:
        print(show_dataset(args.name))
        return
    if args.name != "rooms":
        raise InputError(f"--sheet draws generated data (rooms), not '{args.name}'")
    from mmdiff_video.rooms.sheet import draw_sheet

    draw_sheet(args.sheet, scenes=args.scenes, seed=args.seed, size=args.size)


def _data_check(args: argparse.Namespace) -> int:
    from mmdiff_video.rooms.check import check_any

    report = check_any(args.name, args.data_root, args.out)
    return 0 if report.usable else 2


def _data_make(args: argparse.Namespace) -> None:
    from mmdiff_video.rooms.make import make_rooms

    make_rooms(
        args.out,
        layout=args.layout,
        scenes=args.scenes,
        seed=args.seed,
        frames=args.frames,
        width=args.size[0],
        height=args.size[1],
        jobs=args.jobs,
    )
    print(f"{args.scenes} rooms in layout {args.layout} are in {args.out}")


def _caption(args: argparse.Namespace) -> int:
    from mmdiff_video.captioning.run import caption_dataset

    settings = {
        name: getattr(args, name)
        for name in ("model", "instruction", "max_new_tokens", "batch_size", "limit")
        if getattr(args, name) is not None
    }
    report = caption_dataset(args.data, args.data_root, **settings)
    print(report)
    return 0 if report.captioned else 2
