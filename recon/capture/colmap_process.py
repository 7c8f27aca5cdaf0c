"""The process that finds or refines poses: ``python -m recon.capture.colmap_process JOB.json``.

pycolmap brings image libraries of its own that do not get on with Pillow's in one process, so that
it runs in this one, which is given files and leaves files. It says how far it is in lines of JSON
on its standard output. Imported by nobody else.
"""

import json
import os
import sys
import threading
import time
from pathlib import Path
from typing import Any

import numpy as np

from recon.capture import colmap_mapping, colmap_refinement
from recon.capture.colmap_facts import (
    longest_side,
    motions,
    of_pictures,
    read_matches,
    wide_motion,
    write_matches,
)

_WATCH_SECONDS = 1.0

_MOST_FEATURES = 4096
"""Of a picture, the largest: matching takes the square of it, and more make no better poses."""


def main(job_file: Path) -> None:
    """Extract features, match, find or refine, and write the model and what there is to say."""
    import pycolmap

    job = json.loads(job_file.read_text(encoding="utf-8"))
    threading.Thread(target=_end_with_parent, args=(os.getppid(),), daemon=True).start()
    pycolmap.logging.minloglevel = 3
    images, work = Path(job["images"]), Path(job["work"])
    database = work / "database.db"
    stages = Stages()
    stages.run("features", _extract, pycolmap, database, images, job)
    stages.run("matching", _match, pycolmap, database, work, job)
    matches = read_matches(pycolmap, database)
    moved = motions(matches)
    facts: dict[str, Any] = {"median_motion": float(np.median(moved)) if len(moved) else None}
    if job["given"] is None:
        wide = wide_motion(moved, longest_side(pycolmap, database))
        model, found = colmap_mapping.find(pycolmap, database, images, work, job, wide, stages)
    else:
        write_matches(work / "matches.npz", matches, job["names"])
        model, found = colmap_refinement.refine(pycolmap, database, images, work, job, stages)
    facts |= found
    facts["pictures"] = of_pictures(pycolmap, database, model)
    facts["seconds"] = stages.seconds
    if model is not None:
        (work / "model").mkdir()
        model.write_binary(str(work / "model"))
    (work / "facts.json").write_text(json.dumps(facts), encoding="utf-8")


class Stages:
    """Says which stage begins, and keeps how long each took."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = {}

    def run(self, stage: str, work: Any, *args: Any) -> Any:
        """Call ``work(*args)`` as a stage."""
        print(json.dumps({"stage": stage}), flush=True)
        began = time.monotonic()
        result = work(*args)
        self.seconds[stage] = round(time.monotonic() - began, 2)
        return result


def _extract(pycolmap: Any, database: Path, images: Path, job: dict[str, Any]) -> None:
    """Features of all pictures, those of each group with a camera of their own."""
    options = pycolmap.FeatureExtractionOptions()
    options.num_threads = job["threads"]
    options.max_image_size = job["longest_side"]
    options.sift.max_num_features = _MOST_FEATURES
    for group in job["groups"]:
        reader = pycolmap.ImageReaderOptions()
        reader.camera_model = group["camera_model"]
        reader.camera_params = ",".join(map(repr, group["camera_params"]))
        pycolmap.extract_features(
            database,
            images,
            image_names=group["names"],
            camera_mode=pycolmap.CameraMode.SINGLE,
            reader_options=reader,
            extraction_options=options,
        )


def _match(pycolmap: Any, database: Path, work: Path, job: dict[str, Any]) -> None:
    """Match features, and verify the matches of each pair.

    COLMAP verifies a pair of one camera of unknown focal length by a solver with six points, which
    overwrites its stack where the camera moves sideways past few planes (4.2.1). While it verifies,
    the guessed focal lengths pass as known: then a fundamental matrix judges where the guess fits
    badly.
    """
    verification = pycolmap.TwoViewGeometryOptions()
    verification.ransac.random_seed = job["seed"]
    guessed = _set_focal_known(pycolmap, database, None)
    if job["pairs"] is None:
        pycolmap.match_exhaustive(database, verification_options=verification)
    else:
        names = job["names"]
        file = work / "pairs.txt"
        lines = [f"{names[a]} {names[b]}\n" for a, b in job["pairs"]]
        file.write_text("".join(lines), encoding="utf-8")
        pairing = pycolmap.ImportedPairingOptions()
        pairing.match_list_path = file
        pycolmap.match_image_pairs(
            database, pairing_options=pairing, verification_options=verification
        )
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


def _end_with_parent(parent: int) -> None:
    while os.getppid() == parent:
        time.sleep(_WATCH_SECONDS)
    os._exit(1)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
