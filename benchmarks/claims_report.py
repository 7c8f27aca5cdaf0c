"""Tables, verdicts and prose of docs/claims.md, from the figures alone."""

import itertools
import statistics
from collections.abc import Mapping, Sequence
from typing import Any

from mmdiff_video.tables import format_count, format_table

Values = Sequence[float]
"""One figure per seed."""

PAPER_MARGINS = {"psnr": 0.24, "ssim": 0.042, "lpips": -0.017}
"""Features minus latent in the paper's Table 9."""


def spread(values: Values, digits: int = 2) -> str:
    """Mean and standard deviation over seeds."""
    mean = statistics.fmean(values)
    if len(values) == 1:
        return f"{mean:.{digits}f}"
    return f"{mean:.{digits}f} ± {statistics.stdev(values):.{digits}f}"


def verdict(better: Values, worse: Values, *, higher: bool = True) -> str:
    """Whether the seeds bear out that ``better`` is better: all pairs of a seed, and the margin."""
    signs = [(a - b) if higher else (b - a) for a, b in zip(better, worse, strict=True)]
    margin = statistics.fmean(signs)
    seeds = " on average, in every seed" if len(signs) > 1 else ", one seed"
    if all(s > 0 for s in signs):
        return f"holds (by {margin:.3g}{seeds})"
    if all(s < 0 for s in signs):
        return f"does not hold: the other way round by {-margin:.3g}{seeds}"
    return f"undecided: {margin:+.3g} on average, the seeds disagree"


def dense_table(title: str, rows: Mapping[str, Sequence[Mapping[str, float]]]) -> str:
    """Arms of dense probes; each has one dict of scores per seed."""
    return format_table(
        [title, "parameters", "mIoU % ↑", "AbsRel ↓", "δ1 ↑"],
        [
            [
                name,
                format_count(int(runs[0]["parameters"])),
                spread([run["miou"] for run in runs], 1),
                spread([run["absrel"] for run in runs], 4),
                spread([run["delta1"] for run in runs], 3),
            ]
            for name, runs in rows.items()
        ],
    )


def nvs_table(rows: Mapping[str, Sequence[Mapping[str, Any]]]) -> str:
    """Arms of video to 3DGS; each has one eval.json per seed."""
    first = next(iter(rows.values()))
    header = _nvs_metrics(first[0]["held_out"])
    digits = {"psnr": 2}
    return format_table(
        ["input of the decoder", "parameters", *header.values()],
        [
            [
                name,
                format_count(runs[0]["parameters"]),
                *(
                    spread([run["held_out"][metric] for run in runs], digits.get(metric, 3))
                    for metric in header
                ),
            ]
            for name, runs in rows.items()
        ],
    )


def margins_table(runs: Sequence[Mapping[str, Any]]) -> str:
    """Latent against features, a row for each budget and loss."""
    shown = _nvs_metrics(runs[0]["runs"]["latent"])
    rows = []
    for run in runs:
        row = [str(run["scenes"]), f"{run['steps']:,} x {run['batch']}", f"{run['ssim']:g}"]
        for metric in shown:
            latent, features = (run["runs"][arm][metric] for arm in ("latent", "features"))
            digits = 2 if metric == "psnr" else 3
            row.append(
                f"{latent:.{digits}f} → {features:.{digits}f} ({features - latent:+.{digits}f})"
            )
        rows.append([*row, run["machine"].split(",")[0]])
    return format_table(
        ["rooms", "steps x clips", "weight of 1 - SSIM", *shown.values(), "on"], rows
    )


def margins(features: Sequence[Mapping[str, Any]], latent: Sequence[Mapping[str, Any]]) -> str:
    """Features minus latent, beside the paper's."""
    lines = []
    for name in _nvs_metrics(features[0]["held_out"]):
        theirs = name.removeprefix("st_")
        paper = PAPER_MARGINS[theirs]
        ours = [
            a["held_out"][name] - b["held_out"][name] for a, b in zip(features, latent, strict=True)
        ]
        title = name.upper().replace("_", "-")
        reached = statistics.fmean(ours) / paper >= 1
        lines.append(
            f"{title} {spread(ours, 3)} ({'beyond' if reached else 'short of'} the paper's"
            f" {theirs.upper()} {paper:+g}, at full size)"
        )
    return "Features minus latent: " + "; ".join(lines) + "."


def _nvs_metrics(found: Mapping[str, float | None]) -> dict[str, str]:
    """Headings of the metrics that there are; ST-LPIPS only in place of LPIPS."""
    perceptual = "lpips" if found.get("lpips") is not None else "st_lpips"
    names = ["psnr", "ssim", perceptual]
    return {n: NVS_METRICS[n] for n in names if found.get(n) is not None}


def scores(runs: Sequence[Mapping[str, Any]], name: str) -> Values:
    """One figure of every seed, of a probe's scores or of an eval.json's held-out views."""
    return [run["held_out"][name] if "held_out" in run else run[name] for run in runs]


def tasks_table(arms: Mapping[str, Sequence[Mapping[str, Any]]]) -> str:
    """Arms of one dense task, and the best constant prediction; one eval.json per seed each."""
    first = next(iter(arms.values()))[0]
    digits = {"mIoU": 1, "accuracy": 1}
    metrics = [m for m in TASK_METRICS if m in first["scores"]]
    rows = [
        [
            label,
            format_count(runs[0]["parameters"]),
            *(
                spread([run["scores"][metric] for run in runs], digits.get(metric, 3))
                for metric in metrics
            ),
        ]
        for label, runs in arms.items()
    ]
    constant = first["constant"]
    rows.append(
        [
            constant["label"],
            "",
            *(f"{constant['scores'][metric]:.{digits.get(metric, 3)}f}" for metric in metrics),
        ]
    )
    arrows = [f"{metric} {'↓' if metric in LOWER else '↑'}" for metric in metrics]
    title = f"{first['task']}, {first['data']}, {first['pictures']} pictures"
    return format_table([title, "parameters", *arrows], rows)


def task_verdicts(arms: Mapping[str, Sequence[Mapping[str, Any]]]) -> str:
    """Whether features (the first arm) beat the best constant and every other arm."""
    (label, runs), *others = arms.items()
    metric = next(m for m in TASK_METRICS if m in runs[0]["scores"])
    higher = metric not in LOWER
    ours = [run["scores"][metric] for run in runs]
    constants = [run["constant"]["scores"][metric] for run in runs]
    rivals = {runs[0]["constant"]["label"]: constants}
    rivals |= {name: [run["scores"][metric] for run in rival] for name, rival in others}
    return "\n".join(
        f"- {metric} of {label} against {name}: {verdict(ours, values, higher=higher)}."
        for name, values in rivals.items()
    )


def layers_summary(name: str, found: Mapping[str, Any]) -> str:
    """Say in figures whether norms grow, layers correlate, and entropy differs by timestep."""
    norms, timesteps = found["norm"], found["timesteps"]  # norms: [L][T]
    grown = [
        b > a for low, high in itertools.pairwise(norms) for a, b in zip(low, high, strict=True)
    ]
    pairs = [
        matrix[i][j]
        for matrix in found["correlation"]
        for i in range(len(matrix))
        for j in range(i)
    ]
    entropy = [statistics.fmean(column) for column in zip(*found["entropy"], strict=True)]
    shown = ", ".join(f"{e:.2f} at t={t:g}" for e, t in zip(entropy, timesteps, strict=True))
    return (
        f"{name}, {found['samples']} held-out rooms: token norms grow from one block to the next in"
        f" {sum(grown)} of {len(grown)} cases; two layers correlate by {min(pairs):.2f} to"
        f" {max(pairs):.2f}, {statistics.fmean(pairs):.2f} on average; entropy, mean over layers:"
        f" {shown}."
    )


def report(results: Mapping[str, Any]) -> str:
    """The whole of docs/claims.md, as far as its sections were run."""
    sections = [HEAD]
    if "dense" in results:
        sections += _dense_sections(results["dense"])
    if "nvs" in results:
        sections += _nvs_sections(results["nvs"])
    if "margins" in results:
        sections += [
            MARGINS.format(**results["margins"]),
            margins_table(results["margins"]["runs"]),
            "",
        ]
    if "layers" in results:
        sections += ["## Layers and timesteps\n", LAYERS]
        for name, found in results["layers"]["runs"].items():
            sections += [layers_summary(name, found), "", PICTURES.format(name=name)]
    if "tasks" in results:
        sections += _tasks_sections(results["tasks"])
    return "\n".join(sections)


def _dense_sections(found: Mapping[str, Any]) -> list[str]:
    dense, random = found["runs"]["trained"], found["runs"]["random"]
    full = dense["adaptive"]
    singles = {name: runs for name, runs in dense.items() if name.endswith("alone")}
    # each task against the timestep that is best for it
    best = max(singles, key=lambda name: statistics.fmean(scores(singles[name], "miou")))
    nearest = min(singles, key=lambda name: statistics.fmean(scores(singles[name], "absrel")))
    mixes = {name: dense[name] for name in ("adaptive", "mean", "concat", "static")}
    of_random = random["adaptive"]
    return [
        "## Dense probes\n",
        DENSE_SETTING.format(**found),
        "### Trained features against those of a random backbone\n",
        dense_table("dense probe on", {"trained weights": full, "random weights": of_random}),
        f"\nSegmentation {verdict(scores(full, 'miou'), scores(of_random, 'miou'))}; depth"
        f" {verdict(scores(full, 'absrel'), scores(of_random, 'absrel'), higher=False)}.\n",
        "### All timesteps against each single one\n",
        dense_table("timesteps", {"all, adaptive": full, **singles}),
        f"\nAgainst the best single one: segmentation ({best})"
        f" {verdict(scores(full, 'miou'), scores(singles[best], 'miou'))}; depth ({nearest})"
        f" {verdict(scores(full, 'absrel'), scores(singles[nearest], 'absrel'), higher=False)}.\n",
        "### How the timesteps are mixed\n",
        dense_table("aggregation", mixes),
        "\n"
        + "\n".join(
            f"- adaptive against {name}: segmentation"
            f" {verdict(scores(full, 'miou'), scores(mixes[name], 'miou'))}; depth"
            f" {verdict(scores(full, 'absrel'), scores(mixes[name], 'absrel'), higher=False)}."
            for name in ("mean", "concat", "static")
        )
        + "\n",
    ]


def _nvs_sections(found: Mapping[str, Any]) -> list[str]:
    runs = found["runs"]
    features, latent = runs["features"], runs["latent"]
    psnr = {arm: scores(reports, "psnr") for arm, reports in runs.items()}
    return [
        "## Features against the latent as input of the 3DGS decoder\n",
        NVS_SETTING.format(**found),
        nvs_table({NVS_NAMES[arm]: reports for arm, reports in runs.items()}),
        f"\n{margins(features, latent)} PSNR over the latent"
        f" {verdict(psnr['features'], psnr['latent'])}; over the latent with as many parameters"
        f" {verdict(psnr['features'], psnr['latent-wide'])}; over features of random weights"
        f" {verdict(psnr['features'], psnr['features-random'])}.\n",
    ]


def _tasks_sections(found: Mapping[str, Any]) -> list[str]:
    sections = ["## The dense tasks with their heads\n", TASKS_SETTING.format(**found)]
    for arms in found["rooms"].values():
        sections += [tasks_table(arms), "", task_verdicts(arms), ""]
    if found["real"]:
        sections.append(REAL_SETTING.format(**found["real_budget"]))
    for arms in found["real"].values():
        sections += [tasks_table(arms), "", task_verdicts(arms), ""]
    return sections


TASK_METRICS = ("mIoU", "accuracy", "AbsRel", "RMSE", "delta1", "Sm", "maxF", "MAE")
LOWER = ("AbsRel", "RMSE", "MAE")

NVS_METRICS = {"psnr": "PSNR ↑", "ssim": "SSIM ↑", "lpips": "LPIPS ↓", "st_lpips": "ST-LPIPS ↓"}

NVS_NAMES = {
    "latent": "latent",
    "latent-wide": "latent, trunk widened to the same parameters",
    "features": "aggregated features",
    "features-random": "aggregated features of random weights",
}

HEAD = """# The paper's claims, at nano scale

Made by `python benchmarks/claims.py`: nano backbones, unless a section says otherwise the shipped
ones, scored on procedural rooms that neither they nor the heads were trained on. Every arm of a
table trains for the same steps on the same data, with as many parameters as its row says; figures
are means over seeds, ± their standard deviation. A claim "holds" when every seed bears it out. What
holds here need not hold at full size, nor the other way round.
"""

DENSE_SETTING = """{backbone} (weights {weights}), {train} training and {test} test stills of
{size} pixels, {steps} steps of {batch}, scored at {label_size} x {label_size}, {seeds}
seeds, on {machine}. A probe is an aggregator and a small convolutional head for segmentation and
depth at once. {notice}
"""

NVS_SETTING = """{backbone} (weights {weights}), {scenes} rooms of which a fifth are held out,
{steps} steps (clips in each: {batch}), 1 - SSIM weighted {ssim} in the loss, {seeds} seeds, on
{machine}. {notice}
"""

MARGINS = """### How the margin moves with training and loss

{backbone} (weights {weights}), one seed; a cell is latent → features (their difference). A fifth of
the rooms is held out and scored. {notice}
"""

TASKS_SETTING = """{backbone} (weights {weights}), up to {train} training and {test} test
pictures, {steps} steps of {batch} (the joint decoder: as many for each task), {seeds} seeds
on rooms, on {machine}; as `mmdiff-video dense` trains and scores. {notice}
"""

REAL_SETTING = """Real pictures, one seed: up to {train} training pictures, views of each: {views},
{width} x {height} pixels, {steps} steps of {batch}.
"""

LAYERS = """The statistics of the paper's Figures 3 and 5. There, activations grow monotonically
over the layers, layers correlate highly, and entropy is high at noisy timesteps.
"""

PICTURES = """![Layer statistics of {name}](images/claims-layers-{name}.png)

![Entropy over timesteps of {name}](images/claims-entropy-{name}.png)
"""
