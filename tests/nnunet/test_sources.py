"""Videos and sampling rates in dataset.json."""

import json

import pytest

from nnunetv2_sam2_3dmed.errors import UserError
from nnunetv2_sam2_3dmed.nnunet.sources import KEY, Source, Sources, sources_of

MERGED = Sources(pictures=True, merged=(Source("A", 1, False, ("a_1", "a_2")), Source("B", 3, True, ("b_1",))))


def test_a_dataset_of_nnunet_has_no_videos_and_draws_all_cases_alike():
    assert sources_of({"labels": {}}) == Sources()
    assert not Sources().is_video("x") and Sources().repeated(["x", "y"]) == ["x", "y"]


def test_cases_are_repeated_by_the_rate_of_their_source():
    assert MERGED.repeated(["a_1", "b_1", "later"]) == ["a_1", "b_1", "b_1", "b_1", "later"]
    assert [MERGED.is_video(case) for case in ("a_1", "b_1", "later")] == [False, True, False]


def test_what_is_noted_is_read():
    for sources in (MERGED, Sources(videos=True)):
        read = sources_of(json.loads(json.dumps({KEY: sources.noted()})))
        assert read.noted() == sources.noted() and read.videos == sources.videos


@pytest.mark.parametrize(
    "noted", [[], {"merged": [{"dataset": "A"}]}, {"merged": [{**MERGED.noted()["merged"][0], "rate": 0}]}]
)
def test_what_was_changed_is_refused(noted):
    with pytest.raises(UserError, match=f"under '{KEY}'"):
        sources_of({KEY: noted})
