"""Labels of a scene on disk: what dense heads say of each of its Gaussians."""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from mmdiff_video.datasets.pictures.labelled import Classes
from mmdiff_video.dense.saved import parse_classes
from mmdiff_video.errors import InputError
from mmdiff_video.files import parse_json, write_aside
from mmdiff_video.scenes.folder import GAUSSIANS, LABELS
from mmdiff_video.scenes.labels.tasks import LIFTED
from mmdiff_video.tensors import DamagedError, load_tensors, save_tensors, tensor_bytes
from mmdiff_video.version import __version__
from recon.gaussians import Gaussians
from recon.io.ply import load_ply

UNSEEN = 96
"""Grey, of 255, of Gaussians that no view saw."""

_WEIGHT, _CHANNELS = "weight", ".channels"
_HEADS, _PLACES = "heads", "gaussians"


@dataclass(frozen=True, eq=False)
class HeadLabels:
    """What one head says of G Gaussians.

    Attributes:
        run: of the head, in words.
        channels: [G, C] float16: probabilities of C classes, saliency (C = 1), or normals in the
            axes of the world (C = 3), of any length; 0 for Gaussians that no view saw.
        classes: of a segmentation, else None.
    """

    run: str
    channels: Tensor
    classes: Classes | None


@dataclass(frozen=True, eq=False)
class SceneLabels:
    """Labels of the G Gaussians of a scene.

    Attributes:
        heads: by name of their task, at least one.
        weight: [G] float32, in how many pixels a Gaussian was seen, by blending weight.
    """

    heads: Mapping[str, HeadLabels]
    weight: Tensor

    def colors(self) -> Tensor:
        """Colours, uint8 [G, 3], on the CPU: of the classes, or else of saliency or normals."""
        name = next(name for name in LIFTED if name in self.heads)
        head = self.heads[name]
        painted = LIFTED[name].color(head.channels.float(), head.classes)
        painted = (painted * 255).round().to(torch.uint8)
        return torch.where((self.weight > 0)[:, None], painted, UNSEEN)


def label_colors(scene: Path) -> Tensor | None:
    """Colours, uint8 [G, 3], of the labels of a scene's Gaussians; None: it has no labels.

    Raises:
        InputError: as :func:`load_labels`.
    """
    labels = load_labels(scene)
    return None if labels is None else labels.colors()


def save_labels(scene: Path, labels: SceneLabels, gaussians: Gaussians) -> None:
    """Write the labels of a scene in one step.

    Args:
        scene: its folder.
        labels: of its Gaussians.
        gaussians: those of its PLY; which they are is written beside the labels.
    """
    heads = {
        name: {"run": head.run, "classes": None if head.classes is None else head.classes._asdict()}
        for name, head in labels.heads.items()
    }
    tensors = {f"{name}{_CHANNELS}": head.channels for name, head in labels.heads.items()}
    metadata = {
        _HEADS: json.dumps(heads),
        _PLACES: _places(gaussians),
        "version": __version__,
    }
    with write_aside(scene / LABELS) as aside:
        save_tensors(aside, {**tensors, _WEIGHT: labels.weight}, metadata)


def load_labels(scene: Path, gaussians: Gaussians | None = None) -> SceneLabels | None:
    """Read the labels of a scene; None: it has none.

    Args:
        scene: its folder.
        gaussians: what its PLY holds, if that is read already.

    Raises:
        InputError: they are damaged, or not those of the scene's Gaussians.
    """
    path = scene / LABELS
    if not path.is_file():
        return None
    if gaussians is None:
        gaussians = load_gaussians(scene)
    anew = "label the scene anew with `mmdiff-video lift`"
    try:
        tensors, metadata = load_tensors(path, checksum_required=True)
        labels = _parse(tensors, metadata)
    except PermissionError:
        raise
    except KeyError as error:
        raise InputError(f"'{path}' holds no labels, it lacks {error}: {anew}") from None
    except (DamagedError, ValueError, TypeError, OSError) as error:
        reason = str(error).splitlines()[0]
        raise InputError(f"'{path}' holds no labels, {reason}: {anew}") from None
    count = len(labels.weight)
    if count != gaussians.num:
        raise InputError(
            f"'{path}' labels {count} Gaussians and '{scene / GAUSSIANS}' holds {gaussians.num}: it"
            f" is of another scene; {anew}"
        )
    if metadata.get(_PLACES) != _places(gaussians):
        raise InputError(
            f"'{path}' labels Gaussians at other places than those of '{scene / GAUSSIANS}': the"
            f" scene was changed since; {anew}"
        )
    return labels


def load_gaussians(scene: Path) -> Gaussians:
    """Read the Gaussians of a scene, on the CPU.

    Raises:
        InputError: there are none, or the file is damaged.
    """
    path = scene / GAUSSIANS
    if not path.is_file():
        raise InputError(
            f"'{scene}' is no scene: it has no {GAUSSIANS}; `mmdiff-video reconstruct` makes one"
        )
    try:
        gaussians = load_ply(path)
    except ValueError as error:
        raise InputError(str(error)) from None
    if not gaussians.num:
        raise InputError(f"'{path}' holds no Gaussian: reconstruct the scene anew")
    return gaussians


def _places(gaussians: Gaussians) -> str:
    """Tell Gaussians from others, and from the same in another order, by their centres."""
    return hashlib.blake2b(tensor_bytes(gaussians.means.cpu()), digest_size=8).hexdigest()


def _parse(tensors: Mapping[str, Tensor], metadata: Mapping[str, str]) -> SceneLabels:
    weight = tensors[_WEIGHT]
    found = parse_json(metadata[_HEADS])
    if not isinstance(found, dict) or not found:
        raise ValueError("it names no heads")
    if weight.ndim != 1 or not weight.is_floating_point() or not weight.isfinite().all():
        raise ValueError("its weights are not one number for each Gaussian")
    heads: dict[str, HeadLabels] = {}
    for name, facts in found.items():
        if name not in LIFTED:
            raise ValueError(f"it has labels for '{str(name)[:40]}', and {', '.join(LIFTED)} exist")
        channels = tensors[f"{name}{_CHANNELS}"]
        classes = parse_classes(facts["classes"])
        if channels.ndim != 2 or len(channels) != len(weight) or not channels.is_floating_point():
            raise ValueError(f"its channels of {name} do not fit its {len(weight)} weights")
        if not channels.isfinite().all():
            raise ValueError(f"its channels of {name} hold NaN or infinity")
        width = LIFTED[name].width(classes)
        if channels.shape[1] != width:
            raise ValueError(f"it has {channels.shape[1]} channels of {name}, not {width}")
        heads[name] = HeadLabels(str(facts["run"]), channels, classes)
    return SceneLabels(heads, weight)
