"""Which picture archive may be asked, and as whom.

Nothing leaves the building, and no password shows.
"""

import base64
import ipaddress
import socket
from collections.abc import Mapping
from urllib.parse import urlsplit

from sono.curation.core.errors import SonoError

USER, PASSWORD, TOKEN = "SONO_PACS_USER", "SONO_PACS_PASSWORD", "SONO_PACS_TOKEN"
CREDENTIALS = f"{USER} and {PASSWORD}, or {TOKEN},"


def check_address(url: str, insecure_http: bool = False) -> str:
    """The address without its last slash.

    SonoError if it holds credentials or sends patients' data in the open.
    """
    # never repeat such an address: it may hold a password
    if "@" in url or "?" in url or "#" in url:
        raise SonoError(
            f"the address holds more than host and path; give credentials by {CREDENTIALS} in the "
            f"environment"
        )
    shown = printable(url)
    try:
        parts = urlsplit(url)
        # or an empty or endless label ends in a UnicodeError on the way out
        (parts.hostname or "").encode("idna")
        host, port = parts.hostname, parts.port or (443 if parts.scheme == "https" else 80)
    except ValueError as error:
        raise SonoError(
            f"{shown}: {error}; give an address like https://pacs.example/dicom-web"
        ) from error
    if parts.scheme not in ("http", "https") or not host:
        raise SonoError(f"{shown}: not an address like https://pacs.example/dicom-web")
    if parts.scheme == "http" and not insecure_http and not _is_private(host, port):
        raise SonoError(
            f"{shown}: plain http to a public address would send names and pictures of patients in "
            f"the open; use "
            "https, an address inside the building, or --insecure-http where this network is the "
            "hospital's own"
        )
    return parts.geturl().rstrip("/")  # its scheme is lower case now, as dicomweb-client wants it


def _is_private(host: str, port: int) -> bool:
    try:
        found = {entry[4][0] for entry in socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)}
    except OSError as error:
        raise SonoError(f"{host}: no such host ({error.strerror}); check the address") from error
    return all(_stays_in_the_building(str(address)) for address in found)


def _stays_in_the_building(text: str) -> bool:
    address = ipaddress.ip_address(text.partition("%")[0])
    # ::ffff:8.8.8.8 counts as private in Python 3.11
    address = getattr(address, "ipv4_mapped", None) or address
    return address.is_private or address.is_loopback or address.is_link_local


def authorization(environment: Mapping[str, str]) -> str | None:
    """The Authorization header that the environment asks for, or None.

    SonoError where it is half given.
    """
    user, password, token = (environment.get(name, "").strip() for name in (USER, PASSWORD, TOKEN))
    if token and (user or password):
        raise SonoError(f"{TOKEN} and {USER} or {PASSWORD} are both set; unset one of them")
    if bool(user) != bool(password):
        missing = PASSWORD if user else USER
        raise SonoError(f"{missing} is not set; set {CREDENTIALS} in the environment")
    if token and not (token.isascii() and token.isprintable() and " " not in token):
        raise SonoError(f"{TOKEN} holds a space or a character that no token has; set it again")
    if token:
        return f"Bearer {token}"
    # bytes that are no UTF-8 go out as they came
    named = f"{user}:{password}".encode(errors="surrogateescape")
    return f"Basic {base64.b64encode(named).decode()}" if user else None


def place(url: str) -> str:
    """Scheme, host and port of an address.

    What a message may show (paths and queries name patients).
    """
    try:
        parts = urlsplit(url)
    except ValueError:
        return "a place that is no address"
    if not parts.netloc:
        return "another path of the same server"
    return printable(f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}")


def printable(text: str) -> str:
    """Text of others as one line without control codes or lone surrogates, for a message or a
    table.
    """
    return "".join(letter if letter.isprintable() else "?" for letter in text)
