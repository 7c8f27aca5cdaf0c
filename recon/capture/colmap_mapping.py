"""Finding poses in the process of COLMAP: which settings, in which order. Imported by it only."""

from pathlib import Path
from typing import Any

from recon.capture.colmap_facts import of_model

QUICK = {
    "ba_global_frames_ratio": 1.4,
    "ba_global_points_ratio": 1.4,
    "ba_global_max_refinements": 2,
    "ba_global_max_num_iterations": 20,
    "ba_global_function_tolerance": 1e-5,
    "ba_local_max_refinements": 1,
    "ba_local_max_num_iterations": 15,
    "ba_local_function_tolerance": 1e-5,
}
"""Fewer and shorter adjustments on the way, which cost most of the time: on hand-held clips the
result is the same within 1 % in 40 % of the time."""

SMALL_MOTION = {
    "mapper.init_min_tri_angle": 2.0,
    "mapper.init_min_num_inliers": 50,
    "mapper.abs_pose_min_num_inliers": 15,
    "mapper.filter_min_tri_angle": 0.5,
    "mapper.ba_local_min_tri_angle": 2.0,
    "triangulation.min_angle": 0.5,
}
"""For hand-held clips that move by centimetres: COLMAP's defaults wait for wider angles."""

_DEFAULTS, _SMALL, _GLOBAL = (
    "COLMAP's defaults",
    "settings for small motion",
    "global mapping (GLOMAP)",
)

ATTEMPTS: dict[str, dict[str, float] | None] = {
    _SMALL: SMALL_MOTION,
    _DEFAULTS: {},
    _GLOBAL: None,
}
"""Tried in turn until one registers nearly all pictures on enough points; where things move far
between pictures, the defaults come first."""

_FAR = 0.25
"""Of the longer side of a picture: how far features move that move far."""

ENOUGH_REGISTERED, ENOUGH_POINTS = 0.95, 20
"""Share of the pictures, and points for each of them, with which no further attempt is made."""


def find(
    pycolmap: Any,
    database: Path,
    images: Path,
    work: Path,
    job: dict[str, Any],
    motion: float,
    stages: Any,
) -> tuple[Any, dict[str, Any]]:
    """Try settings until one serves; returns the best model (None: there is none) and the facts."""
    best: tuple[str, Any] | None = None
    attempts = []
    for name in order(motion):
        folder = work / f"attempt-{len(attempts)}"
        folder.mkdir()
        found = stages.run(name, _map, pycolmap, name, database, images, folder, job["seed"])
        model = max(found.values(), key=_worth, default=None)
        attempts.append({"name": name, "seconds": stages.seconds[name], **of_model(model)})
        if model is not None and (best is None or _worth(model) > _worth(best[1])):
            best = name, model
        if best is not None and _is_enough(best[1], len(job["names"])):
            break
    facts: dict[str, Any] = {"attempts": attempts, "chosen": best[0] if best else None}
    model = best[1] if best else None
    return model, facts | of_model(model)


def order(motion: float) -> list[str]:
    """Which attempts, first to last; see :func:`recon.capture.colmap_facts.wide_motion`."""
    first = [_DEFAULTS] if motion > _FAR else []
    return [*first, *(name for name in ATTEMPTS if name not in first)]


def incremental_options(pycolmap: Any, settings: dict[str, float], seed: int) -> Any:
    """COLMAP's options with some of them changed, and quicker."""
    options = pycolmap.IncrementalPipelineOptions()
    options.random_seed = options.mapper.random_seed = options.triangulation.random_seed = seed
    for key, value in (QUICK | settings).items():
        part, _, name = key.rpartition(".")
        setattr(getattr(options, part) if part else options, name, value)
    return options


def _map(
    pycolmap: Any, name: str, database: Path, images: Path, folder: Path, seed: int
) -> dict[int, Any]:
    settings = ATTEMPTS[name]
    if settings is None:
        options = pycolmap.GlobalPipelineOptions()
        options.random_seed = seed
        return pycolmap.global_mapping(database, images, folder, options)
    options = incremental_options(pycolmap, settings, seed)
    return pycolmap.incremental_mapping(database, images, folder, options)


def _worth(model: Any) -> tuple[int, int]:
    return model.num_reg_images(), model.num_points3D()


def _is_enough(model: Any, pictures: int) -> bool:
    registered, points = _worth(model)
    return registered >= ENOUGH_REGISTERED * pictures and points >= ENOUGH_POINTS * registered
