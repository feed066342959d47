import hashlib
import re

from consumer.provisioning.keys import email_digest, key_alias, key_hash, new_key


def test_a_key_has_litellms_form_and_all_the_randomness() -> None:
    asked: list[int] = []

    def token_bytes(count: int) -> bytes:
        asked.append(count)
        return b"\xff\xfb" * (count // 2)

    key = new_key(token_bytes)
    assert asked == [32]
    assert re.fullmatch(r"sk-[A-Za-z0-9_-]{43}", key)
    assert key_hash(key) == hashlib.sha256(key.encode()).hexdigest()


def test_aliases_of_ids_that_look_alike_side_by_side_differ() -> None:
    aliases = {
        key_alias("/q", "a", "b-c", "default", 1),
        key_alias("/q", "a-b", "c", "default", 1),
        key_alias("/q", "a", "b-c", "default", 2),
        key_alias("/p", "a", "b-c", "default", 1),
        key_alias("/q", "..", " ", "default", 1),
    }
    assert len(aliases) == 5
    assert all(re.fullmatch(r"qm-[0-9a-f]{32}-[12]", alias) for alias in aliases)


def test_an_alias_stays_the_same_for_good() -> None:
    assert key_alias("/quartermaster", "org", "ann", "default", 1) == key_alias(
        "/quartermaster", "org", "ann", "default", 1
    )


def test_an_email_is_named_without_regard_to_case_and_without_telling_it() -> None:
    assert email_digest("Ann@B.C") == email_digest("ann@b.c") != email_digest("bob@b.c")
    assert "ann" not in email_digest("ann@b.c")
