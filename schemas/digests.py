"""From digests to UUIDs: every id we derive ourselves.

The UUIDs are the PostgreSQL driver's, written in C: equal to the standard library's, hashed and
ordered alike, and a tenth of their cost, of which every event pays several.
"""

from typing import Final
from uuid import UUID

from asyncpg.pgproto import pgproto


def uuid_of(digest: bytes) -> UUID:
    """Take the first 16 bytes of a digest as they are: a name for what was digested, of no version."""
    return pgproto.UUID(digest[:16])


def uuid5_of(digest: bytes) -> UUID:
    """Take the first 16 bytes of a SHA-1 as a UUID of version 5 (RFC 9562, section 5.5)."""
    return pgproto.UUID(digest[:6] + _VERSION_5[digest[6]] + digest[7:8] + _VARIANT[digest[8]] + digest[9:16])


_VERSION_5: Final = [bytes([byte & 0x0F | 0x50]) for byte in range(256)]
_VARIANT: Final = [bytes([byte & 0x3F | 0x80]) for byte in range(256)]
