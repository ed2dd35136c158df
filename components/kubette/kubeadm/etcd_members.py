"""etcd's membership as kubeadm handles it: a joining control plane becomes a learner, then a voter; a reset one is removed."""

import asyncio
from pathlib import Path

from kubette.client import resources
from kubette.client.rest import Client
from kubette.etcd_client.client import Client as EtcdClient
from kubette.etcd_client.errors import EtcdError
from kubette.kubeadm import timeouts
from kubette.kubeadm.phases import control_plane
from kubette.kubeadm.phases.context import Context, PhaseError

_ANNOTATION = "kubeadm.kubernetes.io/etcd.advertise-client-urls"
_PAUSE_S = 0.2
_HEALTH_TIMEOUT_S = 30.0
_ANSWER_TIMEOUT_S = 5.0


async def endpoints(client: Client) -> list[str]:
    """The client URLs of the members, read from their mirror Pods."""
    pods, _ = await client.list_all(resources.PODS, "kube-system", label_selector="component=etcd,tier=control-plane")
    urls = [pod["metadata"].get("annotations", {}).get(_ANNOTATION, "") for pod in pods]
    return sorted(filter(None, urls))


def connect(pki: Path, urls: list[str]) -> EtcdClient:
    """As the API server of this machine does it: with the apiserver-etcd-client certificate."""
    return EtcdClient(
        urls,
        ca_file=str(pki / "etcd/ca.crt"),
        cert_file=str(pki / "etcd/healthcheck-client.crt"),
        key_file=str(pki / "etcd/healthcheck-client.key"),
    )


async def check_health(pki: Path, client: Client, timeout_s: float = _HEALTH_TIMEOUT_S) -> None:
    """Every member answers: only then may one be restarted without a risk to the quorum. Raises TimeoutError that names the ones that do not."""
    loop = asyncio.get_running_loop()
    deadline = loop.time() + timeout_s
    while True:
        sick = await _sick(pki, await endpoints(client))
        if not sick:
            return
        if loop.time() > deadline:
            raise TimeoutError(f"etcd cluster is not healthy: {', '.join(sick)}")
        await asyncio.sleep(_PAUSE_S)


async def _sick(pki: Path, urls: list[str]) -> list[str]:
    """The members that do not answer, by etcd's own list of them: one that is away has no mirror Pod either."""
    if not urls:
        return ["no etcd Pod carries the annotation of its client URL"]
    sick: list[str] = []
    try:
        async with asyncio.timeout(_ANSWER_TIMEOUT_S), connect(pki, urls) as etcd:
            members = list((await etcd.member_list()).members)
    except (EtcdError, OSError, TimeoutError) as error:
        return [str(error) or "no answer"]
    for member in members:
        if not member.clientURLs:
            sick.append(f"{member.name or member.peerURLs[0]} (not started)")
            continue
        try:
            async with asyncio.timeout(_ANSWER_TIMEOUT_S), connect(pki, [member.clientURLs[0]]) as etcd:
                await etcd.status()
        except (EtcdError, OSError, TimeoutError) as error:
            sick.append(f"{member.name} at {member.clientURLs[0]} ({str(error) or 'no answer'})")
    return sick


async def join(context: Context, client: Client) -> None:
    """Add this machine as a learner, start its etcd, promote it once it has caught up. Raises PhaseError."""
    deadline = asyncio.get_running_loop().time() + context.timeouts["etcdAPICall"]
    address = context.local.advertise_address
    urls = [url for url in await endpoints(client) if address not in url]
    if not urls:
        raise PhaseError("etcd-join", "could not find any etcd endpoints: no etcd Pod carries the annotation of its client URL")
    peer_url = f"https://{address}:2380"
    async with connect(context.pki, urls) as etcd:
        member_id, members = await _add_learner(etcd, peer_url, context.local.node_name, deadline)
        context.say("[etcd] Announced new etcd member joining to the existing etcd cluster")
        control_plane.run_etcd(context, members)
        context.say(
            "[etcd] Waiting for the new etcd member to join the cluster. This can take up to " + timeouts.text(context.timeouts["etcdAPICall"])
        )
        await _promote(etcd, member_id, deadline)


async def _add_learner(etcd: EtcdClient, peer_url: str, name: str, deadline: float) -> tuple[int, dict[str, str]]:
    """(member id, initial cluster). A member that an interrupted join left behind is used again."""
    while True:
        listed = await etcd.member_list()
        members = list(listed.members)
        own = next((m for m in members if peer_url in m.peerURLs), None)
        if own is None:
            try:
                added = await etcd.member_add([peer_url], is_learner=True)
            except EtcdError as error:
                # One learner at a time: another machine may be joining at this moment.
                if asyncio.get_running_loop().time() > deadline:
                    raise PhaseError("etcd-join", f"error adding a learner member: {error}") from error
                await asyncio.sleep(_PAUSE_S)
                continue
            own, members = added.member, list(added.members)
        # A member that has not said its name yet counts all the same; peer URLs are what etcd compares.
        initial = {(name if m.ID == own.ID else m.name or f"{m.ID:x}"): m.peerURLs[0] for m in members}
        return own.ID, initial


async def _promote(etcd: EtcdClient, member_id: int, deadline: float) -> None:
    while True:
        listed = await etcd.member_list()
        own = next((m for m in listed.members if member_id == m.ID), None)
        if own is None:
            raise PhaseError("etcd-join", f"etcd member {member_id:x} was removed while it was joining")
        if not own.isLearner:
            return
        try:
            await etcd.member_promote(member_id)
            return
        except EtcdError as error:
            if asyncio.get_running_loop().time() > deadline:
                raise PhaseError("etcd-join", f"error promoting the learner {member_id:x}: {error}") from error
        await asyncio.sleep(_PAUSE_S)


async def leave(pki: Path, peer_address: str) -> None:
    """Remove this machine's member; the last one stays, because then the cluster ends with it."""
    async with connect(pki, ["https://127.0.0.1:2379"]) as etcd:
        listed = await etcd.member_list()
        own = next((m for m in listed.members if any(peer_address in url for url in m.peerURLs)), None)
        if own is not None and len(listed.members) > 1:
            await etcd.member_remove(own.ID)
