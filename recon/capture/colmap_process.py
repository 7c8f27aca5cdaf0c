"""The process that finds poses: ``python -m recon.capture.colmap_process JOB.json``.

pycolmap brings image libraries of its own that do not get on with Pillow's in one process, so that
it runs in this one, which is given files and leaves files. It says how far it is in lines of JSON
on its standard output. Imported by nobody.
"""

import json
import os
import sys
import threading
import time
from pathlib import Path
from typing import Any

SMALL_MOTION = {
    "mapper.init_min_tri_angle": 2.0,
    "mapper.init_min_num_inliers": 50,
    "mapper.abs_pose_min_num_inliers": 15,
    "mapper.filter_min_tri_angle": 0.5,
    "mapper.ba_local_min_tri_angle": 2.0,
    "triangulation.min_angle": 0.5,
}
"""For hand-held clips that move by centimetres: COLMAP's defaults wait for wider angles."""

ATTEMPTS: dict[str, dict[str, float] | None] = {
    "COLMAP's defaults": {},
    "settings for small motion": SMALL_MOTION,
    "global mapping (GLOMAP)": None,
}
"""Tried in turn until one registers nearly all pictures on enough points."""

ENOUGH_REGISTERED, ENOUGH_POINTS = 0.95, 20
"""Share of the pictures, and points for each of them, with which no further attempt is made."""

_WATCH_SECONDS = 1.0


def main(job_file: Path) -> None:
    """Extract features, match, map, and write the best model and what there is to say of it."""
    import pycolmap

    job = json.loads(job_file.read_text(encoding="utf-8"))
    threading.Thread(target=_end_with_parent, args=(os.getppid(),), daemon=True).start()
    pycolmap.logging.minloglevel = 3
    images, work = Path(job["images"]), Path(job["work"])
    database = work / "database.db"
    names = job["names"]
    seconds: dict[str, float] = {}

    def timed(stage: str, run: Any, *args: Any, **kwargs: Any) -> Any:
        say(stage=stage)
        began = time.monotonic()
        result = run(*args, **kwargs)
        seconds[stage] = time.monotonic() - began
        return result

    reader = pycolmap.ImageReaderOptions()
    reader.camera_model = job["camera_model"]
    mode = pycolmap.CameraMode.SINGLE if job["one_camera"] else pycolmap.CameraMode.AUTO
    timed(
        "features",
        pycolmap.extract_features,
        database,
        images,
        image_names=names,
        camera_mode=mode,
        reader_options=reader,
    )
    timed("matching", _match, pycolmap, database, job["ordered"], job["seed"])

    best: Any = None
    attempts = []
    for name, settings in ATTEMPTS.items():
        folder = work / f"attempt-{len(attempts)}"
        folder.mkdir()
        found = timed(name, _map, pycolmap, settings, database, images, folder, job["seed"])
        model = max(found.values(), key=_worth, default=None)
        attempts.append({"name": name, "seconds": seconds[name], **_facts(model)})
        if model is not None and (best is None or _worth(model) > _worth(best[1])):
            best = name, model
        if best is not None and _is_enough(best[1], len(names)):
            break
    facts: dict[str, Any] = {
        "attempts": attempts,
        "seconds": seconds,
        "pictures": _pictures(pycolmap, database, best[1] if best else None),
        "median_motion": _median_motion(pycolmap, database),
    }
    if best is not None:
        name, model = best
        facts |= {"chosen": name, **_facts(model)}
        raw, flat = work / "model", work / "undistorted"
        raw.mkdir()
        model.write_binary(str(raw))
        say(stage="undistortion")
        pycolmap.undistort_images(flat, raw, images)
    (work / "facts.json").write_text(json.dumps(facts), encoding="utf-8")


def say(**what: Any) -> None:
    """Write a line for the process that waits."""
    print(json.dumps(what), flush=True)


def _match(pycolmap: Any, database: Path, ordered: bool, seed: int) -> None:
    """Match features, and verify the matches of each pair.

    COLMAP verifies a pair of one camera of unknown focal length by a solver with six points, which
    overwrites its stack where the camera moves sideways past few planes (4.2.1). While it verifies,
    the guessed focal lengths pass as known: then a fundamental matrix judges where the guess fits
    badly.
    """
    verification = pycolmap.TwoViewGeometryOptions()
    verification.ransac.random_seed = seed
    match = pycolmap.match_sequential if ordered else pycolmap.match_exhaustive
    guessed = _set_focal_known(pycolmap, database, None)
    match(database, verification_options=verification)
    _set_focal_known(pycolmap, database, guessed)


def _set_focal_known(pycolmap: Any, database: Path, which: set[int] | None) -> set[int]:
    """Pass focal lengths as known, or those of ``which`` as guessed; returns which were guessed."""
    with pycolmap.Database.open(database) as opened:
        cameras = opened.read_all_cameras()
        guessed = {c.camera_id for c in cameras if not c.has_prior_focal_length}
        for camera in cameras:
            camera.has_prior_focal_length = which is None or camera.camera_id not in which
            opened.update_camera(camera)
    return guessed


def _map(
    pycolmap: Any,
    settings: dict[str, float] | None,
    database: Path,
    images: Path,
    folder: Path,
    seed: int,
) -> dict:
    if settings is None:
        options = pycolmap.GlobalPipelineOptions()
        options.random_seed = seed
        return pycolmap.global_mapping(database, images, folder, options)
    options = pycolmap.IncrementalPipelineOptions()
    options.random_seed = options.mapper.random_seed = options.triangulation.random_seed = seed
    for key, value in settings.items():
        part, _, name = key.partition(".")
        setattr(getattr(options, part), name, value)
    return pycolmap.incremental_mapping(database, images, folder, options)


def _worth(model: Any) -> tuple[int, int]:
    return model.num_reg_images(), model.num_points3D()


def _is_enough(model: Any, pictures: int) -> bool:
    registered, points = _worth(model)
    return registered >= ENOUGH_REGISTERED * pictures and points >= ENOUGH_POINTS * registered


def _facts(model: Any) -> dict[str, Any]:
    if model is None:
        return {"registered": 0, "points": 0, "reprojection_error": None}
    return {
        "registered": model.num_reg_images(),
        "points": model.num_points3D(),
        "reprojection_error": model.compute_mean_reprojection_error(),
    }


def _pictures(pycolmap: Any, database: Path, model: Any) -> list[dict[str, Any]]:
    """Of every picture: its features, its verified matches, and whether it was registered."""
    with pycolmap.Database.open(database) as opened:
        matches: dict[int, int] = {}
        for pair, geometry in zip(*opened.read_two_view_geometries(), strict=True):
            for image in pycolmap.pair_id_to_image_pair(pair):
                matches[image] = matches.get(image, 0) + len(geometry.inlier_matches)
        images = opened.read_all_images()
        features = {i.image_id: opened.num_keypoints_for_image(i.image_id) for i in images}
    registered = {model.images[i].name for i in model.reg_image_ids()} if model else set()
    return [
        {
            "name": image.name,
            "features": features[image.image_id],
            "matches": matches.get(image.image_id, 0),
            "registered": image.name in registered,
        }
        for image in images
    ]


def _median_motion(pycolmap: Any, database: Path) -> float | None:
    """How far matched features move between pictures, in pixels: the median over all pairs."""
    import numpy as np

    moved = []
    with pycolmap.Database.open(database) as opened:
        keypoints: dict[int, Any] = {}
        for pair, geometry in zip(*opened.read_two_view_geometries(), strict=True):
            a, b = pycolmap.pair_id_to_image_pair(pair)
            for image in (a, b):
                if image not in keypoints:
                    keypoints[image] = np.asarray(opened.read_keypoints(image))[:, :2]
            found = geometry.inlier_matches
            if len(found):
                shift = keypoints[a][found[:, 0]] - keypoints[b][found[:, 1]]
                moved.append(float(np.median(np.linalg.norm(shift, axis=1))))
    return float(np.median(moved)) if moved else None


def _end_with_parent(parent: int) -> None:
    while os.getppid() == parent:
        time.sleep(_WATCH_SECONDS)
    os._exit(1)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
