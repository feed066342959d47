"""Virtual keys: decided on and kept, encrypted, before LiteLLM hears of them.

Guarantee: of one (organization, user, name, generation) there is one key, whoever asks first; at most one of
(organization, user, name) is live; no key stands anywhere in the database in clear.
"""

from collections.abc import AsyncIterator, Iterable
from dataclasses import astuple, dataclass, fields
from datetime import datetime
from enum import StrEnum
from functools import lru_cache
from typing import Any, Final
from uuid import UUID

from cryptography.fernet import Fernet, InvalidToken, MultiFernet
from sqlalchemy import Insert, Select, bindparam, func, select, update
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.exc import IntegrityError
from sqlalchemy.ext.asyncio import AsyncConnection

from storage.bulk import on_postgresql, update_rows
from storage.tables import virtual_keys

#: Stored keys read at a time where all are.
_PAGE: Final = 1_000


class UnreadableKey(Exception):  # noqa: N818 (says what is so)
    """None of the Fernet keys opens a stored virtual key."""


class KeyState(StrEnum):
    """Where a key stands."""

    INTENDED = "intended"  # decided on; LiteLLM may or may not have it
    LIVE = "live"
    REMOVED = "removed"


class KeyVault:
    """Encrypts and opens virtual keys.

    Args:
        fernet_keys: URL-safe base64 keys of 32 bytes; the first encrypts, all decrypt.

    Raises:
        ValueError: There is none, or one is no Fernet key; the message does not repeat it.
    """

    def __init__(self, fernet_keys: Iterable[str]) -> None:
        try:
            self._fernet = MultiFernet([Fernet(key) for key in fernet_keys])
        except ValueError:
            raise ValueError("at least one Fernet key is needed: 32 bytes in URL-safe base64") from None

    def __repr__(self) -> str:
        return "KeyVault()"

    def encrypt(self, key: str) -> bytes:
        """Encrypt a virtual key under the first Fernet key."""
        return self._fernet.encrypt(key.encode())

    def decrypt(self, ciphertext: bytes) -> str:
        """Open a stored key.

        Raises:
            UnreadableKey: None of the Fernet keys opens it.
        """
        try:
            return self._fernet.decrypt(ciphertext).decode()
        except InvalidToken:
            raise UnreadableKey("none of the Fernet keys opens a stored virtual key") from None

    def encrypt_anew(self, ciphertext: bytes) -> bytes:
        """Encrypt a stored key under the first Fernet key.

        Raises:
            UnreadableKey: None of the Fernet keys opens it.
        """
        return self.encrypt(self.decrypt(ciphertext))


@dataclass(frozen=True, slots=True)
class NewKey:
    """A key to be made. `made_by` is the identity of the event it is for, `key_hash` LiteLLM's hash of it."""

    key_hash: str
    org_id: str
    user_id: str
    name: str
    generation: int
    alias: str
    ciphertext: bytes
    made_by: UUID
    created_at: datetime


@dataclass(frozen=True, slots=True)
class StoredKey(NewKey):
    """A key as kept."""

    state: KeyState


_GIVEN = tuple(field.name for field in fields(NewKey))
_columns = [virtual_keys.c[field.name] for field in fields(StoredKey)]
_query = select(*_columns)
_OF_ORG: Final = _query.where(virtual_keys.c.org_id == bindparam("org_id")).order_by(
    virtual_keys.c.user_id, virtual_keys.c.name, virtual_keys.c.generation
)
_OF_USER: Final = _query.where(
    *(virtual_keys.c[name] == bindparam(name) for name in ("org_id", "user_id", "name"))
)
_LATEST: Final = _OF_USER.order_by(virtual_keys.c.generation.desc()).limit(1)


async def intend(tx: AsyncConnection, key: NewKey) -> StoredKey:
    """Decide on a key of this generation, once.

    Returns:
        The key that stands: this one, or the one that somebody decided on before.

    Raises:
        sqlalchemy.exc.IntegrityError: Another generation or user bears the same alias or hash.
    """
    values = dict(zip(_GIVEN, astuple(key), strict=True))
    try:
        made = await tx.execute(_intending(on_postgresql=on_postgresql(tx)), values)
    except IntegrityError as error:
        # A database's own message would show the values.
        raise IntegrityError(
            "the alias or hash of a virtual key is taken", None, error.orig or error
        ) from None
    if made.rowcount == 1:
        return StoredKey(**values, state=KeyState.INTENDED)
    standing = await of_generation(tx, key.org_id, key.user_id, key.name, key.generation)
    assert standing is not None
    return standing


@lru_cache(maxsize=2)
def _intending(*, on_postgresql: bool) -> Insert:
    insert = (postgresql if on_postgresql else sqlite).insert(virtual_keys)
    given = {name: bindparam(name, type_=virtual_keys.c[name].type) for name in _GIVEN}
    unique = [virtual_keys.c[name] for name in ("org_id", "user_id", "name", "generation")]
    intending: Insert = insert.values(**given, state=KeyState.INTENDED).on_conflict_do_nothing(
        index_elements=unique
    )
    return intending


async def of_generation(
    tx: AsyncConnection, org_id: str, user_id: str, name: str, generation: int
) -> StoredKey | None:
    """The key of one generation."""
    query = _OF_USER.where(virtual_keys.c.generation == generation)
    return await _one(tx, query, org_id=org_id, user_id=user_id, name=name)


async def live(tx: AsyncConnection, org_id: str, user_id: str, name: str) -> StoredKey | None:
    """The one key in use; None where there is none."""
    query = _OF_USER.where(virtual_keys.c.state == KeyState.LIVE)
    return await _one(tx, query, org_id=org_id, user_id=user_id, name=name)


async def latest(tx: AsyncConnection, org_id: str, user_id: str, name: str) -> StoredKey | None:
    """The key of the highest generation, in whatever state."""
    return await _one(tx, _LATEST, org_id=org_id, user_id=user_id, name=name)


async def latest_generation(tx: AsyncConnection, org_id: str, user_id: str, name: str) -> int:
    """The highest generation decided on; 0 where there is none."""
    columns = virtual_keys.c
    query = select(func.max(columns.generation)).where(
        columns.org_id == org_id, columns.user_id == user_id, columns.name == name
    )
    return await tx.scalar(query) or 0


async def by_hash(tx: AsyncConnection, key_hash: str) -> StoredKey | None:
    """A key by LiteLLM's hash of it."""
    return await _one(tx, _query.where(virtual_keys.c.key_hash == key_hash))


async def of_org(tx: AsyncConnection, org_id: str) -> list[StoredKey]:
    """Every key decided on for an organization, in whatever state."""
    return [_stored(row) for row in await tx.execute(_OF_ORG, {"org_id": org_id})]


async def mark(tx: AsyncConnection, key_hash: str, state: KeyState) -> None:
    """Note where a key stands.

    Raises:
        sqlalchemy.exc.IntegrityError: Another key of the same user and name is live.
    """
    await tx.execute(_MARK, {"of_key": key_hash, "state": state})


_MARK: Final = update(virtual_keys).where(virtual_keys.c.key_hash == bindparam("of_key"))


async def rotate(tx: AsyncConnection, vault: KeyVault) -> int:
    """Encrypt every stored key anew under the vault's first Fernet key: all of them, or none.

    Returns:
        How many there are.

    Raises:
        UnreadableKey: One of them opens with none of the vault's keys.
    """
    count = 0
    async for page in _pages(tx):
        await update_rows(
            tx,
            virtual_keys,
            ("key_hash", "ciphertext"),
            [(key_hash, vault.encrypt_anew(ciphertext)) for key_hash, ciphertext in page],
        )
        count += len(page)
    return count


async def check_all_readable(tx: AsyncConnection, vault: KeyVault) -> int:
    """How many stored keys open with none of the vault's keys."""
    unreadable = 0
    async for page in _pages(tx):
        for _, ciphertext in page:
            try:
                vault.decrypt(ciphertext)
            except UnreadableKey:
                unreadable += 1
    return unreadable


async def _pages(tx: AsyncConnection) -> AsyncIterator[list[tuple[str, bytes]]]:
    columns = virtual_keys.c
    after = ""
    while True:
        query = (
            select(columns.key_hash, columns.ciphertext)
            .where(columns.key_hash > after)
            .order_by(columns.key_hash)
            .limit(_PAGE)
        )
        page = [(key_hash, bytes(ciphertext)) for key_hash, ciphertext in await tx.execute(query)]
        if not page:
            return
        yield page
        after = page[-1][0]


async def _one(tx: AsyncConnection, query: Select[Any], **given: str) -> StoredKey | None:
    row = (await tx.execute(query, given)).one_or_none()
    return None if row is None else _stored(row)


def _stored(row: Any) -> StoredKey:
    return StoredKey(**{**row._asdict(), "state": KeyState(row.state)})
