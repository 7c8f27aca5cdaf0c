"""Check the paper's claims at nano scale, end to end, without a GPU.

    python benchmarks/claims.py                  # hours on two cores; writes docs/claims.md
    python benchmarks/claims.py --quick          # minutes; shows that it runs, proves nothing
    python benchmarks/claims.py --seeds 5 --out DIR

Whatever is done is kept in --out: the same command goes on after an interruption.
"""

import argparse
import json
import logging
import platform
from pathlib import Path
from typing import Any

import claims_dense as dense
import claims_layers as layers
import claims_nvs as nvs
from claims_report import report
from rasterizer import processor_name

from mmdiff_video.backbones import UNTRAINED_NOTICE, load_backbone
from mmdiff_video.files import write_json, write_text

DOCS = Path(__file__).resolve().parent.parent / "docs"


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
    parser.add_argument("--quick", action="store_true", help="tiny budgets, one seed")
    args = parser.parse_args()
    logging.basicConfig(level=logging.WARNING, format="%(message)s")

    seeds = 1 if args.quick else args.seeds
    probes = dense.DenseBudget(train=32, test=16, steps=8) if args.quick else dense.DenseBudget()
    clips = nvs.NVSBudget(scenes=5, steps=4) if args.quick else nvs.NVSBudget()
    samples = 2 if args.quick else 16
    out = args.out / "quick" if args.quick else args.out
    docs = args.docs or (out if args.quick else DOCS)

    results: dict[str, Any] = {"layers": {}}
    for name in (args.image_backbone, args.video_backbone):
        results["layers"][name] = run_layers(name, samples, out, docs)
    results["dense"] = run_dense(args.image_backbone, probes, seeds, out)
    results["nvs"] = run_nvs(args.video_backbone, clips, seeds, out)
    image = load_backbone(args.image_backbone)
    results["setting"] = {
        "seeds": seeds,
        "image_backbone": args.image_backbone,
        "video_backbone": args.video_backbone,
        "size": image.defaults.height,
        "label_size": dense.LABEL_SIZE,
        **{field: getattr(probes, field) for field in ("train", "test", "steps", "batch")},
        "scenes": clips.scenes,
        "nvs_steps": clips.steps,
        "machine": f"Run on {processor_name()}, {platform.system()}."
        + (f" **{UNTRAINED_NOTICE}**" if image.untrained else ""),
    }
    write_json(docs / "claims.json", results)
    write_text(docs / "claims.md", report(results))
    print(report(results))


def run_layers(name: str, samples: int, out: Path, docs: Path) -> dict[str, Any]:
    """Claim 5 for one backbone; the pictures lie beside the report."""
    path = out / "layers" / f"{name}-{samples}.json"
    if not path.is_file():
        backbone = load_backbone(name)
        found = layers.analyse(backbone, samples)
        title = f"{name}, {samples} held-out rooms"
        if backbone.untrained:
            title += f" ({UNTRAINED_NOTICE})"
        layers.draw_statistics(found, title, docs / "images" / f"claims-layers-{name}.png")
        layers.draw_entropy(backbone, docs / "images" / f"claims-entropy-{name}.png")
        write_json(path, found.as_json())
    return json.loads(path.read_text())


def run_dense(name: str, budget: dense.DenseBudget, seeds: int, out: Path) -> dict[str, Any]:
    """Claims 1 to 3: weights -> arm -> scores, one for each seed."""
    results: dict[str, dict[str, list[dict[str, float]]]] = {}
    for weights, backbone_name in (("trained", name), ("random", f"{name}-random")):
        backbone = load_backbone(backbone_name)
        size = backbone.defaults.height
        arms = dense.dense_arms(backbone.defaults.timesteps)
        if weights == "random":
            arms = [arm for arm in arms if arm.name == "adaptive"]
        features = None
        for arm in arms:
            for seed in range(seeds):
                key = f"{backbone_name}-{arm.name}-{budget.steps}x{budget.batch}-{seed}"
                path = out / "dense" / f"{key.replace(' ', '-')}.json"
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
                runs = results.setdefault(weights, {}).setdefault(arm.name, [])
                runs.append(json.loads(path.read_text()))
    return results


def run_nvs(name: str, budget: nvs.NVSBudget, seeds: int, out: Path) -> dict[str, Any]:
    """Claims 1 and 4: arm -> eval.json, one for each seed."""
    folder = out / f"nvs-{budget.scenes}x{budget.frames}-{budget.steps}"
    results: dict[str, list[dict[str, Any]]] = {arm: [] for arm in nvs.ARMS}
    for seed in range(seeds):
        for arm, found in nvs.run_seed(folder, name, f"{name}-random", budget, seed).items():
            kept = ("held_out", "inputs", "nearest_input", "parameters", "scenes", "views")
            results[arm].append({key: found[key] for key in kept})
    return results


if __name__ == "__main__":
    main()
