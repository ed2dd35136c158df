"""The streams of pods: order, interruption, ends, static pods that come back."""

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import pytest

from kubette.kubelet.pod_workers import Phase, PodWorkers, SyncOutcome, Termination
from kubette.stdx.tasks import Scope

from .builders import pod


def named(uid: str, *, static: bool = False, deleted: bool = False, grace: int = 30) -> dict[str, Any]:
    made = pod(terminationGracePeriodSeconds=grace)
    made["metadata"] |= {"uid": uid, **({"annotations": {"kubernetes.io/config.source": "file"}} if static else {})}
    if deleted:
        made["metadata"] |= {"deletionTimestamp": "2026-01-01T00:00:00Z", "deletionGracePeriodSeconds": grace}
    return made


class Recording:
    """A syncer that notes its calls; events of it hold steps back."""

    def __init__(self) -> None:
        self.calls: list[str] = []
        self.outcome = SyncOutcome()
        self.hold: dict[str, asyncio.Event] = {}
        self.fail = 0

    async def _step(self, name: str) -> None:
        self.calls.append(name)
        if self.fail:
            self.fail -= 1
            raise RuntimeError("on purpose")
        if name in self.hold:
            try:
                await self.hold[name].wait()
            except asyncio.CancelledError:
                self.calls.append(f"{name} cancelled")
                raise

    async def sync_pod(self, a_pod: dict[str, Any]) -> SyncOutcome:
        await self._step(f"sync {a_pod['metadata']['uid']}")
        return self.outcome

    async def sync_terminating_pod(self, a_pod: dict[str, Any], termination: Termination) -> None:
        await self._step(f"terminating {a_pod['metadata']['uid']} {termination.grace_s}")

    async def sync_terminated_pod(self, a_pod: dict[str, Any], termination: Termination) -> None:
        await self._step(f"terminated {a_pod['metadata']['uid']}")


@pytest.fixture
async def stage() -> AsyncIterator[tuple[Recording, PodWorkers]]:
    syncer = Recording()
    async with Scope() as scope:
        yield syncer, PodWorkers(scope, syncer)


async def settle() -> None:
    for _ in range(30):
        await asyncio.sleep(0)


Stage = tuple[Recording, PodWorkers]


async def test_a_pod_is_synced_woken_and_ended_in_order(stage: Stage) -> None:
    syncer, workers = stage
    workers.update(named("a"))
    await settle()
    workers.wake("a")
    await settle()
    workers.update(named("a", deleted=True))
    await settle()
    assert syncer.calls == ["sync a", "sync a", "terminating a None", "terminated a"]
    assert workers.phase("a") is Phase.FINISHED
    workers.update(named("a", deleted=True))
    await settle()
    assert len(syncer.calls) == 4
    workers.remove(named("a"))
    assert not workers.knows("a")


async def test_a_pod_whose_containers_are_done_ends_by_itself(stage: Stage) -> None:
    syncer, workers = stage
    syncer.outcome = SyncOutcome(is_terminal=True)
    workers.update(named("a"))
    await settle()
    assert syncer.calls == ["sync a", "terminating a None", "terminated a"]


async def test_termination_interrupts_a_sync(stage: Stage) -> None:
    syncer, workers = stage
    syncer.hold["sync a"] = asyncio.Event()
    workers.update(named("a"))
    await settle()
    workers.remove(named("a"))
    await settle()
    assert syncer.calls == ["sync a", "sync a cancelled", "terminating a None", "terminated a"]
    assert not workers.knows("a")


async def test_a_shorter_grace_period_interrupts_a_termination_and_a_longer_does_not(stage: Stage) -> None:
    syncer, workers = stage
    syncer.hold["terminating a None"] = asyncio.Event()
    workers.update(named("a", deleted=True))
    await settle()
    workers.terminate("a", Termination(grace_s=60))
    await settle()
    assert syncer.calls == ["terminating a None"]
    workers.terminate("a", Termination(grace_s=5))
    await settle()
    assert "terminating a None cancelled" in syncer.calls
    assert workers.is_terminating("a")


async def test_pods_do_not_wait_for_each_other(stage: Stage) -> None:
    syncer, workers = stage
    syncer.hold["sync a"] = asyncio.Event()
    workers.update(named("a"))
    workers.update(named("b"))
    await settle()
    assert "sync b" in syncer.calls


async def test_a_changed_static_pod_waits_for_the_end_of_the_old_one(stage: Stage) -> None:
    syncer, workers = stage
    syncer.hold["terminating old None"] = asyncio.Event()
    workers.update(named("old", static=True))
    await settle()
    workers.remove(named("old", static=True))
    workers.update(named("new", static=True))
    await settle()
    assert "sync new" not in syncer.calls
    syncer.hold["terminating old None"].set()
    await settle()
    assert syncer.calls[-2:] == ["terminated old", "sync new"]


async def test_a_static_pod_put_back_while_it_ends_begins_again(stage: Stage) -> None:
    syncer, workers = stage
    syncer.hold["terminating a None"] = asyncio.Event()
    workers.update(named("a", static=True))
    await settle()
    workers.remove(named("a", static=True))
    await settle()
    workers.update(named("a", static=True))
    syncer.hold["terminating a None"].set()
    await settle()
    assert syncer.calls == ["sync a", "terminating a None", "terminated a", "sync a"]
    assert workers.phase("a") is Phase.SYNC


async def test_an_error_in_a_step_does_not_end_the_stream(stage: Stage) -> None:
    syncer, workers = stage
    syncer.fail = 1
    workers.update(named("a"))
    await settle()
    workers.wake("a")
    await settle()
    assert syncer.calls == ["sync a", "sync a"]
