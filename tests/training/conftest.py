import importlib.util
import json
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import pytest


@pytest.fixture(scope="session")
def tiny() -> ModuleType:
    """The tiny task; its ``__file__`` is a program that runs it in another process."""
    # registered by name: data workers find its classes through sys.modules
    spec = importlib.util.spec_from_file_location(
        "tiny_run", Path(__file__).with_name("tiny_run.py")
    )
    assert spec
    assert spec.loader
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="session")
def metrics() -> Callable[[Path], list[dict]]:
    """Reads metrics.jsonl without what is measured by the clock."""

    def read(run: Path) -> list[dict]:
        lines = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
        for line in lines:
            line.pop("samples_per_second", None)
        return lines

    return read
