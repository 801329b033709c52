"""The bytes of an ONNX model without its tensors: a walk over the protobuf fields of onnx.proto."""

from collections.abc import Iterator

# Fields that may contain tensors, by message, from
# https://github.com/onnx/onnx/blob/main/onnx/onnx.proto. All other fields are searched as text:
# names, documentation, metadata, and fields that later versions may add.
MESSAGES = {
    "model": {7: "graph", 20: "training", 25: "function"},
    "training": {1: "graph", 2: "graph"},
    "function": {7: "node", 11: "attribute"},
    "graph": {1: "node", 5: "tensor", 15: "sparse"},
    "node": {5: "attribute"},
    "attribute": {5: "tensor", 6: "graph", 10: "tensor", 11: "graph", 22: "sparse", 23: "sparse"},
    "sparse": {1: "tensor", 2: "tensor"},
    "tensor": {},
}
# float_data, int32_data, int64_data, raw_data, double_data, uint64_data; not string_data (6)
NUMBERS = {"tensor": frozenset((4, 5, 7, 9, 10, 11)), "attribute": frozenset((7, 8))}
VARINT, FIXED64, BYTES, FIXED32 = 0, 1, 2, 5  # wire types
MAX_DEPTH = 64  # of messages in messages
MAX_VARINT = 10  # bytes


def without_tensors(content: bytes) -> bytes:
    """The `content` of an ONNX file without the numbers of its tensors.

    Content that is not a complete ONNX model is returned unchanged.
    """
    try:
        cuts = list(_tensor_ranges(content, 0, len(content), "model", 0))
    except (ValueError, IndexError):
        return content
    starts, ends = [0, *(end for _, end in cuts)], [*(start for start, _ in cuts), len(content)]
    return b"\n".join(content[start:end] for start, end in zip(starts, ends, strict=True))


def _tensor_ranges(
    content: bytes, start: int, end: int, message: str, depth: int
) -> Iterator[tuple[int, int]]:
    """Yield start and end of the numbers of each tensor in a message, in the order of the file.

    Raises ValueError or IndexError if the bytes are not such a message.
    """
    if depth > MAX_DEPTH:
        raise ValueError("nested too deeply")
    position = start
    while position < end:
        key, position = _varint(content, position)
        field, kind = key >> 3, key & 7
        if kind == VARINT:
            _, position = _varint(content, position)
            continue
        if kind == BYTES:
            length, position = _varint(content, position)
        elif kind in (FIXED32, FIXED64):
            length = 4 if kind == FIXED32 else 8
        else:
            raise ValueError("an unknown wire type")
        if not field or position + length > end:
            raise ValueError("a field that ends after its message")
        if kind == BYTES and field in NUMBERS.get(message, ()):
            yield position, position + length
        elif kind == BYTES and (inner := MESSAGES[message].get(field)):
            yield from _tensor_ranges(content, position, position + length, inner, depth + 1)
        position += length
    if position != end:
        raise ValueError("a number that ends after its message")


def _varint(content: bytes, position: int) -> tuple[int, int]:
    """Decode a varint (base 128): its value, and the position after it."""
    value = 0
    for shift in range(MAX_VARINT):
        byte = content[position + shift]
        value |= (byte & 127) << 7 * shift
        if byte < 128:
            return value, position + shift + 1
    raise ValueError("a number of more than 64 bits")
