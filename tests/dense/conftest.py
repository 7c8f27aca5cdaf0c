"""Small things for all dense tests."""

from pathlib import Path

import pytest
import torch
from tiny_dense import TINY


@pytest.fixture(scope="session")
def tiny() -> list[str]:
    """Overrides that make a run of seconds."""
    return TINY


@pytest.fixture(scope="session")
def dino_folder(tmp_path_factory) -> Path:
    """A small DINOv3 ViT with random weights, saved as the hub has it."""
    from transformers import DINOv3ViTConfig, DINOv3ViTModel

    torch.manual_seed(0)
    config = DINOv3ViTConfig(
        hidden_size=24, intermediate_size=48, num_hidden_layers=4, num_attention_heads=2
    )
    path = tmp_path_factory.mktemp("dino")
    DINOv3ViTModel(config).save_pretrained(path)
    return path
