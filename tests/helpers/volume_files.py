"""Write MetaImage, NRRD and NIfTI files of given arrays, with any header."""

import gzip
import struct
import zlib
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.generic]
KINDS = ("mha", "mha zlib", "nrrd", "nrrd gzip", "nii", "nii gzip", "nii 2")
META = {"u1": "UCHAR", "i2": "SHORT", "u2": "USHORT", "f4": "FLOAT"}
NRRD = {"u1": "uchar", "i2": "short", "u2": "ushort", "f4": "float"}
NIFTI = {"u1": 2, "i2": 4, "u2": 512, "f4": 16}


def meta_image(values: Array, packed: bool = False, **fields: object) -> bytes:
    """`values` [..., y, x] as a MetaImage file; `fields` replace or add lines."""
    data = values.astype(values.dtype.newbyteorder("<")).tobytes()
    lines = {
        "ObjectType": "Image",
        "NDims": values.ndim,
        "BinaryData": True,
        "BinaryDataByteOrderMSB": False,
        "CompressedData": packed,
        "DimSize": " ".join(map(str, values.shape[::-1])),
        "ElementType": f"MET_{META[values.dtype.str[1:]]}",
        **fields,
        "ElementDataFile": fields.get("ElementDataFile", "LOCAL"),
    }
    head = "".join(f"{name} = {value}\n" for name, value in lines.items())
    return head.encode() + (zlib.compress(data) if packed else data)


def nrrd(values: Array, packed: bool = False, **fields: object) -> bytes:
    """`values` [..., y, x] as an NRRD file; an underscore in a field is a blank."""
    data = values.astype(values.dtype.newbyteorder("<")).tobytes()
    lines = {
        "type": NRRD[values.dtype.str[1:]],
        "dimension": values.ndim,
        "sizes": " ".join(map(str, values.shape[::-1])),
        "endian": "little",
        "encoding": "gzip" if packed else "raw",
        **{name.replace("_", " "): value for name, value in fields.items()},
    }
    head = "".join(f"{name}: {value}\n" for name, value in lines.items())
    return b"NRRD0004\n" + head.encode() + b"\n" + (gzip.compress(data) if packed else data)


def nifti(
    values: Array,
    packed: bool = False,
    *,
    spacing: Sequence[float] = (1, 1, 1, 1, 1, 1, 1),
    units: int = 2,
    version: int = 1,
    text: bytes = b"",
    order: str = "<",
    **changes: tuple[int, str, float],
) -> bytes:
    """`values` [..., y, x] as a NIfTI file; `changes` are place, type and value in the header."""
    steps = [1.0, *spacing, *[1.0] * 7][:8]
    sizes = [values.ndim, *values.shape[::-1], *[1] * 7][:8]
    head = bytearray(352 if version == 1 else 544)
    kind = NIFTI[values.dtype.str[1:]]
    if version == 1:
        struct.pack_into(f"{order}i", head, 0, 348)
        struct.pack_into(f"{order}8h", head, 40, *sizes)
        struct.pack_into(f"{order}2h", head, 70, kind, 8 * values.itemsize)
        struct.pack_into(f"{order}9f", head, 76, *steps, len(head))
        head[123], head[344:348], head[148 : 148 + len(text)] = units, b"n+1\0", text
    else:
        struct.pack_into(f"{order}i", head, 0, 540)
        head[4:12], head[240 : 240 + len(text)] = b"n+2\0\r\n\x1a\n", text
        struct.pack_into(f"{order}2h8q", head, 12, kind, 8 * values.itemsize, *sizes)
        struct.pack_into(f"{order}8dq", head, 104, *steps, len(head))
        struct.pack_into(f"{order}i", head, 500, units)
    for place, form, value in changes.values():
        struct.pack_into(order + form, head, place, value)
    content = bytes(head) + values.astype(values.dtype.newbyteorder(order)).tobytes()
    return gzip.compress(content) if packed else content


def written(kind: str, values: Array) -> bytes:
    """`values` as a file of one of `KINDS`, with the spacing of 0.2 mm."""
    packed = kind.endswith(("zlib", "gzip"))
    if kind.startswith("mha"):
        return meta_image(values, packed, ElementSpacing="0.2 0.2 1 1")
    if kind.startswith("nrrd"):
        units = " ".join(['"mm"'] * values.ndim)
        steps = " ".join(["0.2"] * values.ndim)
        return nrrd(values, packed, spacings=steps, space_units=units)
    return nifti(values, packed, spacing=(0.2, 0.2), version=2 if kind.endswith("2") else 1)
