"""Keyed pseudonyms: without the vault's key, nobody can test an id against a list of patients."""

import hmac
import secrets
from datetime import date, timedelta
from hashlib import sha256
from pathlib import Path

from sono.curation.core.atomic import MAX_TEXT_BYTES, read_regular, write_text
from sono.curation.core.errors import SonoError

KEY_BYTES = 32
CENTURY_DAYS, YEAR_DAYS = 36_525, 365


def create_key(path: Path) -> None:
    """Write a new random key to `path`, readable by its owner alone."""
    write_text(path, secrets.token_hex(KEY_BYTES) + "\n", mode=0o600)


def read_key(path: Path) -> bytes:
    """Read the key; raises SonoError if it is missing or damaged."""
    try:
        key = bytes.fromhex(read_regular(path, MAX_TEXT_BYTES).decode().strip())
    except (OSError, ValueError) as error:
        raise SonoError(
            f"{path}: no usable pseudonym key; restore it from a backup "
            "(with a new key the same patient would get another id)"
        ) from error
    if len(key) != KEY_BYTES:
        raise SonoError(
            f"{path}: the pseudonym key has {len(key)} bytes instead of {KEY_BYTES}; restore it "
            f"from a backup"
        )
    return key


def key_check(key: bytes) -> str:
    """A few digits that distinguish keys and reveal nothing about them.

    They may be stored in the workspace.
    """
    return pseudonym(key, "key check")[:8]


def pseudonym(key: bytes, *parts: str | bytes) -> str:
    """16 hexadecimal digits of HMAC-SHA256 over `parts`; ("a", "bc") and ("ab", "c") differ."""
    message = b"".join(len(raw).to_bytes(8, "big") + raw for raw in map(_as_bytes, parts))
    return hmac.new(key, message, sha256).hexdigest()[:16]


def shifted_date(key: bytes, day: date, *patient: str) -> date:
    """`day` moved by the patient's own 36,526 to 36,890 days, which keeps a patient's intervals.

    Neither a reader nor the privacy gate can mistake a shifted date for a real one (as in MIMIC).
    """
    return day + timedelta(
        days=CENTURY_DAYS + 1 + int(pseudonym(key, "days", *patient), 16) % YEAR_DAYS
    )


def _as_bytes(part: str | bytes) -> bytes:
    return part if isinstance(part, bytes) else part.encode("utf-8", "surrogateescape")
