"""Ids against the ULID specification (https://github.com/ulid/spec), with Python's own base 32 as the judge."""

from __future__ import annotations

import os
import time
from concurrent.futures import ThreadPoolExecutor
from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st

from bus.ids import id_of, is_id, made_ms, new_id

_DIGITS = str.maketrans("0123456789abcdefghjkmnpqrstvwxyz", "0123456789abcdefghijklmnopqrstuv")


def value_of(text: str) -> int:
    return int(text.translate(_DIGITS), 32)


@given(st.binary(min_size=16, max_size=16))
def test_an_id_is_128_bits_in_base_32(digest: bytes) -> None:
    text = id_of(digest)
    assert is_id(text)
    assert value_of(text) == int.from_bytes(digest, "big")
    assert made_ms(text) == int.from_bytes(digest[:6], "big")


def test_the_example_of_the_specification() -> None:
    example = "01arz3ndektsv4rrffq69g5fav"
    assert id_of(value_of(example).to_bytes(16, "big")) == example
    assert made_ms(example) == 1_469_922_850_259


def test_a_new_id_carries_its_time() -> None:
    before = time.time_ns() // 1_000_000
    made = made_ms(new_id())
    assert made is not None
    assert before <= made <= time.time_ns() // 1_000_000


def test_ids_of_one_process_go_up_also_within_a_millisecond() -> None:
    made = [new_id() for _ in range(20_000)]
    assert all(first < second for first, second in pairwise(made))
    assert len({made_ms(one) for one in made}) < len(made) / 2, "many share their millisecond"


def test_threads_make_no_id_twice() -> None:
    with ThreadPoolExecutor(8) as pool:
        made = list(pool.map(lambda _: [new_id() for _ in range(2_000)], range(8)))
    together = [one for each in made for one in each]
    assert len(set(together)) == len(together)
    assert all(each == sorted(each) for each in made)


def test_forked_processes_go_different_ways() -> None:
    """The same millisecond, the same last id: what follows must differ all the same."""
    reading, writing = os.pipe()
    last = new_id()
    if (child := os.fork()) == 0:
        os.write(writing, "".join(new_id() for _ in range(100)).encode())
        os._exit(0)
    mine = [new_id() for _ in range(100)]
    os.close(writing)
    with os.fdopen(reading) as told:
        text = told.read()
    os.waitpid(child, 0)
    others = [text[at : at + 26] for at in range(0, len(text), 26)]
    assert len(others) == len(mine) == 100
    assert not {last, *mine} & set(others)


def test_what_is_no_id_has_no_time() -> None:
    for text in (
        "",
        "01ARZ3NDEKTSV4RRFFQ69G5FAV",
        "01arz3ndektsv4rrffq69g5fa",
        "01arz3ndektsv4rrffq69g5fau",
        "01arz3ndektsv4rrffq69g5fav\n",
    ):
        assert not is_id(text)
        assert made_ms(text) is None
