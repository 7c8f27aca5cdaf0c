"""Given poses in the process of COLMAP: points by them, and both fitted to the pictures."""

from pathlib import Path
from typing import Any

import numpy as np

from recon.capture.colmap_facts import of_model
from recon.capture.colmap_mapping import SMALL_MOTION, incremental_options

_ROUNDS = 2
"""Each adjusts cameras and points, and then triangulates anew with the better cameras."""

_ITERATIONS, _TOLERANCE = 30, 1e-4
"""Of an adjustment: what comes after moves nothing by a tenth of a pixel."""


def refine(
    pycolmap: Any, database: Path, images: Path, work: Path, job: dict[str, Any], stages: Any
) -> tuple[Any, dict[str, Any]]:
    """Triangulate with given poses and, if that is wanted, adjust the poses and focal lengths.

    Returns the model and facts: those of ``given`` and, where they were adjusted, of the result.
    """
    options = incremental_options(pycolmap, SMALL_MOTION, job["seed"])

    def triangulate(model: Any) -> Any:
        folder = work / "triangulated"
        folder.mkdir(exist_ok=True)
        return pycolmap.triangulate_points(model, database, images, folder, options=options)

    model = stages.run("triangulation", triangulate, given_model(pycolmap, database, job["given"]))
    facts = {"given": of_model(model)}
    if job["adjust"] and model.num_points3D():
        model = stages.run("refinement", _adjust, pycolmap, model, triangulate, job)
    model.extract_colors_for_all_images(str(images))
    return model, facts | of_model(model)


def given_model(pycolmap: Any, database: Path, poses: dict[str, list[float]]) -> Any:
    """A model of the given poses (quaternion w x y z, translation), without points."""
    model = pycolmap.Reconstruction()
    with pycolmap.Database.open(database) as opened:
        for camera in opened.read_all_cameras():
            model.add_camera_with_trivial_rig(camera)
        for image in opened.read_all_images():
            w, x, y, z, *translation = poses[image.name]
            pose = pycolmap.Rigid3d(pycolmap.Rotation3d(np.array([x, y, z, w])), translation)
            bare = pycolmap.Image(
                name=image.name, camera_id=image.camera_id, image_id=image.image_id
            )
            model.add_image_with_trivial_frame(bare, pose)
    return model


def _adjust(pycolmap: Any, model: Any, triangulate: Any, job: dict[str, Any]) -> Any:
    options = pycolmap.BundleAdjustmentOptions()
    options.refine_focal_length = job["adjust_focal"]
    options.print_summary = False
    options.ceres.loss_function_type = pycolmap.LossFunctionType.SOFT_L1
    options.ceres.solver_options.max_num_iterations = _ITERATIONS
    options.ceres.solver_options.function_tolerance = _TOLERANCE
    for _ in range(_ROUNDS):
        pycolmap.bundle_adjustment(model, options)
        model = triangulate(model)
    pycolmap.bundle_adjustment(model, options)
    model.update_point_3d_errors()
    return model
