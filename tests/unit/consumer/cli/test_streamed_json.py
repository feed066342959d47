"""Lists of any length, printed item by item, are the same documents."""

import asyncio
import json
from collections.abc import AsyncIterator
from typing import Any

import pytest

from consumer.cli.output import print_json, print_json_list, print_json_with_list

ITEMS: list[Any] = [{"a": 1, "b": [None, "x\u202e\n"]}, [], 7]


async def given(items: list[Any]) -> AsyncIterator[Any]:
    for item in items:
        yield item


@pytest.mark.parametrize("count", range(4))
def test_a_list_reads_as_if_printed_whole(capsys: pytest.CaptureFixture[str], count: int) -> None:
    print_json(ITEMS[:count])
    whole = capsys.readouterr().out
    asyncio.run(print_json_list(given(ITEMS[:count])))
    assert capsys.readouterr().out == whole


@pytest.mark.parametrize("count", range(4))
def test_a_document_that_ends_in_a_list_reads_as_if_printed_whole(
    capsys: pytest.CaptureFixture[str], count: int
) -> None:
    document = {"x": {"y": {}}, "waiting": ITEMS[:count]}
    print_json(document)
    whole = capsys.readouterr().out
    asyncio.run(print_json_with_list({"x": {"y": {}}}, "waiting", given(ITEMS[:count])))
    streamed = capsys.readouterr().out
    assert streamed == whole
    assert json.loads(streamed) == document
