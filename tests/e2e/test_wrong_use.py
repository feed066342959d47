"""Wrong settings and wrong words: one clear line, nothing of a secret, and the right exit status.

One of each kind, as a process of its own; tests/integration/cli has the others.
"""

import pytest

from tests.e2e.world import World

pytestmark = pytest.mark.parametrize("dialect", ["sqlite"])


@pytest.mark.parametrize(
    ("settings", "named"),
    [
        ({"litellm_url": ""}, "QM_LITELLM_URL"),
        ({"database_url": "mysql://user:hidden@host/db"}, "QM_DATABASE_URL"),
    ],
)
async def test_a_wrong_setting_is_named_in_one_line(
    world: World, settings: dict[str, str], named: str, dialect: str
) -> None:
    said = await world.command("run", expect=1, **settings)
    assert named in said
    assert "hidden" not in said
    assert len(said.strip().splitlines()) == 1, said


async def test_wrong_use_exits_with_2(world: World, dialect: str) -> None:
    await world.command("credits", "add", "acme", expect=2)


async def test_what_is_absent_exits_with_1_and_one_line(world: World, dialect: str) -> None:
    said = await world.command("job", "show", "absent", "j", expect=1)
    assert len(said.strip().splitlines()) == 1, said


async def test_one_bad_line_and_nothing_is_published(world: World, dialect: str) -> None:
    good = b'{"type": "org.created", "data": {"org_id": "a", "name": "A", "owner_user_id": "o"}}\n'
    said = await world.command("publish", "-", expect=1, stdin=good + b'{"type": "org.created"}\n')
    assert "2" in said
    assert await world.records("org.created") == []
    await world.command("publish", "-", stdin=good)
    assert len(await world.records("org.created")) == 1
