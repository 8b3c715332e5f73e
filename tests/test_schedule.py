"""List scheduling: small cases with a known answer, and bounds that hold for every graph."""

from __future__ import annotations

from itertools import pairwise

from hypothesis import given, settings
from hypothesis import strategies as st

from diversity_spectra.planning.schedule import longest_chain, schedule


def wall(needs: list, seconds: list, devices: int) -> float:
    return schedule(needs, seconds, ["cpu"] * len(needs), {"cpu": devices}).wall


def test_independent_steps_share_the_devices() -> None:
    assert [wall([[]] * 4, [3, 3, 3, 3], devices) for devices in (1, 2, 3, 4, 9)] == [12, 6, 6, 3, 3]


def test_a_chain_takes_as_long_on_any_number() -> None:
    needs = [[], [0], [1], []]
    assert wall(needs, [1, 2, 3, 4], 1) == 10
    assert wall(needs, [1, 2, 3, 4], 5) == 6
    assert longest_chain(needs, [1, 2, 3, 4]) == [0, 1, 2]
    assert longest_chain(needs, [1, 2, 3, 40]) == [3]


def test_pools_do_not_wait_for_each_other() -> None:
    made = schedule([[], [], [0, 1]], [5, 3, 1], ["gpu", "cpu", "gpu"], {"gpu": 1, "cpu": 1})
    assert made.wall == 6 and made.busy == {"gpu": 6, "cpu": 3}


@st.composite
def graphs(draw: st.DrawFn) -> tuple[list[list[int]], list[float]]:
    size = draw(st.integers(1, 12))
    needs = [draw(st.lists(st.integers(0, step - 1), max_size=3, unique=True)) if step else [] for step in range(size)]
    return needs, draw(st.lists(st.floats(0, 100), min_size=size, max_size=size))


@settings(max_examples=200, deadline=None)
@given(graphs(), st.integers(1, 5))
def test_wall_time_keeps_grahams_bounds(graph: tuple[list[list[int]], list[float]], devices: int) -> None:
    needs, seconds = graph
    chain = longest_chain(needs, seconds)
    assert all(before in needs[after] for before, after in pairwise(chain))
    longest, total = sum(seconds[step] for step in chain), sum(seconds)
    made = wall(needs, seconds, devices)
    assert max(longest, total / devices) <= made * (1 + 1e-9) + 1e-9
    assert made <= total / devices + longest * (1 - 1 / devices) + 1e-6
    assert abs(wall(needs, seconds, len(needs)) - longest) <= 1e-6
