"""What tapping costs in time and memory, what batching timesteps saves, what concept maps add.

    laptop:  python benchmarks/taps.py
    GPU:     python benchmarks/taps.py --backbones flux wan --frames 17

Times are medians over runs that take turns between the two things compared. Aims: tapped / untapped
time at equal depth <= 1.02, extra memory / size of the taps about 1, four timesteps in one batch /
four calls <= 0.9 in bfloat16, with / without concepts <= 1.05.
"""

import argparse
import json
import platform
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import torch
from figures import Figure, Turns, median_figure, write_report

from mmdiff_video.backbones import UNTRAINED_NOTICE, Backbone, load_backbone
from mmdiff_video.backbones.noise import keyed_noise, noised
from mmdiff_video.backbones.taps import run_up_to
from mmdiff_video.tasks import TASKS


def main() -> None:
    parser = argparse.ArgumentParser(description="What tapping costs.")
    parser.add_argument("--backbones", nargs="+", default=["nano-flux", "nano-wan"])
    parser.add_argument("--frames", type=int, help="clip length for the video backbones")
    parser.add_argument("--dtype", choices=["bfloat16", "float32"], default="bfloat16")
    parser.add_argument("--repeats", type=int, default=21)
    parser.add_argument("--json", type=Path, help="also write the figures here")
    args = parser.parse_args()

    results, figures = [], []
    for name in args.backbones:
        backbone = load_backbone(name, dtype=getattr(torch, args.dtype))
        result, found = measure(backbone, args.frames, args.repeats)
        results.append(result)
        figures += found
        print(report(result), flush=True)
    if args.json:
        write_report(args.json, "taps", figures, results)


def measure(backbone: Backbone, frames: int | None, repeats: int) -> tuple[dict, list[Figure]]:
    """What :func:`report` prints, and the figures of it."""
    d = backbone.defaults
    frames = (frames or d.frames) if backbone.geometry.is_video else 1
    grid = backbone.geometry.latent_grid(frames, d.height, d.width)
    latent = torch.randn(1, backbone.geometry.channels, *grid).to(backbone.device)
    times = [0.78, 0.52, 0.26, 0.001]
    taps_bytes = sum(
        m.nbytes for m in backbone.extract_latent(latent, timesteps=times, keys=["a"]).maps.values()
    )

    def tapped() -> None:
        backbone.extract_latent(latent, timesteps=times, keys=["a"])

    def one_by_one() -> None:
        for t in times:
            backbone.extract_latent(latent, timesteps=[t], keys=["a"])

    def with_concepts() -> None:
        backbone.extract_latent(
            latent, timesteps=times, keys=["a"], concepts=TASKS["saliency"].concepts
        )

    untapped = untapped_forward(backbone, latent, times)
    reading = alternate(tapped, untapped, backbone.device, repeats)
    batching = alternate(tapped, one_by_one, backbone.device, repeats)
    mapping = alternate(with_concepts, tapped, backbone.device, repeats)
    tapped_s, untapped_s = reading.medians()
    batch_s, calls_s = batching.medians()
    concepts_s, plain_s = mapping.medians()
    extra = peak_bytes(tapped, backbone.device) - peak_bytes(untapped, backbone.device)
    title = f"{backbone.name} {str(backbone.dtype).removeprefix('torch.')}"
    figures = [
        reading.ratio(f"{title}, tapped", "tapped / untapped time"),
        Figure(
            name=f"{title}, memory", value=extra / taps_bytes, ratio_of="extra memory / taps' size"
        ),
        batching.ratio(f"{title}, batched", "4 timesteps batched / 4 calls"),
        mapping.ratio(f"{title}, concepts", "with / without concept maps"),
        median_figure(f"{title}, tapped time", [1e3 * s for s in reading.first], "ms"),
    ]
    result = {
        "backbone": backbone.name,
        "untrained": backbone.untrained,
        "device": device_name(backbone.device),
        "dtype": str(backbone.dtype).removeprefix("torch."),
        "torch": torch.__version__,
        "frames_height_width": [frames, d.height, d.width],
        "taps": [spec.name for spec in backbone.resolve_taps()],
        "tapped_s": tapped_s,
        "untapped_s": untapped_s,
        "tapped_over_untapped": tapped_s / untapped_s,
        "taps_bytes": taps_bytes,
        "extra_bytes": extra,
        "extra_over_taps": extra / taps_bytes,
        "four_timesteps_batched_s": batch_s,
        "four_calls_s": calls_s,
        "batched_over_calls": batch_s / calls_s,
        "with_concepts_s": concepts_s,
        "without_concepts_s": plain_s,
        "with_over_without_concepts": concepts_s / plain_s,
    }
    return result, figures


def untapped_forward(
    backbone: Backbone, latent: torch.Tensor, times: list[float]
) -> Callable[[], None]:
    """The same work as extract_latent to the same depth, reading nothing."""
    last = list(backbone.tap_modules(backbone.resolve_taps()).values())[-1]

    @torch.no_grad()
    def run() -> None:
        text = backbone.encode_text([backbone.defaults.prompt])
        t = torch.tensor(times, device=backbone.device)
        eps = keyed_noise(["a"], 0, latent.shape[1:]).to(backbone.device)
        noisy = noised(latent, eps, t.reshape(-1, 1, 1, 1, 1))
        rows = text.rows(torch.zeros(len(times), dtype=torch.long, device=backbone.device))
        run_up_to(
            backbone.pipeline.transformer,
            last,
            lambda: backbone.velocity(noisy, t, rows, backbone.defaults.extract_guidance),
        )

    return run


def alternate(
    first: Callable[[], object],
    second: Callable[[], object],
    device: torch.device,
    repeats: int,
    clock: Callable[[], float] = time.perf_counter,
) -> Turns:
    """Seconds of each; they take turns at going first, so that nothing favours either."""
    seconds: tuple[list[float], list[float]] = ([], [])
    pairs = list(zip((first, second), seconds, strict=True))
    for i in range(repeats + 2):
        for run, kept in pairs if i % 2 else reversed(pairs):
            synchronise(device)
            start = clock()
            run()
            synchronise(device)
            if i >= 2:  # the first two warm up
                kept.append(clock() - start)
    return Turns(*seconds)


def peak_bytes(run: Callable[[], None], device: torch.device) -> int:
    """Most tensor memory held at once during a run, beyond what was held before it."""
    if device.type == "cuda":
        synchronise(device)
        before = torch.cuda.memory_allocated(device)
        torch.cuda.reset_peak_memory_stats(device)
        run()
        synchronise(device)
        return torch.cuda.max_memory_allocated(device) - before
    with torch.profiler.profile(
        activities=[torch.profiler.ProfilerActivity.CPU], profile_memory=True
    ) as profiler:
        run()
    with tempfile.TemporaryDirectory() as folder:
        trace = Path(folder) / "trace.json"
        profiler.export_chrome_trace(str(trace))
        events = json.loads(trace.read_text())["traceEvents"]
    held = peak = 0
    for event in sorted((e for e in events if e.get("name") == "[memory]"), key=lambda e: e["ts"]):
        held += event["args"]["Bytes"]
        peak = max(peak, held)
    return peak


def synchronise(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def device_name(device: torch.device) -> str:
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    return f"{platform.machine()} CPU, {torch.get_num_threads()} threads"


def report(r: dict) -> str:
    size = " x ".join(map(str, r["frames_height_width"]))
    lines = [
        f"{r['backbone']} at {size}, {r['dtype']}, {r['device']}, torch {r['torch']}",
        f"  tapped / untapped time        {r['tapped_over_untapped']:.3f}"
        f"   ({r['tapped_s'] * 1e3:.1f} / {r['untapped_s'] * 1e3:.1f} ms)",
        f"  extra memory / size of taps   {r['extra_over_taps']:.3f}"
        f"   ({r['extra_bytes'] / 2**20:.2f} / {r['taps_bytes'] / 2**20:.2f} MiB)",
        f"  4 timesteps batched / 4 calls {r['batched_over_calls']:.3f}"
        f"   ({r['four_timesteps_batched_s'] * 1e3:.1f} / {r['four_calls_s'] * 1e3:.1f} ms)",
        f"  with / without 5 concepts     {r['with_over_without_concepts']:.3f}"
        f"   ({r['with_concepts_s'] * 1e3:.1f} / {r['without_concepts_s'] * 1e3:.1f} ms)",
    ]
    if r["untrained"]:
        lines.append(f"  {UNTRAINED_NOTICE}; timings do not depend on them")
    return "\n".join(lines)


if __name__ == "__main__":
    main()
