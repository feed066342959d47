import pytest

cst = pytest.importorskip("libcst", reason="needs the extra `proof`")

from tests.mutation.operators import OPERATORS  # noqa: E402 - only where libcst is there


def mutations(code: str) -> set[str]:
    """Everything the operators make of a piece of code, one change at a time."""
    found = set()
    module = cst.parse_module(code)

    class Visit(cst.CSTVisitor):
        def on_visit(self, node: object) -> bool:
            for kind, operator in OPERATORS:
                if isinstance(node, kind):
                    for changed in operator(node):
                        mutated = module.deep_replace(node, changed).code
                        compile(mutated, "mutated", "exec")
                        found.add(mutated)
            return True

    module.visit(Visit())
    return found


@pytest.mark.parametrize(
    ("code", "expected"),
    [
        ("q = select(a).where(b).limit(c)", {"q = select(a).limit(c)"}),
        (
            "q = (\n    select(a)\n    .where(b)\n    .where(c)\n)",
            {"q = (\n    select(a)\n    .where(c)\n)", "q = (\n    select(a)\n    .where(b)\n)"},
        ),
        ("q = s.with_for_update()", {"q = s"}),
        (
            "q = s.order_by(t.c.a, b)",
            {"q = s.order_by(t.c.a.desc(), b)", "q = s.order_by(t.c.a, b.desc())"},
        ),
        ("x = and_(a, b)", {"x = or_(a, b)"}),
        ("x = a.is_(None)", {"x = a.is_not(None)"}),
        ("q = a.outerjoin(b)", {"q = a.join(b)"}),
        ("x = sorted(y, key=f)", {"x = list(y)"}),
        ("x = reversed(y)", {"x = list(y)"}),
        ("f(x)", {"pass"}),
        ("x = f(y)", set()),
        ("if x:\n    y = 1", {"if not (x):\n    y = 1"}),
        ("if x < 2:\n    y = 1", set()),
        (
            "x = 'SELECT a FROM t WHERE b < 1'",
            {"x = 'SELECT a FROM t WHERE b <= 1'", "x = 'SELECT a FROM t WHERE TRUE OR b < 1'"},
        ),
        (
            "x = f'SELECT {a} FROM t ORDER BY place'",
            {"x = f'SELECT {a} FROM t'", "x = f'SELECT {a} FROM t ORDER BY place DESC'"},
        ),
        ('x = f\' ON CONFLICT ("{k}") DO NOTHING RETURNING "{k}"\'', {"x = f' RETURNING \"{k}\"'"}),
    ],
)
def test_each_operator_makes_its_one_change(code: str, expected: set[str]) -> None:
    assert mutations(code) == expected


async def test_an_effect_awaited_can_be_left_out() -> None:
    code = "async def f():\n    await g()\n"

    assert mutations(code) == {"async def f():\n    pass\n"}
