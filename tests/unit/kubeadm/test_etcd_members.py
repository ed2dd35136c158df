"""Joining etcd: one learner at a time, and every member counts."""

import asyncio
from types import SimpleNamespace
from typing import Any, cast

import pytest

from kubette.etcd_client.client import Client
from kubette.etcd_client.errors import Code, EtcdError
from kubette.kubeadm import etcd_members
from kubette.kubeadm.phases.context import PhaseError


def member(number: int, name: str = "", learner: bool = False) -> Any:
    return SimpleNamespace(ID=number, name=name, peerURLs=[f"https://10.0.0.{number}:2380"], isLearner=learner)


class Etcd:
    """Refuses to add a learner `busy` times, as while another one is catching up."""

    def __init__(self, members: list[Any], busy: int = 0) -> None:
        self.members, self.busy = members, busy

    async def member_list(self) -> Any:
        return SimpleNamespace(members=self.members)

    async def member_add(self, urls: list[str], is_learner: bool) -> Any:
        assert is_learner
        if self.busy:
            self.busy -= 1
            raise EtcdError(Code.FAILED_PRECONDITION, "etcdserver: too many learner members in cluster", True)
        added = member(int(urls[0].split(".")[-1].split(":")[0]), learner=True)
        self.members.append(added)
        return SimpleNamespace(member=added, members=self.members)


def joined(etcd: Etcd, number: int, deadline: float = float("inf")) -> tuple[int, dict[str, str]]:
    client = cast(Client, etcd)
    return asyncio.run(etcd_members._add_learner(client, f"https://10.0.0.{number}:2380", f"cp{number}", deadline))


def test_a_member_that_has_not_said_its_name_is_in_the_initial_cluster() -> None:
    """Else etcd refuses to start: the member count is unequal."""
    assert joined(Etcd([member(1, "cp1"), member(26)]), 3) == (
        3,
        {"cp1": "https://10.0.0.1:2380", "1a": "https://10.0.0.26:2380", "cp3": "https://10.0.0.3:2380"},
    )


def test_a_second_learner_waits_for_the_first(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(etcd_members, "_PAUSE_S", 0.0)
    assert joined(Etcd([member(1, "cp1")], busy=3), 2)[0] == 2


def test_waiting_for_another_learner_ends() -> None:
    with pytest.raises(PhaseError, match="too many learner members"):
        joined(Etcd([member(1, "cp1")], busy=1), 2, deadline=0.0)


def test_what_an_interrupted_join_left_behind_is_used_again() -> None:
    etcd = Etcd([member(1, "cp1"), member(2, learner=True)])
    assert joined(etcd, 2)[0] == 2
    assert len(etcd.members) == 2
