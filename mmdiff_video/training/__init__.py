"""The training loop that every task shares, with its checkpoints and records."""

from mmdiff_video.process import processes, this_device
from mmdiff_video.training.checkpoint import checkpoints, load_model
from mmdiff_video.training.config import TrainConfig
from mmdiff_video.training.data import TrainingSet
from mmdiff_video.training.loop import Trainer, TrainResult
from mmdiff_video.training.parameters import count_parameters

__all__ = [
    "TrainConfig",
    "TrainResult",
    "Trainer",
    "TrainingSet",
    "checkpoints",
    "count_parameters",
    "load_model",
    "processes",
    "this_device",
]
