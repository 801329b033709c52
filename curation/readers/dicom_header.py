"""What a DICOM header contains besides pixels: ids, machine, and everything that may be private."""

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
# Of private elements in these VRs only numbers as long as an id or a date are private texts: most
# are settings. Frequencies and times end in 000.
_CODE_NUMBER = {
    "CS": re.compile(r".*\d{5}"),
    "IS": re.compile(r"\s*[+-]?\d{7,}(?<!000)\s*$"),
    "DS": re.compile(r"\s*[+-]?\d{7,}(?<!000)(?:\.0*)?\s*$"),
}
# Facts about machine, method and coding, which the standard keeps apart from the person.
_TECHNICAL = frozenset({
    "Manufacturer", "ManufacturerModelName", "SoftwareVersions", "TransducerData",
    "ProcessingFunction", "BodyPartExamined", "CodeValue", "CodingSchemeDesignator",
    "CodingSchemeVersion", "TimezoneOffsetFromUTC", "ImplementationVersionName",
    "LossyImageCompressionMethod",
})  # fmt: skip
# Free text of method and finding, full of everyday words: private only where it names a person of
# the header.
_DESCRIPTIONS = frozenset({
    "ProtocolName", "StudyDescription", "SeriesDescription", "DerivationDescription", "StageName",
    "ViewName", "CodeMeaning", "TextValue", "LUTExplanation", "WindowCenterWidthExplanation",
})  # fmt: skip
_CODED_PERSONS = frozenset({"PersonIdentificationCodeSequence", "HumanPerformerCodeSequence"})
# A name that is written as DICOM writes it, Doe^Jane, in an element of another kind; not ADT^A01.
_NAME = r"(?:[^\W\d_]|['’.-])"
_WRITTEN_NAME = re.compile(
    rf"(?<![^\s,;:(/\"]){_NAME}{{2,}}\^+{_NAME}+(?:\^+{_NAME}*)*(?![^\s,;:)/\"])|[\u3040-\u9fff]+\^+[\u3040-\u9fff]+"
)
MIN_NAME = 3  # letters of a word of a name that is looked for in descriptions
_STANDARD_UIDS = "1.2.840.10008."
_PIXEL_GROUP = 0x7FE0

# Facts of person, exam and picture that a row of the records may name, too.
_FACTS = (
    "IssuerOfPatientID", "PatientName", "PatientBirthDate", "PatientSex", "InstitutionName",
    "AccessionNumber", "StudyID", "SeriesInstanceUID", "SOPInstanceUID",
)  # fmt: skip
# Elements that hold a number of the patient, the exam or the stay at any depth, or say who gave it.
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
# the facts with such ids, several with a backslash between
IDS_OF_EXAM = ("AccessionNumber", "StudyID", "OtherIDs")
# of the exam, the first that is there
DATES = ("StudyDate", "SeriesDate", "AcquisitionDate", "ContentDate")


@cache
def dicom_errors() -> tuple[type[Exception], ...]:
    """The exceptions that pydicom was seen to raise on broken content."""
    from pydicom.errors import BytesLengthException, InvalidDicomError

    return (*DECODER_ERRORS, BytesLengthException, InvalidDicomError)


def text_of(dataset: "Dataset", keyword: str) -> str:
    """A value as text, "" if it is absent or broken."""
    try:
        value = dataset.get(keyword)
        return "" if value is None else " ".join(str(value).replace("\0", " ").split())
    except dicom_errors():
        return ""


def elements(dataset: "Dataset", max_depth: int) -> Iterator[tuple[int, "DataElement | bytes"]]:
    """Every element with its depth (0 at the top), without recursion.

    A broken element is given as its raw bytes.
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

    The names of persons are all elements with VR PN at any depth, the meanings of codes of persons,
    and whatever is written like a PN in any other text. A description is private if it names one of
    these persons.
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
        elif element.keyword in _DESCRIPTIONS:
            descriptions += _strings(element)
        elif element.tag.is_private and element.VR in _CODE_NUMBER:
            codes = [text for text in _strings(element) if text not in technical]
            numbers = [text for text in codes if _CODE_NUMBER[element.VR].match(text)]
            texts += [text.split(".", maxsplit=1)[0] for text in numbers]
            descriptions += codes if element.VR == "CS" else []
        else:  # machines repeat technical facts in elements of their own
            repeats = technical if element.tag.is_private else frozenset()
            texts += [text for text in _private_texts(element) if text not in repeats]
            ids += _strings(element) if element.keyword in _IDS else []
    persons += [name for text in (*texts, *descriptions) for name in _WRITTEN_NAME.findall(text)]
    texts += _naming(descriptions, persons)
    machine = " ".join(
        filter(None, (text_of(dataset, "Manufacturer"), text_of(dataset, "ManufacturerModelName")))
    )
    return Header(
        patient=text_of(dataset, "PatientID") or None,
        study=text_of(dataset, "StudyInstanceUID") or None,
        exam_date=next(filter(None, (_day(text_of(dataset, name)) for name in DATES)), None),
        facts=_facts(dataset, ids),
        machine="".join(letter for letter in machine if letter.isprintable())[:80] or None,
        private=clean_texts([*texts, *persons]),
        persons=clean_texts(persons, shortest=2),
    )


def _naming(descriptions: Iterable[str], persons: Iterable[str]) -> list[str]:
    """The `descriptions` that contain a word of a person's name.

    Words that sono itself writes name nobody.
    """
    names = (
        {word for word in words_of(*persons) if len(word) >= MIN_NAME and word.isalpha()}
        - VOCABULARY
        - TITLES
    )
    return [text for text in descriptions if not names.isdisjoint(words_of(text))] if names else []


def _facts(dataset: "Dataset", ids: Iterable[str]) -> dict[str, str]:
    """The facts that are not empty.

    Of other patient ids, and of all `ids`, each once with a backslash between.
    """
    facts = {keyword: text_of(dataset, keyword) for keyword in _FACTS}
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


def _day(text: str) -> str | None:
    """A DICOM date (YYYYMMDD, formerly YYYY.MM.DD) in ISO; None if it cannot be an exam's."""
    try:
        day = date.fromisoformat(text.replace(".", ""))
    except ValueError:
        return None
    return day.isoformat() if is_exam_day(day) else None


def _private_texts(element: "DataElement") -> list[str]:
    """The strings of an element that may identify a person, or place or date of the exam."""
    if element.VR == "SQ":  # its items come by themselves; to print one may fail
        return []
    value = element.value
    if (
        element.tag.group == _PIXEL_GROUP
        or element.keyword in _TECHNICAL
        or element.tag.is_private_creator
    ):
        return []
    if element.VR in _BYTE_VRS and isinstance(value, bytes):
        return text_runs(value) if len(value) <= MAX_BLOB_BYTES else []
    texts = _strings(element)
    # longer ones are documents of the machine (XML), full of everyday words
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
