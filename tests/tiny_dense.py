"""Overrides that make a dense run of seconds."""

TINY = [
    "data.height=32",
    "data.width=48",
    "aggregator.width=16",
    "aggregator.depth=1",
    "aggregator.heads=4",
    "deeplab.width=16",
    "dpt.width=16",
    "dpt.stages=[8,8,8,8]",
    "backbone.taps=[1,3]",
    "train.batch_size=2",
    "train.checkpoint_every=2",
    "train.preview_every=3",
    "train.log_every=1",
]
