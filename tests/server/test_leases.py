from __future__ import annotations

import threading

import pytest

from nnunetv2_sam2_3dmed.server.leases import AtCapacity, LeaseGone, Leases


class Clock:
    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


class Held:
    def __init__(self) -> None:
        self.closed = 0

    def close(self) -> None:
        self.closed += 1


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def leases(clock) -> Leases:
    return Leases(2, 600, 60, clock)


def test_tokens_are_long_and_differ(leases):
    tokens = {leases.claim().token for _ in range(2)}
    assert len(tokens) == 2 and all(len(token) == 32 and int(token, 16) >= 0 for token in tokens)


def test_no_more_leases_than_allowed(leases):
    first = leases.claim()
    leases.claim()
    with pytest.raises(AtCapacity, match="all 2 sessions"):
        leases.claim()
    leases.release(first.token)
    leases.claim()


def test_a_client_that_gives_no_sign_of_life_loses_its_lease(leases, clock):
    lease = leases.claim()
    lease.holding = held = Held()
    clock.now += 60
    assert leases.heartbeat(lease.token) == 540
    clock.now += 61
    with pytest.raises(LeaseGone):
        leases.heartbeat(lease.token)
    assert not held.closed
    leases.sweep()
    leases.sweep()
    assert held.closed == 1 and len(leases) == 0


def test_heartbeats_do_not_make_up_for_a_user(leases, clock):
    lease = leases.claim()
    for _ in range(10):
        clock.now += 60
        assert leases.remaining(lease.token) == leases.heartbeat(lease.token)
    assert leases.remaining(lease.token) == 0
    clock.now += 1
    with pytest.raises(LeaseGone):
        leases.remaining(lease.token)


def test_calls_of_the_user_start_both_clocks_again(leases, clock):
    lease = leases.claim()
    for _ in range(20):
        clock.now += 59
        with leases.use(lease.token) as used:
            assert used is lease
    assert leases.remaining(lease.token) == 600


def test_asking_for_the_time_left_is_no_sign_of_life(leases, clock):
    lease = leases.claim()
    clock.now += 40
    assert leases.remaining(lease.token) == 560
    clock.now += 40
    with pytest.raises(LeaseGone):
        leases.remaining(lease.token)


def test_a_lease_without_heartbeats_has_one_clock(leases, clock):
    lease = leases.claim(idle_s=3600, heartbeats=False)
    clock.now += 3600
    assert leases.remaining(lease.token) == 0
    clock.now += 1
    with pytest.raises(LeaseGone):
        leases.remaining(lease.token)


def test_a_running_call_keeps_its_lease(leases, clock):
    lease = leases.claim()
    lease.holding = held = Held()
    with leases.use(lease.token):
        clock.now += 10_000
        leases.sweep()
        assert leases.heartbeat(lease.token) == 0
    assert not held.closed and leases.remaining(lease.token) == 600


def test_release_waits_for_the_running_call(leases):
    lease = leases.claim()
    lease.holding = held = Held()
    with leases.use(lease.token):
        releasing = threading.Thread(target=leases.release, args=(lease.token,))
        releasing.start()
        releasing.join(0.05)
        assert releasing.is_alive() and not held.closed
    releasing.join(60)
    assert held.closed == 1
    with pytest.raises(LeaseGone), leases.use(lease.token):
        pass
    leases.release(lease.token)  # gone already
    leases.release(None)


@pytest.mark.parametrize("token", [None, "", "0" * 32])
def test_unknown_tokens(leases, token):
    leases.claim()
    for call in (leases.heartbeat, leases.remaining):
        with pytest.raises(LeaseGone, match="connect again"):
            call(token)


def test_closing_gives_everything_back(leases):
    held = []
    for _ in range(2):
        held.append(Held())
        leases.claim().holding = held[-1]
    leases.close()
    assert [one.closed for one in held] == [1, 1] and len(leases) == 0
