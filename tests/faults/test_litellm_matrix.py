"""Whatever breaks in a call to LiteLLM: one team, one membership, one key, and nothing left over.

On the stand-in every fault hits every endpoint. LiteLLM itself is slow: there every fifth such pair, or with
QM_TEST_MATRIX=whole all. `python -m tests.faults.matrix_run` breaks every call of every scenario.
"""

import ast
import inspect
import os
from collections import Counter
from collections.abc import AsyncIterator, Sequence
from pathlib import Path

import pytest

from consumer.litellm import client
from tests.faults.fault_proxy import PROBE, FaultProxy, Kind
from tests.faults.matrix import (
    ENDPOINTS,
    SCENARIOS,
    Cell,
    Lab,
    Scenario,
    every_call,
    every_endpoint,
    lasting_cells,
    pairs,
    run_cells,
    sites,
)
from tests.parts.choice import LITELLM
from tests.parts.litellm import Proxy

WHOLE = os.environ.get("QM_TEST_MATRIX") == "whole"
PART = 5 if LITELLM.is_real and not WHOLE else 1
PLACES = 8 if LITELLM.is_real else len(ENDPOINTS)
PAIRS = 10 if LITELLM.is_real and not WHOLE else 20
SEED = 20261121


@pytest.fixture
async def lab(litellm: Proxy, _sqlite_template: Path, tmp_path: Path) -> AsyncIterator[Lab]:
    timeout_s = 1.5 if LITELLM.is_real else 0.5
    async with (
        FaultProxy(*litellm) as faults,
        Lab(faults, _sqlite_template, tmp_path, places=PLACES, timeout_s=timeout_s) as lab,
    ):
        yield lab


async def prove(lab: Lab, cells: Sequence[Cell]) -> None:
    wrong = await run_cells(lab, cells)
    assert not wrong, "\n".join([f"{len(wrong)} of {len(cells)} cells ended wrong:", *wrong])


def called_by_the_client() -> set[str]:
    texts = {
        node.value
        for node in ast.walk(ast.parse(inspect.getsource(client)))
        if isinstance(node, ast.Constant) and isinstance(node.value, str)
    }
    return {text for text in texts if text.startswith("/") and " " not in text}


def test_the_matrix_knows_every_call_of_the_client() -> None:
    assert {*called_by_the_client(), PROBE} == set(ENDPOINTS)


def test_every_endpoint_meets_every_fault() -> None:
    wanted = {(endpoint, kind) for endpoint in ENDPOINTS for kind in Kind}
    assert {(site.endpoint) for site in sites()} == set(ENDPOINTS)
    for cells in (every_endpoint(), every_call()):
        faults = [fault for cell in cells for fault in cell.faults()]
        assert {(fault.endpoint, fault.kind) for fault in faults} == wanted
    assert len(every_endpoint()) == len(wanted)
    assert max(Counter(map(str, every_call())).values()) == 1


@pytest.mark.parametrize("scenario", SCENARIOS, ids=lambda scenario: scenario.name)
async def test_without_a_fault(lab: Lab, scenario: Scenario) -> None:
    await prove(lab, [Cell(scenario, list)])


@pytest.mark.proof
@pytest.mark.timeout(600)
@pytest.mark.parametrize("kind", Kind, ids=lambda kind: kind.name.lower())
async def test_guarantee_2_one_of_each_whatever_breaks(lab: Lab, kind: Kind) -> None:
    await prove(lab, [cell for cell in every_endpoint()[::PART] if cell.faults()[0].kind is kind])


@pytest.mark.proof
@pytest.mark.timeout(600)
@pytest.mark.parametrize("endpoint", ENDPOINTS)
async def test_guarantee_2_one_of_each_whatever_breaks_for_a_while(lab: Lab, endpoint: str) -> None:
    cells = [cell for cell in lasting_cells() if cell.faults()[0].endpoint == endpoint]
    turn = ENDPOINTS.index(endpoint) % len(cells)  # each endpoint meets another one
    await prove(lab, cells if WHOLE else cells[turn : turn + 1])


@pytest.mark.proof
@pytest.mark.timeout(600)
async def test_guarantee_2_one_of_each_whatever_breaks_twice(lab: Lab) -> None:
    await prove(lab, pairs(PAIRS, SEED))
