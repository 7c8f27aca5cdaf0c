"""Check the paper's claims at nano scale, end to end, without a GPU.

    python benchmarks/claims.py                  # hours on two cores; writes docs/claims.md
    python benchmarks/claims.py --quick          # minutes; shows that it runs, proves nothing
    python benchmarks/claims.py --seeds 5 --out DIR
    python benchmarks/claims.py --only margins   # longer 3DGS trainings: for a GPU
    python benchmarks/claims.py --only tasks --real seg=voc:DIR depth=nyu:DIR saliency=duts:DIR

Whatever is done is kept in --out, by weights: the same command goes on after an interruption. The
report holds the sections of this call and those that docs/claims.json has from earlier ones.
"""

import argparse
import json
import logging
import platform
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

import claims_dense as dense
import claims_layers as layers
import claims_nvs as nvs
import claims_tasks as tasks
import torch
from claims_report import report
from figures import processor_name

from mmdiff_video.backbones import UNTRAINED_NOTICE, Backbone, load_backbone, load_defaults
from mmdiff_video.backbones.describe import describe
from mmdiff_video.dense.task_data import TaskData
from mmdiff_video.files import write_json, write_text

DOCS = Path(__file__).resolve().parent.parent / "docs"
SECTIONS = ("dense", "nvs", "layers", "tasks")
ON_DEMAND = ("margins",)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument(
        "--out", type=Path, default=Path("runs/claims"), help="intermediate results"
    )
    parser.add_argument("--docs", type=Path, help="folder of claims.md (default: docs; quick: OUT)")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--image-backbone", default="nano-flux")
    parser.add_argument("--video-backbone", default="nano-wan")
    parser.add_argument("--only", nargs="+", choices=SECTIONS + ON_DEMAND, default=SECTIONS)
    parser.add_argument(
        "--real",
        nargs="+",
        type=TaskData.parse,
        default=[],
        metavar="TASK=DATA:DIR",
        help="real sets for the section `tasks`",
    )
    parser.add_argument("--quick", action="store_true", help="tiny budgets, one seed")
    args = parser.parse_args()
    logging.basicConfig(level=logging.WARNING, format="%(message)s")

    out = args.out / "quick" if args.quick else args.out
    docs = args.docs or (out if args.quick else DOCS)
    known = docs / "claims.json"
    results: dict[str, Any] = json.loads(known.read_text()) if known.is_file() else {}
    sections: dict[str, Callable[[argparse.Namespace, Path, Path], dict[str, Any]]] = {
        "dense": run_dense,
        "nvs": run_nvs,
        "margins": run_margins,
        "layers": run_layers,
        "tasks": run_tasks,
    }
    for name in args.only:
        results[name] = sections[name](args, out, docs) | {"machine": _machine()}
        write_json(known, results)
        write_text(docs / "claims.md", report(results))
    print(report(results))


def run_dense(args: argparse.Namespace, out: Path, docs: Path) -> dict[str, Any]:
    """Claims 1 to 3: weights -> arm -> scores, one for each seed."""
    budget = dense.DenseBudget(train=32, test=16, steps=8) if args.quick else dense.DenseBudget()
    seeds, name = _seeds(args), args.image_backbone
    runs: dict[str, dict[str, list[dict[str, float]]]] = {}
    for weights, backbone_name in (("trained", name), ("random", f"{name}-random")):
        backbone = load_backbone(backbone_name)
        size = backbone.defaults.height
        arms = dense.dense_arms(backbone.defaults.timesteps)
        if weights == "random":
            arms = [arm for arm in arms if arm.name == "adaptive"]
        features = None
        for arm in arms:
            for seed in range(seeds):
                key = f"dense-{arm.name}-{budget.train}-{budget.steps}x{budget.batch}-{seed}"
                path = _kept(out, backbone) / f"{key.replace(' ', '-')}.json"
                if not path.is_file():
                    if features is None:
                        features = [
                            (dense.read_features(backbone, stills), stills)
                            for split, count in (("train", budget.train), ("test", budget.test))
                            for stills in [dense.rooms_stills(out / "stills", split, count, size)]
                        ]
                    found = dense.run_probe(
                        arm, budget, backbone.defaults.timesteps, features[0], features[1], seed
                    )
                    write_json(path, found._asdict())
                    print(f"{backbone_name}, {arm.name}, seed {seed}: {found}", flush=True)
                rows = runs.setdefault(weights, {}).setdefault(arm.name, [])
                rows.append(json.loads(path.read_text()))
    setting = asdict(budget) | {"size": load_defaults(name).height}
    return {**_section(args, name, setting), "label_size": dense.LABEL_SIZE, "runs": runs}


def run_nvs(args: argparse.Namespace, out: Path, docs: Path) -> dict[str, Any]:
    """Claims 1 and 4: arm -> eval.json, one for each seed."""
    budget = nvs.NVSBudget(scenes=5, steps=4) if args.quick else nvs.NVSBudget()
    name = args.video_backbone
    kept = _kept(out, load_backbone(name))
    runs: dict[str, list[dict[str, Any]]] = {arm: [] for arm in nvs.ARMS}
    for seed in range(_seeds(args)):
        for arm, found in nvs.run_seed(kept, name, f"{name}-random", budget, seed).items():
            fields = ("held_out", "inputs", "nearest_input", "parameters", "scenes", "views")
            runs[arm].append({key: found[key] for key in fields})
    return {**_section(args, name, asdict(budget)), "runs": runs}


def run_margins(args: argparse.Namespace, out: Path, docs: Path) -> dict[str, Any]:
    """Claim 4 with other budgets and losses."""
    quick = (nvs.NVSBudget(scenes=5, steps=4), nvs.NVSBudget(scenes=5, steps=4, batch=2, ssim=0.0))
    name = args.video_backbone
    kept = _kept(out, load_backbone(name))
    budgets = quick if args.quick else nvs.MARGIN_BUDGETS
    found = [nvs.run_margin(kept, name, budget, _machine()) for budget in budgets]
    return {**_section(args, name, {}), "seeds": 1, "runs": found}


def run_layers(args: argparse.Namespace, out: Path, docs: Path) -> dict[str, Any]:
    """Claim 5; the pictures lie beside the report."""
    samples = 2 if args.quick else 16
    runs = {}
    for name in (args.image_backbone, args.video_backbone):
        backbone = load_backbone(name)
        path = _kept(out, backbone) / f"layers-{samples}.json"
        if not path.is_file():
            found = layers.analyse(backbone, samples)
            title = f"{name}, {samples} held-out rooms"
            if backbone.untrained:
                title += f" ({UNTRAINED_NOTICE})"
            layers.draw_statistics(found, title, docs / "images" / f"claims-layers-{name}.png")
            layers.draw_entropy(backbone, docs / "images" / f"claims-entropy-{name}.png")
            write_json(path, found.as_json())
        runs[name] = json.loads(path.read_text())
    return {"samples": samples, "runs": runs}


def run_tasks(args: argparse.Namespace, out: Path, docs: Path) -> dict[str, Any]:
    """The three tasks with their full heads: on rooms, and on the real sets that are given."""
    name = args.image_backbone
    quick = tasks.TaskBudget(train=8, test=4, steps=4)
    budget, real = (quick, quick) if args.quick else (tasks.TaskBudget(), tasks.REAL_BUDGET)
    kept = _kept(out, load_backbone(name))
    rooms = tasks.run_rooms(kept / _folder("tasks", budget), name, budget, _seeds(args))
    return {
        **_section(args, name, asdict(budget)),
        "rooms": rooms,
        "real": tasks.run_real(kept / _folder("real", real), name, real, args.real),
        "real_budget": asdict(real),
    }


def _folder(what: str, budget: tasks.TaskBudget) -> str:
    """Name of the folder of what was measured with a budget."""
    return f"{what}-{budget.train}-{budget.steps}x{budget.batch}"


def _kept(out: Path, backbone: Backbone) -> Path:
    """Folder of what was measured with these very weights."""
    return out / f"{backbone.name}-{backbone.fingerprint[:8]}"


def _seeds(args: argparse.Namespace) -> int:
    return 1 if args.quick else args.seeds


def _section(args: argparse.Namespace, name: str, setting: dict[str, Any]) -> dict[str, Any]:
    untrained = describe(name).untrained
    return {
        "backbone": name,
        "weights": load_backbone(name).fingerprint[:8],
        "seeds": _seeds(args),
        "notice": f"**{UNTRAINED_NOTICE}**" if untrained else "",
        **setting,
    }


def _machine() -> str:
    gpu = f"{torch.cuda.get_device_name()}, " if torch.cuda.is_available() else ""
    return f"{gpu}{processor_name()}, {platform.system()}"


if __name__ == "__main__":
    main()
