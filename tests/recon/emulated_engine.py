"""Runs tests of the compiled engine with the engine of another processor, emulated.

    apt-get install g++-aarch64-linux-gnu qemu-user-static
    PYTHONPATH=tests python tests/recon/emulated_engine.py        # those that concern the kernels
    PYTHONPATH=tests python tests/recon/emulated_engine.py -x tests/recon/test_l1_ssim.py

The engine's sources are cross-compiled for aarch64, where vectors are NEON's, into a program that
serves calls through a pipe (emulated_engine.cpp). It runs under qemu-user, and the tests see it in
place of the shared library: everything else, and float64 to compare with, is native.
"""

import argparse
import ctypes
import platform
import shutil
import subprocess
import sys
import tempfile
import threading
from math import prod
from pathlib import Path
from typing import Any

import pytest

from recon.rasterize import cpu_library

ROOT = Path(__file__).parents[2]
CSRC = ROOT / "recon/rasterize/csrc"
TESTS = [
    f"tests/recon/{name}.py"
    for name in (
        "test_cpu_engine",
        "test_cpu_engine_fuzz",
        "test_l1_ssim",
        "test_rasterize_harmonics",
        "test_rasterize_meta",
        "test_rasterize_needles",
    )
]
ONE_SET = "portable"
"""What the build for another processor calls its only instruction set."""


def build(compiler: str, folder: Path) -> Path:
    """Compile the engine and its server as one program, with the flags of CMakeLists.txt."""
    program = folder / "engine"
    common = [compiler, "-std=c++17", "-O3", f"-I{CSRC}", "-c", "-Wno-psabi"]
    kernels = ["-fno-math-errno", "-fno-trapping-math", "-ffp-contract=fast"]
    sources = {path: [] for path in CSRC.glob("*.cpp")}
    sources[CSRC / "kernels.cpp"] = [*kernels, f"-DRECON_ISA={ONE_SET}"]
    sources[Path(__file__).with_suffix(".cpp")] = []
    objects = []
    for source, flags in sources.items():
        objects.append(str(folder / f"{source.stem}.o"))
        subprocess.run([*common, *flags, str(source), "-o", objects[-1]], check=True)
    subprocess.run([compiler, "-static", "-pthread", *objects, "-o", str(program)], check=True)
    return program


class EmulatedLibrary:
    """What :func:`recon.rasterize.cpu_library.load` gives, but each call goes through a pipe."""

    def __init__(self, command: list[str]):
        self._process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        self._lock = threading.RLock()
        self.calls = {"render": 0, "render_backward": 0, "l1_ssim": 0}

    def recon_instruction_sets(self) -> list[bytes | None]:
        return [ONE_SET.encode(), None]

    def recon_stored_bytes(self) -> int:
        return 0

    def recon_render(self, scene, cameras, pictures, meta, threads, _, frame) -> int:
        maps = _maps(pictures, scene, cameras)
        meta_sizes = _meta(meta, scene, cameras)
        with self._lock:
            self._begin("render", threads, int(frame is not None))
            self._send(*_inputs(scene, cameras), *maps, *meta_sizes)
            status, address = self._reply(*maps, *meta_sizes)
        if frame is not None:
            frame._obj.value = address
        return status

    def recon_render_backward(self, frame, scene, cameras, pictures, flows, out, threads) -> int:
        written = _gradients(out, scene, cameras)
        with self._lock:
            self._begin("render_backward", threads)
            self._write(ctypes.c_int64(frame.value))
            self._send(*_inputs(scene, cameras), *_maps(pictures, scene, cameras))
            self._send(*_maps(flows, scene, cameras), *written)
            return self._reply(*written)[0]

    def recon_l1_ssim(self, c, losses, threads, _) -> int:
        size = (c.images, c.channels, c.height, c.width)
        prediction, target, gradient = (
            (
                images.data,
                4 * (1 + sum((n - 1) * s for n, s in zip(size, images.strides, strict=True)))
                if prod(size)
                else 0,
            )
            for images in (c.prediction, c.target, c.gradient)
        )
        results = gradient, (losses, 8 * c.images)
        with self._lock:
            self._begin("l1_ssim", threads)
            self._send((ctypes.addressof(c), ctypes.sizeof(c)), prediction, target, gradient)
            self._send((c.mask, c.images * c.height * c.width), (c.l1_scales, 8 * c.images))
            self._send((c.ssim_scales, 8 * c.images), results[1])
            return self._reply(*results)[0]

    def recon_release(self, frame) -> None:
        if frame.value:
            with self._lock:
                self._write(ctypes.c_int32(3), ctypes.c_int64(frame.value))

    def close(self) -> None:
        """End the program."""
        self._process.communicate()

    def _begin(self, function: str, *numbers: int) -> None:
        self._write(ctypes.c_int32(list(self.calls).index(function)))
        self._write(*map(ctypes.c_int32, numbers))
        self.calls[function] += 1

    def _write(self, *values: Any) -> None:
        for value in values:
            self._process.stdin.write(bytes(value))

    def _send(self, *blobs: tuple[int | None, int]) -> None:
        for address, size in blobs:
            if address is None:
                self._write(ctypes.c_int64(-1))
            else:
                self._write(ctypes.c_int64(size), ctypes.string_at(address, size))

    def _reply(self, *blobs: tuple[int | None, int]) -> tuple[int, int]:
        self._process.stdin.flush()
        status = int.from_bytes(self._process.stdout.read(4), sys.byteorder)
        frame = int.from_bytes(self._process.stdout.read(8), sys.byteorder)
        for address, size in blobs:
            if address is not None:
                ctypes.memmove(address, self._process.stdout.read(size), size)
        return status, frame


def _inputs(scene, cameras) -> list[tuple[int | None, int]]:
    count = 4 * scene.count
    return [
        *((ctypes.addressof(struct), ctypes.sizeof(struct)) for struct in (scene, cameras)),
        *_scene(scene, count, _color_values(scene)),
        (cameras.viewmats, 64 * cameras.views),
        (cameras.Ks, 36 * cameras.views),
        (cameras.backgrounds, 4 * cameras.views * scene.channels),
    ]


def _scene(of, count: int, color_values: int) -> list[tuple[int | None, int]]:
    widths = {"means": 3, "quats": 4, "scales": 3, "opacities": 1, "colors": color_values}
    return [(getattr(of, name), width * count) for name, width in widths.items()]


def _color_values(scene) -> int:
    plain = scene.sh_degree == cpu_library.PLAIN_COLORS
    return scene.channels if plain else 3 * (scene.sh_degree + 1) ** 2


def _maps(pictures, scene, cameras) -> list[tuple[int | None, int]]:
    pixels = 4 * cameras.views * cameras.width * cameras.height
    return [
        (pictures.image, pixels * scene.channels),
        (pictures.depth, pixels),
        (pictures.alpha, pixels),
    ]


def _meta(meta, scene, cameras) -> list[tuple[int | None, int]]:
    if meta is None:
        return 3 * [(None, 0)]
    count = 4 * cameras.views * scene.count
    return [(meta.radii, 2 * count), (meta.means2d, 2 * count), (meta.depths, count)]


def _gradients(out, scene, cameras) -> list[tuple[int | None, int]]:
    return [
        *_scene(out, 4 * scene.count, _color_values(scene)),
        (out.viewmats, 64 * cameras.views),
        (out.Ks, 36 * cameras.views),
        (out.backgrounds, 4 * cameras.views * scene.channels),
    ]


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--compiler", default="aarch64-linux-gnu-g++")
    parser.add_argument("--emulator", default="qemu-aarch64-static")
    options, arguments = parser.parse_known_args()
    for program in (options.compiler, options.emulator):
        if shutil.which(program) is None:
            parser.error(f"{program} is not installed")
    with tempfile.TemporaryDirectory() as folder:
        program = build(options.compiler, Path(folder))
        library = EmulatedLibrary([options.emulator, str(program)])
        cpu_library.load = lambda: library
        cpu_library.instruction_sets.cache_clear()
        try:
            # A forked child would share the pipe.
            code = pytest.main(["-k", "not nothing_beyond", *(arguments or ["-q", *TESTS])])
        finally:
            library.close()
    print(f"{options.compiler}, {options.emulator} on {platform.machine()}: {library.calls}")
    return int(code)


if __name__ == "__main__":
    sys.exit(main())
