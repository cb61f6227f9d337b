"""`where`: a small language of conditions on columns, such as `method_name == 'set' and seed < 3`.

It has names of columns, numbers, texts in quotes, True, False, None, lists of these, comparisons
(chained as in mathematics), `in`, `and`, `or` and `not`. Python's parser reads it, but nothing of
it is ever run as Python: whatever else the tree holds is refused.

A value that is missing, as the density of a dense network is, makes every comparison false, `!=`
and `not in` too; only `== None` and `!= None` ask for it. So `not method_density < 0.1` holds for
dense networks, and `method_density >= 0.1` does not.
"""

import ast
import difflib
import operator
import warnings
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from storage.errors import InputError

Row = Mapping[str, Any]

_ALLOWED = "names, numbers, texts in quotes, lists of these, comparisons, in, and, or, not"
_LONGEST = 2000  # characters; far beyond what a person writes

_OPERATORS: dict[type[ast.cmpop], Callable[[Any, Any], Any]] = {
    ast.Eq: operator.eq,
    ast.NotEq: operator.ne,
    ast.Lt: operator.lt,
    ast.LtE: operator.le,
    ast.Gt: operator.gt,
    ast.GtE: operator.ge,
    ast.In: lambda left, right: left in right,
    ast.NotIn: lambda left, right: left not in right,
}


@dataclass(frozen=True)
class Where:
    """A condition: call it with a row.

    Attributes:
        text: as it was written.
        names: the columns that it asks for.
    """

    text: str
    names: frozenset[str]
    _holds: Callable[[Row], bool]

    def __call__(self, row: Row) -> bool:
        """Whether the condition holds.

        Args:
            row: the columns by name.

        Raises:
            InputError: the row has no such column, or its value cannot be compared so.
        """
        try:
            return self._holds(row)
        except RecursionError:
            raise _too_deep(self.text) from None


def parse_where(text: str) -> Where:
    """Read a condition.

    Raises:
        InputError: it is not in the language; the message quotes what is not.
    """
    if not isinstance(text, str):
        raise InputError(f"where: {text!r:.80} is no text")
    if len(text) > _LONGEST:
        raise InputError(f"where: {len(text)} characters are too many, {_LONGEST} are allowed")
    source = text.strip()
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # the parser's advice to programmers
            tree = ast.parse(source, mode="eval")
        names = {node.id for node in ast.walk(tree) if isinstance(node, ast.Name)}
        return Where(source, frozenset(names), _condition(tree.body, source))
    except (SyntaxError, ValueError) as error:
        reason = getattr(error, "msg", None) or str(error)
        raise InputError(f"where: {_short(source)} cannot be read: {reason}") from None
    except (RecursionError, MemoryError):
        raise _too_deep(source) from None


def filter_rows(table: pd.DataFrame, where: str | Callable[[Row], bool]) -> pd.DataFrame:
    """The rows for which a condition holds.

    Raises:
        InputError: it asks for a column that is not there, or compares what cannot be compared.
    """
    condition = parse_where(where) if isinstance(where, str) else where
    names = list(table.columns)
    if isinstance(condition, Where):
        for name in sorted(condition.names):
            if name not in table.columns:
                raise _unknown(name, names)
        names = sorted(condition.names)
    columns = [table[name].tolist() for name in names]
    rows = zip(*columns, strict=True) if columns else ((),) * len(table)
    holds = [bool(condition(dict(zip(names, row, strict=True)))) for row in rows]
    return table[np.array(holds, dtype=np.bool_)]


def _condition(node: ast.expr, text: str) -> Callable[[Row], bool]:
    """What is true or false."""
    if isinstance(node, ast.BoolOp):
        conditions = [_condition(value, text) for value in node.values]
        every = all if isinstance(node.op, ast.And) else any
        return lambda row: every(condition(row) for condition in conditions)
    if isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.Not):
        negated = _condition(node.operand, text)
        return lambda row: not negated(row)
    if isinstance(node, ast.Compare):
        return _comparison(node, text)
    if isinstance(node, ast.Constant) and isinstance(node.value, bool):
        constant = node.value
        return lambda row: constant
    if isinstance(node, ast.Name):
        return _truth(node.id)
    raise _refused(node, text)


def _truth(name: str) -> Callable[[Row], bool]:
    """A column of its own: it must hold True and False."""

    def holds(row: Row) -> bool:
        value = _value(name, row)
        if value is not None and not isinstance(value, bool):
            raise InputError(f"where: {name} is {value!r:.80}, not true or false: compare it")
        return bool(value)

    return holds


def _comparison(node: ast.Compare, text: str) -> Callable[[Row], bool]:
    terms = [_term(term, text) for term in (node.left, *node.comparators)]
    operators = []
    for kind in node.ops:
        if type(kind) not in _OPERATORS:
            raise InputError(f"where: {_quoted(node, text)}: `is` is not allowed, use == or !=")
        operators.append(_OPERATORS[type(kind)])
    # Only a None that stands there asks for what is missing.
    asks_missing = [isinstance(term, ast.Constant) and term.value is None
                    for term in (node.left, *node.comparators)]  # fmt: skip

    def holds(row: Row) -> bool:
        values = [term(row) for term in terms]
        for number, compare in enumerate(operators):
            left, right = values[number], values[number + 1]
            asked = asks_missing[number] or asks_missing[number + 1]
            if (left is None or right is None) and not asked:
                return False
            try:
                if not bool(compare(left, right)):
                    return False
            except (TypeError, ValueError):
                both = f"{left!r:.80} and {right!r:.80}"
                raise InputError(
                    f"where: {_quoted(node, text)}: {both} cannot be compared so"
                ) from None
        return True

    return holds


def _term(node: ast.expr, text: str) -> Callable[[Row], Any]:
    """What can be compared: a column, a literal or a list of literals."""
    if isinstance(node, ast.Name):
        name = node.id
        return lambda row: _value(name, row)
    if isinstance(node, ast.List | ast.Tuple | ast.Set):
        literals = [_literal(element, text) for element in node.elts]
        return lambda row: literals
    literal = _literal(node, text)
    return lambda row: literal


def _literal(node: ast.expr, text: str) -> Any:
    if isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.USub | ast.UAdd):
        number = _literal(node.operand, text)
        if isinstance(number, int | float) and not isinstance(number, bool):
            return -number if isinstance(node.op, ast.USub) else number
    elif isinstance(node, ast.Constant) and isinstance(node.value, str | int | float | bool | None):
        return node.value
    raise _refused(node, text)


def _value(name: str, row: Row) -> Any:
    """A column's value, a plain Python one; None for what is missing."""
    try:
        value = row[name]
    except KeyError:
        raise _unknown(name, list(row)) from None
    if hasattr(value, "item"):
        value = value.item()
    return None if value is None or value is pd.NA or value is pd.NaT or value != value else value


def _unknown(name: str, columns: Collection[str]) -> InputError:
    near = difflib.get_close_matches(name, columns, n=3, cutoff=0.5)
    known = f"did you mean {' or '.join(near)}?" if near else ", ".join(sorted(columns)) or "none"
    return InputError(f"where: there is no column {name}: {known}")


def _refused(node: ast.expr, text: str) -> InputError:
    return InputError(f"where: {_quoted(node, text)} is not allowed: {_ALLOWED} are")


def _too_deep(text: str) -> InputError:
    return InputError(f"where: {_short(text)} is nested too deeply")


def _quoted(node: ast.expr, text: str) -> str:
    return _short(ast.get_source_segment(text, node) or text)


def _short(text: str) -> str:
    return f"`{text}`" if len(text) <= 80 else f"`{text[:77]}...`"
