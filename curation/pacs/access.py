"""Which PACS may be queried and with which credentials.

Patient data never leaves the hospital's network unencrypted, and no password is shown.
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
    """The address without a final slash.

    Raises SonoError if it contains credentials or would send patient data unencrypted.
    """
    # never repeat such an address: it may hold a password
    if "@" in url or "?" in url or "#" in url:
        raise SonoError(
            f"the address has more than host and path; set credentials with {CREDENTIALS} in the "
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
            f"{shown}: plain http to a public address would send names and pictures of patients "
            "unencrypted; use https, an address inside the hospital's network, or --insecure-http "
            "if this network is the hospital's own"
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
    """The Authorization header from the environment, or None.

    Raises SonoError if the credentials are incomplete.
    """
    user, password, token = (environment.get(name, "").strip() for name in (USER, PASSWORD, TOKEN))
    if token and (user or password):
        raise SonoError(f"{TOKEN} and {USER} or {PASSWORD} are both set; unset one of them")
    if bool(user) != bool(password):
        missing = PASSWORD if user else USER
        raise SonoError(f"{missing} is not set; set {CREDENTIALS} in the environment")
    if token and not (token.isascii() and token.isprintable() and " " not in token):
        raise SonoError(f"{TOKEN} has a space or a character that no token has; set it again")
    if token:
        return f"Bearer {token}"
    # bytes that are no UTF-8 go out as they came
    named = f"{user}:{password}".encode(errors="surrogateescape")
    return f"Basic {base64.b64encode(named).decode()}" if user else None


def origin_of(url: str) -> str:
    """Scheme, host and port of an address.

    Only these may be shown in messages, because paths and queries name patients.
    """
    try:
        parts = urlsplit(url)
    except ValueError:
        return "a place that is no address"
    if not parts.netloc:
        return "another path of the same server"
    return printable(f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}")


def printable(text: str) -> str:
    """A foreign text as one line without control codes or lone surrogates."""
    return "".join(letter if letter.isprintable() else "?" for letter in text)
