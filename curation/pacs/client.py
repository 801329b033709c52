"""DICOMweb client (DICOM PS3.18): connection, searches, retries and error handling."""

import email.utils
import itertools
import logging
import os
import random
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, Protocol, TypeVar

from sono.curation.core.console import stderr_console
from sono.curation.core.errors import SonoError
from sono.curation.pacs.access import (
    CREDENTIALS,
    authorization,
    check_address,
    origin_of,
    printable,
)

# Accept headers of a file, best first: as it is stored; in the server's own choice; and not in
# parts.
FORMS = (
    'multipart/related; type="application/dicom"; transfer-syntax=*',
    'multipart/related; type="application/dicom"',
    "application/dicom",
)
Item = dict[str, Any]  # one match of a search, in the DICOM JSON model
Result = TypeVar("Result")


class TransientError(Exception):
    """A failure that may pass; `wait_s` is the pause in seconds that the server asked for."""

    def __init__(self, fact: str, wait_s: float | None = None) -> None:
        super().__init__(fact)
        self.wait_s = wait_s


class NotServedError(Exception):
    """The server works but refuses this request; the next request may succeed."""


class NotAcceptableError(NotServedError):
    """The server does not offer the requested form (HTTP 406)."""


@dataclass(frozen=True)
class RetryPolicy:
    """Tries per request, the wait between them (doubling, with jitter), and timeouts in seconds."""

    tries: int = 6
    first_wait_s: float = 1.0
    longest_wait_s: float = 60.0
    longest_asked_s: float = 600.0  # a Retry-After beyond this ends the run
    connect_s: float = 10.0
    answer_s: float = 60.0

    @property
    def timeout(self) -> tuple[float, float]:
        return self.connect_s, self.answer_s


@dataclass(frozen=True)
class Pacs:
    """One DICOMweb service: its address, and the client and session that query it."""

    url: str
    client: Any
    session: Any = field(repr=False)
    patience: RetryPolicy
    # the one that the server took last goes first
    forms: list[str] = field(default_factory=lambda: list(FORMS))


class Search(Protocol):
    """A page of matches in the form that the searches of dicomweb-client return."""

    def __call__(
        self, *, limit: int, offset: int, search_filters: Mapping[str, str]
    ) -> list[Item]: ...


@contextmanager
def connect(url: str, insecure_http: bool, patience: RetryPolicy) -> Iterator[Pacs]:
    """Check address and credentials without contacting the server.

    Raises SonoError if they are not usable.
    """
    address = check_address(url, insecure_http)
    try:
        import requests
        from dicomweb_client import DICOMwebClient
    except ImportError as error:
        raise SonoError(
            "sono pull needs the package dicomweb-client; install it with `pip install sono[pacs]`"
        ) from error
    # or each capped page would print the server's warning that there is more
    logging.getLogger("dicomweb_client").addHandler(logging.NullHandler())
    with requests.Session() as session:
        _prepare(session)
        try:
            client = DICOMwebClient(
                address, session=session, permissive_uid=True, timeout=patience.timeout
            )
        except ValueError as error:
            raise SonoError(
                f"{printable(address)}: not an address like https://pacs.example/dicom-web"
            ) from error
        # its own retries heed neither Retry-After nor a lost connection
        client.set_http_retry_params(retry=False)
        yield Pacs(address, client, session, patience)


def _prepare(session: Any) -> None:
    # a proxy of the environment would carry patients' data elsewhere, .netrc other passwords
    session.trust_env = False
    session.verify = os.environ.get("REQUESTS_CA_BUNDLE") or True
    session.headers["Accept-Encoding"] = "identity"
    session.auth = _signer(authorization(os.environ))
    session.hooks["response"].append(check_response)


def _signer(header: str | None) -> Callable[[Any], Any]:
    def sign(request: Any) -> Any:
        # dicomweb-client leaves the port out, which some proxies refuse
        request.headers.pop("Host", None)
        if header:
            request.headers["Authorization"] = header
        return request

    return sign


def check_response(response: Any, **_: object) -> None:
    """Close an unusable response and raise its error (a hook of requests)."""
    error = classify_status(
        response.status_code, origin_of(response.url), response.headers
    ) or _not_json(response)
    if error:
        response.close()
        raise error


def _not_json(response: Any) -> SonoError | None:
    """What is wrong with the response to a search.

    It must be JSON, or 204 if nothing matches (DICOM PS3.18, 10.6.3).
    """
    if response.status_code == 204 or "json" not in response.request.headers.get("Accept", ""):
        return None
    kind = response.headers.get("Content-Type", "")
    # or dicomweb-client takes it for an archive without a match
    if "json" in kind.lower() and response.content:
        return None
    sent = "nothing" if not response.content else printable(kind) or "an untyped body"
    return SonoError(
        f"{origin_of(response.url)}: answered a search with {sent}, not DICOM JSON; check the path "
        f"(Orthanc: /dicom-web)"
    )


def classify_status(status: int, url: str, headers: Mapping[str, str]) -> Exception | None:
    """The error that a response means, or None if it is usable.

    TransientError, NotServedError, or SonoError, which ends the run.
    """
    if status in (408, 429) or status >= 500:
        return TransientError(f"{url}: HTTP {status}", _retry_after(headers.get("Retry-After")))
    if status in (401, 407):
        return SonoError(
            f"{url}: HTTP {status}, the credentials were not accepted; set {CREDENTIALS} in the "
            f"environment"
        )
    if 300 <= status < 400:
        target = origin_of(headers.get("Location", ""))
        return SonoError(
            f"{url}: redirects to {target}, which sono does not follow; give the address that "
            "serves "
            f"DICOMweb"
        )
    if status >= 400:
        return (NotAcceptableError if status == 406 else NotServedError)(f"HTTP {status}")
    if "html" in headers.get("Content-Type", ""):
        return SonoError(
            f"{url}: answered with a web page; check the path (Orthanc: /dicom-web) and any login "
            "page "
            f"before it"
        )
    return None


def _retry_after(header: str | None) -> float | None:
    """Seconds to wait by a Retry-After header, which holds seconds or a date (RFC 9110, 10.2.3)."""
    if not header:
        return None
    if header.strip().isdecimal():
        return float(header)
    try:
        moment = email.utils.parsedate_to_datetime(header)
    except ValueError:
        return None
    moment = moment if moment.tzinfo else moment.replace(tzinfo=UTC)
    return max(0.0, (moment - datetime.now(UTC)).total_seconds())


@contextmanager
def line_errors(url: str) -> Iterator[None]:
    """Convert the errors of requests into our own.

    Errors that may pass become TransientError, others SonoError.
    """
    from requests import exceptions

    try:
        yield
    except exceptions.SSLError as error:
        if "certificate" in str(error).lower() or "wrong_version" in str(error).lower():
            raise SonoError(
                f"{origin_of(url)}: TLS failed (its certificate is not trusted, or it does not use "
                "TLS); "
                "set REQUESTS_CA_BUNDLE=authority.pem to the hospital's own certificate authority"
            ) from error
        raise TransientError(f"{origin_of(url)}: TLS failed") from error
    except exceptions.Timeout as error:
        raise TransientError(f"{origin_of(url)}: no answer in time") from error
    except (
        exceptions.ConnectionError,
        exceptions.ChunkedEncodingError,
        exceptions.ContentDecodingError,
    ) as error:
        raise TransientError(f"{origin_of(url)}: no connection, or it was cut") from error
    except exceptions.RequestException as error:
        raise SonoError(f"{origin_of(url)}: the request failed ({type(error).__name__})") from error


def with_retries(act: Callable[[], Result], patience: RetryPolicy) -> Result:
    """`act()`, tried again after each TransientError until the retries are exhausted.

    The last error is then raised.
    """
    for number in itertools.count(1):
        try:
            return act()
        except TransientError as error:
            wait_s = _wait(error, number, patience)
            if number >= patience.tries or wait_s > patience.longest_asked_s:
                raise
            stderr_console.print(
                f"{error}; trying again in {wait_s:.0f} s ({number} of {patience.tries - 1})",
                markup=False,
            )
            time.sleep(wait_s)
    raise AssertionError("unreachable: the count has no end")


def _wait(error: TransientError, number: int, patience: RetryPolicy) -> float:
    if error.wait_s is not None:
        return error.wait_s
    longest = min(patience.longest_wait_s, patience.first_wait_s * 2.0 ** (number - 1))
    # jitter, so that two clients do not come back together
    return longest * random.uniform(0.5, 1.0)


def search_all(
    pacs: Pacs, search: Search, filters: Mapping[str, str], key: str, page_size: int
) -> Iterator[Item]:
    """Yield every match of a search once; `key` is the tag of its UID, for example '0020000D'.

    The search ends with the first page without new matches, not with a short one, because a server
    may limit its pages.
    """
    seen: set[str] = set()
    offset = last = 0
    while fresh := _fresh(page := ask(pacs, search, filters, page_size, offset), key, seen):
        yield from fresh
        last, offset = len(page), offset + len(page)
    # Orthanc 1.10 cuts a search by modality to `limit` before it skips `offset`, so that every
    # later page is empty:
    # after a full page ask for more at once
    limit = page_size
    while last >= limit:
        limit = 2 * len(seen)
        page = ask(pacs, search, filters, limit, 0)
        fresh = _fresh(page, key, seen)
        yield from fresh
        last = len(page) if fresh else 0


def _fresh(page: list[Item], key: str, seen: set[str]) -> list[Item]:
    """The matches of a page that were not seen before."""
    fresh = [item for item in page if value(item, key) not in seen]
    seen.update(value(item, key) for item in fresh)
    return fresh


def ask(
    pacs: Pacs, search: Search, filters: Mapping[str, str], limit: int, offset: int
) -> list[Item]:
    """One page of matches; raises SonoError if the server cannot return it."""

    def once() -> list[Item]:
        with line_errors(pacs.url):
            try:
                return search(limit=limit, offset=offset, search_filters=filters)
            except ValueError as error:
                raise TransientError(
                    f"{pacs.url}: the answer is not complete JSON; is this a DICOMweb service?"
                ) from error
            except RecursionError as error:
                raise no_dicom from error

    no_dicom = SonoError(
        f"{pacs.url}: the answer is JSON but not DICOM; check the path (Orthanc: /dicom-web)"
    )
    try:
        page = with_retries(once, pacs.patience)
    except NotServedError as error:
        raise SonoError(
            f"{pacs.url}: {error} on a search; there is no DICOMweb service, or no permission: "
            "check path and "
            f"rights"
        ) from error
    except TransientError as error:
        raise retries_exhausted(error) from error
    if not (isinstance(page, list) and all(isinstance(item, dict) for item in page)):
        raise no_dicom
    return page


def retries_exhausted(error: TransientError) -> SonoError:
    """The final error after a failure that did not pass."""
    return SonoError(
        f"{error}, and a retry would not help; the same command continues where it stopped"
    )


def value(item: Item, tag: str) -> str:
    """First value of a text element of a match, '' if there is none."""
    values = values_of(item, tag)
    return values[0] if values else ""


def values_of(item: Item, tag: str) -> list[str]:
    """All values of a text element of a match, stripped.

    Nulls, which represent empty values, are omitted.
    """
    element = item.get(tag)
    held = element.get("Value") if isinstance(element, dict) else None
    entries = held if isinstance(held, list) else []
    return [str(entry).strip() for entry in entries if isinstance(entry, str | int | float)]
