import warnings
from contextlib import contextmanager
from threading import Thread

from nnunetv2_sam2_3dmed.images.quiet import without_warnings
from nnunetv2_sam2_3dmed.shared_context import SharedContext


def in_a_thread(*steps) -> None:
    for step in steps:
        thread = Thread(target=step)
        thread.start()
        thread.join()


def test_the_first_one_enters_and_the_last_one_leaves():
    done = []

    @contextmanager
    def noted():
        done.append("in")
        yield
        done.append("out")

    shared = SharedContext(noted)
    in_a_thread(shared.__enter__, shared.__enter__, lambda: shared.__exit__(None, None, None))
    assert done == ["in"]
    shared.__exit__(None, None, None)
    with shared:
        assert done == ["in", "out", "in"]
    assert done == ["in", "out"] * 2


def test_warnings_come_again_after_threads_that_overlap():
    before = list(warnings.filters)
    in_a_thread(
        without_warnings.__enter__, without_warnings.__enter__, lambda: without_warnings.__exit__(None, None, None)
    )
    assert warnings.filters[0][0] == "ignore"
    without_warnings.__exit__(None, None, None)
    assert warnings.filters == before
