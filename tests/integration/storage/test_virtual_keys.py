import asyncio
from dataclasses import replace
from typing import Any
from uuid import UUID

import pytest
from cryptography.fernet import Fernet
from sqlalchemy import text
from sqlalchemy.exc import IntegrityError
from sqlalchemy.ext.asyncio import AsyncConnection

from storage import virtual_keys
from storage.database import Database
from storage.virtual_keys import KeyState, KeyVault, NewKey, StoredKey, UnreadableKey
from tests.integration.storage.rows import NOON

OLD, NEW = Fernet.generate_key().decode(), Fernet.generate_key().decode()
VAULT = KeyVault([OLD])


def key(generation: int = 1, secret: str = "sk-secret", **given: Any) -> NewKey:
    made = NewKey(
        key_hash=f"hash-{secret}-{generation}",
        org_id="acme",
        user_id="u-1",
        name="default",
        generation=generation,
        alias=f"qm-{secret}-{generation}",
        ciphertext=VAULT.encrypt(secret),
        made_by=UUID(int=7),
        created_at=NOON,
    )
    return replace(made, **given)


async def test_a_key_is_decided_on_once(database: Database) -> None:
    candidates = [key(secret=f"sk-{number}") for number in range(8)]
    stood = await asyncio.gather(
        *(database.run(lambda tx, one=one: virtual_keys.intend(tx, one)) for one in candidates)  # type: ignore[misc]
    )
    assert len(set(stood)) == 1
    assert stood[0].state is KeyState.INTENDED
    assert stood[0].key_hash in {one.key_hash for one in candidates}


async def test_a_key_is_read_as_it_was_decided_on(tx: AsyncConnection) -> None:
    stored = await virtual_keys.intend(tx, key())
    assert isinstance(stored, StoredKey)
    assert VAULT.decrypt(stored.ciphertext) == "sk-secret"
    assert stored == await virtual_keys.by_hash(tx, stored.key_hash)
    assert stored == await virtual_keys.of_generation(tx, "acme", "u-1", "default", 1)
    assert await virtual_keys.by_hash(tx, "unknown") is None


async def test_an_alias_is_given_once_and_the_error_shows_no_value(database: Database) -> None:
    async with database.transaction() as tx:
        await virtual_keys.intend(tx, key())
    with pytest.raises(IntegrityError):
        async with database.transaction() as tx:
            await virtual_keys.intend(tx, key(user_id="u-2", key_hash="another", ciphertext=b"private"))


async def test_one_generation_is_live_at_a_time(database: Database) -> None:
    async with database.transaction() as tx:
        assert await virtual_keys.latest_generation(tx, "acme", "u-1", "default") == 0
        assert await virtual_keys.latest(tx, "acme", "u-1", "default") is None
        first = await virtual_keys.intend(tx, key(1))
        second = await virtual_keys.intend(tx, key(2))
        assert await virtual_keys.live(tx, "acme", "u-1", "default") is None
        await virtual_keys.mark(tx, first.key_hash, KeyState.LIVE)
        assert await virtual_keys.latest_generation(tx, "acme", "u-1", "default") == 2
        assert await virtual_keys.latest(tx, "acme", "u-1", "default") == second
    with pytest.raises(IntegrityError):
        async with database.transaction() as tx:
            await virtual_keys.mark(tx, second.key_hash, KeyState.LIVE)
    async with database.transaction() as tx:
        await virtual_keys.mark(tx, first.key_hash, KeyState.REMOVED)
        await virtual_keys.mark(tx, second.key_hash, KeyState.LIVE)
        assert await virtual_keys.live(tx, "acme", "u-1", "default") == replace(second, state=KeyState.LIVE)
        assert [one.state for one in await virtual_keys.of_org(tx, "acme")] == ["removed", "live"]


async def test_no_key_stands_in_the_database_in_clear(tx: AsyncConnection) -> None:
    await virtual_keys.intend(tx, key(secret="sk-very-secret", key_hash="h", alias="a"))
    row = (await tx.execute(text("SELECT * FROM virtual_keys"))).one()
    assert "sk-very-secret" not in repr(tuple(row))


async def test_every_key_is_encrypted_anew_under_the_first(database: Database) -> None:
    async with database.transaction() as tx:
        for number in range(30):
            await virtual_keys.intend(tx, key(secret=f"sk-{number}", user_id=f"u-{number}"))
    async with database.transaction() as tx:
        assert await virtual_keys.check_all_readable(tx, KeyVault([NEW])) == 30
        assert await virtual_keys.rotate(tx, KeyVault([NEW, OLD])) == 30
    async with database.transaction() as tx:
        assert await virtual_keys.check_all_readable(tx, KeyVault([NEW])) == 0
        stored = await virtual_keys.of_generation(tx, "acme", "u-7", "default", 1)
    assert stored is not None
    assert KeyVault([NEW]).decrypt(stored.ciphertext) == "sk-7"
    with pytest.raises(UnreadableKey):
        VAULT.decrypt(stored.ciphertext)


async def test_all_are_encrypted_anew_or_none(database: Database) -> None:
    async with database.transaction() as tx:
        await virtual_keys.intend(tx, key(secret="sk-1", user_id="u-1"))
        lost = KeyVault([Fernet.generate_key().decode()]).encrypt("sk-2")
        await virtual_keys.intend(tx, key(secret="sk-2", user_id="u-2", ciphertext=lost))
    with pytest.raises(UnreadableKey):
        await database.run(lambda tx: virtual_keys.rotate(tx, KeyVault([NEW, OLD])))
    async with database.reading() as tx:
        assert await virtual_keys.check_all_readable(tx, KeyVault([OLD])) == 1


@pytest.mark.parametrize("keys", [[], ["no-fernet-key"], [OLD, "secret-but-short"]])
def test_a_vault_wants_fernet_keys_and_does_not_repeat_them(keys: list[str]) -> None:
    with pytest.raises(ValueError, match="Fernet key") as caught:
        KeyVault(keys)
    assert "secret-but-short" not in str(caught.value)


def test_a_vault_shows_nothing() -> None:
    assert OLD not in repr(VAULT)
