"""Raw files in an object store.

They give the same tables as a local folder, and one clear row or line for every failure.
"""

import os
import shutil
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import ClassVar

import cv2
import fsspec
import numpy as np
import pytest
from fsspec.implementations.memory import MemoryFileSystem
from fsspec.registry import known_implementations

from sono.curation.core.engine import Engine
from sono.curation.core.errors import PrivacyError, SonoError
from sono.curation.core.planes import PlaneTable
from sono.curation.core.pseudonyms import pseudonym
from sono.curation.core.tables import read_table
from sono.curation.core.vault_tables import SOURCES
from sono.curation.core.workspace import Workspace
from sono.curation.dataset import exams
from sono.curation.imaging import analysis
from sono.curation.phantom.study import make_phantom
from sono.curation.privacy.gate import check_privacy
from sono.curation.privacy.source_names import names_of
from sono.curation.qc import QcOptions, run_qc
from sono.curation.readers import object_store
from sono.curation.readers.files import ReadResult, list_sources, read_source, stamp_of
from sono.curation.readers.source import Limits
from sono.curation.records.check import check_records
from sono.curation.records.read import RecordsConfig

ALONE = Engine(jobs=1, batch_size=8)
RAW = "memory://clinic/raw"


class Naughty(MemoryFileSystem):
    """A store whose calls fail by the end of the name, as `troubles` defines.

    `asked` counts the calls.
    """

    protocol = "naughty"
    cachable = False
    troubles: ClassVar[dict[str, list[Exception]]] = {}
    asked: ClassVar[Counter[str]] = Counter()
    more: ClassVar[list[dict[str, object]]] = []

    @classmethod
    def _strip_protocol(cls, path: str) -> str:
        return MemoryFileSystem._strip_protocol(path.removeprefix("naughty://"))

    def _trouble(self, what: str, path: str) -> None:
        self.asked[what] += 1
        for end, errors in self.troubles.items():
            if path.endswith(end) and errors:
                raise errors.pop()

    def ls(self, path: str, detail: bool = True, **options: object) -> list[dict[str, object]]:
        self._trouble("ls", path)
        return super().ls(path, detail, **options) + (self.more if path == "/clinic/raw" else [])

    def cat_file(
        self, path: str, start: int | None = None, end: int | None = None, **options: object
    ) -> bytes:
        self._trouble("cat", path)
        content = super().cat_file(path, start, end, **options)
        return content[:-9] if path.endswith("short.png") else content


@pytest.fixture(autouse=True)
def empty_stores(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setattr(object_store, "WAITS", (0.0, 0.0))
    monkeypatch.setattr(Naughty, "troubles", {})
    monkeypatch.setattr(Naughty, "asked", Counter())
    monkeypatch.setattr(Naughty, "more", [])
    fsspec.register_implementation("naughty", Naughty, clobber=True)
    yield
    MemoryFileSystem.store.clear()
    MemoryFileSystem.pseudo_dirs[:] = [""]


@pytest.fixture(scope="module")
def export(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("stores") / "export"
    make_phantom(out, patients=4, frames_per_patient=2, seed=2)
    return out


@pytest.fixture(scope="module")
def local(export: Path, tmp_path_factory: pytest.TempPathFactory) -> Workspace:
    study = Workspace.create(tmp_path_factory.mktemp("local") / "study")
    run_qc(study, options_for(export / "raw", export), ALONE)
    return study


def options_for(raw: Path | str, export: Path) -> QcOptions:
    return QcOptions(raw, export / "records.csv", center_from="Hospital")


def study_like(other: Workspace, root: Path) -> Workspace:
    """A new workspace with the key of another, so that ids agree."""
    study = Workspace.create(root)
    shutil.copy(other.key_path, study.key_path)
    shutil.copy(other.config_path, study.config_path)
    return study


def upload(folder: Path, root: str = "/clinic/raw") -> None:
    for path in folder.rglob("*"):
        if path.is_file():
            fsspec.filesystem("memory").pipe(
                f"{root}/{path.relative_to(folder)}", path.read_bytes()
            )


def put(name: str, content: bytes | None = None) -> bytes:
    """An object of the store that may fail, by default a picture; its address."""
    noise = np.random.default_rng(len(name)).integers(0, 255, (80, 90), np.uint8)
    fsspec.filesystem("memory").pipe(
        f"/clinic/raw/{name}",
        cv2.imencode(".png", noise)[1].tobytes() if content is None else content,
    )
    return f"naughty://clinic/raw/{name}".encode()


def outcome(study: Workspace) -> dict[str, bytes]:
    """The images table and the frames, as they stand."""
    files = [study.root / "images.parquet", *study.frames.rglob("*.png")]
    return {path.name: path.read_bytes() for path in files}


@pytest.mark.slow
def test_a_store_gives_the_frames_and_table_of_the_local_folder(
    export: Path, local: Workspace, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def as_if_local(key: bytes, kind: str, address: bytes) -> str:
        return pseudonym(key, kind, address.replace(RAW.encode(), os.fsencode(export / "raw")))

    for module in (analysis, exams):
        # ids, and what is drawn by them, come from the address
        monkeypatch.setattr(module, "pseudonym", as_if_local)
    upload(export / "raw")
    study = study_like(local, tmp_path / "study")
    run_qc(study, options_for(f"{RAW}/", export), ALONE)
    assert outcome(study) == outcome(local)
    assert len(outcome(study)) > 8


def test_two_workers_give_the_same_as_one(export: Path, local: Workspace, tmp_path: Path) -> None:
    one, two = study_like(local, tmp_path / "one"), study_like(local, tmp_path / "two")
    for study, engine in ((one, ALONE), (two, Engine(jobs=2, batch_size=8))):
        run_qc(study, options_for(f"local://{export / 'raw' / 'A'}", export), engine)
    assert outcome(one) == outcome(two)


def test_a_file_address_is_the_local_folder(tmp_path: Path) -> None:
    assert object_store.raw_place(f"file://{tmp_path}") == tmp_path
    assert object_store.raw_place("export/raw") == Path("export/raw")
    assert object_store.raw_place(RAW) == RAW


def test_a_second_run_reads_what_is_new_or_changed(tmp_path: Path) -> None:
    study = Workspace.create(tmp_path / "study")
    for name in ("a.png", "b.png", "c.png"):
        put(name)
    assert run_qc(study, QcOptions(RAW), ALONE).measured == 3
    assert run_qc(study, QcOptions(f"{RAW}/"), ALONE).measured == 0
    # the same size at another time
    put("a.png", fsspec.filesystem("memory").cat("/clinic/raw/a.png"))
    fsspec.filesystem("memory").rm("/clinic/raw/b.png")
    put("new/d.png")
    summary = run_qc(study, QcOptions(RAW), ALONE)
    assert (summary.measured, summary.files, len(study.images())) == (2, 3, 3)


def test_an_object_that_could_not_be_read_is_tried_again(tmp_path: Path) -> None:
    study = Workspace.create(tmp_path / "study")
    put("a.png")
    # the gate would see it
    Naughty.troubles["Doering.png"] = [PermissionError(13, put("Jane Doering.png").decode())]
    raw = "naughty://clinic/raw"
    assert run_qc(study, QcOptions(raw), ALONE).reasons["unreadable"] == 1
    second = run_qc(study, QcOptions(raw), ALONE)
    assert (second.measured, second.reasons.get("unreadable")) == (1, None)


def test_no_output_holds_the_address_and_the_gate_knows_its_names(tmp_path: Path) -> None:
    study = Workspace.create(tmp_path / "study")
    put("Jane Doering/Patient4711.png")
    put("broken.png", b"\x89PNG\r\n\x1a\n")
    run_qc(study, QcOptions(RAW), ALONE)
    outputs = [path.read_bytes() for path in study.root.rglob("*") if path.is_file()]
    assert len(outputs) >= 3
    assert not any(
        word in content
        for content in outputs
        for word in (b"clinic", b"memory:", b"Doering", b"4711")
    )
    (study.root / "note.txt").write_text("seen: doering, jane")
    with pytest.raises(PrivacyError, match=r"note\.txt"):
        check_privacy(study)


def test_names_of_objects_are_known_as_those_of_files() -> None:
    names = names_of(b"s3://clinic/raw/Jane Doering/Scan 1.png", b"s3://clinic/raw")
    assert names == ("Jane Doering", "Scan 1", "raw")


def read_with(trouble: list[Exception], name: str = "Jane Doering.png") -> ReadResult:
    address = put(name)
    Naughty.troubles[name] = trouble
    return read_source(address)


@pytest.mark.parametrize(
    "error", [ConnectionResetError(), TimeoutError(), OSError(5, "clinic/raw/Jane"), RuntimeError()]
)
def test_a_store_is_asked_three_times(error: Exception) -> None:
    assert len(read_with([error, error]).frames) == 1
    assert Naughty.asked["cat"] == 3


@pytest.mark.parametrize(
    ("error", "fact"),
    [
        (ConnectionResetError("Jane Doering"), "the connection failed"),
        (TimeoutError("Jane Doering"), "no answer in time"),
        (OSError("Jane Doering"), "the store failed: OSError"),
        (ValueError("Jane Doering"), "the store failed: ValueError"),
    ],
)
def test_what_fails_each_time_is_a_row_without_the_words_of_the_store(
    error: Exception, fact: str
) -> None:
    source = read_with([error] * 3)
    assert (source.codes, source.message) == (
        ("unreadable",),
        f"the file could not be read ({fact})",
    )


@pytest.mark.parametrize(
    ("error", "fact"),
    [
        (PermissionError("Jane"), "no permission"),
        (FileNotFoundError("Jane"), "there is nothing of this name"),
    ],
)
def test_what_cannot_pass_is_asked_once(error: Exception, fact: str) -> None:
    assert fact in read_with([error] * 3).message
    assert Naughty.asked["cat"] == 1


def test_errors_of_the_packages_are_met_too(monkeypatch: pytest.MonkeyPatch) -> None:
    package = ModuleType("gcsfs.retry")
    package.HttpError = type("HttpError", (Exception,), {})
    monkeypatch.setitem(sys.modules, "gcsfs.retry", package)
    assert read_with([package.HttpError("Jane Doering")] * 3).message.endswith(
        "(the store failed: HttpError)"
    )


def test_an_object_is_refused_by_its_size_before_it_is_read() -> None:
    large, empty = put("large.png", bytes(100)), put("empty.png", b"")
    assert read_source(large, Limits(max_file_bytes=99)).codes == ("too_large",)
    assert read_source(empty).codes == ("empty_file",)
    assert Naughty.asked["cat"] == 0


def test_an_object_that_comes_short_or_is_gone_is_a_row() -> None:
    assert read_source(put("short.png")).codes == ("changed_while_read",)
    assert read_source(b"naughty://clinic/raw/gone.png").codes == ("unreadable",)
    assert stamp_of(b"naughty://clinic/raw/gone.png") is None


def test_an_object_without_tag_is_new_each_time(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(object_store, "TAGS", ())
    address = put("a.png")
    assert stamp_of(address) != stamp_of(address)


def test_the_name_of_an_object_cannot_ask_for_another_store(tmp_path: Path) -> None:
    secret = tmp_path / "secret.png"
    secret.write_bytes(MemoryFileSystem().cat(put("a.png").decode().removeprefix("naughty:/")))
    assert read_source(f"memory://clinic/raw/x::file://{secret}".encode()).codes == ("unreadable",)


def test_every_object_below_the_address_is_listed() -> None:
    addresses = [put(name) for name in ("z.png", "a.png", "deep/er/b.png", "Ä ö#?.png")]
    assert list_sources("naughty://clinic/raw/") == sorted(addresses)
    assert list_sources(addresses[2].decode()) == [addresses[2]]  # a single object


def test_what_stands_for_a_folder_is_no_object_and_a_folder_without_name_is_a_row() -> None:
    address = put("a.png")
    Naughty.more = [
        {"name": "/clinic/raw/", "type": "file", "size": 0},  # what the console of S3 makes
        {"name": "/clinic/raw", "type": "directory", "size": 0},
    ]
    assert list_sources("naughty://clinic/raw") == [address]
    # what S3 tells of raw//b.png
    Naughty.more = [{"name": "/clinic/raw/", "type": "directory", "size": 0}]
    assert list_sources("naughty://clinic/raw") == [b"naughty://clinic/raw", address]
    assert read_source(b"naughty://clinic/raw").codes == ("not_a_file",)


@pytest.mark.parametrize(
    ("error", "fact"),
    [
        (PermissionError("Jane Doering"), "no permission"),
        (ConnectionError(), "the connection failed"),
    ],
)
def test_a_folder_that_cannot_be_listed_ends_the_run_in_one_line(
    error: Exception, fact: str
) -> None:
    put("Jane Doering/a.png")
    Naughty.troubles["Doering"] = [error] * 3
    with pytest.raises(SonoError, match=rf"^naughty://clinic: cannot be listed \({fact}\)"):
        list_sources("naughty://clinic/raw")


def test_a_bucket_that_is_not_there_or_empty_is_one_line() -> None:
    with pytest.raises(
        SonoError, match=r"^memory://nowhere: cannot be listed \(there is nothing of this name\)"
    ):
        list_sources("memory://nowhere/raw")
    fsspec.filesystem("memory").makedirs("/clinic/empty")
    with pytest.raises(SonoError, match=r"^memory://clinic: contains no objects"):
        list_sources("memory://clinic/empty")


@pytest.mark.parametrize(
    ("address", "words"),
    [
        ("s3://reader:hunter2@clinic/raw", "credentials come from the environment"),
        ("s3://reader%3Ahunter2@clinic/raw", "credentials come from the environment"),
        ("sftp://reader:hunter2/@clinic/raw", "credentials come from the environment"),
        ("abfs://clinic/raw?sig=hunter2", "credentials come from the environment"),
        ("simplecache::memory://hunter2/raw", "does not name a bucket and folder"),
        ("memory://", "does not name a bucket and folder"),
        ("https://hunter2/raw", "sono pull"),
        ("mermory://hunter2/raw", "did you mean 'memory'"),
    ],
)
def test_an_address_that_will_not_do_is_refused_without_repeating_it(
    address: str, words: str
) -> None:
    with pytest.raises(SonoError, match=words) as refused:
        list_sources(address)
    assert "hunter2" not in str(refused.value)


def test_a_missing_package_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    missing = {"class": "no_such_package.Store", "err": "Install no_such_package to access it"}
    monkeypatch.setitem(known_implementations, "mystore", missing)
    with pytest.raises(SonoError, match=r"^mystore://: Install no_such_package .* on every worker"):
        list_sources("mystore://clinic/raw")


def test_a_workspace_in_a_store_is_refused() -> None:
    for make in (Workspace.create, Workspace.find):
        with pytest.raises(SonoError, match=r"^s3://: a workspace is a folder on a local disk"):
            make(Path("s3://clinic/study"))
    assert not Path("s3:").exists()


def test_records_are_matched_to_addresses(tmp_path: Path) -> None:
    table = tmp_path / "records.csv"
    table.write_text("image,patient,plane\nsub/a.png,7,femur\nb.png,8,femur\n")
    put("sub/a.png")
    put("c.png")
    report = check_records(table, RecordsConfig(), PlaneTable(), RAW)
    assert report.raw is not None
    assert (report.raw.files, report.raw.matched, report.raw.lines_without_file) == (2, 1, (3,))


def test_the_command_takes_an_address(export: Path, tmp_path: Path) -> None:
    study = Workspace.create(tmp_path / "study")
    one = sorted((export / "raw").rglob("*.png"))[0]
    command = [
        sys.executable,
        "-m",
        "sono",
        "qc",
        f"local://{one}",
        "-w",
        str(study.root),
        "--jobs",
        "1",
    ]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert done.stderr == ""
    assert "files                1\n" in done.stdout
    assert read_table(study.sources_path, SOURCES)["path"].tolist() == [
        os.fsencode(f"local://{one}")
    ]
