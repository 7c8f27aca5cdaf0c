"""Which transformer blocks are read, and how: forward hooks, never a patched library."""

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

from torch import nn

from mmdiff_video.backbones.features import TapSpec
from mmdiff_video.errors import InputError


class _LastTapReached(Exception):
    """Ends a forward once the last tapped block has run. Never leaves this module."""


def resolve_taps(
    taps: Sequence[str | int], available: Sequence[TapSpec], default_stream: str
) -> list[TapSpec]:
    """Turn tap names and short forms into specs in forward order, without duplicates.

    ``double.12`` and ``block.7`` are names; ``4`` and ``-1`` (numbers or strings) count in the
    default stream; ``last-4`` is its last four blocks.

    Args:
        taps: what the user wrote; empty for no taps.
        available: every block of the model in forward order.
        default_stream: the stream that bare indices count in.

    Raises:
        InputError: an unknown tap; the message lists the valid ones.
    """
    if isinstance(taps, str):
        raise InputError(f"taps must be a list such as ['{taps}'], not one string")
    by_name = {spec.name: spec for spec in available}
    stream = [spec for spec in available if spec.stream == default_stream]
    chosen: set[str] = set()
    for tap in taps:
        text = "" if isinstance(tap, bool) else str(tap).strip()
        if text in by_name:
            chosen.add(text)
        elif re.fullmatch(r"[+-]?\d{1,9}", text) and -len(stream) <= int(text) < len(stream):
            chosen.add(stream[int(text)].name)
        elif (last := re.fullmatch(r"last-(\d{1,9})", text)) and 0 < int(last[1]) <= len(stream):
            chosen.update(spec.name for spec in stream[-int(last[1]) :])
        else:
            raise InputError(f"unknown tap '{tap}'; {_valid(available, default_stream)}")
    return [spec for spec in available if spec.name in chosen]


def spread(count: int, blocks: int) -> list[int]:
    """Pick ``count`` block indices evenly over the depth; the last block is always one of them."""
    count = min(count, blocks)
    return [-(-(i + 1) * blocks // count) - 1 for i in range(count)]


def stream_ranges(available: Sequence[TapSpec]) -> list[str]:
    """Name every tap, one range per stream: ``['double.0 to double.18', ...]``."""
    streams: dict[str, list[TapSpec]] = {}
    for spec in available:
        streams.setdefault(spec.stream, []).append(spec)
    return [
        specs[0].name if len(specs) == 1 else f"{specs[0].name} to {specs[-1].name}"
        for specs in streams.values()
    ]


def _valid(available: Sequence[TapSpec], default_stream: str) -> str:
    n = sum(spec.stream == default_stream for spec in available)
    return (
        f"valid: {', '.join(stream_ranges(available))};"
        f" short forms in '{default_stream}': 0 to {n - 1}, -1 to -{n}, last-1 to last-{n}"
    )


@contextmanager
def tapped(blocks: Mapping[str, nn.Module], sink: Callable[[str, Any], None]) -> Iterator[None]:
    """While the context is open, hand what each block puts out to ``sink``.

    Args:
        blocks: tap name -> module.
        sink: called with (tap name, output) right after the block has run; the output is the
            model's own, so copy what must outlive the forward.
    """

    def hook(name: str) -> Callable[..., None]:
        # returning None leaves the block's output as it is
        return lambda module, args, output: sink(name, output)

    handles = []
    try:
        for name, block in blocks.items():
            handles.append(block.register_forward_hook(hook(name)))
        yield
    finally:
        for handle in handles:
            handle.remove()


def run_up_to(root: nn.Module, last: nn.Module, forward: Callable[[], object]) -> None:
    """Run a forward of ``root`` and stop it right after ``last`` has run.

    Hooks already on ``last`` fire before the stop.

    Args:
        root: the model whose forward ``forward`` calls.
        last: the module after which nothing more is needed.
        forward: calls the model; its result is dropped.
    """

    def stop(module: nn.Module, args: Any, output: Any) -> None:
        raise _LastTapReached

    handle = last.register_forward_hook(stop)
    try:
        forward()
    except _LastTapReached:
        # accelerate's offload hooks wrap forward(): the stop has skipped the root's post_forward,
        # which frees the weights it had brought to the accelerator. The blocks' own have run.
        offload = getattr(root, "_hf_hook", None)
        if offload is not None:
            offload.post_forward(root, None)
    finally:
        handle.remove()
