"""Videos (MP4, AVI, MOV, MKV, WMV ...) as gray frames in order of presentation, by PyAV.

Pictures are decoded one at a time. Sound and subtitles are never decoded.
"""

import io
import re
from collections.abc import Iterator
from dataclasses import dataclass, replace
from fractions import Fraction
from itertools import islice
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from sono.curation.core.alive import alive
from sono.curation.core.geometry import resampled, square_size, turned
from sono.curation.readers.containers import Format
from sono.curation.readers.dicom_regions import is_aspect
from sono.curation.readers.movie_boxes import check_boxes
from sono.curation.readers.source import (
    DECODER_ERRORS,
    DEFAULT_LIMITS,
    Frame,
    Header,
    LazyFrames,
    Limits,
    ReadResult,
    UnreadableError,
    check_size,
    clean_texts,
    failed,
    missing_extra,
    readable,
    split_color,
    succeeded,
)

if TYPE_CHECKING:
    from av import VideoFrame
    from av.container import InputContainer
    from av.packet import Packet
    from av.video.reformatter import VideoReformatter
    from av.video.stream import VideoStream

# FFmpeg's demuxers. They are not guessed: playlists, which open other files, are demuxers too.
_DEMUXERS = {
    "AVI video": "avi",
    "MP4 or QuickTime video": "mov",
    "Matroska or WebM video": "matroska",
    "Windows Media video": "asf",
    "Flash video": "flv",
    "MPEG video": "mpeg",
    "Ogg video": "ogg",
}
_MPEG_STREAM, _TRANSPORT_STREAM = b"\0\0\x01\xb3", b"G"
_MAX_PIXELS = 1 << 24  # a decoder keeps up to 17 pictures
_MAX_FRAMES = 1 << 17
_MAX_PACKETS = 8 * _MAX_FRAMES  # also those that give no picture
_MAX_SECONDS = 24 * 3600.0
# What programs and formats write on their own, as key=value. Any other value may be private, also
# one with such a key.
_TECHNICAL = re.compile(
    "|".join(
        (
            r"(?:major_brand|compatible_brands)=(?:isom|iso[2-9]|iso[a-d]|mp4[12v]|avc1|hvc1|qt  "
            r"|m4[av] |3gp[4-9]|3g2[a-c]|dash|msdh|msix|msnv|mmp4|f4v |xavc|caep|ndsc)+",
            r"minor_version=(?:0|1|512|1024|65536|66048|131072|5371993(?:44|60)|537331968)",
            r"vendor_id=(?:\[0\]){4}|vendor_id=(?:ffmp|appl|goog|    )",
            r"handler_name=\W?(?:(?:video|sound|subtitle|text|data|timecode)handler?"
            r"|core media (?:video|audio|data|metadata|time code)|apple alias data handler"
            r"|(?:apple|mainconcept|mainconcept mp4) (?:video|sound) media handler"
            r"|(?:gpac iso|l-smash) (?:video|audio) handler"
            r"|iso media file produced by google(?: inc\.)?)\W?",
            r"language=(?:und|mul|zxx|[a-z]{2}|eng|deu|ger|fra|fre|spa|ita|por|nld|dut|rus|pol|jpn|"
            r"zho|chi|kor|tur|ara|swe|dan|nor|fin|ces|cze|ell|gre|heb|hin|hun|ukr|vie|tha)"
            r"(?:-[a-z]{2})?",
            r"(?:encoder|software)="
            r"(?:lavf[\d.]{,10}|(?:handbrake|mkvmerge) v?\d{1,2}(?:\.\d\d?){1,2}"
            r"|lavc[\d.]{2,10} (?:mjpeg|mpeg4|ffv1|wmv[12]|aac|lib(?:x264|x265|vpx|vpx-vp9|mp3lame"
            r"|opus|vorbis|theora))|google|(?:jvt/)?avc coding|(?:photo - )?jpeg|motion jpeg"
            r"|h\.?26[345]|hevc|mpeg-?4)",
            r"duration=\d{2,}:\d{2}:\d{2}[.,]\d+",
            r"(?:bps|number_of_frames|number_of_bytes)=\d{1,15}",
            r"_statistics_tags=bps duration number_of_frames number_of_bytes",
            r"isvbr=(?:true|false|[01])|wmfsdk(?:version|needed)=\d+(?:\.\d+){3}",
        )
    ),
    re.IGNORECASE,
)
_ORIENTATIONS = {90: 8, -90: 6, 180: 3, -180: 3}  # EXIF's number of a turn to the left in degrees


@dataclass(frozen=True)
class VideoFormat:
    """How the pictures of a video become frames: of each of them, whether it is `sound`."""

    demuxer: str
    size: tuple[int, int]  # rows and columns as stored
    square: tuple[int, int]  # rows and columns once the pixels are square, before they are turned
    orientation: int = 1
    sound: tuple[bool, ...] = ()


class _Reader:
    """Decodes the frames of a video in one pass if they are asked for in their order.

    A frame before the last one begins a new pass.
    """

    def __init__(self, content: bytes, form: VideoFormat) -> None:
        self.content, self.form = content, form
        self._frames: Iterator[Frame] = iter(())
        self._last: Frame | None = None

    def frame(self, index: int) -> Frame:
        if self._last is None or self._last.index > index:
            self._frames, self._last = _frames(self.content, self.form), None
        while self._last is None or self._last.index < index:
            self._last = next(self._frames)
        return self._last


def read_video(content: bytes, known: Format, limits: Limits = DEFAULT_LIMITS) -> ReadResult:
    """Read a video of a known format.

    Its frames are counted by decoding them once. What cannot be decoded is left out and reported; a
    video without a sound frame gives a result without frames.
    """
    try:
        import av
    except ImportError:
        return failed(missing_extra(known.message))
    header = Header()
    try:
        if known.name == "MP4 or QuickTime video":
            check_boxes(content)
        with _open(content, _demuxer(content, known.name)) as container:
            header = Header(private=_private_texts(container))
            form, remarks = _read_format(container, limits)
        form, more = _counted(content, form, limits)
        frames = LazyFrames(len(form.sound), _Reader(content, form).frame)
        return succeeded(frames, [*remarks, *more], header)
    except UnreadableError as error:
        return failed(error, header)
    except MemoryError:
        return failed(UnreadableError("too_large", "this file does not fit into memory"), header)
    except (av.FFmpegError, *DECODER_ERRORS):
        return failed(UnreadableError("corrupt", "the video cannot be opened"), header)


def _demuxer(content: bytes, name: str) -> str:
    if name != "MPEG video" or not content.startswith((_MPEG_STREAM, _TRANSPORT_STREAM)):
        return _DEMUXERS[name]
    return "mpegts" if content.startswith(_TRANSPORT_STREAM) else "mpegvideo"


def _open(content: bytes, demuxer: str) -> "InputContainer":
    import av

    av.logging.set_level(None)  # FFmpeg's messages would go to the terminal
    return av.open(
        io.BytesIO(content),
        "r",
        format=demuxer,
        metadata_errors="surrogateescape",
        io_open=_refuse,
    )


def _refuse(*_: object) -> None:
    """Open no file that a video refers to."""
    raise PermissionError


def _private_texts(container: "InputContainer") -> tuple[str, ...]:
    """The values of the metadata, except well-known ones that only concern the format."""
    sources = [container.metadata, *(stream.metadata for stream in container.streams)]
    sources += [chapter["metadata"] for chapter in container.chapters()]
    return clean_texts(
        readable(value.encode("utf-8", "surrogateescape"))
        for metadata in sources
        for name, value in metadata.items()
        if not _TECHNICAL.fullmatch(f"{name.partition('-')[0]}={value}")  # mkvmerge adds a language
    )


def _read_format(container: "InputContainer", limits: Limits) -> tuple[VideoFormat, list[str]]:
    """The format of the first video stream, and the remarks on it.

    Raises UnreadableError if there is none or its pictures are too large or too small.
    """
    if not container.streams.video:
        raise UnreadableError("video")
    stream = container.streams.video[0]
    rows, columns = stream.codec_context.height, stream.codec_context.width
    check_size(rows, columns, replace(limits, max_pixels=min(_MAX_PIXELS, limits.max_pixels)))
    declared = stream.sample_aspect_ratio  # width / height of a pixel, 0 if unknown
    aspect = float(1 / Fraction(declared)) if declared else 1.0
    square = square_size(rows, columns, aspect if is_aspect(aspect) else 1.0, limits.max_pixels)
    remarks = {
        "resampled": square != (rows, columns),
        "aspect_unsure": not is_aspect(aspect),
        "one_stream_only": len(container.streams.video) > 1,
    }
    demuxer = container.format.name.partition(",")[0]
    form = VideoFormat(demuxer, (rows, columns), square)
    return form, [code for code, holds in remarks.items() if holds]


def _counted(content: bytes, form: VideoFormat, limits: Limits) -> tuple[VideoFormat, list[str]]:
    """`form` with the pictures that are sound and their orientation, and the remarks on them.

    Raises UnreadableError if no picture is sound.
    """
    most = min(_MAX_FRAMES, max(1, limits.max_decoded_bytes // (3 * form.size[0] * form.size[1])))
    sound: list[bool] = []
    is_damaged = is_cut = False
    for picture, is_sound in _decoded(content, form):
        is_damaged |= not is_sound
        if picture is None:
            continue
        if len(sound) == most:
            is_cut = True
            break
        if is_sound and not any(sound):
            form = replace(form, orientation=_ORIENTATIONS.get(round(picture.rotation), 1))
        sound.append(is_sound)
    if not any(sound):
        raise UnreadableError("frame_corrupt", "no frame of the video could be decoded")
    remarks = {
        "frames_limit": is_cut,
        "video_damaged": is_damaged,
        "frames_mismatch": not is_cut and _declared(content, form) not in (0, len(sound)),
        "rotated_by_exif": form.orientation > 1,
    }
    return replace(form, sound=tuple(sound)), [code for code, holds in remarks.items() if holds]


def _declared(content: bytes, form: VideoFormat) -> int:
    """The number of pictures in the header; 0 if it has none."""
    with _open(content, form.demuxer) as container:
        return container.streams.video[0].frames


def _decoded(content: bytes, form: VideoFormat) -> Iterator[tuple["VideoFrame | None", bool]]:
    """Each picture in order of presentation, and whether it is sound; None for data without one.

    After an error, the pictures up to the next sound key frame are copies of damaged ones.
    """
    with _open(content, form.demuxer) as container:
        context = container.streams.video[0].codec_context
        context.thread_count, context.thread_type = 1, "NONE"  # several keep more pictures
        # errors end the decoding of a picture, which would otherwise be filled by guesses
        context.options = {
            "err_detect": "crccheck+bitstream+buffer+explode",
            "max_pixels": str(_MAX_PIXELS),
        }
        sound = True
        for packet in islice(_packets(container), _MAX_PACKETS):
            alive()
            pictures = _pictures(packet)
            if pictures is None:
                sound = False
                yield None, False
                continue
            for picture in pictures:
                whole = not picture.is_corrupt and (picture.height, picture.width) == form.size
                sound = whole and (sound or bool(picture.key_frame))
                yield picture, sound


def _pictures(packet: "Packet[VideoStream] | None") -> "list[VideoFrame] | None":
    """The pictures that a packet completes; None if it cannot be decoded."""
    import av

    try:
        return None if packet is None else packet.decode()
    except (av.FFmpegError, *DECODER_ERRORS):
        return None


def _packets(container: "InputContainer") -> "Iterator[Packet[VideoStream] | None]":
    """The packets of the first video stream; None where the file breaks off."""
    import av

    try:
        yield from container.demux(container.streams.video[0])
    except (av.FFmpegError, *DECODER_ERRORS):
        yield None


def _frames(content: bytes, form: VideoFormat) -> Iterator[Frame]:
    from av.video.reformatter import VideoReformatter

    colors = VideoReformatter()  # one for all pictures: each would start threads of its own
    pictures = (picture for picture, _ in _decoded(content, form) if picture is not None)
    start: float | None = None
    for index, (picture, is_sound) in enumerate(zip(pictures, form.sound, strict=False)):
        time = picture.time
        start = time if start is None else start
        seconds = None if time is None or start is None else round(time - start, 6)
        known = seconds is not None and 0 <= seconds <= _MAX_SECONDS
        shown = _rgb(picture, colors) if is_sound else None
        yield _frame(index, shown, form, seconds if known else None)


def _frame(
    index: int, shown: NDArray[np.uint8] | None, form: VideoFormat, seconds: float | None
) -> Frame:
    """The picture `shown` [H, W, 3] upright and with square pixels; black where there is none."""
    codes = ("frame_corrupt",) if shown is None else ()
    rgb = np.zeros((*form.size, 3), np.uint8) if shown is None else shown
    size = form.square if form.orientation < 5 else form.square[::-1]
    stored = form.size if form.orientation < 5 else form.size[::-1]
    gray, color = split_color(resampled(turned(rgb, form.orientation), size))
    file_size = None if size == stored else stored
    return Frame(index, gray, color, None, None, "video", codes, (), file_size, seconds)


def _rgb(picture: "VideoFrame", colors: "VideoReformatter") -> NDArray[np.uint8] | None:
    """The picture [H, W, 3]; None if its colors cannot be converted."""
    import av

    try:
        rgb = colors.reformat(picture, format="rgb24", threads=1)
        return np.asarray(rgb.to_ndarray(), np.uint8)
    except (av.FFmpegError, MemoryError, *DECODER_ERRORS):
        return None
