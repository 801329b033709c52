"""Read a DICOM header: ids, dates, machine, and every text that may be private."""

import re
from collections.abc import Iterable, Iterator
from datetime import date
from functools import cache
from typing import TYPE_CHECKING

from sono.curation.clinical.name_variants import TITLES, words_of
from sono.curation.clinical.placeholders import is_exam_day
from sono.curation.clinical.vocabulary import VOCABULARY
from sono.curation.readers.source import DECODER_ERRORS, Header, clean_texts, text_runs

if TYPE_CHECKING:
    from pydicom.dataelem import DataElement
    from pydicom.dataset import Dataset

MAX_BLOB_BYTES, MAX_PRIVATE_TEXT = 64 << 10, 256

_TEXT_VRS = ("PN", "LO", "SH", "ST", "LT", "UT", "UC", "UR", "DA", "DT", "AE")
_BYTE_VRS = ("UN", "OB")
# Private elements with these VRs are mostly settings. Only numbers as long as an id or a date count
# as private texts; numbers that end in 000 are frequencies and times.
_CODE_NUMBER = {
    "CS": re.compile(r".*\d{5}"),
    "IS": re.compile(r"\s*[+-]?\d{7,}(?<!000)\s*$"),
    "DS": re.compile(r"\s*[+-]?\d{7,}(?<!000)(?:\.0*)?\s*$"),
}
# Elements that the standard reserves for machine, method and coding. They are like descriptions.
_TECHNICAL = frozenset({
    "Manufacturer", "ManufacturerModelName", "SoftwareVersions", "TransducerData",
    "ProcessingFunction", "BodyPartExamined", "CodeValue", "CodingSchemeDesignator",
    "CodingSchemeVersion", "TimezoneOffsetFromUTC", "ImplementationVersionName",
    "LossyImageCompressionMethod",
})  # fmt: skip
# Free text on method and findings, full of everyday words: private only if it contains a word of a
# person's name from the same header.
_DESCRIPTIONS = frozenset({
    "ProtocolName", "StudyDescription", "SeriesDescription", "DerivationDescription", "StageName",
    "ViewName", "CodeMeaning", "TextValue", "LUTExplanation", "WindowCenterWidthExplanation",
})  # fmt: skip
_CODED_PERSONS = frozenset({"PersonIdentificationCodeSequence", "HumanPerformerCodeSequence"})
# A name in the form of VR PN (Doe^Jane) in an element with another VR; ADT^A01 does not match.
_NAME = r"(?:[^\W\d_]|['’.-])"
_WRITTEN_NAME = re.compile(
    rf"(?<![^\s,;:(/\"]){_NAME}{{2,}}\^+{_NAME}+(?:\^+{_NAME}*)*(?![^\s,;:)/\"])|[\u3040-\u9fff]+\^+[\u3040-\u9fff]+"
)
MIN_NAME = 3  # letters of the shortest word of a name that is searched for in descriptions
_STANDARD_UIDS = "1.2.840.10008."
_PIXEL_GROUP = 0x7FE0

# Facts of person, exam and image that a row of the records table may contain, too.
_FACTS = (
    "IssuerOfPatientID", "PatientName", "PatientBirthDate", "PatientSex", "InstitutionName",
    "AccessionNumber", "StudyID", "SeriesInstanceUID", "SOPInstanceUID",
)  # fmt: skip
# Elements with a number of the patient, the exam or the stay, or with its issuer, at any depth.
_IDS = frozenset({
    "PatientID", "OtherPatientIDs", "IssuerOfPatientID", "IssuerOfAdmissionID",
    "IssuerOfServiceEpisodeID", "UniversalEntityID", "LocalNamespaceEntityID", "AccessionNumber",
    "StudyID", "AdmissionID", "ServiceEpisodeID", "RequestedProcedureID",
    "ScheduledProcedureStepID", "PerformedProcedureStepID", "ResultsID", "InterpretationID",
    "PlacerOrderNumberImagingServiceRequest", "FillerOrderNumberImagingServiceRequest",
    "InsurancePlanIdentification", "MedicalRecordLocator", "ClinicalTrialSubjectID",
    "ClinicalTrialSubjectReadingID", "SpecimenAccessionNumber",
    "SpecimenIdentifier",
})  # fmt: skip
# the facts with such ids; a backslash separates several ids in one fact
IDS_OF_EXAM = ("AccessionNumber", "StudyID", "OtherIDs")
# the exam date is the first of these that is present
DATES = ("StudyDate", "SeriesDate", "AcquisitionDate", "ContentDate")
# the date of acquisition, too
ACQUIRED = ("AcquisitionDate", "AcquisitionDateTime", "ContentDate")


@cache
def dicom_errors() -> tuple[type[Exception], ...]:
    """The exceptions that pydicom raises on broken content."""
    from pydicom.errors import BytesLengthException, InvalidDicomError

    return (*DECODER_ERRORS, BytesLengthException, InvalidDicomError)


def text_of(dataset: "Dataset", keyword: str) -> str:
    """The value of `keyword` as text; "" if it is absent or broken."""
    try:
        value = dataset.get(keyword)
        return "" if value is None else " ".join(str(value).replace("\0", " ").split())
    except dicom_errors():
        return ""


def elements(dataset: "Dataset", max_depth: int) -> Iterator[tuple[int, "DataElement | bytes"]]:
    """Yield every element with its depth (0 at the top), down to `max_depth`.

    A broken element is yielded as its raw bytes. Sequences are read without recursion.
    """
    waiting = (
        [(0, dataset), (0, dataset.file_meta)] if hasattr(dataset, "file_meta") else [(0, dataset)]
    )
    while waiting:
        depth, inner = waiting.pop()
        for tag in list(inner.keys()):
            try:
                element = inner[tag]
            except dicom_errors():
                raw = getattr(inner.get_item(tag), "value", None)
                yield depth, raw if isinstance(raw, bytes) else b""
                continue
            yield depth, element
            if element.VR == "SQ" and depth < max_depth:
                waiting += [(depth + 1, item) for item in element.value or ()]


def read_header(dataset: "Dataset", preamble: bytes) -> Header:
    """Ids, machine and every private string of a dataset and its 128 bytes of `preamble`.

    The names of persons are the values of all elements with VR PN at any depth, the meanings of
    codes of persons, and text in the form of a PN in any other element. A description and a
    technical fact are private if they contain a word of one of these names.
    """
    texts, persons, descriptions, ids = text_runs(preamble), [], [], []
    technical = {text_of(dataset, keyword) for keyword in _TECHNICAL | _DESCRIPTIONS}
    for _, element in elements(dataset, max_depth=64):
        if isinstance(element, bytes):
            texts += text_runs(element)
        elif element.VR == "PN":
            persons += _private_texts(element)
        elif element.keyword in _CODED_PERSONS:
            persons += [text_of(item, "CodeMeaning") for item in element.value or ()]
            texts += [text_of(item, "CodeValue") for item in element.value or ()]
        elif element.keyword in _TECHNICAL | _DESCRIPTIONS or element.tag.is_private_creator:
            descriptions += _strings(element)
        elif element.tag.is_private and element.VR in _CODE_NUMBER:
            codes = [text for text in _strings(element) if text not in technical]
            numbers = [text for text in codes if _CODE_NUMBER[element.VR].match(text)]
            texts += [text.split(".", maxsplit=1)[0] for text in numbers]
            descriptions += codes if element.VR == "CS" else []
        else:  # machines repeat technical facts in their private elements
            repeats = technical if element.tag.is_private else frozenset()
            texts += [text for text in _private_texts(element) if text not in repeats]
            ids += _strings(element) if element.keyword in _IDS else []
    persons += [name for text in (*texts, *descriptions) for name in _WRITTEN_NAME.findall(text)]
    texts += _with_names(descriptions, persons)
    machine = " ".join(
        filter(None, (text_of(dataset, "Manufacturer"), text_of(dataset, "ManufacturerModelName")))
    )
    return Header(
        patient=text_of(dataset, "PatientID") or None,
        study=text_of(dataset, "StudyInstanceUID") or None,
        exam_date=_first_day(dataset, DATES),
        facts=_facts(dataset, ids),
        machine="".join(letter for letter in machine if letter.isprintable())[:80] or None,
        private=clean_texts([*texts, *persons]),
        persons=clean_texts(persons, shortest=2),
    )


def _with_names(descriptions: Iterable[str], persons: Iterable[str]) -> list[str]:
    """The `descriptions` that contain a word of a person's name.

    Words that sono itself writes are ignored.
    """
    names = (
        {word for word in words_of(*persons) if len(word) >= MIN_NAME and word.isalpha()}
        - VOCABULARY
        - TITLES
    )
    return [text for text in descriptions if not names.isdisjoint(words_of(text))] if names else []


def _facts(dataset: "Dataset", ids: Iterable[str]) -> dict[str, str]:
    """The facts of the header that are not empty, by keyword.

    A backslash separates several OtherPatientIDs, and several OtherIDs: those of `ids` that no
    other fact contains. AcquisitionDate is the first possible day of ACQUIRED, in ISO form.
    """
    facts = {keyword: text_of(dataset, keyword) for keyword in _FACTS}
    facts["AcquisitionDate"] = _first_day(dataset, ACQUIRED) or ""
    facts["OtherPatientIDs"] = "\\".join(filter(None, _other_ids(dataset)))
    facts["OtherIDs"] = "\\".join(
        dict.fromkeys(text for text in map(str.strip, ids) if text not in facts.values())
    )
    return {keyword: text for keyword, text in facts.items() if text}


def _other_ids(dataset: "Dataset") -> list[str]:
    try:
        value = dataset.get("OtherPatientIDs")
        items = dataset.get("OtherPatientIDsSequence") or ()
        named = [str(one).strip() for one in (value if _is_list(value) else [value]) if one]
        return [*named, *(text_of(item, "PatientID") for item in items)]
    except dicom_errors():
        return []


def _first_day(dataset: "Dataset", names: Iterable[str]) -> str | None:
    """The first date of the elements `names` that an exam can have, in ISO form; None for none."""
    texts = ((name, text_of(dataset, name)) for name in names)
    days = (_day(text[:8] if name.endswith("Time") else text) for name, text in texts)
    return next(filter(None, days), None)


def _day(text: str) -> str | None:
    """A DICOM date (YYYYMMDD, formerly YYYY.MM.DD) in ISO form; None if no exam can have it."""
    try:
        day = date.fromisoformat(text.replace(".", ""))
    except ValueError:
        return None
    return day.isoformat() if is_exam_day(day) else None


def _private_texts(element: "DataElement") -> list[str]:
    """The strings of an element that may identify a person, or the place or date of the exam."""
    if element.VR == "SQ":  # `elements` yields its items; converting one to text may fail
        return []
    value = element.value
    if element.tag.group == _PIXEL_GROUP:
        return []
    if element.VR in _BYTE_VRS and isinstance(value, bytes):
        return text_runs(value) if len(value) <= MAX_BLOB_BYTES else []
    texts = _strings(element)
    # longer private texts are documents of the machine (XML), full of everyday words
    if element.tag.is_private:
        texts = [text for text in texts if len(text) <= MAX_PRIVATE_TEXT]
    if element.VR == "UI":
        return [
            text for text in texts if not text.startswith(_STANDARD_UIDS) and element.tag.group != 2
        ]
    if element.VR == "DT":
        texts += [text[:8] for text in texts]
    return texts if element.VR in _TEXT_VRS else []


def _strings(element: "DataElement") -> list[str]:
    """The values of an element as texts."""
    value = element.value
    return [str(one) for one in (value if _is_list(value) else [value]) if one is not None]


def _is_list(value: object) -> bool:
    from pydicom.multival import MultiValue

    return isinstance(value, MultiValue | list)
