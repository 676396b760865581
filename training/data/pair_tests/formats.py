"""Every pair test in its official layout, by name.

annotations + image folders --PAIR_TESTS[name]--> CaptionPairs | CaptionSquares | Statements
"""

from collections.abc import Callable

from training.data.pair_tests.foil import read_foil
from training.data.pair_tests.rows import PairTest
from training.data.pair_tests.sugarcrepe import read_sugarcrepe
from training.data.pair_tests.valse import read_valse
from training.data.pair_tests.vsr import read_vsr
from training.data.pair_tests.winoground import read_winoground

PAIR_TESTS: dict[str, Callable[..., PairTest]] = {
    "sugarcrepe": read_sugarcrepe,
    "winoground": read_winoground,
    "valse": read_valse,
    "foil": read_foil,
    "vsr": read_vsr,
}
