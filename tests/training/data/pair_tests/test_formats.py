"""The table of pair tests."""

from training.data.pair_tests.formats import PAIR_TESTS


def test_every_test_is_read_by_the_function_of_its_name() -> None:
    assert {f"read_{name}" for name in PAIR_TESTS} == {read.__name__ for read in PAIR_TESTS.values()}
    assert list(PAIR_TESTS) == ["sugarcrepe", "winoground", "valse", "foil", "vsr"]
