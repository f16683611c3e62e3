"""The item index: entries come back as they were put, originals are found, memory is bounded."""

import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from models.echoes import (
    DELETED,
    ECHO,
    TEXT_ORIGINAL,
    URL_ORIGINAL,
    Entry,
    ItemIndex,
    key_of,
    pack_entry,
    unpack_entry,
)
from models.packed import id_bytes
from streams.ids import item_id_of, stable_id


def item(name: object) -> bytes:
    return id_bytes(item_id_of("test", str(name)))


def entry(text: str = "text", **more: object) -> Entry:
    values: dict[str, object] = {
        "text": key_of(text), "url": 0, "origin": 0, "topic": id_bytes(stable_id("topic")), "home": "term:a",
        "mentions": (), "first_s": 1_473_000_000, "tick": 1_473_000_100 * 32, "flags": TEXT_ORIGINAL, "similarity": 99,
        "engagement": (0, 0, 0, 0, 0),
    }  # fmt: skip
    return Entry(**(values | more))  # type: ignore[arg-type]


sums = st.one_of(
    st.tuples(st.integers(0, 2**18 - 1), st.integers(0, 2**13 - 1), st.just(0), st.just(0), st.just(0)),
    st.tuples(*[st.integers(-(2**53), 2**53)] * 5),
)
entries = st.builds(
    entry,
    text=st.sampled_from(["one", "two"]),
    topic=st.sampled_from([b"", id_bytes(stable_id("x")), id_bytes(stable_id("y"))]),
    home=st.sampled_from(["", "a", "b"]),
    mentions=st.sampled_from([(), ("a",), ("c", "d")]),
    first_s=st.integers(0, 2**32 - 1),
    tick=st.integers(0, 2**37 - 1),
    flags=st.sampled_from([0, DELETED, TEXT_ORIGINAL]),
    similarity=st.integers(0, 127),
    engagement=sums,
)


@given(st.lists(st.tuples(st.integers(0, 5), st.one_of(st.none(), entries)), max_size=30))
def test_an_entry_comes_back_as_it_was_put_and_goes_when_it_is_forgotten(steps: list[tuple[int, Entry | None]]) -> None:
    index, model = ItemIndex(), dict[int, Entry]()
    for name, put in steps:
        if put is not None:
            index.put(item(name), put)
            model[name] = put
        elif model.pop(name, None):
            index.forget(index.find(item(name)))
    assert len(index) == len(model)
    for name in range(6):
        row = index.find(item(name))
        assert (row >= 0) == (name in model)
        if row >= 0:
            assert index.entry(row) == model[name]
            assert index.id_at(row) == item(name)
    assert index.trends == len({n for e in model.values() for n in (e.home, *e.mentions) if n})
    assert len(index.topics) == len({e.topic for e in model.values() if e.topic})


records = st.lists(st.tuples(st.integers(0, 9), st.one_of(st.none(), entries)), max_size=60)


def look(index: ItemIndex) -> dict[str, object]:
    """All that an index answers, whatever rows and numbers it uses inside."""
    rows = {name: row for name in range(10) if (row := index.find(item(name))) >= 0}
    originals = {}
    for text in ("one", "two"):
        row = index.original(key_of(text), 0)
        originals[text] = index.id_at(row) if row >= 0 else None
    return {
        "items": {name: (index.entry(row), index.value(row)) for name, row in rows.items()},
        "known": (len(index), index.trends, len(index.topics)),
        "originals": originals,
        "old": [index.id_at(row) for row in index.older_than(2**31)],
    }


@settings(deadline=None)
@given(records, st.lists(st.integers(1, 20), max_size=8), st.integers(0, 4))
def test_an_index_read_by_the_batch_is_the_one_read_item_by_item(
    steps: list[tuple[int, Entry | None]], cuts: list[int], settled: int
) -> None:
    newest = dict(steps)  # of each text at most one original, as it is at the end of the log
    claimed: set[int] = set()
    for name, put in newest.items():
        if put is not None and put.has(TEXT_ORIGINAL) and put.text in claimed:
            newest[name] = None
        elif put is not None and put.has(TEXT_ORIGINAL):
            claimed.add(put.text)
    log = [(item(name), put and pack_entry(put)) for name, put in [*steps, *newest.items()]]
    batched, single = ItemIndex(), ItemIndex()
    batched.begin_restore()
    for number, size in enumerate([*cuts, len(log)]):
        part, log = log[:size], log[size:]
        batched.restore([key for key, _ in part], [value for _, value in part])
        if number == settled:
            batched.settle()
    batched.end_restore()
    for name, put in newest.items():
        if put is not None:
            single.put(item(name), put)
    assert look(batched) == look(single)
    for name in list(newest)[::2]:  # and both go on alike
        for index in (batched, single):
            if (row := index.find(item(name))) >= 0:
                index.forget(row)
            index.put(item(name + 1), entry("two", home="new", engagement=(1, 2, 3, 4, 5), flags=DELETED))
    assert look(batched) == look(single)


@settings(deadline=None)
@given(entries)
def test_an_entry_is_the_same_as_it_stands_in_the_state_stream(put: Entry) -> None:
    assert unpack_entry(pack_entry(put)) == put
    index = ItemIndex()
    index.put(item(1), put)
    assert index.value(index.find(item(1))) == pack_entry(put)


@pytest.mark.parametrize(
    "value", [b"", b"x" * 20, pack_entry(entry())[:-1], pack_entry(entry(engagement=(0, 0, 0, 9, 0)))[:60]]
)
def test_a_broken_value_is_refused_by_the_batch_and_alone(value: bytes) -> None:
    index = ItemIndex()
    index.begin_restore()
    with pytest.raises(ValueError, match="state stream"):
        index.restore([item(1)], [value])
    with pytest.raises(ValueError, match="state stream"):
        unpack_entry(value)


def test_names_that_are_used_no_more_make_room_while_state_is_read(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("models.echoes.MAX_NAMES", 40)
    index = ItemIndex()
    index.begin_restore()
    for i in range(100):
        index.restore([item(i % 5)], [pack_entry(entry(home=f"term:{i}"))])
    index.end_restore()
    assert [index.entry(index.find(item(i))).home for i in range(5)] == [f"term:{95 + i}" for i in range(5)]
    assert index.trends == 5


def test_the_first_item_of_a_text_or_url_is_the_original_until_it_is_forgotten() -> None:
    index = ItemIndex()
    index.put(item(1), entry("same", url=key_of("a.com/x"), flags=TEXT_ORIGINAL | URL_ORIGINAL))
    index.put(item(2), entry("same", url=key_of("a.com/x"), flags=TEXT_ORIGINAL | URL_ORIGINAL))
    assert index.original(key_of("same"), 0) == index.find(item(1))
    assert index.original(key_of("other"), key_of("a.com/x")) == index.find(item(1))
    assert index.entry(index.find(item(2))).flags == 0
    index.forget(index.find(item(1)))
    assert index.original(key_of("same"), key_of("a.com/x")) == -1
    assert index.original(0, 0) == -1


def test_an_echo_remembers_whom_it_copies() -> None:
    index = ItemIndex()
    index.put(item(1), entry())
    origin = int.from_bytes(item(1)[8:], "big")
    index.put(item(2), entry(origin=origin, flags=ECHO))
    assert index.id_of_origin(index.entry(index.find(item(2))).origin) == item(1)
    index.forget(index.find(item(1)))
    assert index.id_of_origin(origin) is None


def test_items_that_were_observed_long_ago_are_found_oldest_first() -> None:
    index = ItemIndex()
    for i in range(100):
        index.put(item(i), entry(str(i), tick=(1_000 + i) * 32))
    index.forget(index.find(item(0)))
    assert {index.id_at(row) for row in index.older_than(1_010)} == {item(i) for i in range(1, 10)}
    assert index.oldest(0.5) == pytest.approx(1_050, abs=2)


def test_an_item_takes_less_than_100_bytes_all_included() -> None:
    index, rng = ItemIndex(), random.Random(5)
    for i in range(30_000):
        more = {
            "url": key_of(f"a.com/{i}"),
            "flags": TEXT_ORIGINAL | URL_ORIGINAL,
            "topic": id_bytes(stable_id(str(i // 3))),
        }
        index.put(item(i), entry(str(i), engagement=(rng.randrange(999), 3, 0, 0, 0), **more))
    assert index.ROW_BYTES == 56
    assert index.nbytes / len(index) < 100


def test_rows_of_forgotten_items_are_used_again() -> None:
    index = ItemIndex()
    for i in range(5_000):
        index.put(item(i), entry(str(i), engagement=(i, 0, 0, 1, 0)))
        if i >= 100:
            index.forget(index.find(item(i - 100)))
    assert len(index) == 100
    assert index.nbytes < 40_000
