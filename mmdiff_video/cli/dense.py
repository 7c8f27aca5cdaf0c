"""The verbs of the dense tasks."""

import argparse
from pathlib import Path

from mmdiff_video.cli.arguments import (
    FRAMES,
    SIDES,
    out_folder,
    overrides,
    task_arguments,
    training_arguments,
    verb,
)


def add_verbs(verbs) -> None:
    """Add the verbs to the parser."""
    dense = verb(
        verbs,
        "dense",
        _dense,
        "train a head for segmentation, depth, saliency or normals on pictures, and score it",
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
        help="what the data is labelled with (mmdiff-video data list): seg, depth, saliency,"
        " normals; given several times, one decoder learns them all",
    )
    task_arguments(dense, data="voc, duts, nyu, folders, rooms (default)", backbone="nano-flux")
    training_arguments(dense, "head")

    evaluate = verb(
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

    predict = verb(
        verbs,
        "predict",
        _predict,
        "predict for pictures, folders of pictures and videos",
        """\
example:
  mmdiff-video predict runs/depth photo.jpg holidays/ walk.mp4 --out predictions

Of each picture: OUT/NAME.png (depth in 16-bit millimetres, palette labels, 8-bit saliency, normals
in 3 times 16 bits) and OUT/NAME_overlay.png; of those in a folder: OUT/FOLDER/NAME.png and so on.
Of each video: a folder of such pictures, a frame each, and NAME_overlay.mp4. A video backbone sees
the clip at once.
OUT/report.json lists what was written, and what was skipped and why.""",
    )
    predict.add_argument("run_dir", metavar="RUN", help="a run folder of dense, or a Hub id")
    predict.add_argument(
        "paths", nargs="+", type=Path, metavar="PATH", help="pictures, folders of them, videos"
    )
    predict.add_argument(
        "--out", type=out_folder, required=True, metavar="OUT", help="folder for what is found"
    )
    predict.add_argument("--prompt", metavar="TEXT", help="what the pictures show")

    generate = verb(
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
    generate.add_argument("--prompt", required=True, metavar="TEXT", help="what to draw")
    generate.add_argument(
        "--heads", nargs="*", default=[], metavar="RUN", help="runs of dense on one backbone"
    )
    generate.add_argument("--backbone", metavar="NAME", help="the heads' (without any: nano-flux)")
    generate.add_argument(
        "--out", type=out_folder, required=True, metavar="DIR", help="for the sample and its maps"
    )
    own = "default: the backbone's own"
    for name, what in (
        ("height", SIDES),
        ("width", SIDES),
        ("frames", FRAMES),
        ("steps", "of the sampler"),
    ):
        generate.add_argument(f"--{name}", type=int, metavar="N", help=f"{what} ({own})")
    generate.add_argument(
        "--guidance", type=float, metavar="G", help=f"how strictly it keeps to the prompt ({own})"
    )
    generate.add_argument("--seed", type=int, default=0, help="of the noise (0)")


def _dense(args: argparse.Namespace) -> None:
    from mmdiff_video.dense.evaluate import eval_dense
    from mmdiff_video.dense.multitask import parse_task, train_tasks
    from mmdiff_video.dense.setup import resolve_dense_config
    from mmdiff_video.tasks import join_tasks
    from mmdiff_video.training import processes

    tasks = [parse_task(text) for text in args.task]
    joined = join_tasks(*(member.task for member in tasks))
    config = resolve_dense_config(args.config, [("task", joined), *overrides(args)])
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
