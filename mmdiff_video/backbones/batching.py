"""How many rows of a batch fit in one forward, and what to do when the estimate was wrong."""

import logging
from collections.abc import Callable

import torch
from torch import nn

logger = logging.getLogger(__name__)

# Token vectors alive at the peak of a block, for one token: the residual, its norm, q, k, v, the
# attention output, the 4x wide MLP before and after its activation, and the float32 copies that Wan
# makes of some of them. Rounded up; a wrong guess costs one retry on CUDA.
_LIVE_VECTORS = 24
# Leave some of the free memory to the allocator's fragments.
_USABLE = 0.8
# A CPU gains nothing from larger batches than this.
_CPU_BUDGET = 2 * 2**30


def rows_that_fit(
    tokens: int, width: int, dtype: torch.dtype, device: torch.device, incoming: int = 0
) -> int:
    """Estimate how many rows of ``tokens`` x ``width`` one forward can hold; at least 1.

    Args:
        tokens, width, dtype: of a row inside the transformer.
        device: where it computes.
        incoming: bytes that the forward brings to the device before it computes, see
            :func:`incoming_bytes`.
    """
    row = tokens * width * dtype.itemsize * _LIVE_VECTORS
    if device.type == "cuda":
        free, _ = torch.cuda.mem_get_info(device)
        reserved = torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device)
        budget = int((free + reserved - incoming) * _USABLE)
    else:
        budget = _CPU_BUDGET
    return max(1, budget // row)


def incoming_bytes(model: nn.Module, device: torch.device) -> int:
    """Bytes of the weights that wait on the CPU until a forward brings them all to the device.

    Weights that come one layer at a time are on ``meta`` meanwhile and do not count.
    """
    elsewhere = (p for p in model.parameters() if p.device.type not in (device.type, "meta"))
    return sum(p.nbytes for p in elsewhere)


def for_row_chunks(rows: int, chunk: int, run: Callable[[slice], None]) -> int:
    """Call ``run`` on consecutive slices of at most ``chunk`` rows.

    A slice that does not fit in CUDA memory is halved and tried again; the smaller size is kept for
    the rest.

    Returns:
        The size kept in the end: ``chunk`` where every slice fitted.

    Raises:
        torch.cuda.OutOfMemoryError: a single row does not fit.
    """
    start = 0
    while start < rows:
        stop = min(start + chunk, rows)
        try:
            run(slice(start, stop))
        except torch.cuda.OutOfMemoryError:
            if stop - start == 1:
                raise
            chunk = (stop - start) // 2
        else:
            start = stop
            continue
        # Outside the except block, where the traceback no longer holds the forward's tensors.
        torch.cuda.empty_cache()
        logger.warning(
            "out of CUDA memory with %d rows in one forward: going on with %d", stop - start, chunk
        )
    return chunk
