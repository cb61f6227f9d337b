"""CIFAR's python batches: pickles, read without Python's unpickler.

A pickle is a program. This carries out the few instructions of which those files consist (Python 2
wrote them, protocol 2): dictionaries, lists, tuples, numbers, texts, and one array of bytes, made
by three names of numpy that only stand for themselves here. All else is refused, so that a
file runs nothing, whatever it holds.
"""

from __future__ import annotations

import pickletools
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

_NAMES = frozenset({"numpy.core.multiarray _reconstruct", "numpy ndarray", "numpy dtype"})
_MARK = object()


@dataclass
class _Made:
    """What one of numpy's names made of arguments, and the state that was given to it."""

    name: str
    arguments: tuple[Any, ...]
    state: Any = None


@dataclass(frozen=True)
class _Name:
    text: str


def read_batch(content: bytes) -> tuple[npt.NDArray[np.uint8], list[int]]:
    """The images (n, values) and the n labels of one batch.

    Raises ValueError, saying why, where the content is anything else.
    """
    batch = _loaded(content)
    if not isinstance(batch, dict):
        raise ValueError("holds no dictionary")
    for key in (b"data", b"labels"):
        if key not in batch:
            raise ValueError(f"holds no {key.decode()}")
    labels = batch[b"labels"]
    if not isinstance(labels, list) or not all(type(label) is int for label in labels):
        raise ValueError("its labels are no list of numbers")
    return _array(batch[b"data"]), labels


def _array(made: Any) -> npt.NDArray[np.uint8]:
    """The array that numpy would make of (version, shape, type, by columns, bytes)."""
    match made:
        case _Made(
            name="numpy.core.multiarray _reconstruct",
            state=(_, (int(n), int(size)), _Made(name="numpy dtype") as kind, False, bytes(values)),
        ) if kind.arguments[:1] == (b"u1",) and n > 0 and size > 0:
            if len(values) != n * size:
                raise ValueError(f"holds {len(values)} bytes for {n} x {size} values")
            return np.frombuffer(values, dtype=np.uint8).reshape(n, size)
    raise ValueError("its data is no array of bytes with two dimensions")


def _loaded(content: bytes) -> Any:
    """What such a pickle stands for."""
    stack: list[Any] = []
    memory: dict[Any, Any] = {}
    for opcode, argument, position in pickletools.genops(content):
        try:
            if opcode.name == "STOP":
                return stack.pop()
            if opcode.name in ("BINPUT", "LONG_BINPUT"):
                memory[argument] = stack[-1]
            elif opcode.name in ("BINGET", "LONG_BINGET"):
                stack.append(memory[argument])
            else:
                _carry_out(opcode.name, argument, stack)
        except (IndexError, KeyError, TypeError) as error:
            raise ValueError(f"damaged at byte {position}: {type(error).__name__}") from None
    raise ValueError("cut short")  # genops says so itself


def _carry_out(name: str, argument: Any, stack: list[Any]) -> None:
    """One instruction; IndexError or TypeError where the stack does not hold what it needs."""
    match name:
        case "PROTO":
            pass
        case "MARK":
            stack.append(_MARK)
        case "NONE":
            stack.append(None)
        case "NEWTRUE" | "NEWFALSE":
            stack.append(name == "NEWTRUE")
        case "BININT" | "BININT1" | "BININT2":
            stack.append(argument)
        case "BINSTRING" | "SHORT_BINSTRING":
            stack.append(argument.encode("latin-1"))
        case "EMPTY_DICT":
            stack.append({})
        case "EMPTY_LIST":
            stack.append([])
        case "EMPTY_TUPLE":
            stack.append(())
        case "TUPLE":
            stack.append(tuple(_to_mark(stack)))
        case "TUPLE1" | "TUPLE2" | "TUPLE3":
            values = [stack.pop() for _ in range(int(name[-1]))]
            stack.append(tuple(values[::-1]))
        case "APPEND":
            values = [stack.pop()]
            _top(stack, list).extend(values)
        case "APPENDS":
            values = _to_mark(stack)
            _top(stack, list).extend(values)
        case "SETITEM" | "SETITEMS":
            values = [stack.pop(), stack.pop()][::-1] if name == "SETITEM" else _to_mark(stack)
            if len(values) % 2 or not all(isinstance(key, bytes) for key in values[::2]):
                raise TypeError
            _top(stack, dict).update(zip(values[::2], values[1::2], strict=True))
        case "GLOBAL":
            if argument not in _NAMES:
                raise ValueError(f"asks for {str(argument)[:60]!r}, which no such file does")
            stack.append(_Name(argument))
        case "REDUCE":
            arguments = stack.pop()
            called = _top(stack, _Name)
            if not isinstance(arguments, tuple):
                raise TypeError
            stack[-1] = _Made(called.text, arguments)
        case "BUILD":
            state = stack.pop()
            _top(stack, _Made).state = state
        case _:
            raise ValueError(f"holds the instruction {name}, which no such file does")


def _top(stack: list[Any], kind: type[Any]) -> Any:
    """The value on top, which must be of a kind."""
    if type(stack[-1]) is not kind:
        raise TypeError
    return stack[-1]


def _to_mark(stack: list[Any]) -> list[Any]:
    """The values above the topmost mark, which are taken off with it."""
    values = []
    while (value := stack.pop()) is not _MARK:
        values.append(value)
    return values[::-1]
