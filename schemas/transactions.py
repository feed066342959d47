"""Ids of ledger entries, derived from what they are for: made anywhere, an entry has the same id."""

from functools import lru_cache
from hashlib import sha1
from typing import Final
from uuid import NAMESPACE_URL, UUID, uuid5

from schemas.digests import uuid5_of
from schemas.json_codec import dump_json

_NAMESPACE_BYTES: Final = uuid5(NAMESPACE_URL, "urn:quartermaster:transactions").bytes


@lru_cache(maxsize=4096)  # a batch asks for the same job's more than once
def charge_id(org_id: str, job_id: str) -> UUID:
    """Name the one charge of a job; also the key by which everything about the job is found."""
    return _derive("charge", org_id, job_id)


def grant_id(org_id: str) -> UUID:
    """Name an organization's initial grant."""
    return _derive("grant", org_id)


def operator_entry_id(command_id: str) -> UUID:
    """Name the entry of an operator's command, by the command's id (unique over all organizations)."""
    return _derive("operator", command_id)


def _derive(*parts: str) -> UUID:
    # A JSON array keeps ("a", "b-c") and ("a-b", "c") apart.
    # uuid.uuid5 says the same more slowly: it takes text alone, and imports at every call.
    return uuid5_of(sha1(_NAMESPACE_BYTES + dump_json(parts), usedforsecurity=False).digest())
