"""A short list in parts: whoever turns pages sees each item once, in order."""

from hypothesis import given
from hypothesis import strategies as st

from dit4c_p2p.portal.paging import part_of_items

PLACES = st.tuples(st.floats(-4e9, 4e9, allow_nan=False), st.text("ab\N{SNOWMAN}", max_size=3))


@given(st.sets(PLACES, max_size=12), st.integers(1, 5))
def test_each_once(items, limit):
    seen, cursor = [], ""
    while True:
        found, cursor = part_of_items(items, limit, cursor, place=lambda item: item)
        assert len(found) <= limit
        seen += found
        if not cursor:
            break
    assert seen == sorted(items)


def test_what_goes_away_meanwhile_leaves_no_gap():
    items = [(float(number), "") for number in range(6)]
    _, cursor = part_of_items(items, 3, "", place=lambda item: item)
    found, _ = part_of_items([items[0], *items[3:]], 3, cursor, place=lambda item: item)
    assert found == items[3:]
