"""A procedural data set: rooms with textured primitives, filmed by a hand-held camera.

It stands in for RealEstate10K where nothing may be downloaded: the same file layout, exact cameras,
parallax, occlusion and texture, in miniature.
"""

import json
from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass
from fractions import Fraction
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from tqdm import tqdm

from mmdiff_video.datasets.raycast import (
    PATTERNS,
    Array,
    Box,
    Cylinder,
    Scene,
    Shape,
    Sphere,
    Texture,
    render,
)
from mmdiff_video.errors import InputError
from mmdiff_video.files import write_folder_aside

_FPS = 10
_FOCAL = 0.85  # of the image width: a phone's main camera
_MANIFEST = "primitives.json"


@dataclass(frozen=True, kw_only=True)
class _Settings:
    """What decides the files' contents. ``drawing`` changes with the pictures the code makes."""

    scenes: int
    seed: int
    frames: int
    width: int
    height: int
    drawing: int = 1


def make_primitives(
    out: Path,
    *,
    scenes: int = 12,
    seed: int = 0,
    frames: int = 40,
    width: int = 160,
    height: int = 120,
) -> Path:
    """Write the data set in RealEstate10K's original layout, unless it is there already.

    Every fourth scene goes to ``test``, the others to ``train``. The same arguments give the same
    cameras and pictures. The folder appears when it is complete, never before.

    Args:
        out: the data root to make.
        scenes: number of rooms, at least 2.
        seed: of rooms and camera paths.
        frames: per clip.
        width, height: in pixels, even (video coding needs it).

    Returns:
        ``out``.

    Raises:
        InputError: impossible sizes, or ``out`` exists and holds anything else.
    """
    settings = _Settings(scenes=scenes, seed=seed, frames=frames, width=width, height=height)
    if scenes < 2 or frames < 2:
        raise InputError(f"needs at least 2 scenes and 2 frames, not {scenes} and {frames}")
    if min(width, height) < 16 or width % 2 or height % 2:
        raise InputError(f"width and height must be even and at least 16, not {width}x{height}")
    out = Path(out)
    if out.exists():
        _require_same(out, settings)
        return out
    try:
        with write_folder_aside(out) as aside:
            _write(aside, settings)
    except OSError:
        if not out.exists():
            raise
        _require_same(out, settings)  # another process was faster
    return out


def _require_same(out: Path, settings: _Settings) -> None:
    try:
        found = json.loads((out / _MANIFEST).read_text())
    except (OSError, ValueError):
        raise InputError(
            f"'{out}' exists and is no primitives data set; choose another folder"
        ) from None
    if found != asdict(settings):
        raise InputError(
            f"'{out}' holds primitives made with other settings ({found}); remove it or choose "
            "another folder"
        )


def _write(root: Path, settings: _Settings) -> None:
    for folder in ("train", "test", "videos"):
        (root / folder).mkdir()
    intrinsics, K = _intrinsics(settings.width, settings.height)
    total = settings.scenes * settings.frames
    with tqdm(total=total, desc="drawing rooms", unit="frame", disable=None) as bar:
        for index in range(settings.scenes):
            key = f"room{index:04d}"
            scene = random_room(np.random.default_rng([settings.seed, index, 0]))
            path = camera_path(np.random.default_rng([settings.seed, index, 1]), settings.frames)
            write_video(
                root / "videos" / f"{key}.mp4",
                _film(scene, path, K, settings, bar),
                settings.width,
                settings.height,
            )
            split = "test" if index % 4 == 3 or settings.scenes - index == 1 else "train"
            _write_cameras(root / split / f"{key}.txt", intrinsics, path)
    (root / _MANIFEST).write_text(json.dumps(asdict(settings), indent=1) + "\n")


def _film(
    scene: Scene, path: NDArray, K: Array, settings: _Settings, bar: tqdm
) -> Iterator[NDArray[np.uint8]]:
    for viewmat in path:
        yield render(scene, viewmat, K, settings.width, settings.height)
        bar.update()


def _intrinsics(width: int, height: int) -> tuple[tuple[float, ...], Array]:
    """Return fx fy cx cy divided by the image size, and K [3, 3] in pixels."""
    focal = _FOCAL * width
    K = np.array([[focal, 0, width / 2], [0, focal, height / 2], [0, 0, 1]], dtype=np.float32)
    return (_FOCAL, focal / height, 0.5, 0.5), K


def _write_cameras(file: Path, intrinsics: tuple[float, ...], path: NDArray) -> None:
    lines = [f"procedural:{file.stem}"]
    for i, viewmat in enumerate(path):
        numbers = [*intrinsics, 0.0, 0.0, *viewmat[:3].reshape(-1)]
        timestamp = i * 1_000_000 // _FPS
        lines.append(" ".join([str(timestamp), *(f"{number:.9f}" for number in numbers)]))
    file.write_text("\n".join(lines) + "\n")


def write_video(file: Path, pictures: Iterable[NDArray[np.uint8]], width: int, height: int) -> None:
    """Encode uint8 [H, W, 3] pictures as H.264, one video frame each, nearly lossless."""
    import av

    with av.open(str(file), "w") as container:
        stream = container.add_stream("libx264", rate=Fraction(_FPS))
        stream.width, stream.height, stream.pix_fmt = width, height, "yuv420p"
        # One thread makes the same bytes everywhere; a key frame every 10 makes seeking cheap.
        stream.options = {"crf": "12", "bf": "0", "g": "10", "threads": "1"}
        for picture in pictures:
            container.mux(stream.encode(av.VideoFrame.from_ndarray(picture, format="rgb24")))
        container.mux(stream.encode())


# --- rooms -------------------------------------------------------------------------------------


def random_room(rng: np.random.Generator) -> Scene:
    """Furnish a room: rug, table with things on it, pictures, and primitives standing about."""
    half = np.array([rng.uniform(2.4, 3.2), rng.uniform(1.3, 1.5), rng.uniform(2.8, 3.4)])
    half = half.astype(np.float32)
    centre = np.array([0, -half[1], 0], dtype=np.float32)
    wall_colour = _colour(rng, 0.35, 0.8, 0.25)
    walls = tuple(
        Texture(
            pattern,
            wall_colour,
            _darker(wall_colour, rng.uniform(0.55, 0.8)),
            float(rng.uniform(0.5, 0.9)),
            0.3,
            float(rng.uniform(0, 9)),
        )
        for pattern in rng.choice(["plain", "stripes", "bricks", "dots"], 4)
    )
    wood = _wood(rng)
    floor = wood if rng.random() < 0.6 else _texture(rng, ("checker", "bricks"), 0.8)
    ceiling = Texture("plain", (0.75, 0.74, 0.7), (0.75, 0.74, 0.7), 1.0, 0.15)
    shapes: list[Shape] = []
    taken: list[tuple[float, float, float]] = []
    shapes += _table(rng, taken)
    shapes += _standing_things(rng, half, taken)
    shapes += _pictures(rng, half)
    rug = _texture(rng, ("checker", "stripes", "dots"), float(rng.uniform(0.3, 0.6)))
    shapes.append(
        Box(
            _at(rng.uniform(-0.6, 0.6), -0.01, rng.uniform(-0.2, 0.6)),
            _at(rng.uniform(1.0, 1.5), 0.01, rng.uniform(0.8, 1.2)),
            rug,
            float(rng.uniform(-0.4, 0.4)),
        )
    )
    lamp = _at(rng.uniform(-1.2, 1.2), -2 * half[1] + 0.25, rng.uniform(-1.5, 0.3))
    return Scene(
        centre, half, floor, ceiling, (walls[0], walls[1], walls[2], walls[3]), tuple(shapes), lamp
    )


def _table(rng: np.random.Generator, taken: list[tuple[float, float, float]]) -> list[Shape]:
    x, z = rng.uniform(-0.7, 0.7), rng.uniform(0.6, 1.3)
    width, depth, height = rng.uniform(0.5, 0.75), rng.uniform(0.35, 0.5), rng.uniform(0.6, 0.8)
    taken.append((x, z, float(np.hypot(width, depth))))
    wood = _wood(rng)
    shapes: list[Shape] = [Box(_at(x, -height, z), _at(width, 0.03, depth), wood)]
    for sx in (-1, 1):
        for sz in (-1, 1):
            foot = _at(x + sx * (width - 0.06), -height / 2, z + sz * (depth - 0.06))
            shapes.append(Cylinder(foot, 0.035, height / 2 - 0.03, wood))
    for place in rng.permutation(3)[: rng.integers(2, 4)]:
        size = float(rng.uniform(0.09, 0.16))
        position = (x + (place - 1) * width * 0.6, -height - 0.03, z + rng.uniform(-0.1, 0.1))
        shapes.append(_thing(rng, position, size))
    return shapes


def _standing_things(
    rng: np.random.Generator, half: Array, taken: list[tuple[float, float, float]]
) -> list[Shape]:
    """Primitives on the floor of the far part of the room; the near part is the camera's."""
    shapes: list[Shape] = []
    for _ in range(40):
        size = float(rng.uniform(0.2, 0.45))
        x = rng.uniform(-half[0] + size, half[0] - size)
        z = rng.uniform(-0.3, half[2] - size)
        if z < 0.5 and abs(x) < 1.1:
            continue  # it would hide the room
        if all(np.hypot(x - a, z - b) > size * 1.5 + r for a, b, r in taken):
            taken.append((x, z, size * 1.5))
            shapes.append(_thing(rng, (x, 0.0, z), size))
        if len(shapes) == 6:
            break
    return shapes


def _thing(rng: np.random.Generator, foot: tuple[float, float, float], size: float) -> Shape:
    """One primitive standing on a point; ``size`` is about half its width."""
    x, y, z = foot
    texture = _texture(rng, PATTERNS, size * float(rng.uniform(0.6, 1.2)), vivid=True)
    kind = rng.integers(3)
    if kind == 0:
        return Sphere(_at(x, y - size, z), size, texture)
    tall = size * float(rng.uniform(0.8, 1.8))
    if kind == 1:
        half = _at(size * rng.uniform(0.6, 1), tall, size * rng.uniform(0.6, 1))
        return Box(_at(x, y - tall, z), half, texture, float(rng.uniform(0, np.pi)))
    return Cylinder(_at(x, y - tall, z), size * float(rng.uniform(0.5, 0.9)), tall, texture)


def _pictures(rng: np.random.Generator, half: Array) -> list[Shape]:
    """Framed pictures: two on the far wall and one on each side wall."""
    shapes: list[Shape] = []
    for wall in ("far", "far", "left", "right"):
        w, h, y = rng.uniform(0.25, 0.5), rng.uniform(0.25, 0.4), -rng.uniform(1.45, 1.75)
        image = _texture(rng, PATTERNS, float(rng.uniform(0.15, 0.4)), vivid=True)
        frame = Texture("plain", (0.12, 0.08, 0.05), (0.1, 0.1, 0.1), 1.0)
        for grow, thick, texture in ((0.05, 0.02, frame), (0.0, 0.03, image)):
            if wall == "far":
                side = -1 if len(shapes) < 2 else 1
                place = _at(side * half[0] * 0.5, y, half[2])
                shapes.append(Box(place, _at(w + grow, h + grow, thick), texture))
            else:
                place = _at(half[0] * (-1 if wall == "left" else 1), y, 0.8)
                shapes.append(Box(place, _at(thick, h + grow, w + grow), texture))
    return shapes


def _at(x: float, y: float, z: float) -> Array:
    return np.array([x, y, z], dtype=np.float32)


def _colour(
    rng: np.random.Generator, low: float, high: float, saturation: float
) -> tuple[float, float, float]:
    """Draw a linear colour of a given brightness range; saturation in 0..1."""
    hue = rng.uniform(0, 2 * np.pi)
    value = rng.uniform(low, high)
    waves = np.cos(hue + np.array([0, 2.094, 4.189]))  # red, green, blue a third of a turn apart
    rgb = np.clip(value * (1 + saturation * waves), 0.02, 0.95)
    return float(rgb[0]), float(rgb[1]), float(rgb[2])


def _darker(colour: tuple[float, float, float], factor: float) -> tuple[float, float, float]:
    return colour[0] * factor, colour[1] * factor, colour[2] * factor


def _texture(
    rng: np.random.Generator, patterns: tuple[str, ...], size: float, *, vivid: bool = False
) -> Texture:
    saturation = 0.9 if vivid else 0.5
    pattern = str(rng.choice(patterns))
    first = _colour(rng, 0.25, 0.6, saturation)
    second = _colour(rng, 0.08, 0.8, saturation)
    return Texture(pattern, first, second, max(size, 0.08), 0.4, float(rng.uniform(0, 9)))


def _wood(rng: np.random.Generator) -> Texture:
    tone = rng.uniform(0.5, 1.0)
    wood = (0.50 * tone, 0.29 * tone, 0.14 * tone)
    return Texture(
        "planks",
        wood,
        _darker(wood, 0.4),
        float(rng.uniform(0.4, 0.7)),
        0.4,
        float(rng.uniform(0, 9)),
    )


# --- camera ------------------------------------------------------------------------------------


def camera_path(rng: np.random.Generator, frames: int) -> NDArray[np.float64]:
    """Walk sideways through the near part of the room, looking at the middle: [frames, 4, 4].

    World-to-camera, smooth, with the sway of a hand. First and last camera are 0.7 to 1.6 m apart,
    however many frames there are.
    """
    time = np.linspace(0, 1, frames)
    ease = time * time * (3 - 2 * time)
    direction = rng.choice([-1, 1])
    reach = rng.uniform(0.35, 0.8)
    position = np.stack(
        [
            direction * reach * (2 * ease - 1) + rng.uniform(-0.3, 0.3) + _sway(rng, time, 0.02),
            -rng.uniform(1.3, 1.6) + rng.uniform(-0.1, 0.1) * ease + _sway(rng, time, 0.015),
            rng.uniform(-2.2, -1.8) + rng.uniform(0, 0.4) * ease + _sway(rng, time, 0.02),
        ],
        -1,
    )
    target = np.stack(
        [
            rng.uniform(-0.3, 0.3) + rng.uniform(-0.4, 0.4) * ease + _sway(rng, time, 0.05),
            -rng.uniform(0.7, 1.0) + _sway(rng, time, 0.04),
            np.full(frames, rng.uniform(0.8, 1.4)),
        ],
        -1,
    )
    forward = target - position
    forward /= np.linalg.norm(forward, axis=1, keepdims=True)
    roll = _sway(rng, time, 0.015)
    down = np.stack([np.sin(roll), np.cos(roll), np.zeros(frames)], -1)
    right = np.cross(down, forward)
    right /= np.linalg.norm(right, axis=1, keepdims=True)
    rotation = np.stack([right, np.cross(forward, right), forward], 1)  # rows: the camera's axes
    path = np.tile(np.eye(4), (frames, 1, 1))
    path[:, :3, :3] = rotation
    path[:, :3, 3] = -(rotation @ position[:, :, None])[:, :, 0]
    return path


def _sway(rng: np.random.Generator, time: NDArray, amplitude: float) -> NDArray:
    """A few slow waves."""
    cycles, phase = rng.uniform(0.7, 3.0, 3), rng.uniform(0, 2 * np.pi, 3)
    waves = np.sin(2 * np.pi * time[:, None] * cycles + phase) / cycles
    return amplitude * waves.sum(1)
