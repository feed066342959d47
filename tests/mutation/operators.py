"""Mutations that mutmut does not know: of queries, of statements left out, of conditions turned round.

mutmut changes operators, numbers, strings and arguments. It leaves alone what this project's guarantees
hang on most: the conditions and the order of a query, a call made for its effect, the order sorting gives.
"""

from collections.abc import Callable, Iterable, Iterator
from typing import Any, Final

import libcst as cst
import libcst.matchers as m

from tests.mutation.sql_text import slips

_LEFT_OUT: Final = frozenset({"where", "with_for_update", "group_by", "distinct", "returning"})
"""Parts of a query that can be missing, and the query still be one."""

_OTHER_NAMES: Final = {
    "and_": "or_",
    "or_": "and_",
    "is_": "is_not",
    "is_not": "is_",
    "is_distinct_from": "is_not_distinct_from",
    "is_not_distinct_from": "is_distinct_from",
    "in_": "not_in",
    "not_in": "in_",
    "outerjoin": "join",
    "union_all": "union",
    "asc": "desc",
    "desc": "asc",
}


def query_part_left_out(call: cst.Call) -> Iterator[cst.BaseExpression]:
    """`query.where(x)` becomes `query`."""
    if isinstance(call.func, cst.Attribute) and call.func.attr.value in _LEFT_OUT:
        # What stood in brackets, to go over several lines, stays in them.
        rest = call.func.value
        yield rest.with_changes(lpar=[*call.lpar, *rest.lpar], rpar=[*rest.rpar, *call.rpar])


def query_turned_round(call: cst.Call) -> Iterator[cst.Call]:
    """`order_by(x, y)` becomes `order_by(x.desc(), y)`, and so on."""
    if not m.matches(call.func, m.Attribute(attr=m.Name("order_by"))):
        return
    for place, argument in enumerate(call.args):
        if m.matches(argument.value, m.Name() | m.Attribute()):
            descending = argument.with_changes(
                value=cst.Call(cst.Attribute(argument.value, cst.Name("desc")))
            )
            yield call.with_changes(args=[*call.args[:place], descending, *call.args[place + 1 :]])


def other_function(call: cst.Call) -> Iterator[cst.Call]:
    """`and_(...)` becomes `or_(...)`, `a.is_(b)` becomes `a.is_not(b)`, and so on."""
    if isinstance(call.func, cst.Name) and call.func.value in _OTHER_NAMES:
        yield call.with_changes(func=cst.Name(_OTHER_NAMES[call.func.value]))
    elif isinstance(call.func, cst.Attribute) and call.func.attr.value in _OTHER_NAMES:
        yield call.with_changes(
            func=call.func.with_changes(attr=cst.Name(_OTHER_NAMES[call.func.attr.value]))
        )


def unsorted(call: cst.Call) -> Iterator[cst.Call]:
    """`sorted(x, ...)` becomes `list(x)`, and so does `reversed(x)`."""
    if m.matches(call.func, m.Name("sorted") | m.Name("reversed")):
        everything = call.args[0].with_changes(comma=cst.MaybeSentinel.DEFAULT)
        yield call.with_changes(func=cst.Name("list"), args=[everything])


def effect_left_out(statement: cst.Expr) -> Iterator[cst.BaseSmallStatement]:
    """A call that stands for its effect alone becomes `pass`."""
    if m.matches(statement.value, m.Call() | m.Await(expression=m.Call())):
        yield cst.Pass()


def condition_turned_round(statement: cst.If) -> Iterator[cst.If]:
    """`if x:` becomes `if not x:`, unless it is a comparison, which has a mutation of its own."""
    test = statement.test
    if m.matches(test, m.Name() | m.Attribute() | m.Call() | m.NamedExpr()):
        opposite = cst.UnaryOperation(
            cst.Not(), test.with_changes(lpar=[cst.LeftParen()], rpar=[cst.RightParen()])
        )
        yield statement.with_changes(test=opposite)


def sql_text(string: cst.SimpleString | cst.FormattedString) -> Iterator[cst.BaseExpression]:
    """SQL in a string gets one thing wrong."""
    for changed in slips(cst.Module([]).code_for_node(string)):
        yield cst.parse_expression(changed)


OPERATORS: Final[list[tuple[type[cst.CSTNode], Callable[[Any], Iterable[cst.CSTNode]]]]] = [
    (cst.Call, query_part_left_out),
    (cst.Call, query_turned_round),
    (cst.Call, other_function),
    (cst.Call, unsorted),
    (cst.Expr, effect_left_out),
    (cst.If, condition_turned_round),
    (cst.SimpleString, sql_text),
    (cst.FormattedString, sql_text),
]
"""As mutmut wants them: the kind of node, and what it may become."""
