"""Raw files in an object store such as `s3://bucket/raw`, through fsspec.

Credentials come from the environment only. Messages of a store or its package are not repeated,
because they name objects.
"""

import errno
import logging
import os
import re
import sys
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

from sono.curation.core.atomic import sha256
from sono.curation.core.errors import SonoError, did_you_mean
from sono.curation.readers.source import DECODER_ERRORS, Limits, UnreadableError, check_bytes

Answer = TypeVar("Answer")

HELP = "see docs/stores.md"
WAITS = (1.0, 5.0)  # seconds before a store is asked again
# Facts on an object's content or age, best first; the names are those of the packages.
TAGS = (
    "ETag",
    "etag",
    "md5Hash",
    "mtime",
    "LastModified",
    "last_modified",
    "modified",
    "modificationTime",
    "created",
)
# What the packages raise that is no error of Python's own.
ERRORS = (
    ("botocore.exceptions", "BotoCoreError"), ("botocore.exceptions", "ClientError"),
    ("aiohttp", "ClientError"), ("azure.core.exceptions", "AzureError"),
    ("google.auth.exceptions", "GoogleAuthError"),
    ("gcsfs.retry", "HttpError"),
)  # fmt: skip
FACTS = (
    (FileNotFoundError, errno.ENOENT, "there is nothing of this name"),
    (PermissionError, errno.EACCES, "no permission"),
    (TimeoutError, errno.ETIMEDOUT, "no answer in time"),
    (ConnectionError, errno.ECONNRESET, "the connection failed"),
)


def is_url(place: bytes) -> bool:
    """Whether a source is in an object store.

    The path of a local file never contains "://".
    """
    return b"://" in place


def raw_place(given: str) -> Path | str:
    """The address of a store unchanged, or the path of a local folder (also from file://)."""
    local = given.removeprefix("file://")
    return local if "://" in local else Path(local)


def list_objects(url: str) -> list[bytes]:
    """Addresses of all objects below `url`, sorted bytewise.

    Raises SonoError if there are none or the store cannot list them.
    """
    protocol, _, place = _checked(url).partition("://")
    # bucket or host, never a folder
    shown = f"{protocol}://{place.partition('/')[0].rpartition('@')[2]}"
    try:
        found = sorted(map(os.fsencode, _walk(url.rstrip("/"))))
    except OSError as error:
        raise SonoError(
            f"{shown}: cannot be listed ({error.strerror}); {HELP}, then run it again"
        ) from error
    if not found:
        raise SonoError(
            f"{shown}: contains no objects; give the bucket and folder with your export"
        )
    return found


def stamp(url: bytes) -> tuple[int, int]:
    """Size in bytes and a number that changes with the content.

    Raises OSError if the store does not report them.
    """
    info = _info(url)
    # without a tag: new each time
    tag = next((info[name] for name in TAGS if info.get(name)), time.time_ns())
    return info["size"], int(sha256(str(tag).strip('"').encode())[:15], 16)


def read_object(url: bytes, limits: Limits) -> bytes:
    """The complete content, in one request.

    Raises UnreadableError for anything that is not a file, is too large or has changed its size.
    """
    info = _info(url)
    size = info["size"]
    if info["type"] != "file":
        raise UnreadableError("not_a_file")
    check_bytes(size, limits)
    store, name = _open_store(os.fsdecode(url))
    content: bytes = _request(partial(store.cat_file, name, start=0, end=size + 1))
    if len(content) != size:
        raise UnreadableError("changed_while_read")
    return content


def _checked(url: str) -> str:
    """The address, checked.

    Raises SonoError, without the address, if it may contain a secret, means several stores or
    cannot be listed.
    """
    protocol, _, place = url.partition("://")
    if re.search(r"\?|(:|%3a).*@", place, re.I):
        raise SonoError(
            f"the address has a password or a query; remove it: credentials come from the "
            f"environment ({HELP})"
        )
    if "::" in url or not place.strip("/"):
        raise SonoError(
            f"the address does not name a bucket and folder, as in s3://bucket/raw; {HELP}"
        )
    if protocol in ("http", "https"):
        raise SonoError(
            f"{protocol}:// servers do not list their files; give an address like "
            "s3://bucket/raw, or use "
            f"`sono pull` from a PACS"
        )
    return url


def _walk(url: str) -> Iterator[str]:
    """Addresses of the objects below `url`.

    Raises OSError for a folder that fails (fsspec's own walk skips it).
    """
    store, top = _open_store(url)
    store.invalidate_cache()
    waiting = [top]
    while waiting:
        folder = waiting.pop()
        for entry in _request(partial(store.ls, folder, detail=True)):
            name = entry["name"].rstrip("/")
            is_folder, has_slash = entry["type"] == "directory", entry["name"] != name
            if is_folder and name != folder:
                waiting.append(name)
            elif is_folder == has_slash or (has_slash and entry["size"]):
                # not the folder itself nor the empty object that represents it; but a folder
                # without name, as in a//b
                yield f"{url}/{name[len(top) :].lstrip('/')}".rstrip("/")


def _info(url: bytes) -> dict[str, Any]:
    store, name = _open_store(os.fsdecode(url))
    info: dict[str, Any] = _request(partial(store.info, name))
    if not isinstance(info.get("size"), int):
        raise OSError(errno.EIO, "the store does not report its size")
    return info


def _open_store(url: str) -> tuple[Any, str]:
    """The store of an address, and the name of the object in it.

    A chain of stores, which the name of an object could request, is never opened.
    """
    protocol = url.partition("://")[0]
    try:
        from fsspec import available_protocols, get_filesystem_class

        kind = get_filesystem_class(protocol)
    except ImportError as error:
        raise SonoError(
            f"{protocol}://: {error}; pip install 'sono[object-store]' and that package, here and "
            f"on every worker"
        ) from error
    except ValueError as error:
        raise SonoError(
            f"unknown protocol '{protocol}'{did_you_mean(protocol, available_protocols())}"
        ) from error
    for package in (kind.__module__.partition(".")[0], "asyncio"):  # they log the names of objects
        logging.getLogger(package).setLevel(logging.CRITICAL)
    return _request(lambda: (kind(**kind._get_kwargs_from_urls(url)), kind._strip_protocol(url)))


def _request(question: Callable[[], Answer], asked: int = 0) -> Answer:
    """The answer of a store, which is asked again after an error that may pass.

    Raises OSError with our own message.
    """
    try:
        return question()
    except _store_errors() as error:
        known = ((number, fact) for kind, number, fact in FACTS if isinstance(error, kind))
        number, fact = next(known, (errno.EIO, f"the store failed: {type(error).__name__}"))
        if asked == len(WAITS) or number in (errno.ENOENT, errno.EACCES):
            raise OSError(number, fact) from None
    time.sleep(WAITS[asked])
    return _request(question, asked + 1)


def _store_errors() -> tuple[type[Exception], ...]:
    """The exceptions that the loaded packages may raise."""
    own = [getattr(sys.modules[module], name) for module, name in ERRORS if module in sys.modules]
    return (*DECODER_ERRORS, *own)
