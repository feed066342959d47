"""Wrong settings and wrong words: one clear line, nothing of a secret, and the right exit status."""

import pytest

from tests.e2e.world import World

pytestmark = pytest.mark.parametrize("dialect", ["sqlite"])


@pytest.mark.parametrize(
    ("settings", "named"),
    [
        ({"litellm_url": ""}, "QM_LITELLM_URL"),
        ({"key_encryption_key": "not-a-key-hidden"}, "QM_KEY_ENCRYPTION_KEY"),
        ({"topic_dead_letters": "org.created", "topic_org_created": "org.created"}, "QM_TOPIC_DEAD_LETTERS"),
        ({"database_url": "mysql://user:hidden@host/db"}, "QM_DATABASE_URL"),
        ({"retry_for": "soon"}, "QM_RETRY_FOR"),
    ],
)
async def test_a_wrong_setting_is_named_in_one_line(
    world: World, settings: dict[str, str], named: str, dialect: str
) -> None:
    said = await world.command("run", expect=1, **settings)
    assert named in said
    assert "hidden" not in said
    assert len(said.strip().splitlines()) == 1, said


@pytest.mark.parametrize("command", [["nonsense"], ["credits", "add", "acme"], ["org", "show"]])
async def test_wrong_use_exits_with_2(world: World, command: list[str], dialect: str) -> None:
    await world.command(*command, expect=2)


@pytest.mark.parametrize(
    "command", [["org", "show", "absent"], ["job", "show", "absent", "j"], ["keys", "show", "absent"]]
)
async def test_what_is_absent_exits_with_1_and_one_line(
    world: World, command: list[str], dialect: str
) -> None:
    said = await world.command(*command, expect=1)
    assert len(said.strip().splitlines()) == 1, said


async def test_one_bad_line_and_nothing_is_published(world: World, dialect: str) -> None:
    good = b'{"type": "org.created", "data": {"org_id": "a", "name": "A", "owner_user_id": "o"}}\n'
    said = await world.command("publish", "-", expect=1, stdin=good + b'{"type": "org.created"}\n')
    assert "2" in said
    assert await world.records("org.created") == []
    await world.command("publish", "-", stdin=good)
    assert len(await world.records("org.created")) == 1
