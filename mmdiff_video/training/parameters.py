"""How many trainable parameters the parts of a model have."""

from torch import nn

from mmdiff_video.tables import format_count, format_table


def count_parameters(model: nn.Module) -> dict[str, int]:
    """Trainable parameters by part (``aggregator``, ``decoder``...) and in ``total``."""
    counts = {
        name: sum(p.numel() for p in part.parameters() if p.requires_grad)
        for name, part in model.named_children()
    }
    return {**counts, "total": sum(counts.values())}


def describe_parameters(model: nn.Module) -> str:
    """Say how many trainable parameters each part has, as a table."""
    rows = [[name, format_count(count)] for name, count in count_parameters(model).items()]
    return format_table(["trainable parameters", ""], rows)
