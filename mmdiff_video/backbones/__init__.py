"""Frozen diffusion transformers behind one interface."""

from mmdiff_video.backbones.base import UNTRAINED_NOTICE, Backbone
from mmdiff_video.backbones.cards import backbone_names, backbone_source
from mmdiff_video.backbones.describe import load_defaults
from mmdiff_video.backbones.registry import load_backbone
from mmdiff_video.backbones.tap_table import TapTable, describe_taps

__all__ = [
    "UNTRAINED_NOTICE",
    "Backbone",
    "TapTable",
    "backbone_names",
    "backbone_source",
    "describe_taps",
    "load_backbone",
    "load_defaults",
]
