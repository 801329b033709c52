"""Private texts in the headers of MetaImage and NRRD files: all that are not of the format."""

import re

from sono.curation.readers.detached import HEADER_BYTES, META_END, written_name
from sono.curation.readers.source import clean_texts, readable

_META_TECHNICAL = re.compile(
    r"ObjectType|NDims|Binary\w+|Element\w+|Compressed\w+|TransformMatrix|Rotation|Orientation"
    r"|Offset|Position|Origin|CenterOfRotation|AnatomicalOrientation|DimSize|HeaderSize|Modality"
    r"|DistanceUnits|Kinds|UltrasoundImage\w+"
    r"|Seq_Frame\d+_(?:\w*Transform|\w*Status|\w*Timestamp|FrameNumber)"
)
# Words that the values of such fields consist of, next to numbers. Others may be private.
_WORDS = """
    uchar char unsigned signed short ushort int uint int8 int8_t uint8 uint8_t int16 int16_t
    uint16 uint16_t int32 int32_t uint32 uint32_t float double block image true false none nan
    inf local m mm cm um nm s ms us ok invalid unknown unspecified
    domain space time list point vector covariant-vector normal stub scalar complex 2-vector
    3-color rgb-color hsv-color xyz-color 4-color rgba-color 3-vector 3-gradient 3-normal 4-vector
    quaternion 2d-symmetric-matrix 3d-symmetric-matrix 3d-matrix cell node ??? little big raw gzip
    gz ascii text txt bzip2 bz2 hex right-anterior-superior left-anterior-superior
    left-posterior-superior right-anterior-superior-time left-anterior-superior-time
    left-posterior-superior-time scanner-xyz scanner-xyz-time 3d-right-handed 3d-left-handed
    3d-right-handed-time 3d-left-handed-time ras las lps rast last lpst met_mod_us met_mod_other
    met_mod_unknown met_mod_ct met_mod_mr brightness rgb_color rf_real rf_iq rf_i_line_q_line
"""
_NUMBER = re.compile(r"[-+]?[\d.]+(?:[eE][-+]?\d+)?")
_ORIENTATION = re.compile(r"[RLAPSI]{2,3}|[UMF][NFMX][ADX]?")  # letters of directions
_META_TYPE = re.compile(r"MET_U?(?:CHAR|SHORT|INT|LONG|LONG_LONG|FLOAT|DOUBLE)(?:_ARRAY)?")
_NRRD_TECHNICAL = """
    type dimension sizes endian encoding spacings axismins axismaxs thicknesses centers centerings
    kinds units spaceunits space spacedimension spacedirections spaceorigin measurementframe
    sampleunits labels min max oldmin oldmax blocksize lineskip byteskip number datafile
"""
_NRRD_COMMENT = re.compile(
    r"\s*(?:Complete NRRD file format specification at:|"
    r"http://teem\.sourceforge\.net/nrrd/format\.html)\s*"
)
_KNOWN_WORDS = frozenset(_WORDS.split())
_KNOWN_FIELDS = frozenset(_NRRD_TECHNICAL.split())


def header_texts(content: bytes) -> tuple[str, ...]:
    """The private texts of a MetaImage or NRRD header, also of one that is damaged."""
    head = content[:HEADER_BYTES]
    named = (written_name(content) or "").rpartition(".")[0]
    if head.startswith(b"NRRD"):
        lines = re.split(rb"\r?\n\r?\n", head, maxsplit=1)[0].split(b"\n")[1:]
        return clean_texts([named, *map(_nrrd_text, map(readable, lines))])
    end = META_END.search(head)
    lines = head[: end.start()].splitlines() if end else []
    return clean_texts([named, *map(_meta_text, map(readable, lines))])


def _meta_text(line: str) -> str:
    name, sign, value = (part.strip() for part in line.partition("="))
    known = _META_TECHNICAL.fullmatch(name) and _is_technical(value)
    return "" if known else value if sign else name


def _nrrd_text(line: str) -> str:
    if line.startswith("#"):
        return "" if _NRRD_COMMENT.fullmatch(line[1:]) else line[1:]
    if ":=" in line:
        return line.partition(":=")[2]
    name, colon, value = line.partition(":")
    if not colon:
        return line
    known = name.lower().replace(" ", "") in _KNOWN_FIELDS
    return "" if known and _is_technical(value) else value


def _is_technical(value: str) -> bool:
    """Whether a value consists of numbers and words of a format."""
    return all(
        word.lower() in _KNOWN_WORDS
        or _NUMBER.fullmatch(word)
        or _ORIENTATION.fullmatch(word)
        or _META_TYPE.fullmatch(word)
        for word in re.split(r'[\s"(),]+', value)
        if word
    )
