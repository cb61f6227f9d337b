import math
from contextlib import suppress

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from storage import InputError
from storage.where import filter_rows, parse_where

ROW = {
    "method_name": "set",
    "method_density": 0.1,
    "seed": 2,
    "epochs": np.int64(20),
    "nesterov": True,
    "missing": None,
    "nan": math.nan,
    "nat": pd.NaT,
}


@pytest.mark.parametrize(
    ("text", "holds"),
    [
        ("method_name == 'set' and method_density < 0.2", True),
        ("method_name != 'set' or seed > 1", True),
        ("not seed == 2", False),
        ("0.05 < method_density <= 0.1 < 1", True),
        ("0.05 < method_density < 0.1", False),
        ("seed in (0, 1, 2)", True),
        ("seed not in [0, 1]", True),
        ("method_name in {'set', 'rigl'}", True),
        ("'se' in method_name", True),
        ("-1 < seed", True),
        ("2 == seed", True),
        ("seed == epochs", False),
        ("epochs >= 20", True),
        ("nesterov", True),
        ("not nesterov", False),
        ("nesterov == True and (seed < 3)", True),
        ("True", True),
        ("False or seed == 2", True),
        ("  seed\t== 2 ", True),
        ("seed == 'two'", False),
        # what is missing compares false, unless None asks for it
        ("missing < 1", False),
        ("missing == 1", False),
        ("missing != 1", False),
        ("missing in (1, 2)", False),
        ("missing not in (1, 2)", False),
        ("not missing < 1", True),
        ("missing == missing", False),
        ("missing", False),
        ("nan < 1 or nan >= 1 or nan != 1", False),
        ("nan == None and nat == None and missing == None", True),
        ("missing != None", False),
        ("None != seed", True),
        ("0 < missing < 1", False),
    ],
)
def test_conditions_hold_as_they_read(text, holds):
    assert parse_where(text)(ROW) is holds


@pytest.mark.parametrize(
    ("text", "quoted"),
    [
        ("__import__('os').system('id')", "`__import__('os').system('id')`"),
        ("seed == len('ab')", "`len('ab')`"),
        ("seed.real == 2", "`seed.real`"),
        ("seed[0] == 2", "`seed[0]`"),
        ("seed + 1 == 2", "`seed + 1`"),
        ("(lambda: 1) == 2", "`lambda: 1`"),
        ("[x for x in (1,)] == 2", "`[x for x in (1,)]`"),
        ("f'{seed}' == '2'", "`f'{seed}'`"),
        ("(y := 2) == seed", "`y := 2`"),
        ("seed in (1, epochs)", "`epochs`"),
        ("seed in ((1, 2), 3)", "`(1, 2)`"),
        ("seed == 1j", "`1j`"),
        ("seed == b'x'", "`b'x'`"),
        ("seed == ...", "`...`"),
        ("-'x' == seed", "`-'x'`"),
        ("-True == seed", "`-True`"),
        ("~seed == 2", "`~seed`"),
        ("seed is None", "`seed is None`: `is` is not allowed, use == or !="),
        ("1 if seed else 2", "`1 if seed else 2`"),
        ("'set'", "`'set'`"),
        ("seed if", "`seed if` cannot be read"),
        ("seed = 2", "cannot be read"),
        ("", "cannot be read"),
        ("seed == 2; import os", "cannot be read"),
        ("seed == '\0'", "cannot be read"),
        ("import os", "cannot be read"),
        ("1" * 5000 + " == seed", "5008 characters are too many"),
        ("(" * 300 + "seed" + ")" * 300, "`(((((" ),
    ],
)  # fmt: skip
def test_all_else_is_refused_and_quoted(text, quoted):
    with pytest.raises(InputError) as error:
        parse_where(text)(ROW)
    assert quoted in str(error.value)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("wrong", [None, 3, ["seed"]])
def test_what_is_no_text_is_refused(wrong):
    with pytest.raises(InputError, match="is no text"):
        parse_where(wrong)


def test_an_unknown_column_costs_one_line_with_the_nearest_first():
    with pytest.raises(InputError, match="no column method_densty: did you mean method_density"):
        parse_where("method_densty < 1")(ROW)
    table = pd.DataFrame({"seed": [1], "step": [0]})
    with pytest.raises(InputError, match="no column sed: did you mean seed"):
        filter_rows(table.iloc[:0], "sed == 1")


def test_values_that_have_no_order_are_refused_with_both_values():
    with pytest.raises(InputError, match="`method_name < 3`: 'set' and 3 cannot be compared so"):
        parse_where("method_name < 3")(ROW)
    with pytest.raises(InputError, match="seed is 2, not true or false: compare it"):
        parse_where("seed and nesterov")(ROW)
    with pytest.raises(InputError, match="cannot be compared so"):
        parse_where("1 in seed")(ROW)


def test_rows_of_a_table_are_filtered():
    table = pd.DataFrame(
        {"name": ["a", "b", None], "density": [0.1, np.nan, 0.3], "on": [True, False, True]}
    )
    assert filter_rows(table, "density > 0.05 and on").index.tolist() == [0, 2]
    assert filter_rows(table, "name == None").index.tolist() == [2]
    assert filter_rows(table, "density == None").index.tolist() == [1]
    assert filter_rows(table, "True").index.tolist() == [0, 1, 2]
    assert filter_rows(table, lambda row: row["name"] == "b").index.tolist() == [1]
    assert filter_rows(table.iloc[:0], "on").columns.tolist() == ["name", "density", "on"]


names = st.sampled_from(sorted(ROW))
literals = st.one_of(
    st.integers(-3, 25), st.floats(-1, 1, allow_nan=False).map(abs), st.sampled_from(["set", ""]),
    st.booleans(), st.none(),
).map(repr)  # fmt: skip
terms = names | literals | st.lists(literals, max_size=3).map(lambda xs: f"[{', '.join(xs)}]")
operators = st.sampled_from(["==", "!=", "<", "<=", ">", ">=", "in", "not in"])
comparisons = st.tuples(terms, operators, terms).map(" ".join) | st.tuples(
    terms, operators, terms, operators, terms
).map(" ".join)
conditions = st.recursive(
    comparisons | names,
    lambda inner: st.one_of(
        inner.map(lambda c: f"not ({c})"),
        st.tuples(inner, st.sampled_from([" and ", " or "]), inner).map(
            lambda p: f"({''.join(p)})"
        ),
    ),
)


@settings(max_examples=400, deadline=None)
@given(conditions)
def test_a_condition_without_missing_values_means_what_python_means(text):
    """Python itself, on rows that lack nothing, is the other way to get the answer."""
    row = {name: value for name, value in ROW.items() if value is not None and value == value}
    try:
        right = eval(text, {"__builtins__": {}}, {**row, "epochs": 20})  # our own text, in a test
    except (TypeError, NameError, SyntaxError):
        right = None
    try:
        answer = parse_where(text)(row)
    except InputError:
        return
    if right is not None and "None" not in text:
        assert answer is bool(right)


tokens = st.sampled_from(
    [*ROW, "(", ")", "[", "]", "{", "}", ",", ".", ":", ";", "=", "==", "<", "!=", "in", "not",
     "is", "and", "or", "if", "else", "lambda", "for", "await", "yield", "*", "**", "@", ":=",
     "1", "0x", "1e999", "1_0", "'", '"', "'''", "f'", "b'", "\\", "\n", "\t", "#", "None",
     "nan", "...", "\0", "\ufeff", "é", "٣", "print"]
)  # fmt: skip


@settings(max_examples=600, deadline=None)
@given(st.lists(tokens, max_size=25).map(" ".join) | st.text() | st.lists(tokens).map("".join))
def test_any_text_is_a_condition_or_wrong_input(text):
    with suppress(InputError):
        assert parse_where(text)(ROW) in (True, False)
