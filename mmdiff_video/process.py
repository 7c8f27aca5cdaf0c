"""Which process this is, and the device that it computes on."""

import os
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from datetime import timedelta
from pathlib import Path

import torch
from accelerate import PartialState
from accelerate.utils import broadcast_object_list, str_to_bool

from mmdiff_video.errors import InputError
from mmdiff_video.files import refuse_links
from mmdiff_video.locks import sole_writer

_PATIENCE = timedelta(hours=12)
"""How long processes wait for one another: the others do while the first renders a corpus or a data
set, or encodes it. By itself torch gives up after 10 minutes on GPUs, after 30 on CPUs."""


def processes() -> PartialState:
    """Join the processes that a launcher started, or be the only one.

    ``torchrun`` and ``accelerate launch --multi_gpu`` both start them, on CPUs too (``accelerate
    launch --cpu`` starts one only, or needs MPI). On a machine without an accelerator, or with
    ``ACCELERATE_USE_CPU=true``, they compute on the CPU and talk through gloo; accelerate by itself
    would then not connect them.

    Raises:
        RuntimeError: accelerate was set up before in a way that keeps the processes apart.
    """
    told = str_to_bool(os.environ.get("ACCELERATE_USE_CPU", "false")) == 1
    started = int(os.environ.get("WORLD_SIZE", "1"))
    if started > 1:
        # Its functions take the process group of the moment of its import as their default. Were it
        # imported later, as optimisers do, they would keep the group and its threads alive to the
        # end of the interpreter, which they then abort now and then.
        from torch.distributed.nn import functional  # noqa: F401
    state = PartialState(cpu=told or not torch.accelerator.is_available(), timeout=_PATIENCE)
    if state.num_processes != started:
        raise RuntimeError(
            f"{started} processes were started but only {state.num_processes} found each other:"
            " call processes() before anything else that sets up accelerate"
        )
    return state


def this_device() -> torch.device:
    """Return the device of this process."""
    device = processes().device
    assert device is not None
    return device


def machine_memory() -> int:
    """Bytes of this machine's memory."""
    return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")


@contextmanager
def writing_together(path: Path, doing: str) -> Iterator[None]:
    """Hold a folder for all processes of this training, as its :func:`sole_writer`.

    The first process takes the lock; where it is refused, all raise alike, and none is left waiting
    for the others.

    Args:
        path, doing: as for :func:`sole_writer`; the folder is made where it is missing.

    Raises:
        InputError: another program holds it, or there is a link in it (:func:`refuse_links`).
    """
    with ExitStack() as stack:
        failure: Exception | None = None
        if processes().is_main_process:
            try:
                path.mkdir(parents=True, exist_ok=True)
                refuse_links(path)
                stack.enter_context(sole_writer(path, doing))
            except (InputError, OSError) as error:
                failure = error
        failure = broadcast_object_list([failure])[0]
        if failure is not None:
            raise failure
        yield
