from __future__ import annotations

from shared.layer import LayerKey, Quality


def test_qualities_are_the_numbers_of_every_map_on_disk() -> None:
    assert {quality.name: int(quality) for quality in Quality} == {
        "MISSING": 0,
        "DISCARDED": 1,
        "PREVIEW": 2,
        "BOUNDED": 3,
        "EXACT": 4,
        "VERIFIED": 5,
    }


def test_only_of_what_is_proven_people_hear_more_than_a_bound() -> None:
    words = ["missing", "discarded", "preview", "bounded", "unproven", "verified"]
    assert [quality.word for quality in Quality] == words


def test_a_better_voxel_has_the_higher_quality() -> None:
    ordered = [Quality.MISSING, Quality.DISCARDED, Quality.PREVIEW, Quality.BOUNDED]
    assert sorted(Quality) == [*ordered, Quality.EXACT, Quality.VERIFIED]


def test_a_layer_says_what_it_is_of() -> None:
    assert str(LayerKey(1, "roi0", Quality.EXACT, 12)) == "series 1 roi0 EXACT block 12"


def test_keys_order_by_series_region_quality_and_block() -> None:
    keys = [
        LayerKey(0, "roi0", Quality.PREVIEW, 3),
        LayerKey(0, "roi0", Quality.EXACT, 0),
        LayerKey(0, "tissue", Quality.EXACT, 0),
        LayerKey(0, "tissue", Quality.EXACT, 1),
        LayerKey(1, "roi0", Quality.PREVIEW, 0),
    ]
    keys.reverse()
    assert sorted(keys) == keys[::-1]
