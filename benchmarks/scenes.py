"""PSNR over time of fits from four starts: does a transformer's prior earn its place?

    python benchmarks/scenes.py --features RUN --latent RUN --rooms 3 --out scenes-benchmark
    python benchmarks/scenes.py ... --clips a.mp4 b.mp4         real videos, poses by COLMAP
    python benchmarks/scenes.py ... --depth RUN --normals RUN   and with heads as a regulariser

Each scene is fitted to 2, 3, 5 and 9 of its pictures, from the Gaussians of a run that reads
features, of one that reads the latent, from points, and from chance; three seeds of chance each.
Views between the pictures and views beyond the ends of their path are scored apart, beside a copy
of the nearest picture. Points are triangulated from the fitted pictures alone, and every start gets
the same range of depths from them, so that no start knows more than the others of the views that
are scored. Cameras of rooms are exact; those of videos are found by COLMAP from all their frames,
scored ones included, for all starts alike. Rooms are of the test split: no run has seen them.

What was measured is kept in --out, a file for each fit: a stopped benchmark goes on.
"""

import argparse
import itertools
import json
import statistics
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from figures import processor_name
from scenes_fits import CHECKPOINTS, Budget, Prior, Subject, fit_curve
from scenes_subjects import room_subjects, video_subjects

from mmdiff_video.files import write_json
from mmdiff_video.tables import format_table

INPUTS = (2, 3, 5, 9)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--out", type=Path, required=True, help="where results are kept")
    parser.add_argument("--features", help="run of train-3dgs that reads features")
    parser.add_argument("--latent", help="run of train-3dgs that reads the latent")
    parser.add_argument("--depth", type=Path, help="run of dense --task depth")
    parser.add_argument("--normals", type=Path, help="run of dense --task normals")
    parser.add_argument("--rooms", type=int, default=3, help="held-out rooms (default: 3)")
    parser.add_argument("--clips", type=Path, nargs="*", default=[], help="videos")
    parser.add_argument("--inputs", type=int, nargs="+", default=list(INPUTS))
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--steps", type=int, default=400)
    parser.add_argument("--gaussians", type=int, default=20_000)
    args = parser.parse_args()

    starts = {"points": "points", "chance": "chance"}
    starts |= {name: run for name in ("features", "latent") if (run := getattr(args, name))}
    priors = [Prior()]
    if args.depth or args.normals:
        priors.append(Prior(args.depth, args.normals))
    budget = Budget(args.steps, args.gaussians)
    results = []
    for subject in _subjects(args):
        arms = itertools.product(args.inputs, starts.items(), priors, range(args.seeds))
        for count, (start, init), prior, seed in arms:
            name = f"{subject.name}-{count}-{start}{prior.suffix}-{seed}-{budget.name}.json"
            results.append(
                _kept(args.out / "fits" / name, subject, count, start, init, prior, seed, budget)
            )
            print(_line(results[-1]), flush=True)
    write_json(args.out / "scenes.json", {"processor": processor_name(), "fits": results})
    print(processor_name())
    for kind in dict.fromkeys(r["kind"] for r in results):
        print(_table([r for r in results if r["kind"] == kind], kind), end="\n\n")


def _subjects(args: argparse.Namespace) -> Iterator[Subject]:
    if args.rooms:
        yield from room_subjects(args.out / "rooms", args.rooms)
    yield from video_subjects(args.out / "captures", args.clips)


def _kept(
    file: Path,
    subject: Subject,
    count: int,
    start: str,
    init: str,
    prior: Prior,
    seed: int,
    budget: Budget,
) -> dict[str, Any]:
    if file.exists():
        return json.loads(file.read_text(encoding="utf-8"))
    curve = fit_curve(subject, count, init, prior, seed, budget)
    found = {
        "kind": subject.kind,
        "scene": subject.name,
        "inputs": count,
        "start": start + prior.suffix,
        "seed": seed,
        **curve,
    }
    write_json(file, found)
    return found


def _line(result: dict[str, Any]) -> str:
    last = result["curve"][-1]
    return (
        f"{result['scene']:<16}{result['inputs']:>2} pictures  {result['start']:<18} seed"
        f" {result['seed']}: inside {last['inside']:.2f} dB, beyond {last['beyond']:.2f},"
        f" copy {result['copy']['inside']:.2f} / {result['copy']['beyond']:.2f},"
        f" {last['seconds']:.0f} s"
    )


def _table(results: list[dict[str, Any]], kind: str) -> str:
    """Mean PSNR over scenes and seeds, with the standard deviation of the seeds' means."""
    rows = []
    for count, start in dict.fromkeys((r["inputs"], r["start"]) for r in results):
        chosen = [r for r in results if (r["inputs"], r["start"]) == (count, start)]
        for where in ("inside", "beyond"):
            row = [f"{count} pictures, {start}, {where}"]
            row.append(f"{statistics.fmean(r['copy'][where] for r in chosen):.2f}")
            for number in range(len(CHECKPOINTS)):
                by_seed: dict[int, list[float]] = {}
                for r in chosen:
                    if number < len(r["curve"]):
                        by_seed.setdefault(r["seed"], []).append(r["curve"][number][where])
                means = [statistics.fmean(values) for values in by_seed.values()]
                if not means:
                    row.append("")
                    continue
                spread = statistics.stdev(means) if len(means) > 1 else 0.0
                row.append(f"{statistics.fmean(means):.2f} +- {spread:.2f}")
            rows.append(row)
    header = ["", "copy", *(f"{step} steps" for step in CHECKPOINTS)]
    return format_table(header, rows, title=f"{kind}: PSNR in dB")


if __name__ == "__main__":
    main()
