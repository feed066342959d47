"""Virtual keys as values: made here before they are sent, so that a lost answer loses no key."""

from base64 import urlsafe_b64encode
from collections.abc import Callable
from hashlib import sha256
from typing import Final

from schemas.json_codec import dump_json

KEY_NAME: Final = "default"
"""The name of the one key that provisioning makes for a user in an organization."""

_KEY_BYTES: Final = 32


def new_key(token_bytes: Callable[[int], bytes]) -> str:
    """Make a key in LiteLLM's form with 256 bits of randomness.

    Args:
        token_bytes: Gives so many bytes that nobody can guess.
    """
    return "sk-" + urlsafe_b64encode(token_bytes(_KEY_BYTES)).rstrip(b"=").decode()


def key_hash(key: str) -> str:
    """Give LiteLLM's id of a key: SHA-256, in hexadecimal."""
    return sha256(key.encode()).hexdigest()


def key_alias(our_source: str, org_id: str, user_id: str, name: str, generation: int) -> str:
    """Give the alias of a key: opaque, unique over all organizations, and of a shape that LiteLLM takes.

    Free-form ids put side by side would collide ("a" + "b-c", "a-b" + "c"), and LiteLLM refuses some.
    """
    digest = sha256(dump_json([our_source, org_id, user_id, name])).hexdigest()[:32]
    return f"qm-{digest}-{generation}"


def email_digest(email: str) -> str:
    """Name an e-mail without telling it; LiteLLM compares e-mails without regard to case."""
    return sha256(email.casefold().encode()).hexdigest()
