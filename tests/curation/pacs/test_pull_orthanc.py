"""`sono pull` from a real local Orthanc with its DICOMweb plugin, then `sono qc` on the files."""

import io
import json
import shutil
import socket
import subprocess
import urllib.error
import urllib.request
from collections.abc import Iterator
from datetime import date
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pytest
from pydicom import dcmread
from waiting import LIMIT, wait_until

from sono.curation.core.engine import Engine
from sono.curation.core.errors import SonoError
from sono.curation.core.tables import IMAGES
from sono.curation.core.workspace import Workspace
from sono.curation.pacs.pull import PullOptions, PullSummary, pull_studies
from sono.curation.phantom.files import DicomForm, dicom_file
from sono.curation.phantom.frames import expose
from sono.curation.phantom.patients import make_patient
from sono.curation.qc import QcOptions, run_qc

pytest.importorskip("dicomweb_client", reason="the extra pacs (dicomweb-client) is not installed")

PLUGIN = Path("/usr/share/orthanc/plugins/libOrthancDicomWeb.so")
ORTHANC = shutil.which("Orthanc") or shutil.which("Orthanc", path="/usr/sbin")
FILES_A_STUDY = (2, 3, 2, 3, 2)
SECRET = "open-sesame"
FIRST, LAST = date(2024, 1, 10), date(2024, 1, 14)


class Orthanc(NamedTuple):
    """A running Orthanc: its address, and the ultrasound files that it holds."""

    url: str
    files: list[bytes]

    def post(self, content: bytes) -> None:
        request("POST", self.url + "/instances", content)


def request(method: str, url: str, content: bytes | None = None) -> bytes:
    manager = urllib.request.HTTPPasswordMgrWithPriorAuth()
    manager.add_password(None, url, "reader", SECRET, is_authenticated=True)
    direct = urllib.request.build_opener(
        urllib.request.ProxyHandler({}), urllib.request.HTTPBasicAuthHandler(manager)
    )
    with direct.open(urllib.request.Request(url, content, method=method), timeout=LIMIT) as answer:
        return answer.read()


def ultrasound() -> list[bytes]:
    """12 frames of 5 patients, a study each on five days in a row.

    Every other one is RLE compressed.
    """
    rng, made = np.random.default_rng(0), []
    for number, count in enumerate(FILES_A_STUDY):
        patient = make_patient(number, "A", 0)
        for nth in range(count):
            shown = expose(patient, patient.exams[1], "transventricular", rng)
            form = DicomForm(compressed=nth == 1)
            file = dicom_file(
                shown.frames, patient, patient.exams[1], shown.probe, shown.spacing_mm, form
            )
            made.append(changed(file.content, StudyDate=f"202401{10 + number}"))
    return made


def changed(content: bytes, **values: str) -> bytes:
    """A DICOM file with other header values, and the instance UID of its meta group in step."""
    data = dcmread(io.BytesIO(content))
    for name, value in values.items():
        setattr(data, name, value)
    data.file_meta.MediaStorageSOPInstanceUID = data.SOPInstanceUID
    buffer = io.BytesIO()
    data.save_as(buffer, enforce_file_format=True)
    return buffer.getvalue()


@pytest.fixture(scope="module")
def orthanc(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Orthanc]:
    if ORTHANC is None or not PLUGIN.is_file():
        pytest.skip(
            "Orthanc with DICOMweb is not installed (apt-get install orthanc orthanc-dicomweb)"
        )
    base = tmp_path_factory.mktemp("orthanc")
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    settings = {
        "StorageDirectory": str(base),
        "IndexDirectory": str(base),
        "HttpPort": port,
        "DicomServerEnabled": False,
        "RemoteAccessAllowed": False,
        "AuthenticationEnabled": True,
        "RegisteredUsers": {"reader": SECRET},
        "Plugins": [str(PLUGIN)],
        "DicomWeb": {"Enable": True, "Root": "/dicom-web/"},
    }
    (base / "orthanc.json").write_text(json.dumps(settings))
    with (base / "log").open("wb") as log:
        process = subprocess.Popen([ORTHANC, str(base / "orthanc.json")], stdout=log, stderr=log)
    try:
        running = Orthanc(f"http://127.0.0.1:{port}", ultrasound())
        wait_for(process, running.url, base / "log")
        for content in running.files:
            running.post(content)
        yield running
    finally:
        process.terminate()
        process.wait(timeout=LIMIT)


def wait_for(process: subprocess.Popen[bytes], url: str, log: Path) -> None:
    def answers() -> bool:
        assert process.poll() is None, log.read_text()
        try:
            return bool(request("GET", url + "/system"))
        except (urllib.error.URLError, ConnectionError):
            return False

    wait_until(answers)


@pytest.fixture
def credentials(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("SONO_PACS_TOKEN", raising=False)
    monkeypatch.setenv("SONO_PACS_USER", "reader")
    monkeypatch.setenv("SONO_PACS_PASSWORD", SECRET)


def pull(orthanc: Orthanc, out: Path, **changes: object) -> PullSummary:
    values = {"first_day": FIRST, "last_day": LAST, "page_size": 2, **changes}
    return pull_studies(PullOptions(orthanc.url + "/dicom-web", out, **values))


def contents(out: Path) -> list[bytes]:
    return sorted(path.read_bytes() for path in out.rglob("*.dcm"))


@pytest.fixture
def raw(orthanc: Orthanc, credentials: None, tmp_path: Path) -> Path:
    summary = pull(orthanc, tmp_path / "raw")
    assert (summary.studies, summary.fetched, summary.failed) == (5, 12, 0)
    return tmp_path / "raw"


def test_all_pages_come_as_they_are_stored_and_the_next_run_fetches_what_is_gone(
    orthanc: Orthanc, raw: Path
) -> None:
    assert contents(raw) == sorted(orthanc.files)
    before = {path: path.stat().st_mtime_ns for path in raw.rglob("*.dcm")}
    again = pull(orthanc, raw)
    assert (again.fetched, again.here_already) == (0, 12)
    assert {path: path.stat().st_mtime_ns for path in raw.rglob("*.dcm")} == before
    next(iter(before)).unlink()
    again = pull(orthanc, raw)
    assert (again.fetched, again.here_already) == (1, 11)
    assert contents(raw) == sorted(orthanc.files)


def test_the_manifest_tells_size_and_transfer_syntax_of_every_file(raw: Path) -> None:
    lines = [json.loads(line) for line in (raw / ".pull.jsonl").read_text().splitlines()]
    assert {line["file"]: line["bytes"] for line in lines} == {
        path.relative_to(raw).as_posix(): path.stat().st_size for path in raw.rglob("*.dcm")
    }
    syntaxes = [line["transfer_syntax"] for line in lines]
    assert (syntaxes.count("1.2.840.10008.1.2.5"), syntaxes.count("1.2.840.10008.1.2.1")) == (5, 7)


def test_qc_takes_the_raw_folder(raw: Path, tmp_path: Path) -> None:
    study = Workspace.create(tmp_path / "study")
    run_qc(study, QcOptions(raw, None, None, None), Engine(jobs=1))
    images = study.read(IMAGES)
    # the manifest is a hidden file, and has its row as every file has
    assert images["status"].value_counts().to_dict() == {"accepted": 12, "rejected": 1}
    assert images.loc[images["status"] == "accepted", "patient_id"].nunique() == 5
    assert images["row_spacing_mm"].notna().sum() == 12


def test_days_patients_and_limits_choose(
    orthanc: Orthanc, credentials: None, tmp_path: Path
) -> None:
    assert pull(orthanc, tmp_path / "days", first_day=date(2024, 1, 13)).fetched == 5
    (tmp_path / "ids.txt").write_text(f"{make_patient(1, 'A', 0).mrn}\nnobody\n")
    listed = {"patient_file": tmp_path / "ids.txt", "first_day": None, "last_day": None}
    assert pull(orthanc, tmp_path / "patients", **listed).fetched == 3
    assert pull(orthanc, tmp_path / "some", limit=1).studies == 1
    assert pull(orthanc, tmp_path / "none", last_day=None, first_day=date(2031, 1, 1)).studies == 0


def test_reports_come_along_and_other_modalities_stay(
    orthanc: Orthanc, credentials: None, tmp_path: Path
) -> None:
    first = orthanc.files[0]
    day, study = "20220505", "1.2.826.77"
    same = {"StudyDate": day, "StudyInstanceUID": study}
    orthanc.post(changed(first, **same, SOPInstanceUID="1.2.826.1"))
    orthanc.post(
        changed(
            first, **same, SOPInstanceUID="1.2.826.2", SeriesInstanceUID="1.2.826.20", Modality="SR"
        )
    )
    orthanc.post(
        changed(
            first, **same, SOPInstanceUID="1.2.826.3", SeriesInstanceUID="1.2.826.30", Modality="PR"
        )
    )
    other = {
        "StudyDate": day,
        "StudyInstanceUID": "1.2.826.78",
        "SeriesInstanceUID": "1.2.826.40",
        "Modality": "CT",
    }
    orthanc.post(changed(first, **other, SOPInstanceUID="1.2.826.4"))
    summary = pull(orthanc, tmp_path / "raw", first_day=date(2022, 5, 5), last_day=date(2022, 5, 5))
    assert (summary.studies, summary.fetched, summary.left_out) == (1, 2, {"PR": 1})


def test_a_wrong_password_and_a_wrong_path_are_one_line(
    orthanc, credentials, tmp_path, monkeypatch
) -> None:
    wrong_path = PullOptions(orthanc.url, tmp_path / "raw", FIRST)
    with pytest.raises(SonoError, match="HTTP 400 on a search; there is no DICOMweb service"):
        pull_studies(wrong_path)
    monkeypatch.setenv("SONO_PACS_PASSWORD", "guess")
    with pytest.raises(SonoError, match="HTTP 401"):
        pull(orthanc, tmp_path / "raw")
    assert not (tmp_path / "raw").exists()
