"""What the process of COLMAP tells of its database and models. Imported by that process only."""

from pathlib import Path
from typing import Any

import numpy as np


def of_model(model: Any) -> dict[str, Any]:
    """Registered pictures, points and the mean reprojection error in pixels."""
    if model is None:
        return {"registered": 0, "points": 0, "reprojection_error": None}
    points = model.num_points3D()
    return {
        "registered": model.num_reg_images(),
        "points": points,
        "reprojection_error": model.compute_mean_reprojection_error() if points else None,
    }


def of_pictures(pycolmap: Any, database: Path, model: Any) -> list[dict[str, Any]]:
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


def read_matches(pycolmap: Any, database: Path) -> dict[tuple[str, str], np.ndarray]:
    """Verified matches of each pair of pictures: [2, M, 2] float64, in pixels."""
    found = {}
    with pycolmap.Database.open(database) as opened:
        names = {image.image_id: image.name for image in opened.read_all_images()}
        keypoints: dict[int, np.ndarray] = {}
        for pair, geometry in zip(*opened.read_two_view_geometries(), strict=True):
            matches = geometry.inlier_matches
            if not len(matches):
                continue
            a, b = pycolmap.pair_id_to_image_pair(pair)
            for image in (a, b):
                if image not in keypoints:
                    keypoints[image] = np.asarray(opened.read_keypoints(image))[:, :2]
            points = keypoints[a][matches[:, 0]], keypoints[b][matches[:, 1]]
            found[names[a], names[b]] = np.stack(points).astype(np.float64)
    return found


def longest_side(pycolmap: Any, database: Path) -> int:
    """Of all pictures, in pixels."""
    with pycolmap.Database.open(database) as opened:
        return max(max(c.width, c.height) for c in opened.read_all_cameras())


def motions(matches: dict[tuple[str, str], np.ndarray]) -> np.ndarray:
    """How far matched features move, in pixels: [P], the median of each pair of pictures."""
    return np.array([np.median(np.linalg.norm(b - a, axis=1)) for a, b in matches.values()])


def wide_motion(moved: np.ndarray, side: int) -> float:
    """How far features move between pictures far apart that share some, as a share of a side."""
    return float(np.percentile(moved, 90)) / side if len(moved) else 0.0


def write_matches(file: Path, matches: dict[tuple[str, str], np.ndarray], names: list[str]) -> None:
    """Write matches as arrays: ``pairs`` [P, 2], numbers of ``names``; ``ends`` [P]; ``points``."""
    numbers = {name: number for number, name in enumerate(names)}
    pairs = [[numbers[a], numbers[b]] for a, b in matches]
    points = [np.zeros((2, 0, 2)), *matches.values()]
    np.savez(
        file,
        pairs=np.array(pairs, np.int64).reshape(-1, 2),
        ends=np.cumsum([found.shape[1] for found in points[1:]], dtype=np.int64),
        points=np.concatenate(points, axis=1),
    )
