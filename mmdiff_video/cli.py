"""The ``mmdiff-video`` command: one thin function per verb, no logic.

Heavy imports happen inside the verbs, so that ``--help`` answers at once.
"""

import argparse
import logging
import sys
from collections.abc import Sequence
from pathlib import Path

from mmdiff_video import __version__
from mmdiff_video.errors import InputError

_OVERRIDES_HELP = "config overrides, for instance train.steps=500 decoder.width=256"


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line; returns the exit status (2 for a user's mistake)."""
    args = _parse(argv)
    logging.basicConfig(level=logging.INFO, format="%(message)s", stream=sys.stderr)
    for noisy in ("httpx", "PIL", "matplotlib", "torch.distributed"):
        logging.getLogger(noisy).setLevel(logging.WARNING)
    try:
        return args.run(args) or 0
    except InputError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        return 130


def _train(args: argparse.Namespace) -> None:
    from mmdiff_video.nvs.setup import resolve_config
    from mmdiff_video.nvs.train import train_3dgs
    from mmdiff_video.training import processes

    train_3dgs(resolve_config(args.config, _overrides(args)), args.out, resume=args.resume)
    processes().destroy_process_group()


def _eval(args: argparse.Namespace) -> None:
    from mmdiff_video.nvs.evaluate import eval_3dgs

    table = eval_3dgs(
        args.run_dir,
        split=args.split,
        data_root=args.data_root,
        max_clips=args.max_clips,
        eval_index=args.eval_index,
    )
    print(table)


def _render(args: argparse.Namespace) -> None:
    from mmdiff_video.nvs.render import render_scene

    render_scene(
        args.run_dir,
        scene=args.scene,
        trajectory=args.trajectory,
        out=args.out,
        ply=args.ply,
        depth=args.depth,
        data_root=args.data_root,
        split=args.split,
        num_frames=args.frames,
        fps=args.fps,
        scale=args.scale,
    )


def _compare(args: argparse.Namespace) -> None:
    from mmdiff_video.nvs.compare import compare_3dgs
    from mmdiff_video.nvs.setup import resolve_config

    print(compare_3dgs(resolve_config(args.config, _overrides(args)), args.out))


def _dense(args: argparse.Namespace) -> None:
    from mmdiff_video.dense.evaluate import eval_dense
    from mmdiff_video.dense.multitask import parse_task, train_tasks
    from mmdiff_video.dense.setup import resolve_dense_config
    from mmdiff_video.training import processes

    tasks = [parse_task(text) for text in args.task]
    config = resolve_dense_config(args.config, [f"task={tasks[0].task}", *_overrides(args)])
    result, folders = train_tasks(config, tasks, args.out, resume=args.resume)
    if result.finished and processes().is_main_process:
        for folder in folders:
            print(eval_dense(folder))
    processes().destroy_process_group()


def _eval_dense(args: argparse.Namespace) -> None:
    from mmdiff_video.dense.evaluate import eval_dense

    print(eval_dense(args.run_dir, data_root=args.data_root, max_images=args.max_images))


def _predict(args: argparse.Namespace) -> int:
    from mmdiff_video.dense.predict import predict_paths

    report = predict_paths(args.run_dir, args.paths, args.out, prompt=args.prompt)
    print(report)
    return 0 if report.written else 2


def _generate(args: argparse.Namespace) -> None:
    from mmdiff_video.dense.generate import SampleConfig, generate_dense

    sample = SampleConfig(
        height=args.height,
        width=args.width,
        frames=args.frames,
        steps=args.steps,
        guidance=args.guidance,
        seed=args.seed,
    )
    for file in generate_dense(
        args.prompt, args.heads, args.out, backbone=args.backbone, sample=sample
    ):
        print(file)


def _taps(args: argparse.Namespace) -> None:
    from mmdiff_video.backbones import describe_taps

    print(describe_taps(args.backbone, frames=args.frames, height=args.height, width=args.width))


def _concepts(args: argparse.Namespace) -> None:
    from mmdiff_video.concept_pictures import draw_concepts

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
    from mmdiff_video.datasets.rooms.sheet import draw_sheet

    draw_sheet(args.sheet, scenes=args.scenes, seed=args.seed, size=args.size)


def _data_check(args: argparse.Namespace) -> int:
    from mmdiff_video.datasets.catalogue import check_any

    report = check_any(args.name, args.data_root, args.out)
    return 0 if report.usable else 2


def _data_make(args: argparse.Namespace) -> None:
    from mmdiff_video.datasets.rooms.make import make_rooms

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


def _pretrain_vae(args: argparse.Namespace) -> None:
    from mmdiff_video.pretraining.config import vae_config
    from mmdiff_video.pretraining.vae import train_vae
    from mmdiff_video.training import processes

    config = vae_config(args.backbone, args.config, args.overrides)
    train_vae(config, args.out, resume=args.resume, init=args.init)
    processes().destroy_process_group()


def _pretrain_dit(args: argparse.Namespace) -> None:
    from mmdiff_video.pretraining.config import dit_config
    from mmdiff_video.pretraining.dit import train_dit
    from mmdiff_video.training import processes

    config = dit_config(args.backbone, args.config, args.overrides)
    train_dit(config, args.out, resume=args.resume, init=args.init)
    processes().destroy_process_group()


def _pretrain_export(args: argparse.Namespace) -> None:
    from mmdiff_video.pretraining.export import export_backbone

    export_backbone(args.run_dir, args.out)


def _doctor(args: argparse.Namespace) -> int:
    from mmdiff_video.doctor import run_doctor

    report, healthy = run_doctor()
    print(report)
    return 0 if healthy else 1


def _demo(args: argparse.Namespace) -> None:
    from mmdiff_video.demo import run_demo

    run_demo(args.out)


def _parse(argv: Sequence[str] | None) -> argparse.Namespace:
    """Parse, letting ``key=value`` stand before, between and after the flags."""
    parser = _parser()
    args, rest = parser.parse_known_args(argv)
    stray = [r for r in rest if r.startswith("-") or "=" not in r or not hasattr(args, "overrides")]
    if stray:
        parser.error(f"unrecognized arguments: {' '.join(stray)}")
    if rest:
        args.overrides += rest
    return args


def _overrides(args: argparse.Namespace) -> list[str]:
    """Turn the flags into config overrides; what is typed as key=value wins over them."""
    flags = {
        "data.name": args.data,
        "data.root": args.data_root,
        "backbone.name": args.backbone,
        "input": getattr(args, "input", None),
    }
    return [f"{key}={value}" for key, value in flags.items() if value is not None] + args.overrides


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="mmdiff-video",
        description="Turn frozen diffusion transformers into 3D and dense-perception models.",
        epilog="Start with `mmdiff-video demo`, which needs no download, or `mmdiff-video doctor`.",
    )
    parser.add_argument("--version", action="version", version=f"mmdiff-video {__version__}")
    verbs = parser.add_subparsers(title="commands", required=True, metavar="COMMAND")

    train = _verb(
        verbs,
        "train-3dgs",
        _train,
        "train a latent-to-3DGS decoder on posed clips",
        """\
examples:
  laptop   mmdiff-video train-3dgs --data re10k --data-root DIR --out runs/nano cache.dir=cache
  GPU      mmdiff-video train-3dgs --data re10k --data-root DIR --backbone wan --out runs/wan
  8 GPUs   accelerate launch --multi_gpu --num_processes 8 -m mmdiff_video \\
               train-3dgs --data re10k --data-root DIR --backbone wan --out runs/wan

The run folder receives config.yaml, checkpoints/, metrics.jsonl, TensorBoard events and previews/.
A run that was stopped goes on with the same command and --resume.""",
    )
    _task_arguments(train)
    train.add_argument(
        "--input",
        choices=("features", "latent"),
        help="what the decoder reads: aggregated taps (default) or the latent (the baseline)",
    )
    train.add_argument("--out", type=Path, required=True, metavar="RUN", help="run folder")
    train.add_argument("--resume", action="store_true", help="go on from the newest checkpoint")

    evaluate = _verb(
        verbs,
        "eval-3dgs",
        _eval,
        "score held-out views of a trained run: PSNR, SSIM, LPIPS",
        "Writes RUN/eval.json and side-by-side pictures in RUN/eval/.",
    )
    _run_arguments(evaluate)
    evaluate.add_argument("--max-clips", type=int, metavar="N", help="a seeded choice of N clips")
    evaluate.add_argument(
        "--eval-index", type=Path, metavar="FILE", help="pixelSplat's evaluation index (JSON)"
    )

    render = _verb(
        verbs,
        "render",
        _render,
        "render a clip's Gaussians along a camera trajectory",
        """\
example:
  mmdiff-video render runs/nano --scene KEY --trajectory orbit --out orbit.mp4 --ply scene.ply

An unknown --scene lists the keys there are.""",
    )
    _run_arguments(render)
    render.add_argument("--scene", metavar="KEY", help="clip to reconstruct (default: the first)")
    render.add_argument(
        "--trajectory", default="interpolate", help="interpolate (default), orbit or spiral"
    )
    render.add_argument("--out", type=Path, required=True, metavar="VIDEO.mp4")
    render.add_argument("--ply", type=Path, metavar="SCENE.ply", help="also save the Gaussians")
    render.add_argument("--depth", action="store_true", help="put the depth beside the picture")
    render.add_argument("--frames", type=int, default=60, help="frames of the video (60)")
    render.add_argument("--fps", type=int, default=20)
    render.add_argument(
        "--scale", type=int, metavar="N", help="draw N times larger than the input frames"
    )

    compare = _verb(
        verbs,
        "compare-3dgs",
        _compare,
        "train and score latent against features under equal settings (the paper's Table 9)",
        """\
Three runs: the latent, the latent with a trunk widened to the parameter count of the features run,
and the aggregated features. A comparison that was stopped goes on with the same command.""",
    )
    _task_arguments(compare)
    compare.add_argument(
        "--out", type=Path, required=True, metavar="DIR", help="folder of the runs"
    )

    _dense_verbs(verbs)

    taps = _verb(
        verbs,
        "taps",
        _taps,
        "print the blocks of a backbone that can be tapped, and what a tap costs",
        "Loads no weights. Names: wan, wan-14b, flux, flux-schnell, nano-wan, nano-flux, a hub id, "
        "or a local diffusers folder.",
    )
    taps.add_argument("backbone", nargs="?", default="nano-wan")
    taps.add_argument("--frames", type=int)
    taps.add_argument("--height", type=int)
    taps.add_argument("--width", type=int)

    concepts = _verb(
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
    concepts.add_argument("--backbone", default="nano-flux", metavar="NAME")
    concepts.add_argument(
        "--blocks", metavar="A,B,C", help="average over these blocks: double.15, -1 (default: all)"
    )
    concepts.add_argument("--seed", type=int, default=0)
    concepts.add_argument("--out", type=Path, required=True, metavar="DIR")

    data = verbs.add_parser("data", help="list, check and make data sets")
    actions = data.add_subparsers(title="actions", required=True, metavar="ACTION")
    _verb(actions, "list", _data_list, "list the data sets there are cards for")
    show = _verb(actions, "show", _data_show, "say where to get a data set and how it must lie")
    show.add_argument("name", help="a data set, for instance re10k")
    show.add_argument(
        "--sheet", type=Path, metavar="FILE.png", help="draw rooms with depth, labels, captions"
    )
    show.add_argument("--scenes", type=int, default=6, metavar="N", help="rooms on the sheet (6)")
    show.add_argument("--seed", type=int, default=0)
    show.add_argument("--size", type=int, default=160, metavar="PIXELS", help="of a picture (160)")
    check = _verb(
        actions,
        "check",
        _data_check,
        "validate every clip's cameras and video, or every picture and its labels",
        "Draws the camera paths of clips. Exit status 2 when nothing is usable.",
    )
    check.add_argument("name", help="a data set, for instance re10k")
    check.add_argument("--data-root", type=Path, metavar="DIR")
    check.add_argument(
        "--out", type=Path, default=Path("data-check"), help="folder for report + PNG"
    )
    make = _verb(
        actions,
        "make",
        _data_make,
        "draw procedural rooms into a folder, on all cores",
        """\
examples:
  mmdiff-video data make rooms --out rooms --scenes 200                  posed clips
  mmdiff-video data make rooms --out rooms-voc --scenes 2000 --layout voc --size 256

Layouts: re10k (cameras, mp4, depth), voc (labels), nyu (depth), duts (saliency), folders (all
three); captions.jsonl beside each. A run that was stopped goes on with the same command.""",
    )
    make.add_argument("name", choices=("rooms",))
    make.add_argument("--out", type=Path, required=True, metavar="DIR")
    make.add_argument("--scenes", type=int, default=100, metavar="N", help="rooms (100)")
    make.add_argument("--seed", type=int, default=0, help="of the rooms (0)")
    make.add_argument(
        "--layout", default="re10k", help="re10k (default), voc, nyu, duts or folders"
    )
    make.add_argument(
        "--frames", type=int, metavar="F", help="per room (40 for clips, 1 for pictures)"
    )
    make.add_argument(
        "--size", type=_size, default=(256, 256), metavar="WxH", help="pixels (256, or 320x180)"
    )
    make.add_argument("--jobs", type=int, metavar="N", help="processes (one per core)")

    _pretrain_verbs(verbs)
    _verb(verbs, "doctor", _doctor, "say what works on this machine and how to mend what does not")
    demo = _verb(
        verbs,
        "demo",
        _demo,
        "the main job on procedural clips: no download, no GPU, under ten minutes",
        "Leaves a metrics table, a PLY, an mp4 and side-by-side pictures in --out.",
    )
    demo.add_argument("--out", type=Path, default=Path("demo-output"), metavar="DIR")
    return parser


def _dense_verbs(verbs) -> None:
    dense = _verb(
        verbs,
        "dense",
        _dense,
        "train a head for segmentation, depth or saliency on labelled pictures, and score it",
        """\
examples:
  laptop   mmdiff-video dense --task depth --data rooms --out runs/depth cache.dir=cache
  own      mmdiff-video dense --task seg --data folders --data-root DIR --out runs/own
  GPU      mmdiff-video dense --task seg --data voc --data-root DIR --backbone flux --out runs/voc
  joint    mmdiff-video dense --task seg=voc:DIR --task saliency=duts:DIR --out runs/joint

The run folder receives config.yaml, checkpoints/, metrics.jsonl, previews/, the finished model, and
eval.json with pictures in eval/; a joint run leaves a finished run of each task in RUN/TASK. A run
that was stopped goes on with --resume.""",
    )
    dense.add_argument(
        "--task",
        required=True,
        action="append",
        metavar="TASK[=DATA[:DIR]]",
        help="seg, depth or saliency; given several times, one decoder learns them all",
    )
    _task_arguments(dense, data="voc, duts, nyu, folders, rooms (default)", backbone="nano-flux")
    dense.add_argument(
        "--input",
        choices=("features", "latent"),
        help="what the head reads: aggregated taps (default) or the latent (the baseline)",
    )
    dense.add_argument("--out", type=Path, required=True, metavar="RUN", help="run folder")
    dense.add_argument("--resume", action="store_true", help="go on from the newest checkpoint")

    evaluate = _verb(
        verbs,
        "eval-dense",
        _eval_dense,
        "score a run of `dense` again",
        "Writes RUN/eval.json and pictures in RUN/eval/.",
    )
    evaluate.add_argument("run_dir", type=Path, metavar="RUN", help="a run folder of dense")
    evaluate.add_argument(
        "--data-root", type=Path, metavar="DIR", help="where the data lies now, if it moved"
    )
    evaluate.add_argument("--max-images", type=int, metavar="N", help="a seeded choice of N")

    predict = _verb(
        verbs,
        "predict",
        _predict,
        "predict for pictures, folders of pictures and videos",
        """\
example:
  mmdiff-video predict runs/depth photo.jpg holidays/ walk.mp4 --out predictions

Of each picture: NAME.png (depth in 16-bit millimetres, palette labels, or 8-bit saliency) and
NAME_overlay.png. Of each video: a folder of such pictures, a frame each, and NAME_overlay.mp4. A
video backbone sees the clip at once.""",
    )
    predict.add_argument("run_dir", metavar="RUN", help="a run folder of dense, or a Hub id")
    predict.add_argument("paths", nargs="+", type=Path, metavar="PATH")
    predict.add_argument("--out", type=Path, required=True, metavar="DIR")
    predict.add_argument("--prompt", metavar="TEXT", help="what the pictures show")

    generate = _verb(
        verbs,
        "generate",
        _generate,
        "sample a picture or clip, with its dense maps in the same pass",
        """\
example:
  mmdiff-video generate --prompt "A red sofa." --heads runs/seg runs/depth --out sofa

Writes sample.png (or .mp4) and of each head what `predict` writes. The heads read the sampling run
itself: the sample is the one that is drawn without them.""",
    )
    generate.add_argument("--prompt", required=True, metavar="TEXT")
    generate.add_argument(
        "--heads", nargs="*", default=[], metavar="RUN", help="runs of dense on one backbone"
    )
    generate.add_argument("--backbone", metavar="NAME", help="the heads' (without any: nano-flux)")
    generate.add_argument("--out", type=Path, required=True, metavar="DIR")
    for name in ("height", "width", "frames", "steps"):
        generate.add_argument(f"--{name}", type=int, metavar="N")
    generate.add_argument("--guidance", type=float)
    generate.add_argument("--seed", type=int, default=0)


def _pretrain_verbs(verbs) -> None:
    pretrain = verbs.add_parser("pretrain", help="train the nano backbones from nothing, on rooms")
    parts = pretrain.add_subparsers(title="parts", required=True, metavar="PART")
    vae = _verb(
        parts,
        "vae",
        _pretrain_vae,
        "train a VAE, the first half of a backbone",
        """\
example:
  mmdiff-video pretrain vae --backbone nano-wan --out runs/nano-wan-vae

Renders the corpus first, unless it is there. The run folder receives config.yaml, a folder for each
stage (checkpoints, metrics.jsonl, previews) and, at the end, vae/ and report.json.
A run that was stopped goes on with the same command and --resume.""",
    )
    dit = _verb(
        parts,
        "dit",
        _pretrain_dit,
        "train a DiT and its text encoders on the latents of a finished VAE",
        """\
example:
  mmdiff-video pretrain dit --backbone nano-wan --out runs/nano-wan-dit vae=runs/nano-wan-vae

Encodes the corpus first, unless its latents are there. The run folder is as for a VAE, with sample
sheets as previews and the validation loss of right, shuffled and empty captions in metrics.jsonl.
A run that was stopped goes on with the same command and --resume.""",
    )
    export = _verb(
        parts,
        "export",
        _pretrain_export,
        "make a backbone's diffusers folder of a run of `pretrain dit`",
        "example:\n  mmdiff-video pretrain export runs/nano-wan-dit --out nano-wan\n"
        "  mmdiff-video taps ./nano-wan",
    )
    export.add_argument("run_dir", type=Path, metavar="RUN", help="a run folder of pretrain dit")
    export.add_argument("--out", type=Path, required=True, metavar="FOLDER")
    for part in (vae, dit):
        part.add_argument("--backbone", required=True, metavar="NAME", help="nano-wan or nano-flux")
        part.add_argument(
            "--config",
            metavar="FILE",
            help="a YAML file, or the name of a shipped one in configs/ (default: the backbone's)",
        )
        part.add_argument("--out", type=Path, required=True, metavar="RUN", help="run folder")
        part.add_argument("--resume", action="store_true", help="go on from the newest checkpoint")
        part.add_argument(
            "--init",
            type=Path,
            metavar="FOLDER",
            help="start from the weights of a finished run or a backbone's folder",
        )
        part.add_argument("overrides", nargs="*", metavar="key=value", help=_OVERRIDES_HELP)


def _verb(verbs, name: str, run, summary: str, details: str = "") -> argparse.ArgumentParser:
    parser = verbs.add_parser(
        name,
        help=summary,
        description=summary[0].upper() + summary[1:] + ".",
        epilog=details,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.set_defaults(run=run)
    return parser


def _size(text: str) -> tuple[int, int]:
    """Read 256 or 320x180 as width and height."""
    width, _, height = text.partition("x")
    try:
        return int(width), int(height or width)
    except ValueError:
        raise argparse.ArgumentTypeError(f"'{text}' is no size such as 256 or 320x180") from None


def _task_arguments(
    parser: argparse.ArgumentParser,
    *,
    data: str = "re10k, rooms (default)",
    backbone: str = "nano-wan",
) -> None:
    parser.add_argument("--data", metavar="NAME", help=f"a data set: {data}")
    parser.add_argument("--data-root", type=Path, metavar="DIR", help="the folder it lies in")
    parser.add_argument(
        "--backbone",
        metavar="NAME",
        help=f"{backbone} (default), wan, flux, a hub id, a local folder...",
    )
    parser.add_argument(
        "--config", metavar="FILE", help="a YAML file, or the name of a shipped one in configs/"
    )
    parser.add_argument("overrides", nargs="*", metavar="key=value", help=_OVERRIDES_HELP)


def _run_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("run_dir", type=Path, metavar="RUN", help="a run folder of train-3dgs")
    parser.add_argument("--split", default="test", help="train or test (default)")
    parser.add_argument(
        "--data-root", type=Path, metavar="DIR", help="where the data lies now, if it moved"
    )
