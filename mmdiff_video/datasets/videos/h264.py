"""Which packets of H.264 can be decoded from any key frame on (ISO 14496-10, 14496-15).

An IDR picture empties the decoder's memory, so what follows it in the file never depends on what
was before. Nothing is decoded here; all that is unusual is answered with no.
"""

from collections.abc import Iterator

_SLICE, _IDR, _SEI, _SPS, _DELIMITER, _FILLER = 1, 5, 6, 7, 9, 12
_DISPLAY_ORIENTATION = 47  # an SEI message
# Profiles whose parameter sets state the chroma format (7.3.2.1.1).
_HIGH_PROFILES = (100, 110, 122, 244, 44, 83, 86, 118, 128, 138, 139, 134, 135)


class H264Packets:
    """Judges packets by the header of their stream."""

    def __init__(self, header: bytes | None):
        """``header``: the stream's ``avcC`` record, as mp4, mov, mkv and flv have it."""
        self._length_size = 0
        if header is None or len(header) < 8 or header[0] != 1 or header[5] & 31 != 1:
            return
        size = int.from_bytes(header[6:8], "big")
        if _whole_frames(header[8 : 8 + size]):
            self._length_size = (header[4] & 3) + 1

    def is_one_frame(self, packet: bytes, key: bool) -> bool:
        """Whether a packet is one whole frame, an IDR picture where it is a key frame."""
        pictures = 0
        for unit in self._units(packet):
            kind = unit[0] & 31 if unit else -1
            if kind in (_SLICE, _IDR) and len(unit) > 1:
                if (kind == _IDR) != key:
                    return False
                pictures += unit[1] >> 7  # the first bit is set where the slice begins a picture
            elif kind == _SEI:
                if _DISPLAY_ORIENTATION in _messages(unit):
                    return False
            elif kind not in (_DELIMITER, _FILLER):  # parameter sets on the way, damage
                return False
        return pictures == 1

    def _units(self, packet: bytes) -> Iterator[bytes]:
        """NAL units by their lengths; an empty one where these do not add up."""
        place = 0
        while place < len(packet) and self._length_size:
            start = place + self._length_size
            place = start + int.from_bytes(packet[place:start], "big")
            yield packet[start:place] if place <= len(packet) else b""


def _messages(unit: bytes) -> list[int]:
    """Types of the messages in an SEI unit (7.3.2.3.1)."""
    data = unit[1:].replace(b"\0\0\3", b"\0\0")
    types, place = [], 0
    while place + 2 < len(data):
        numbers = []
        for _ in range(2):  # the type and the size, in the manner of 255 + 255 + rest
            number = 0
            while place < len(data) and data[place] == 255:
                number, place = number + 255, place + 1
            numbers.append(number + data[place] if place < len(data) else number)
            place += 1
        types.append(numbers[0])
        place += numbers[1]
    return types


def _whole_frames(unit: bytes) -> bool:
    """Whether a sequence parameter set says that pictures are frames, never fields."""
    if len(unit) < 5 or unit[0] & 31 != _SPS:
        return False
    bits = _Bits(unit[4:].replace(b"\0\0\3", b"\0\0"))
    try:
        bits.exponential()  # seq_parameter_set_id
        if unit[1] in _HIGH_PROFILES:
            if bits.exponential() == 3:  # chroma_format_idc
                return False
            bits.skip_exponential(2)  # bit depths
            bits.take(1)  # qpprime_y_zero_transform_bypass_flag
            if bits.take(1):  # scaling matrices: rare, and long to read
                return False
        bits.exponential()  # log2_max_frame_num_minus4
        order = bits.exponential()  # pic_order_cnt_type
        if order == 0:
            bits.exponential()
        elif order == 1:
            return False
        bits.exponential()  # max_num_ref_frames
        if bits.take(1):  # gaps in frame numbers: frames that no packet holds
            return False
        bits.skip_exponential(2)  # size in macroblocks
        return bits.take(1) == 1  # frame_mbs_only_flag
    except ValueError:
        return False


class _Bits:
    """Reads a bit string from its front; ValueError at its end."""

    def __init__(self, data: bytes):
        self._bits = "".join(f"{byte:08b}" for byte in data)
        self._place = 0

    def take(self, count: int) -> int:
        self._place += count
        if self._place > len(self._bits):
            raise ValueError("the bits have ended")
        return int(self._bits[self._place - count : self._place] or "0", 2)

    def exponential(self) -> int:
        """An Exp-Golomb code (9.1)."""
        zeros = self._bits.find("1", self._place) - self._place
        if not 0 <= zeros <= 32:
            raise ValueError("no Exp-Golomb code")
        self._place += zeros
        return self.take(zeros + 1) - 1

    def skip_exponential(self, count: int) -> None:
        for _ in range(count):
            self.exponential()
