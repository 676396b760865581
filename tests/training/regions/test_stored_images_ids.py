"""Rows and a store's images meet by id, by file name, by name without an ending, or not at all: never by chance."""

import warnings
from typing import Any

import pytest

from training.regions.stored_images import check_missing, stored_ids


class Store(list):
    """As much of a region store as a look-up needs."""

    folder = "regions"

    @property
    def image_ids(self) -> list[str]:
        return list(self)


@pytest.mark.parametrize(
    ("image_id", "file", "held", "expected"),
    [
        ("42", "COCO_val2014_000000000042.jpg", ["42"], "42"),
        ("42", "val2014/COCO_val2014_000000000042.jpg", ["COCO_val2014_000000000042.jpg"], None),
        ("42", "val2014/COCO_val2014_000000000042.jpg", ["COCO_val2014_000000000042"], None),
        ("6", "photos/6.jpg", ["6.jpg", "6.png"], "6.jpg"),
        ("6", None, ["6.jpg"], "6.jpg"),
        ("6.jpg", None, ["6"], "6"),
        ("2", "1.jpg", ["1.jpg", "2.jpg"], "1.jpg"),  # the file tells more than the number
        ("2", "1.jpg", ["2.jpg"], ""),
        ("6", "6.jpg", ["6.png"], ""),  # another file
        ("6", None, ["16.jpg", "66", "6.7"], ""),
    ],
)
def test_an_image_is_found_by_id_then_file_then_name(
    image_id: str, file: str | None, held: list[str], expected: str | None
) -> None:
    expected = held[0] if expected is None else expected
    assert stored_ids([image_id], [file], store=Store(held)) == ({image_id: expected} if expected else {})


def test_names_that_fit_two_images_are_refused() -> None:
    with pytest.raises(
        ValueError, match=r"image '6' may be any of '6.jpg', '6.png' in the region store regions: extract"
    ):
        stored_ids(["6"], [None], store=Store(["6.jpg", "6.png"]))
    for ids in (["a", "b"], ["6.jpg", "b"]):
        with pytest.raises(ValueError, match=f"images '{ids[0]}' and 'b' both match '6.jpg'"):
            stored_ids(ids, ["x/6.jpg", "y/6.jpg"], store=Store(["6.jpg"]))


def test_rows_may_repeat_an_image() -> None:
    assert stored_ids(["6", "6", "7"], ["6.jpg", "6.jpg", None], store=Store(["6.jpg"])) == {"6": "6.jpg"}


def test_lost_images_are_told_once_or_refused() -> None:
    ids, store = [str(number) for number in range(10)], Store(["0.jpg"])

    def told(num_held: int, **options: Any) -> None:
        check_missing(ids, {one: one for one in ids[:num_held]}, store=store, **options)

    with warnings.catch_warnings():
        warnings.simplefilter("error")
        told(10, min_share=1.0)
        told(5, min_share=0.5, warns=False)
    with pytest.warns(UserWarning) as caught:
        told(5, min_share=0.5)
    assert [str(one.message) for one in caught] == [
        "5 of the 10 images have no regions in the store regions, such as '5', '6', '7', ...: they are left out"
    ]
    with pytest.raises(ValueError, match=r"6 of the 10 images .* '4', .* or lower regions.min_share, which is 0.5"):
        told(4, min_share=0.5)
    with pytest.raises(
        ValueError, match=r"none of the 10 images is in .* data are '0', '1', '2', ..., those of the store '0.jpg'"
    ):
        told(0, min_share=0.0)
