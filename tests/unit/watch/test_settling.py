"""A file is taken when it has stood still, once, and again when it has changed."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from appliance.watch.folder import Entry
from appliance.watch.settling import Settling

FILE = Entry(path="a.mp4", kind="file", size_bytes=1, mtime_ns=1, inode=1)


def test_a_file_that_stands_still_settles_once() -> None:
    settling = Settling(10.0)
    assert settling.seen([FILE], 0.0) == []
    assert settling.seen([FILE], 9.9) == []
    assert settling.seen([FILE], 10.0) == [FILE]
    assert settling.seen([FILE], 11.0) == [FILE], "until it is dealt with"
    settling.done(FILE)
    assert settling.seen([FILE], 30.0) == []


def test_each_change_starts_the_wait_anew() -> None:
    for change in ({"size_bytes": 2}, {"mtime_ns": 2}, {"inode": 2}):
        settling = Settling(10.0)
        settling.seen([FILE], 0.0)
        changed = replace(FILE, **change)
        assert settling.seen([changed], 9.0) == []
        assert settling.seen([changed], 18.9) == []
        assert settling.seen([changed], 19.0) == [changed]


def test_what_was_dealt_with_is_looked_at_again_when_it_changes() -> None:
    settling = Settling(0.0)
    assert settling.seen([FILE], 0.0) == [FILE]
    settling.done(FILE)
    assert settling.seen([FILE], 1.0) == []
    for changed in (replace(FILE, size_bytes=2), replace(FILE, readable=False)):
        assert settling.seen([changed], 2.0) == [changed]


def test_what_could_not_be_dealt_with_comes_back() -> None:
    settling = Settling(10.0)
    settling.seen([FILE], 0.0)
    assert settling.seen([FILE], 10.0) == [FILE]
    settling.wait(FILE, 70.0)
    assert settling.seen([FILE], 79.9) == []
    assert settling.seen([FILE], 80.0) == [FILE]


def test_what_never_comes_to_rest_is_tried_less_and_less_often() -> None:
    settling, now, tries = Settling(1.0), 0.0, 0
    settling.seen([FILE], now)
    while now < 3600.0:
        now += 1.0
        if settling.seen([FILE], now):
            tries += 1
            assert settling.again(FILE, now) == tries
    assert 8 <= tries <= 25, "an hour at no more than one try in five minutes, after the first few"
    changed = replace(FILE, size_bytes=2)
    settling.seen([changed], now)
    assert settling.seen([changed], now + 1.0) == [changed], "a change counts at once"
    settling.done(changed)
    assert settling.again(changed, now) == 1


def test_what_is_gone_is_forgotten() -> None:
    settling = Settling(10.0)
    settling.seen([FILE], 0.0)
    settling.seen([], 5.0)
    assert settling.seen([FILE], 11.0) == []
    assert settling.seen([FILE], 21.0) == [FILE]


@given(st.lists(st.tuples(st.integers(0, 3), st.floats(0, 30)), min_size=1, max_size=30))
def test_nothing_is_ever_offered_that_moved_within_the_wait(steps: list[tuple[int, float]]) -> None:
    """`steps`: the file's size at each look, and the seconds since the look before."""
    settling, now = Settling(10.0), 0.0
    still_since, size = 0.0, None
    for new_size, wait in steps:
        now += wait
        if new_size != size:
            size, still_since = new_size, now
        offered = settling.seen([replace(FILE, size_bytes=new_size)], now)
        assert bool(offered) == (now - still_since >= 10.0)
