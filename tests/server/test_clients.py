from __future__ import annotations

import gc

from tests.interactive.reference import phantom
from tests.server.many_clients import resident_bytes, run_clients

ROUNDS, INTERACTIONS = 3, 10


def test_three_clients_at_once(serve, beside):
    server = serve()
    used = []
    for number in range(ROUNDS):
        images = [phantom((3, 16, 18 + client))[:: (-1) ** number].copy() for client in range(3)]
        records = run_clients(server, images, INTERACTIONS)
        for record in records:
            assert record.error is None and len(record.masks) == INTERACTIONS
            assert any(mask.any() for mask in record.masks)
            assert record.wrong(beside) == 0
            assert record.heartbeats
        gc.collect()
        used.append(resident_bytes())
    assert used[-1] - used[0] < 30 * 2**20
    assert server.state.worker.run(lambda: server.state.sessions.open_sessions) == 0
