"""`quartermaster keys show` and `keys rotate-encryption`: the virtual keys as stored."""

# ruff: noqa: D301 - click reads \b itself: the lines below it stay as they are

import contextlib
from collections.abc import Iterator
from typing import Final

import click
from sqlalchemy.ext.asyncio import AsyncConnection

from consumer.cli.arguments import Identifier, org_id_argument
from consumer.cli.command import CommandFailed, asynchronous, opened_database
from consumer.cli.output import json_option, print_facts, print_json, say
from consumer.settings import load_settings
from storage import organizations, virtual_keys
from storage.virtual_keys import KeyVault, UnreadableKey

_KEY_NAME: Final = "default"
_NEEDED: Final = frozenset({"key_encryption_key"})


@click.group("keys")
def keys_group() -> None:
    """Hand over a virtual key, or encrypt the stored ones anew."""


@keys_group.command("show")
@org_id_argument
@click.argument("user_id", metavar="[USER_ID]", type=Identifier(), required=False)
@json_option
@asynchronous
async def show(org_id: str, user_id: str | None, *, as_json: bool) -> None:
    """Print the key of USER_ID in organization ORG_ID; without USER_ID the owner's.

    The key is a secret: mind where the output goes. Needs QM_KEY_ENCRYPTION_KEY.

    \b
    Example:
      quartermaster keys show acme
      quartermaster keys show acme u-17 --json | jq -r .key
    """
    settings = load_settings(require=_NEEDED)
    vault = KeyVault(settings.fernet_keys)
    async with opened_database(settings) as database, database.reading() as tx:
        if user_id is None:
            profile = await organizations.profile(tx, org_id)
            if profile is None:
                raise CommandFailed(
                    f"there is no active organization {org_id!r}:"
                    " `quartermaster org list` shows all and their status"
                )
            user_id = profile.owner_user_id
        stored = await virtual_keys.live(tx, org_id, user_id, _KEY_NAME)
        if stored is None:
            raise CommandFailed(
                f"there is no key of user {user_id!r} in organization {org_id!r}:"
                " `quartermaster org show` names its users and what waits"
            )
        with _readable():
            key = vault.decrypt(stored.ciphertext)
    document = {"org_id": org_id, "user_id": user_id, "key": key, "hash": stored.key_hash}
    if as_json:
        print_json(document)
    else:
        print_facts([("organization", org_id), ("user", user_id), ("key", key), ("hash", stored.key_hash)])


@keys_group.command("rotate-encryption")
@json_option
@asynchronous
async def rotate_encryption(*, as_json: bool) -> None:
    """Encrypt every stored key anew under the first key of QM_KEY_ENCRYPTION_KEY.

    Put the new Fernet key first and the old one behind it, restart the instances, run this, and take the old
    one away. All keys or none: one that no Fernet key opens ends it with exit 1.

    \b
    Example:
      QM_KEY_ENCRYPTION_KEY=$NEW,$OLD quartermaster keys rotate-encryption
    """
    settings = load_settings(require=_NEEDED)
    vault = KeyVault(settings.fernet_keys)

    async def work(tx: AsyncConnection) -> int:
        return await virtual_keys.rotate(tx, vault)

    async with opened_database(settings) as database:
        with _readable():
            rotated = await database.run(work)
    if as_json:
        print_json({"rotated": rotated})
    else:
        say(f"{rotated} stored key(s) are encrypted under the first key of QM_KEY_ENCRYPTION_KEY now.")


@contextlib.contextmanager
def _readable() -> Iterator[None]:
    try:
        yield
    except UnreadableKey as error:
        raise CommandFailed(
            "QM_KEY_ENCRYPTION_KEY does not open every stored key: add, behind a comma, the one that does"
        ) from error
