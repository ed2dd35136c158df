"""Informers, controllers and leader election without a server: what they make of what they are told."""

import asyncio

import pytest

from kubette.client import resources
from kubette.client.controller import Controller, Result
from kubette.client.informer import Handler, Informer
from kubette.client.kubeconfig import ClientConfig
from kubette.client.leader_election import Config, Observation, next_spec
from kubette.client.rest import Client


def obj(name: str, version: str, uid: str = "") -> dict:
    return {"metadata": {"name": name, "namespace": "d", "resourceVersion": version, "uid": uid or name, "managedFields": [{}]}}


@pytest.fixture
async def informer() -> Informer:
    return Informer(Client(ClientConfig("http://127.0.0.1:1")), resources.PODS)


def recorded(informer: Informer) -> list[str]:
    told: list[str] = []
    informer.add_handler(
        Handler(
            lambda o: told.append(f"+{o['metadata']['name']}"),
            lambda old, new: told.append(f"~{new['metadata']['name']} {old['metadata']['resourceVersion']}>{new['metadata']['resourceVersion']}"),
            lambda o: told.append(f"-{o['metadata']['uid']}"),
        )
    )
    return told


async def test_a_list_then_events_are_told_in_order(informer: Informer) -> None:
    told = recorded(informer)
    assert not informer.has_synced
    informer.replace([obj("a", "1"), obj("b", "2")])
    assert informer.has_synced
    informer.apply("MODIFIED", obj("a", "3"))
    informer.apply("DELETED", obj("b", "4"))
    assert told == ["+a", "+b", "~a 1>3", "-b"]


async def test_a_relist_tells_only_differences_and_what_was_recreated_as_two(informer: Informer) -> None:
    informer.replace([obj("same", "1"), obj("gone", "2"), obj("again", "3", uid="old")])
    told = recorded(informer)
    told.clear()
    informer.replace([obj("same", "1"), obj("again", "9", uid="new")])
    assert told == ["-gone", "-old", "+again"]


async def test_a_late_handler_sees_what_is_cached_and_a_failing_one_disturbs_nobody(informer: Informer) -> None:
    informer.replace([obj("a", "1")])

    def fail(_: dict) -> None:
        raise RuntimeError("a bug")

    informer.add_handler(Handler(on_update=lambda *_: fail({})))
    told = recorded(informer)
    informer.apply("MODIFIED", obj("a", "2"))
    assert told == ["+a", "~a 1>2"]
    assert "managedFields" not in informer.list()[0]["metadata"]


async def test_a_controller_retries_what_fails_and_never_runs_a_key_twice_at_once() -> None:
    running: set[str] = set()
    calls: list[str] = []
    enough = asyncio.Event()

    async def reconcile(key: str) -> Result:
        assert key not in running
        running.add(key)
        calls.append(key)
        await asyncio.sleep(0)
        running.discard(key)
        if calls.count("bad") == 1 and key == "bad":
            raise ValueError("once")
        if calls.count("bad") == 2 and calls.count("again") >= 2:
            enough.set()
        return Result(0.001 if key == "again" else None)

    controller = Controller("test", reconcile)
    for key in ("bad", "again", "bad"):
        controller.enqueue_key(key)
    task = asyncio.ensure_future(controller.run())
    await asyncio.wait_for(enough.wait(), 5)
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
    assert controller.statistics()["error"] == 1


def test_a_lease_is_taken_only_when_its_holder_was_silent_on_our_own_clock() -> None:
    seen = Observation()
    seen.see({"holderIdentity": "other", "leaseDurationSeconds": 15, "renewTime": "1"}, now=100.0)
    assert not seen.may_take("me", now=114.9)
    seen.see({"holderIdentity": "other", "leaseDurationSeconds": 15, "renewTime": "2"}, now=110.0)
    assert not seen.may_take("me", now=124.9)
    assert seen.may_take("me", now=125.0)
    assert seen.may_take("other", now=111.0)
    seen.see({"holderIdentity": "", "leaseDurationSeconds": 1}, now=111.0)
    assert seen.may_take("me", now=111.0)


def test_transitions_count_changes_of_the_holder_and_renewals_keep_the_acquire_time() -> None:
    config = Config("kcm", "me")
    first = next_spec(None, config, wall=1000.0)
    assert first["leaseTransitions"] == 0
    renewed = next_spec(first, config, wall=1002.0)
    assert (renewed["leaseTransitions"], renewed["acquireTime"]) == (0, first["acquireTime"])
    assert renewed["renewTime"] != first["renewTime"]
    taken = next_spec(renewed, Config("kcm", "you"), wall=1020.0)
    assert (taken["leaseTransitions"], taken["holderIdentity"]) == (1, "you")
    with pytest.raises(ValueError, match="leaseDuration must be greater than renewDeadline"):
        Config("kcm", "me", lease_duration_s=5, renew_deadline_s=10).validate()
