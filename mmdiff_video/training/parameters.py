"""How many trainable parameters the parts of a model have."""

from torch import nn


def count_parameters(model: nn.Module) -> dict[str, int]:
    """Trainable parameters by part (``aggregator``, ``decoder``...) and in ``total``."""
    counts = {
        name: sum(p.numel() for p in part.parameters() if p.requires_grad)
        for name, part in model.named_children()
    }
    return {**counts, "total": sum(counts.values())}
