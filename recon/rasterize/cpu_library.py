"""Loads the compiled engine: plain C functions, called through ctypes.

The library knows nothing of torch, so one build serves every version of it. ctypes releases the
GIL during a call.
"""

import ctypes
import functools
import importlib.util
import os
from ctypes import POINTER, Structure, c_char_p, c_double, c_int, c_int32, c_int64, c_void_p

MODULE = "recon.rasterize._splatting"
"""Name under which importlib finds the library's file. It is not a Python module."""

INSTRUCTION_SET_VARIABLE = "RECON_INSTRUCTION_SET"
"""Environment variable that names the instruction set to use instead of the best one."""


PLAIN_COLORS = -1
"""In place of a degree of spherical harmonics."""


class ReconScene(Structure):
    """The struct of csrc/engine.h."""

    _fields_ = (
        ("count", c_int64),
        *((name, c_int32) for name in ("channels", "sh_degree")),
        *((name, c_void_p) for name in ("means", "quats", "scales", "opacities", "colors")),
    )


class ReconCameras(Structure):
    """The struct of csrc/engine.h."""

    _fields_ = (
        *((name, c_int32) for name in ("views", "width", "height")),
        *((name, c_void_p) for name in ("viewmats", "Ks", "backgrounds")),
        *((name, c_double) for name in ("near", "far")),
    )


class ReconPictures(Structure):
    """The struct of csrc/engine.h."""

    _fields_ = tuple((name, c_void_p) for name in ("image", "depth", "alpha"))


class ReconGradients(Structure):
    """The struct of csrc/engine.h."""

    _fields_ = tuple(
        (name, c_void_p)
        for name in (
            *("means", "quats", "scales", "opacities", "colors"),
            *("viewmats", "Ks", "backgrounds"),
        )
    )


@functools.cache
def load() -> ctypes.CDLL:
    """Load the library and declare the signatures of its functions.

    Raises:
        OSError: it was not built, or does not load; the message says why.
    """
    spec = importlib.util.find_spec(MODULE)
    if spec is None or spec.origin is None:
        raise OSError(
            "the compiled engine was not built: install a C++ compiler (GCC or Clang), "
            "then mmdiff-video once more"
        )
    library = ctypes.CDLL(spec.origin)
    library.recon_instruction_sets.restype = POINTER(c_char_p)
    library.recon_stored_bytes.restype = c_int64
    library.recon_render.argtypes = (
        *(POINTER(kind) for kind in (ReconScene, ReconCameras, ReconPictures)),
        c_int,
        c_int,
        POINTER(c_void_p),
    )
    library.recon_render_backward.argtypes = (
        c_void_p,
        *(
            POINTER(kind)
            for kind in (ReconScene, ReconCameras, *2 * (ReconPictures,), ReconGradients)
        ),
        c_int,
    )
    library.recon_release.argtypes = (c_void_p,)
    library.recon_release.restype = None
    return library


def unavailable() -> str | None:
    """Say why the compiled engine cannot render here, or None."""
    try:
        load()
    except OSError as error:
        return str(error)
    return None


@functools.cache
def instruction_sets() -> tuple[str, ...]:
    """Names of the instruction sets that this machine and this build have, best first."""
    names = load().recon_instruction_sets()
    found = []
    while names[len(found)] is not None:
        found.append(names[len(found)].decode())
    return tuple(found)


def instruction_set() -> str:
    """The instruction set in use: the best one, or what the environment asks for.

    Raises:
        ValueError: the environment asks for one that is not here.
    """
    wanted = os.environ.get(INSTRUCTION_SET_VARIABLE)
    if not wanted:
        return instruction_sets()[0]
    if wanted not in instruction_sets():
        raise ValueError(
            f"{INSTRUCTION_SET_VARIABLE}={wanted} is not available here; "
            f"valid: {', '.join(instruction_sets())}"
        )
    return wanted


def describe() -> str:
    """Say in one line which instruction set is in use, and why."""
    used, found = instruction_set(), instruction_sets()
    why = (
        f"chosen by {INSTRUCTION_SET_VARIABLE}"
        if os.environ.get(INSTRUCTION_SET_VARIABLE)
        else "the best of this machine"
    )
    return f"{used} ({why}; has {', '.join(found)})"
