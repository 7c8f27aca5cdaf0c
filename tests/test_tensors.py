from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from mmdiff_video.tensors import DamagedError, load_tensors, save_tensors

TENSORS = {
    "w": torch.arange(600, dtype=torch.float32).reshape(20, 30),
    "h": torch.ones(7, dtype=torch.bfloat16),
    "empty": torch.zeros(0, 3),
    "scalar": torch.tensor(3),
}


def test_tensors_and_metadata_come_back_as_they_were(tmp_path: Path):
    save_tensors(tmp_path / "a.safetensors", TENSORS, {"note": "é"})
    tensors, metadata = load_tensors(tmp_path / "a.safetensors")
    assert metadata == {"note": "é"}
    assert tensors.keys() == TENSORS.keys()
    for name, tensor in TENSORS.items():
        assert tensors[name].dtype == tensor.dtype
        assert torch.equal(tensors[name], tensor)


def test_equal_tensors_make_equal_files(tmp_path: Path):
    metadata = {name: name for name in ("note", "é", "format", '"', "\t")}
    files = [tmp_path / str(i) for i in range(8)]
    for file in files:
        save_tensors(file, TENSORS, metadata)
    assert len({file.read_bytes() for file in files}) == 1


@pytest.mark.parametrize(
    "dtype",
    [
        torch.float64, torch.float32, torch.float16, torch.bfloat16, torch.float8_e4m3fn,
        torch.float8_e5m2, torch.int64, torch.int32, torch.int16, torch.int8, torch.uint64,
        torch.uint32, torch.uint16, torch.uint8, torch.bool,
    ],
)  # fmt: skip
def test_other_programs_read_every_type(tmp_path: Path, dtype: torch.dtype):
    tensors = {
        "odd": torch.ones(3, dtype=torch.uint8),
        "a": torch.tensor([[0, 1, 2]]).to(dtype),
        "none": torch.zeros(2, 0).to(dtype),
        "a slice": torch.arange(6).reshape(2, 3).to(dtype)[:, 1],
    }
    path = tmp_path / "a.safetensors"
    save_tensors(path, tensors, {"format": "pt"})
    for read in (load_file(path), load_tensors(path)[0]):
        for name, tensor in tensors.items():
            assert (read[name].dtype, read[name].shape) == (tensor.dtype, tensor.shape)
            assert torch.equal(read[name].view(torch.uint8), tensor.contiguous().view(torch.uint8))
    data = 8 + int.from_bytes(path.read_bytes()[:8], "little")
    assert data % 8 == 0, "tensors begin where their elements may"


def test_tied_tensors_may_be_written(tmp_path: Path):
    shared = torch.rand(4, 4)
    save_tensors(tmp_path / "a.safetensors", {"a": shared, "b": shared.T})
    assert torch.equal(load_tensors(tmp_path / "a.safetensors")[0]["b"], shared.T)


def test_a_flipped_bit_is_found_wherever_it_is(tmp_path: Path):
    path = tmp_path / "a.safetensors"
    save_tensors(path, TENSORS, {"note": "x"})
    whole = path.read_bytes()
    for place in range(0, len(whole), 37):
        for bit in (0x01, 0x80):
            changed = bytearray(whole)
            changed[place] ^= bit
            path.write_bytes(changed)
            try:
                tensors, metadata = load_tensors(path)
            except (DamagedError, OSError):
                continue
            # a bit of the header's padding or order may change nothing that is read
            assert metadata == {"note": "x"}, place
            assert all(torch.equal(tensors[n], t) for n, t in TENSORS.items()), place


@pytest.mark.parametrize("kept", [0, 4, 8, 100, -1])
def test_a_file_cut_short_is_damaged(tmp_path: Path, kept: int):
    path = tmp_path / "a.safetensors"
    save_tensors(path, TENSORS)
    path.write_bytes(path.read_bytes()[:kept])
    with pytest.raises(DamagedError, match=r"a\.safetensors"):
        load_tensors(path)


def test_a_file_of_another_program_has_no_checksum_and_is_read(tmp_path: Path):
    save_file({"w": torch.ones(2)}, tmp_path / "a.safetensors")
    assert torch.equal(load_tensors(tmp_path / "a.safetensors")[0]["w"], torch.ones(2))


def test_others_may_read_the_file_and_nothing_lies_beside_it(tmp_path: Path):
    path = tmp_path / "a.safetensors"
    save_tensors(path, TENSORS)
    path.with_name("plain").touch()
    assert path.stat().st_mode == path.with_name("plain").stat().st_mode
    assert len(list(tmp_path.iterdir())) == 2


def test_a_full_disk_is_an_os_error():
    with pytest.raises(OSError, match="No space left on device: '/dev/full'"):
        save_tensors(Path("/dev/full"), TENSORS)
