"""What dense heads cost in `generate`, and what the feature cache saves in a training step.

    laptop:  python benchmarks/dense.py
    GPU:     python benchmarks/dense.py --backbone flux --batch 8
    shared:  OMP_NUM_THREADS=1 python benchmarks/dense.py --clock cpu

The heads are trained for three steps on eight rooms: timings do not depend on what they know. The
things compared take turns at going first; times are medians, and so is the ratio of neighbours.
Aim: (generate with heads - the heads' own time) / plain sampling <= 1.05, the extra forward near
t = 0, which alone costs about one step, counted in.
"""

import argparse
import functools
import statistics
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, TypeVar

import torch
from figures import Figure, Turns, median_figure, write_report
from taps import alternate, device_name, synchronise

from mmdiff_video.backbones import UNTRAINED_NOTICE, Backbone, load_backbone
from mmdiff_video.datasets.pictures.card import load_image_card
from mmdiff_video.datasets.pictures.views import DenseSample, collate
from mmdiff_video.dense.config import DenseConfig
from mmdiff_video.dense.generate import SampleConfig, part_of, sample_for
from mmdiff_video.dense.pipeline import DenseModel
from mmdiff_video.dense.setup import resolve_dense_config, set_up_dense
from mmdiff_video.dense.train import load_training_images, train_dense, training_views
from mmdiff_video.features.source import CacheConfig
from mmdiff_video.rooms.make import make_rooms
from mmdiff_video.tables import format_bytes
from mmdiff_video.tasks import TASKS

_PROMPT = "A red sofa on a striped rug."
_FORMS = ("bf16", "fp8")
_CLOCKS: dict[str, Callable[[], float]] = {"wall": time.perf_counter, "cpu": time.process_time}

T = TypeVar("T")
Watch = functools.partial[Turns]
"""``alternate`` with device, repeats and clock given."""


def main() -> None:
    parser = argparse.ArgumentParser(description="What dense heads cost.")
    parser.add_argument("--backbone", default="nano-flux-random")
    parser.add_argument("--tasks", nargs="+", choices=TASKS, default=list(TASKS))
    parser.add_argument("--steps", type=int, help="of sampling (the backbone's default)")
    parser.add_argument("--concepts", action="store_true", help="heads read concept maps too")
    parser.add_argument("--batch", type=int, default=4, help="views in a training step (4)")
    parser.add_argument("--repeats", type=int, default=15)
    parser.add_argument(
        "--clock",
        choices=_CLOCKS,
        default="wall",
        help="cpu: this process's own time, where others use the machine; for one thread",
    )
    parser.add_argument("--json", type=Path, help="also write the figures here")
    args = parser.parse_args()

    backbone = load_backbone(args.backbone)
    with tempfile.TemporaryDirectory() as folder:
        rooms = Path(folder) / "rooms"
        make_rooms(rooms, layout="folders", scenes=8, width=256, height=256)
        config = resolve_dense_config(
            None,
            [
                ("backbone.name", args.backbone),
                ("data.root", str(rooms)),
                f"concept_maps={str(args.concepts).lower()}",
                f"train.batch_size={args.batch}",
                "train.steps=3",
                "train.warmup_steps=0",
                "train.preview_every=0",
            ],
        )
        if args.concepts:  # one set for all tasks, so that they can share a sampling run
            config = replace(config, concepts=("object", "background", "floor", "wall"))
        models: list[DenseModel] = []
        for task in args.tasks:
            train_dense(config.of_task(task), Path(folder) / task, backbone=backbone)
            models.append(DenseModel.from_pretrained(Path(folder) / task, backbone))
        config = config.of_task(args.tasks[0])
        result: dict[str, Any] = {
            "backbone": backbone.name,
            "untrained": backbone.untrained,
            "device": device_name(backbone.device),
            "dtype": str(backbone.dtype).removeprefix("torch."),
            "torch": torch.__version__,
            "clock": args.clock,
            "repeats": args.repeats,
        }
        watch = functools.partial(
            alternate, device=backbone.device, repeats=args.repeats, clock=_CLOCKS[args.clock]
        )
        result["generate"], figures = measure_generate(backbone, models, args.steps, watch)
        result["training"], more = measure_training(config, backbone, Path(folder), watch)
    print(report(result))
    if args.json:
        write_report(args.json, "dense", [*figures, *more], result)


def measure_generate(
    backbone: Backbone, models: Sequence[DenseModel], steps: int | None, watch: Watch
) -> tuple[dict, list[Figure]]:
    """What :func:`report` prints, and the figures of it."""
    sample = SampleConfig(steps=steps)
    clock = watch.keywords["clock"]
    seconds: dict[str, list[float]] = {"plain": [], "reading": [], "heads": []}

    def timed(kept: list[float], run: Callable[[], T]) -> T:
        synchronise(backbone.device)
        start = clock()
        result = run()
        synchronise(backbone.device)
        kept.append(clock() - start)
        return result

    def plain() -> torch.Tensor:
        return timed(seconds["plain"], lambda: sample_for(backbone, [], _PROMPT, sample)).video

    def with_heads() -> torch.Tensor:
        found = timed(seconds["reading"], lambda: sample_for(backbone, models, _PROMPT, sample))

        def predict() -> None:
            for model in models:
                model.predict_features(part_of(found.features, model), found.video)

        timed(seconds["heads"], predict)
        return found.video

    identical = torch.equal(with_heads(), plain())
    watch(with_heads, plain)
    plain_s, reading_s, heads_s = (s[-watch.keywords["repeats"] :] for s in seconds.values())
    d = backbone.defaults
    # of neighbours in time, so that it outlives the ups and downs of a shared machine
    neighbours = [r / p for r, p in zip(reading_s, plain_s, strict=True)]
    title = f"{backbone.name}, {len(models)} heads"
    ratio = median_figure(f"{title}, reading", neighbours, "")
    figures = [
        replace(ratio, ratio_of="sampling that heads read / plain"),
        median_figure(f"{title}, plain sampling", [1e3 * s for s in plain_s], "ms"),
        median_figure(f"{title}, the heads", [1e3 * s for s in heads_s], "ms"),
    ]
    result = {
        "tasks": [model.setup.task.name for model in models],
        "concepts": models[0].setup.config.concept_maps,
        "steps": steps or d.steps,
        "frames_height_width": [d.frames, d.height, d.width],
        "timesteps": list(models[0].setup.config.backbone.timesteps or ()),
        "picture_identical": identical,
        "plain_s": statistics.median(plain_s),
        "reading_s": statistics.median(reading_s),
        "heads_s": statistics.median(heads_s),
        "ratio": ratio.value,
    }
    return result, figures


def measure_training(
    config: DenseConfig, backbone: Backbone, folder: Path, watch: Watch
) -> tuple[dict, list[Figure]]:
    """What :func:`report` prints, and the figures of it."""
    figures: list[Figure] = []
    result: dict = {"task": config.task, "batch": config.train.batch_size}
    uncached, _ = training_step(config, backbone)
    for form in _FORMS:
        cache = CacheConfig(dir=str(folder / f"cache-{form}"), form=form)
        cached, each = training_step(replace(config, cache=cache), backbone)
        turns = watch(cached, uncached)
        cached_s, uncached_s = turns.medians()
        title = f"{backbone.name}, training step, cache in {form}"
        figures += [
            turns.ratio(title, "cached / uncached time of a step"),
            Figure(name=f"{title}, a view", value=each / 2**20, unit="MiB"),
        ]
        result[form] = {
            "cached_step_s": cached_s,
            "uncached_step_s": uncached_s,
            "speedup": uncached_s / cached_s,
            "bytes_per_view": each,
            "bytes_per_image": each * (config.data.views or 1),
        }
    return result, figures


def training_step(config: DenseConfig, backbone: Backbone) -> tuple[Callable[[], None], int]:
    """One step on the same views again and again, and the bytes of a view in the cache."""
    config, loaded = load_training_images(config, load_image_card(config.data.name))
    setup = set_up_dense(config, loaded.classes, backbone)
    views = training_views(setup, loaded)
    drawn = [views.sample(i % len(views), i // len(views)) for i in range(config.train.batch_size)]
    samples = [view for view in drawn if isinstance(view, DenseSample)]
    assert len(samples) == len(drawn)
    batch = collate(samples).to(backbone.device)
    optimizer = torch.optim.AdamW(setup.model.parameters(), lr=1e-4)

    def step() -> None:
        output = setup.output(setup.model, batch)
        terms = setup.task.loss(output, batch.target, batch.valid)
        optimizer.zero_grad()
        torch.stack(list(terms.values())).sum().backward()
        optimizer.step()

    return step, setup.bytes_per_view()


def report(r: dict) -> str:
    g, t = r["generate"], r["training"]
    size = " x ".join(map(str, g["frames_height_width"]))
    lines = [
        f"{r['backbone']}, {r['dtype']}, {r['device']}, torch {r['torch']},"
        f" medians of {r['repeats']}, {r['clock']} time",
        f"generate {size} in {g['steps']} steps with {len(g['tasks'])} heads"
        f" ({', '.join(g['tasks'])}{', concept maps' if g['concepts'] else ''})",
        f"  plain sampling                {g['plain_s'] * 1e3:.0f} ms",
        f"  sampling that heads read      {g['reading_s'] * 1e3:.0f} ms",
        f"  read / plain                  {g['ratio']:.3f}   (aim: 1.05 or less)",
        f"  the heads themselves          {g['heads_s'] * 1e3:.0f} ms",
        f"  picture bit-identical         {'yes' if g['picture_identical'] else 'NO'}",
        f"training step, {t['task']}, {t['batch']} views",
    ]
    for form in _FORMS:
        f = t[form]
        lines.append(
            f"  {form}: cached / not             {f['cached_step_s'] * 1e3:.0f}"
            f" / {f['uncached_step_s'] * 1e3:.0f} ms   ({f['speedup']:.2f} times as fast;"
            f" {format_bytes(f['bytes_per_view'])} a view,"
            f" {format_bytes(f['bytes_per_image'])} an image)"
        )
    lines.append("untrained heads: three steps")
    if r["untrained"]:
        lines.append(f"{UNTRAINED_NOTICE}; timings do not depend on them")
    return "\n".join(lines)


if __name__ == "__main__":
    main()
