"""Croissant 1.1: the description of the Parquet files that tools of ML Commons read, with RAI.

mlcroissant reads the frames of an export through it: pictures, masks, captions and splits.
"""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq

from sono import __version__
from sono.annotation.release.card_config import CardConfig
from sono.annotation.release.questions import NOT_STATED, stated
from sono.curation.dataset.statistics import Statistics

CONFORMS_TO = ("http://mlcommons.org/croissant/1.1", "http://mlcommons.org/croissant/RAI/1.0")
DUO_TERM = "http://purl.obolibrary.org/obo/DUO_"
_NAMES = (
    "citeAs", "column", "containedIn", "dataBiases", "dataCollection", "equivalentProperty",
    "extract", "field", "fileObject", "fileProperty", "fileSet", "format", "includes", "isArray",
    "arrayShape", "isLiveDataset", "jsonPath", "key", "md5", "parentField", "path",
    "personalSensitiveInformation", "recordSet", "references", "regex", "repeated", "replace",
    "samplingRate", "separator", "source", "subField", "transform",
)  # fmt: skip
CONTEXT: dict[str, Any] = {
    "@language": "en",
    "@vocab": "https://schema.org/",
    "sc": "https://schema.org/",
    "cr": "http://mlcommons.org/croissant/",
    "rai": "http://mlcommons.org/croissant/RAI/",
    "dct": "http://purl.org/dc/terms/",
    "conformsTo": "dct:conformsTo",
    "data": {"@id": "cr:data", "@type": "@json"},
    "examples": {"@id": "cr:examples", "@type": "@json"},
    "dataType": {"@id": "cr:dataType", "@type": "@vocab"},
    **{name: f"cr:{name}" for name in _NAMES},
}
FRAMES, FILES = "frames", "parquet"
# in the pictures and texts of each row; the path of a value in a list of masks
IN_MASKS = {
    "masks": ("sc:ImageObject", "[*].mask.bytes"),
    "mask_ids": ("sc:Text", "[*].mask_id"),
    "mask_structures": ("sc:Text", "[*].structure"),
    "mask_states": ("sc:Text", "[*].state"),
    "mask_sources": ("sc:Text", "[*].source"),
}
_KINDS = {"string": "sc:Text", "float": "sc:Float", "int32": "sc:Integer", "int64": "sc:Integer",
          "bool": "sc:Boolean"}  # fmt: skip


def croissant(
    folder: Path, config: CardConfig, stats: Statistics, title: str, digests: Mapping[str, str]
) -> dict[str, Any]:
    """The description of the Parquet files in `folder`/data, as JSON-LD.

    `digests` has the SHA-256 of each file by its place in the folder.
    """
    files = sorted((folder / "data").glob("*.parquet"))
    described = {
        "@context": CONTEXT,
        "@type": "sc:Dataset",
        "conformsTo": list(CONFORMS_TO),
        "name": title,
        "description": config.description or f"Fetal ultrasound frames of the study {title}.",
        "version": config.version,
        "license": stated(config, "license"),
        "url": config.url or NOT_STATED,
        "creator": [{"@type": "sc:Organization", "name": stated(config, "authors")}],
        "citeAs": stated(config, "citation"),
        "sdVersion": f"sono {__version__}",
        "distribution": [_file(path, folder, digests) for path in files] + [_file_set(files)],
        "recordSet": [
            {
                "@type": "cr:RecordSet",
                "@id": FRAMES,
                "name": FRAMES,
                "description": "A row is a frame with its captions, facts and masks.",
                "key": {"@id": f"{FRAMES}/image_id"},
                "field": _fields(files[0]),
            }
        ],
        **responsible(config, stats),
    }
    if config.published:
        described["datePublished"] = config.published
    if config.duo:
        described["usageInfo"] = DUO_TERM + config.duo.removeprefix("DUO:")
    return described


def _fields(file: Path) -> list[dict[str, Any]]:
    """The fields of the frames in a Parquet file of the export."""
    schema = pq.read_schema(file)
    labels = json.loads(schema.metadata[b"huggingface"])["info"]["features"]["plane"]["names"]
    fields = [
        _field("split", "sc:Text", "train, validation, test or unassigned", {
            "extract": {"fileProperty": "fullpath"},
            "transform": {"regex": "data/([a-z]+)-[0-9].*"},
        }),
        _field("image", "sc:ImageObject", "the frame, 8 bits of gray", {
            "extract": {"column": "image"}, "transform": {"jsonPath": "bytes"},
        }),
    ]  # fmt: skip
    for column in schema:
        if column.name in ("image", "masks"):
            continue
        kind = str(column.type)
        repeated = kind.startswith("list")
        meaning = f"one of {', '.join(labels)}" if column.name == "plane" else column.name
        fields.append(
            _field(
                column.name,
                "sc:Text" if repeated else _KINDS[kind],
                meaning,
                {"extract": {"column": column.name}},
                repeated,
            )
        )
    for name, (kind, path) in IN_MASKS.items():
        source = {"extract": {"column": "masks"}, "transform": {"jsonPath": path}}
        fields.append(_field(name, kind, f"{name} of a frame, in one order", source, repeated=True))
    return fields


def responsible(config: CardConfig, stats: Statistics) -> dict[str, str]:
    """The twenty fields of Croissant RAI: known to sono, stated by the study, or not stated."""
    frames, masks = stats.frames, stats.mask_totals
    accepted = frames["accepted"]
    unaged = accepted - int(stats.center["with_ga"].sum())
    by_source = stats.masks["source"].unique()
    values = {
        "dataCollection": stated(config, "collection"),
        "dataCollectionType": "frames and records of clinical examinations",
        "dataCollectionMissingData": f"{unaged} of {accepted} frames have no gestational age, "
        f"{accepted - masks['frames_with_masks']} no mask; missing values are null",
        "dataCollectionRawData": "DICOM files, pictures and videos of ultrasound machines; they "
        "are not part of the data set",
        "dataCollectionTimeframe": stated(config, "period"),
        "dataImputationProtocol": "none; nothing missing is filled in",
        "dataPreprocessingProtocol": "cropped to the ultrasound sector, black outside, text at "
        "the border painted over, pixels made square, 8 bits of gray",
        "dataManipulationProtocol": f"{frames['frames'] - accepted} of {frames['frames']} frames "
        "left out by rules; see the table of reasons in the card",
        "dataAnnotationProtocol": stated(config, "annotation"),
        "dataAnnotationPlatform": "sono masks review, or imported masks; `mask_sources` says which",
        "dataAnnotationAnalysis": "agreement of two reviewers and accepted wrong masks are in the "
        "card, where they were measured",
        "annotationsPerItem": f"{masks['usable']} masks on {masks['frames_with_masks']} frames",
        "annotatorDemographics": stated(config, "annotators"),
        "machineAnnotationTools": ", ".join(by_source) or "none",
        "dataReleaseMaintenancePlan": stated(config, "maintenance"),
        "personalSensitiveInformation": "health data of pregnant patients and fetuses, with keyed "
        "pseudonyms; the card states the de-identification and its limits",
        "dataSocialImpact": stated(config, "impact"),
        "dataBiases": stated(config, "biases"),
        "dataLimitations": stated(config, "limitations"),
        "dataUseCases": stated(config, "uses"),
    }
    return {f"rai:{name}": value for name, value in values.items()}


def _field(
    name: str, kind: str, meaning: str, source: dict[str, Any], repeated: bool = False
) -> dict[str, Any]:
    place = f"{FRAMES}/{name}"
    return {
        "@type": "cr:Field",
        "@id": place,
        "name": place,
        "description": meaning,
        "dataType": kind,
        "source": {"fileSet": {"@id": FILES}, **source},
        **({"repeated": True} if repeated else {}),
    }


def _file(path: Path, folder: Path, digests: Mapping[str, str]) -> dict[str, Any]:
    place = path.relative_to(folder).as_posix()
    return {
        "@type": "cr:FileObject",
        "@id": place,
        "name": place,
        "description": f"frames of {path.name.split('-')[0]}",
        "contentUrl": place,
        "contentSize": f"{path.stat().st_size} B",
        "encodingFormat": "application/x-parquet",
        "sha256": digests[place],
    }


def _file_set(files: list[Path]) -> dict[str, Any]:
    return {
        "@type": "cr:FileSet",
        "@id": FILES,
        "name": FILES,
        "description": f"{len(files)} Parquet files",
        "encodingFormat": "application/x-parquet",
        "includes": "data/*.parquet",
    }
