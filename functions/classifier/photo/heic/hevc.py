"""What HEVC says of a coded picture (ITU-T H.265): its size, and which parts of it a decoder needs."""

from __future__ import annotations

import struct

from classifier.photo.heic.boxes import damaged

VPS, SPS, PPS = 32, 33, 34
"""The parameter sets, as types of NAL units; lower types are parts of pictures (table 7-1)."""
PADDING = 64
"""How many pixels more than it announces a picture may be coded with: the largest block's side."""
MAX_CONFIGURATION = 8192
"""Bytes. An encoder's is some hundred, a few thousand with its remarks; each tile of a photo has its own copy."""
MAX_SEQUENCES = 16
"""Sequence parameter sets: their numbers are 0..15."""
MAX_UNITS = 2000
"""NAL units in one coded picture, of which at most 600 are slices (table A.8)."""


def checked_configuration(configuration: bytes, size: tuple[int, int]) -> tuple[bytes, bool]:
    """Return a decoder's configuration (ISO/IEC 14496-15, 8.3.2) with its parameter sets only.

    With it comes whether the picture is fine: of more than 8 bits, or of more colour samples than 4:2:0 has. Memory
    is lent for the size that a file announces; a decoder takes it for that of the parameter sets.

    Raises:
        InvalidImage: they are of a picture larger than ``size``, or cannot be read.
        struct.error, IndexError: the configuration is cut short.
    """
    if len(configuration) > MAX_CONFIGURATION:
        raise damaged(f"its decoder's configuration has {len(configuration):,} bytes")
    kept, at, found = [], 23, []
    for _ in range(configuration[22]):
        kind, (count,) = configuration[at] & 0x3F, struct.unpack_from(">H", configuration, at + 1)
        start, at = at, at + 3
        for _ in range(count):
            (length,) = struct.unpack_from(">H", configuration, at)
            unit, at = configuration[at + 2 : at + 2 + length], at + 2 + length
            if len(unit) < max(length, 3) or unit[0] >> 1 & 0x3F != kind:
                raise damaged("its decoder's configuration is cut short")
            if kind == SPS:
                across, down, fine = _coded(unit)
                found.append(fine)
                if len(found) > MAX_SEQUENCES:
                    raise damaged(f"it has more than {MAX_SEQUENCES} sequence parameter sets")
                if across > size[0] + PADDING or down > size[1] + PADDING:
                    raise damaged(f"it announces {size[0]:,} x {size[1]:,} and is coded as {across:,} x {down:,}")
        if kind in (VPS, SPS, PPS):
            kept.append(configuration[start:at])
    if not found:
        raise damaged("its decoder's configuration has no size")
    return configuration[:22] + bytes([len(kept)]) + b"".join(kept), any(found)


def first_picture(coded: bytes, configuration: bytes) -> bytes:
    """Keep the parts of the first picture in its base layer: no parameter sets, no messages, no further pictures."""
    length_size = 1 + (configuration[21] & 3)
    kept, at, begun = [], 0, False
    for _ in range(MAX_UNITS):
        if at + length_size >= len(coded):
            break
        end = at + length_size + int.from_bytes(coded[at : at + length_size], "big")
        unit = coded[at + length_size : end]
        if len(unit) > 2 and unit[0] >> 1 & 0x3F < VPS and not (unit[0] & 1 or unit[1] >> 3):
            if unit[2] & 0x80 and begun:
                break
            begun = True
            kept.append(coded[at:end])
        at = end
    return b"".join(kept)


def _coded(unit: bytes) -> tuple[int, int, bool]:
    """Read width, height and whether it is fine from a sequence parameter set: ITU-T H.265, 7.3.2.2 and 7.3.3."""
    content = unit[:256].replace(b"\0\0\3", b"\0\0")  # what keeps start codes out
    bits = f"{int.from_bytes(content, 'big'):0{8 * len(content)}b}"
    at = 16 + 4

    def fixed(count: int) -> int:
        nonlocal at
        at += count
        return int(bits[at - count : at] or "0", 2)

    def golomb() -> int:
        zeros = bits.find("1", at) - at
        if not 0 <= zeros <= 31:
            raise damaged("its size cannot be read")
        return fixed(2 * zeros + 1) - 1

    layers = fixed(3)
    fixed(1 + 96)
    present = [(fixed(1), fixed(1)) for _ in range(8 if layers else 0)][:layers]
    for profile, level in present:
        fixed(88 * profile + 8 * level)
    golomb()
    colours = golomb()
    if colours == 3:
        fixed(1)
    width, height = golomb(), golomb()
    if fixed(1):
        for _ in range(4):
            golomb()
    depths = golomb(), golomb()
    if at > len(bits):
        raise damaged("its size cannot be read")
    return width, height, colours > 1 or max(depths) > 0
