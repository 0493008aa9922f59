"""Several official clients at once, each with its own image and prompts, recorded so that a session can repeat them."""

from __future__ import annotations

import random
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from nnunetv2_sam2_3dmed.interactive import InteractiveSession, PromptError
from nnunetv2_sam2_3dmed.server.interactions import Drawing, points_of_stroke
from tests.server.conftest import Served, begin, connect

Repeat = Callable[[InteractiveSession], None]


@dataclass
class Record:
    """Recording of one client.

    Attributes:
        image: that it segmented.
        masks: after each interaction.
        repeats: the interactions, for a session.
        heartbeats: seconds that each took.
        answers: seconds that each interaction took.
        error: of the client; None if all went well.
    """

    image: np.ndarray
    masks: list[np.ndarray] = field(default_factory=list)
    repeats: list[Repeat] = field(default_factory=list)
    heartbeats: list[float] = field(default_factory=list)
    answers: list[float] = field(default_factory=list)
    error: BaseException | None = None

    def wrong(self, session: InteractiveSession) -> int:
        """Number of voxels of all masks that differ from those of a session given the same prompts."""
        session.set_image(self.image, (3.0, 1.0, 1.0))
        different = 0
        for mask, repeat in zip(self.masks, self.repeats, strict=True):
            repeat(session)
            expected = session.mask() if session.object_ids else np.zeros_like(mask, bool)
            different += int((mask != expected).sum())
        return different


def run_client(server: Served, record: Record, interactions: int, seed: int) -> None:
    """Let a client add random prompts, take some back and begin anew, with heartbeats meanwhile."""
    chance = random.Random(seed)
    shape = record.image.shape
    try:
        with connect(server) as client:
            buffer = begin(client, record.image)
            ended = threading.Event()
            beating = threading.Thread(target=_beat, args=(client, record, ended))
            beating.start()
            try:
                for _ in range(interactions):
                    began = time.monotonic()
                    record.repeats.append(_interact(client, buffer, shape, chance))
                    record.answers.append(time.monotonic() - began)
                    record.masks.append(buffer != 0)
            finally:
                ended.set()
                beating.join()
    except BaseException as error:
        record.error = error


def run_clients(server: Served, images: list[np.ndarray], interactions: int) -> list[Record]:
    """Run a client for each image at the same time, each with so many interactions."""
    records = [Record(image) for image in images]
    threads = [
        threading.Thread(target=run_client, args=(server, record, interactions, seed))
        for seed, record in enumerate(records)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return records


def resident_bytes() -> int:
    """Memory of this process that is in use."""
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith("VmRSS:"):
            return int(line.split()[1]) * 1024
    raise AssertionError("no VmRSS")


def _beat(client, record: Record, ended: threading.Event) -> None:
    while not ended.wait(0.05):
        began = time.monotonic()
        client.heartbeat()
        record.heartbeats.append(time.monotonic() - began)


def _interact(client, buffer: np.ndarray, shape: tuple[int, ...], chance: random.Random) -> Repeat:
    """Make one interaction, and return what a session does instead."""
    index = chance.randrange(shape[0])
    kind = chance.choice(("point", "point", "box", "scribble", "lasso", "undo", "reset"))
    first, second = ([chance.randrange(1, length // 2) for length in shape[1:]] for _ in range(2))
    last = [a + b for a, b in zip(first, second, strict=True)]
    if kind == "undo":
        return _undone if client.undo() else _nothing
    if kind == "reset":
        client.reset_interactions()
        return lambda session: session.reset()
    if kind == "point":
        # outside only where there is something to be taken away
        positive = not buffer[index, last[0], last[1]]
        client.add_point_interaction([index, *last], positive)
        return lambda session: _tried(session, lambda: session.add_points([(index, *last)], int(positive)))
    if kind == "box":
        client.add_bbox_interaction([[index, index + 1], *([a, b + 1] for a, b in zip(first, last, strict=True))], True)
        return lambda session: _tried(session, lambda: session.add_box((index, *first), (index, *last)))
    plane = np.zeros(shape[1:], bool)
    plane[first[0] : last[0] + 1, first[1] : last[1] + 1] = True
    drawn = plane[None].astype(np.uint8)
    box = [[index, index + 1], [0, shape[1]], [0, shape[2]]]
    if kind == "scribble":
        client.add_scribble_interaction(drawn, True, interaction_bbox=box)
        points = points_of_stroke(Drawing(0, index, plane))
        return lambda session: _tried(session, lambda: session.add_points(points.tolist()))
    client.add_lasso_interaction(drawn, True, interaction_bbox=box)

    def joined(session: InteractiveSession) -> None:
        present = session.mask()[index] if session.object_ids else False
        _tried(session, lambda: session.add_mask(plane | present, index))

    return joined


def _nothing(_: InteractiveSession) -> None:
    pass


def _undone(session: InteractiveSession) -> None:
    session.undo()


def _tried(session: InteractiveSession, add: Callable[[], None]) -> None:
    """Add a prompt and propagate; where the session refuses it, nothing has changed."""
    try:
        add()
        session.predict_slice()
    except PromptError:
        return
    session.propagate()
