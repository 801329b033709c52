"""Data that an ONNX graph stores in other files: only files of its own folder are read."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from sono.curation.core.errors import SonoError

MAX_PLACE = 255  # bytes of a name
EXTERNAL = 1  # TensorProto.DataLocation


def data_files(path: Path) -> list[Path]:
    """The data files of a graph, in order.

    Raises SonoError if the graph is damaged, or if a data file is missing or outside of its folder.
    """
    import onnx

    try:
        model = onnx.load(str(path), load_external_data=False)
    except Exception as error:  # protobuf's own differ by version
        raise SonoError(f"{path}: damaged or no ONNX graph; export it again") from error
    places = {
        entry.value
        for tensor in _tensors(model)
        if tensor.data_location == EXTERNAL
        for entry in tensor.external_data
        if entry.key == "location"
    }
    folder = path.parent.resolve()
    files = []
    for place in sorted(places):
        if "\0" in place or len(place) > MAX_PLACE:
            raise SonoError(f"{path}: the name of its data file is damaged; export it again")
        file = (folder / place).resolve()
        if not file.is_relative_to(folder):
            raise SonoError(
                f"{path}: refers to the data file {place!r} outside of its folder, which is not "
                "read; give a graph whose data is next to it"
            )
        if not file.is_file():
            raise SonoError(f"{path}: its data file {place!r} is missing; copy it next to it")
        files.append(file)
    return files


def _tensors(message: Any) -> Iterator[Any]:
    """All tensors anywhere in a message of the format."""
    for field, value in message.ListFields():
        if field.message_type is None:
            continue
        for each in value if _repeated(value) else (value,):
            if field.message_type.name == "TensorProto":
                yield each
            elif field.message_type.name != "TypeProto":
                yield from _tensors(each)


def _repeated(value: Any) -> bool:
    return hasattr(value, "__len__") and not hasattr(value, "ListFields")
