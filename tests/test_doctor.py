"""`doctor` names all that the package stands on, and says how to mend what is missing."""

import builtins
import re
import sys
from importlib import metadata
from types import SimpleNamespace

import pytest

from mmdiff_video import doctor


def test_every_declared_library_is_named():
    report = doctor.run_doctor()[0].lower()
    declared = metadata.requires("mmdiff-video") or []
    # what the commands use, not what developing and documenting them takes
    needs = [need for need in declared if '"dev"' not in need and '"docs"' not in need]
    names = [re.split(r"[ <>=!;~[]", need)[0] for need in needs]
    assert {"h5py", "torchmetrics", "pysodmetrics"} <= set(names)
    assert [name for name in names if name.lower() not in report] == []


@pytest.mark.parametrize(
    ("check", "module", "status", "remedy"),
    [
        (doctor.check_h5py, "h5py", "absent", "[nyu]"),
        (doctor.check_torchmetrics, "torchmetrics", "broken", "pip install"),
        (doctor.check_pysodmetrics, "py_sod_metrics", "broken", "pip install"),
        (doctor.check_embreex, "embreex", "absent", "pip install embreex"),
        (
            doctor.check_tensorboard,
            "torch.utils.tensorboard",
            "absent",
            "mmdiff-video[tensorboard]",
        ),
    ],
)
def test_what_is_missing_has_a_remedy(monkeypatch, check, module, status, remedy):
    assert check().status == "ok"
    for name in [n for n in sys.modules if n == module or n.startswith(f"{module}.")]:
        monkeypatch.delitem(sys.modules, name)
    real = builtins.__import__

    def without(name, *args, **kwargs):
        if name == module or name.startswith(f"{module}."):
            raise ModuleNotFoundError(f"No module named '{name}'")
        return real(name, *args, **kwargs)

    monkeypatch.setattr(builtins, "__import__", without)
    finding = check()
    assert finding.status == status
    assert remedy in finding.remedy


def test_a_missing_library_is_named(monkeypatch):
    monkeypatch.setattr(doctor, "_PLAIN_LIBRARIES", ("torchvision", "no-such-library"))
    finding = doctor.check_libraries()
    assert finding.status == "broken"
    assert "no-such-library" in finding.detail
    assert finding.remedy == "pip install no-such-library"


@pytest.mark.parametrize(("gib", "status"), [(40, "ok"), (3, "low"), (0.25, "broken")])
def test_a_disk_that_fills_up_is_told(monkeypatch, gib, status):
    disk = SimpleNamespace(free=int(gib * 2**30))
    monkeypatch.setattr(doctor, "shutil", SimpleNamespace(disk_usage=lambda path: disk))
    monkeypatch.setattr(doctor, "CHECKS", (doctor.check_disk,))
    report, healthy = doctor.run_doctor()
    assert f"{gib:.1f} GiB free" in report
    assert healthy == (status != "broken")
    assert doctor.check_disk().status == status
    assert ("free some space" in report) == (status != "ok")
