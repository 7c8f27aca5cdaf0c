"""``mmdiff-video doctor``: what works on this machine, and how to mend what does not."""

import platform
import shutil
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path

import torch

_PLAIN_LIBRARIES = (
    "torchvision",
    "diffusers",
    "transformers",
    "accelerate",
    "safetensors",
    "huggingface-hub",
    "sentencepiece",
    "protobuf",
    "ftfy",
    "pyyaml",
    "numpy",
    "kornia",
    "matplotlib",
    "tqdm",
)
"""Libraries that work wherever they are installed; the others are tried out."""


@dataclass(frozen=True)
class Finding:
    """The outcome of one check.

    Attributes:
        name: what was checked.
        status: ``ok``; ``absent`` (optional here, something else takes its place); ``low`` (works,
            until it runs out); ``broken``.
        detail: version, or what is wrong.
        remedy: what to do about it, when anything should be done.
    """

    name: str
    status: str
    detail: str
    remedy: str = ""


def check_torch() -> Finding:
    """Report torch, its threads and how fast bf16 is on this CPU."""
    from mmdiff_video.training.precision import cpu_bf16_gain

    gain = cpu_bf16_gain()
    bf16 = f"bf16 {gain:.1f} times as fast as float32 on the CPU" if gain else "no bf16 on the CPU"
    detail = f"{torch.__version__}, {torch.get_num_threads()} CPU threads, {bf16}"
    return Finding("torch", "ok", detail)


def check_libraries() -> Finding:
    """Report the versions of the libraries that need no trial."""
    versions: list[str] = []
    missing: list[str] = []
    for name in _PLAIN_LIBRARIES:
        try:
            versions.append(f"{name} {metadata.version(name)}")
        except metadata.PackageNotFoundError:
            missing.append(name)
    if missing:
        found = f"not installed: {', '.join(missing)}"
        return Finding("libraries", "broken", found, f"pip install {' '.join(missing)}")
    return Finding("libraries", "ok", ", ".join(versions))


def check_cuda() -> Finding:
    """Report the GPU, trying a real operation on it."""
    if not torch.cuda.is_available():
        return Finding(
            "CUDA",
            "absent",
            "no CUDA device: nano backbones and the rasterizer run on the CPU",
            "the full-size backbones (Wan, FLUX, Stable Diffusion 3.5) want a GPU",
        )
    try:
        torch.ones(8, device="cuda").sum().item()
    except RuntimeError as error:
        return Finding("CUDA", "broken", _first_line(error), "check the driver with nvidia-smi")
    free, total = torch.cuda.mem_get_info()
    name = torch.cuda.get_device_name()
    return Finding("CUDA", "ok", f"{name}, {free / 2**30:.0f} of {total / 2**30:.0f} GiB free")


def check_rasterizer() -> Finding:
    """Render one Gaussian with the engine that ``auto`` picks, and say why that one."""
    from recon.rasterize import auto_engine, rasterize

    device = "cuda" if torch.cuda.is_available() else "cpu"
    try:
        engine = auto_engine(device)
        out = rasterize(
            torch.tensor([[0.0, 0.0, 2.0]], device=device),
            torch.tensor([[1.0, 0.0, 0.0, 0.0]], device=device),
            torch.full((1, 3), 0.2, device=device),
            torch.full((1,), 0.9, device=device),
            torch.ones(1, 3, device=device),
            torch.eye(4, device=device)[None],
            torch.tensor([[[16.0, 0, 8], [0, 16, 8], [0, 0, 1]]], device=device),
            16,
            16,
            engine=engine.name,
        )
    except Exception as error:  # any failure of a compiled extension is what we are here to report
        return Finding("rasterizer", "broken", _first_line(error), "render with engine='torch'")
    centre = float(out.alpha[0, 8, 8])
    if not 0.5 < centre < 0.95:
        return Finding("rasterizer", "broken", f"a trial render gave alpha {centre:.3f}, not ~0.9")
    status = "absent" if engine.fallback else "ok"
    return Finding("rasterizer", status, f"engine '{engine.name}' on {device}: {engine.why}")


def check_gsplat() -> Finding:
    """Report gsplat, whose kernels need CUDA."""
    try:
        import gsplat
    except Exception as error:
        return Finding("gsplat", "broken", _first_line(error), "pip install gsplat")
    if not torch.cuda.is_available():
        return Finding("gsplat", "absent", f"{gsplat.__version__} installed, but it needs CUDA")
    return Finding("gsplat", "ok", gsplat.__version__)


def check_video() -> Finding:
    """Write a tiny mp4 and read it back with the reader that data loading uses."""
    import numpy as np

    from mmdiff_video.datasets.video_reader import read_frames
    from mmdiff_video.pictures import save_video

    try:
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "trial.mp4"
            save_video([np.full((32, 32, 3), v, np.uint8) for v in (0, 128, 255)], path, fps=10)
            middle = float(read_frames(path, [1]).mean())
    except Exception as error:
        return Finding("video", "broken", _first_line(error), "pip install --upgrade av")
    if abs(middle - 128) > 8:
        return Finding(
            "video", "broken", f"frame 1 of a grey ramp read back as {middle:.0f}, not 128"
        )
    return Finding("video", "ok", "H.264 read and written with PyAV")


def check_ffmpeg() -> Finding:
    """Report the FFmpeg libraries inside PyAV, and the ffmpeg command, which is not needed."""
    try:
        import av
    except ImportError as error:
        return Finding("ffmpeg", "broken", _first_line(error), "pip install av")
    version = ".".join(map(str, av.library_versions["libavcodec"]))
    command = shutil.which("ffmpeg") or "no ffmpeg command (not needed)"
    return Finding("ffmpeg", "ok", f"libavcodec {version} in PyAV {av.__version__}; {command}")


def check_lpips() -> Finding:
    """Report whether LPIPS can be computed."""
    from recon.perceptual import LpipsUnavailable, load_lpips
    from recon.shift_tolerant import load_st_lpips

    try:
        loaded = load_lpips()
    except ValueError as error:
        return Finding("LPIPS weights", "broken", str(error))
    if isinstance(loaded, LpipsUnavailable):
        stand_in = not isinstance(load_st_lpips(), LpipsUnavailable)
        shown = "LPIPS will show as n/a" + (", ST-LPIPS in its place" if stand_in else "")
        return Finding("LPIPS weights", "absent", shown, loaded.reason)
    return Finding("LPIPS weights", "ok", "VGG16 weights found")


def check_st_lpips() -> Finding:
    """Report the perceptual metric whose weights come with a package."""
    from recon.perceptual import LpipsUnavailable
    from recon.shift_tolerant import load_st_lpips

    if isinstance(load_st_lpips(), LpipsUnavailable):
        return Finding(
            "ST-LPIPS",
            "absent",
            "no stlpips_pytorch: it will show as n/a where LPIPS cannot be had",
            "pip install 'mmdiff-video[st-lpips]'",
        )
    return Finding("ST-LPIPS", "ok", "weights of stlpips_pytorch found")


def check_torchmetrics() -> Finding:
    """Score a trial segmentation: half of each of two classes is found."""
    try:
        from torchmetrics.classification import MulticlassJaccardIndex

        truth, found = torch.tensor([0, 0, 1, 1]), torch.tensor([0, 1, 1, 0])
        score = float(MulticlassJaccardIndex(2)(found, truth))
    except Exception as error:  # whatever stops scoring is what we are here to report
        remedy = "pip install --upgrade torchmetrics"
        return Finding("torchmetrics", "broken", _first_line(error), remedy)
    if abs(score - 1 / 3) > 1e-4:
        return Finding("torchmetrics", "broken", f"a trial mIoU came as {score:.3f}, not 0.333")
    return Finding("torchmetrics", "ok", f"{metadata.version('torchmetrics')}: mIoU")


def check_pysodmetrics() -> Finding:
    """Score a trial mask against itself."""
    import numpy as np

    try:
        from py_sod_metrics import MAE, Smeasure

        mask = np.zeros((16, 16), np.uint8)
        mask[4:12, 4:12] = 255
        structure, error = Smeasure(), MAE()
        for metric in (structure, error):
            metric.step(pred=mask, gt=mask)
        scores = float(structure.get_results()["sm"]), float(error.get_results()["mae"])
    except Exception as error:
        remedy = "pip install --upgrade pysodmetrics"
        return Finding("pysodmetrics", "broken", _first_line(error), remedy)
    if abs(scores[0] - 1) > 1e-3 or scores[1] > 1e-6:
        found = f"a mask against itself scored S {scores[0]:.3f}, MAE {scores[1]:.3f}"
        return Finding("pysodmetrics", "broken", found)
    return Finding("pysodmetrics", "ok", f"{metadata.version('pysodmetrics')}: S-measure, F, MAE")


def check_pycolmap() -> Finding:
    """Look for pycolmap, which runs in a process of its own: here it would upset Pillow."""
    try:
        return Finding("pycolmap", "ok", metadata.version("pycolmap"))
    except metadata.PackageNotFoundError:
        return Finding(
            "pycolmap",
            "absent",
            "not installed: poses of bare pictures cannot be found",
            "pip install 'mmdiff-video[capture]'",
        )


def check_viser() -> Finding:
    """Look for viser, which shows scenes in the browser."""
    try:
        return Finding("viser", "ok", f"{metadata.version('viser')}: scenes in the browser")
    except metadata.PackageNotFoundError:
        return Finding(
            "viser",
            "absent",
            "not installed: scenes cannot be looked at in the browser",
            "pip install 'mmdiff-video[view]'",
        )


def check_h5py() -> Finding:
    """Write an HDF5 file in memory and read it back."""
    try:
        import h5py

        with h5py.File("trial", "w", driver="core", backing_store=False) as file:
            total = float(file.create_dataset("depths", data=[1.0, 2.0])[:].sum())
    except ModuleNotFoundError:
        return Finding(
            "h5py",
            "absent",
            "not installed: NYU's labelled .mat cannot be read, its pictures in folders can",
            "pip install 'mmdiff-video[nyu]'",
        )
    except Exception as error:
        return Finding("h5py", "broken", _first_line(error), "pip install --upgrade h5py")
    if total != 3:
        return Finding("h5py", "broken", f"[1, 2] read back with the sum {total}")
    return Finding("h5py", "ok", f"{h5py.__version__}: NYU's labelled .mat")


def check_embreex() -> Finding:
    """Report Embree, which draws the procedural rooms."""
    try:
        from embreex import rtcore_scene  # noqa: F401
    except ImportError as error:
        return Finding(
            "embreex",
            "absent",
            f"procedural rooms cannot be drawn here ({_first_line(error)})",
            "pip install embreex (Linux x86-64, macOS, Windows), or copy rooms made elsewhere",
        )
    return Finding("embreex", "ok", f"{metadata.version('embreex')}: procedural rooms")


def check_tensorboard() -> Finding:
    """Report TensorBoard."""
    try:
        from torch.utils.tensorboard import SummaryWriter  # noqa: F401
    except ImportError:
        return Finding(
            "tensorboard",
            "absent",
            "not installed: metrics go to metrics.jsonl alone",
            "pip install 'mmdiff-video[tensorboard]'",
        )
    return Finding("tensorboard", "ok", metadata.version("tensorboard"))


def check_backbones() -> Finding:
    """Report which backbones come with the package or lie in the local hub cache."""
    from huggingface_hub import try_to_load_from_cache

    from mmdiff_video.backbones import backbone_names, backbone_source

    found = []
    for name in backbone_names():
        source = backbone_source(name)
        if source is None:
            found.append(f"{name} (built in)")
        elif isinstance(try_to_load_from_cache(source, "model_index.json"), str):
            found.append(f"{name} (hub cache)")
    return Finding(
        "backbones",
        "ok",
        f"at hand: {', '.join(found)}",
        "others are fetched from the hub at first use; FLUX.1-dev and Stable Diffusion 3.5 need"
        " their licence accepted there and `hf auth login`",
    )


def check_disk() -> Finding:
    """Report free space where caches and runs go: ``low`` below 5 GiB, ``broken`` below 0.5."""
    free = shutil.disk_usage(Path.cwd()).free / 2**30
    detail = f"{free:.1f} GiB free in the current folder"
    if free >= 5:
        return Finding("disk", "ok", detail)
    remedy = "free some space: the demo wants 0.5 GiB, feature caches of real data sets 5 and more"
    return Finding("disk", "low" if free >= 0.5 else "broken", detail, remedy)


CHECKS: tuple[Callable[[], Finding], ...] = (
    check_torch,
    check_libraries,
    check_cuda,
    check_gsplat,
    check_rasterizer,
    check_video,
    check_ffmpeg,
    check_lpips,
    check_st_lpips,
    check_torchmetrics,
    check_pysodmetrics,
    check_pycolmap,
    check_viser,
    check_h5py,
    check_embreex,
    check_tensorboard,
    check_backbones,
    check_disk,
)


def run_doctor() -> tuple[str, bool]:
    """Run every check; returns the report and whether nothing is broken."""
    marks = {"ok": "ok     ", "absent": "absent ", "low": "low    ", "broken": "BROKEN "}
    findings = [check() for check in CHECKS]
    lines = [f"Python {platform.python_version()} on {platform.platform()}"]
    for finding in findings:
        lines.append(f"{marks[finding.status]} {finding.name}: {finding.detail}")
        if finding.remedy:
            lines.append(f"{'':8}   -> {finding.remedy}")
    return "\n".join(lines), all(f.status != "broken" for f in findings)


def _first_line(error: Exception) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0]
