"""Leases: who may use the server, and for how long."""

from __future__ import annotations

import secrets
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Protocol


class LeaseGone(Exception):
    """The lease is missing, unknown, expired or released."""


class AtCapacity(Exception):
    """All leases are taken."""


class Holding(Protocol):
    """Resources that a lease holds, such as a session."""

    def close(self) -> None:
        """Give them back."""


class Lease:
    """One client's right to a session.

    Attributes:
        token: known to the client alone.
        idle_s: seconds without a call of its user after which it ends.
        alive_s: seconds without a sign of life after which it ends; None for clients that give none.
        holding: resources to be given back at its end; None before there are any.
        active: time of the latest call of its user.
        seen: time of the latest sign of life.
    """

    def __init__(self, idle_s: float, alive_s: float | None, now: float):
        self.token = secrets.token_hex(16)
        self.idle_s = idle_s
        self.alive_s = alive_s
        self.holding: Holding | None = None
        self.active = self.seen = now
        self.lock = threading.Lock()

    def expired(self, now: float) -> bool:
        """True if one of the two clocks has run out."""
        return now - self.active > self.idle_s or (self.alive_s is not None and now - self.seen > self.alive_s)


class Leases:
    """All leases of a server.

    Args:
        most: at a time.
        idle_s: see :class:`Lease`.
        alive_s: see :class:`Lease`.
        clock: seconds.
    """

    def __init__(self, most: int, idle_s: float, alive_s: float, clock: Callable[[], float] = time.monotonic):
        self.most = most
        self.idle_s = idle_s
        self.alive_s = alive_s
        self._clock = clock
        self._leases: dict[str, Lease] = {}
        self._lock = threading.Lock()

    def __len__(self) -> int:
        return len(self._leases)

    def claim(self, idle_s: float | None = None, heartbeats: bool = True) -> Lease:
        """Return a new lease.

        Args:
            idle_s: other than that of all leases.
            heartbeats: False for a client that sends none.

        Raises:
            AtCapacity: all are taken.
        """
        self.sweep()
        with self._lock:
            if len(self._leases) >= self.most:
                raise AtCapacity(
                    f"all {self.most} sessions of this server are in use: try again when one of them has ended (a page "
                    "counts for some minutes after it was closed), or start the server with more --sessions."
                )
            now = self._clock()
            lease = Lease(self.idle_s if idle_s is None else idle_s, self.alive_s if heartbeats else None, now)
            self._leases[lease.token] = lease
        return lease

    def heartbeat(self, token: str | None) -> float:
        """Note a sign of life, and return the seconds that are left until the user has been idle for too long.

        Raises:
            LeaseGone: there is no such lease.
        """
        lease = self._find(token)
        lease.seen = self._clock()
        return self._remaining(lease)

    def touch(self, token: str | None) -> None:
        """Note a call of its user, who may have the lease in use with another one.

        Raises:
            LeaseGone: there is no such lease.
        """
        lease = self._find(token)
        lease.active = lease.seen = self._clock()

    def remaining(self, token: str | None) -> float:
        """Seconds until the user has been idle for too long; touches no clock.

        Raises:
            LeaseGone: there is no such lease.
        """
        return self._remaining(self._find(token))

    @contextmanager
    def use(self, token: str | None) -> Iterator[Lease]:
        """Context in which a request has its lease to itself; it does not expire there.

        Raises:
            LeaseGone: there is no such lease, or it ended while the request waited for another one.
        """
        lease = self._find(token)
        with lease.lock:
            self._find(token)
            lease.active = lease.seen = self._clock()
            try:
                yield lease
            finally:
                lease.active = lease.seen = self._clock()

    def release(self, token: str | None) -> None:
        """End a lease after its running request; nothing happens if there is none."""
        lease = self._leases.get(token or "")
        if lease is not None:
            with lease.lock:
                self._drop(lease)

    def sweep(self) -> None:
        """End the leases whose clocks have run out, but none with a running request."""
        for lease in list(self._leases.values()):
            if lease.expired(self._clock()) and lease.lock.acquire(blocking=False):
                try:
                    if lease.expired(self._clock()):
                        self._drop(lease)
                finally:
                    lease.lock.release()

    def close(self) -> None:
        """End all leases."""
        for token in list(self._leases):
            self.release(token)

    def _find(self, token: str | None) -> Lease:
        lease = self._leases.get(token or "")
        # one whose clock has run out is gone, also before the sweep; a running request keeps it
        if lease is None or (lease.expired(self._clock()) and not lease.lock.locked()):
            raise LeaseGone("this session has ended or is not known to this server: connect again.")
        return lease

    def _remaining(self, lease: Lease) -> float:
        return max(0.0, lease.idle_s - (self._clock() - lease.active))

    def _drop(self, lease: Lease) -> None:
        with self._lock:
            self._leases.pop(lease.token, None)
        holding, lease.holding = lease.holding, None
        if holding is not None:
            holding.close()
