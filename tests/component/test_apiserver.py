"""Two API servers over one real etcd, driven by the real kubectl and by plain HTTP."""

import asyncio
import io
import json
import os
import ssl
import subprocess
from collections.abc import AsyncIterator, Iterator
from typing import Any

import aiohttp
import pytest

from harness import apiserver, judges
from harness.apiserver import Server

pytestmark = [pytest.mark.slow, pytest.mark.needs("etcd", "etcdctl", "kubectl", "openssl")]

Object = dict[str, Any]


@pytest.fixture(scope="module")
def servers(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Server, Server]]:
    root = tmp_path_factory.mktemp("apiservers")
    with apiserver.running(root / "a") as first, apiserver.running(root / "b", ["--advertise-address=192.0.2.11"], etcd=first.etcd) as second:
        yield first, second


class Api:
    """One server, over HTTP."""

    def __init__(self, session: aiohttp.ClientSession, server: Server) -> None:
        self._session, self.url = session, server.url
        self._headers = {"Authorization": f"Bearer {server.token}"}

    async def __call__(self, method: str, path: str, body: Any = None, *, content_type: str = "application/json", **headers: str) -> tuple[int, Any]:
        sent = {**self._headers, **headers, **({"Content-Type": content_type} if body is not None else {})}
        data = io.BytesIO(json.dumps(body).encode()) if body is not None else None
        async with self._session.request(method, self.url + path, data=data, headers=sent) as response:
            return response.status, await response.json(content_type=None)

    async def watch(self, path: str) -> AsyncIterator[Object]:
        async with self._session.get(self.url + path, headers=self._headers) as response:
            async for line in response.content:
                yield json.loads(line)


@pytest.fixture
async def apis(servers: tuple[Server, Server]) -> AsyncIterator[tuple[Api, Api]]:
    context = ssl._create_unverified_context()
    async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(ssl=context, limit=0)) as session:
        yield Api(session, servers[0]), Api(session, servers[1])


def config_map(name: str, **data: str) -> Object:
    return {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": name}, "data": data}


MAPS = "/api/v1/namespaces/default/configmaps"


def kubectl(server: Server, *argv: str, text: str = "", check: bool = True) -> str:
    command = [judges.find("kubectl") or "kubectl", "--kubeconfig", str(server.kubeconfig), *argv]
    done = subprocess.run(command, input=text, capture_output=True, text=True, timeout=60, check=False)
    assert not check or done.returncode == 0, done.stderr
    return done.stdout + done.stderr


def test_kubectl_creates_scales_and_deletes_a_deployment(servers: tuple[Server, Server]) -> None:
    first, second = servers
    assert "deployment.apps/web created" in kubectl(first, "create", "deployment", "web", "--image=nginx", "--replicas=3")
    assert "scaled" in kubectl(second, "scale", "deployment", "web", "--replicas=5")
    assert "0/5" in kubectl(first, "get", "deployments")
    assert "nginx" in kubectl(second, "get", "deployments", "-o", "wide")
    assert "web exposed" in kubectl(first, "expose", "deployment", "web", "--port=80")
    assert kubectl(second, "get", "service", "web", "-o", "jsonpath={.spec.clusterIP}").startswith("10.")
    assert "5 desired" in kubectl(first, "describe", "deployment", "web")
    assert '"web" deleted' in kubectl(second, "delete", "deployment,service", "web")
    assert "NotFound" in kubectl(first, "get", "deployment", "web", check=False)


def test_kubectl_apply_says_created_configured_unchanged(servers: tuple[Server, Server]) -> None:
    first, _ = servers
    for data, word in (("1", "created"), ("1", "unchanged"), ("2", "configured")):
        text = json.dumps(config_map("applied", k=data))
        assert f"configmap/applied {word}" in kubectl(first, "apply", "-f", "-", text=text)
    assert "conflict with" in kubectl(
        first, "apply", "--server-side", "--field-manager=x", "-f", "-", text=json.dumps(config_map("applied", k="3")), check=False
    )
    assert "STRING" in kubectl(first, "explain", "configmap.data").upper()


def test_every_address_is_behind_the_kubernetes_service(servers: tuple[Server, Server]) -> None:
    found = json.loads(kubectl(servers[0], "get", "endpoints", "kubernetes", "-o", "json"))
    assert [one["ip"] for one in found["subsets"][0]["addresses"]] == ["192.0.2.10", "192.0.2.11"]


async def test_no_update_is_lost(apis: tuple[Api, Api]) -> None:
    """INV-A1: a counter in a ConfigMap, incremented by read-modify-write through both servers."""
    assert (await apis[0]("POST", MAPS, config_map("counter", n="0")))[0] == 201

    async def client(number: int) -> int:
        done = 0
        while done < 10:
            api = apis[number % 2]
            _, found = await api("GET", f"{MAPS}/counter")
            found["data"]["n"] = str(int(found["data"]["n"]) + 1)
            code, answer = await api("PUT", f"{MAPS}/counter", found)
            assert code == 200 or (code == 409 and answer["reason"] == "Conflict"), answer
            done += code == 200
        return done

    total = sum(await asyncio.gather(*(client(number) for number in range(6))))
    _, found = await apis[1]("GET", f"{MAPS}/counter")
    assert int(found["data"]["n"]) == total


async def test_one_name_is_created_once(apis: tuple[Api, Api]) -> None:
    """INV-A2."""
    answers = await asyncio.gather(*(apis[number % 2]("POST", MAPS, config_map("once")) for number in range(12)))
    assert sorted(code for code, _ in answers) == [201] + [409] * 11
    assert {body.get("reason") for code, body in answers if code == 409} == {"AlreadyExists"}


async def test_a_list_shows_every_write_acknowledged_before_it(apis: tuple[Api, Api]) -> None:
    """INV-A3: written through one server, listed at once through the other."""
    for number in range(50):
        code, made = await apis[number % 2]("POST", MAPS, config_map(f"seen-{number}"))
        assert code == 201
        _, listed = await apis[(number + 1) % 2]("GET", MAPS)
        assert made["metadata"]["name"] in {one["metadata"]["name"] for one in listed["items"]}
        assert int(listed["metadata"]["resourceVersion"]) >= int(made["metadata"]["resourceVersion"])


async def test_a_list_and_its_watch_give_the_later_list(apis: tuple[Api, Api]) -> None:
    """INV-A5, with a selector that objects enter and leave."""
    first, second = apis
    query = "labelSelector=watched%3Dyes"
    _, before = await first("GET", f"{MAPS}?{query}")
    seen = {one["metadata"]["name"]: one for one in before["items"]}
    events = second.watch(f"{MAPS}?watch=1&{query}&resourceVersion={before['metadata']['resourceVersion']}&timeoutSeconds=20")
    for number in range(6):
        await first("POST", MAPS, {**config_map(f"w{number}"), "metadata": {"name": f"w{number}", "labels": {"watched": "yes"}}})
    for number, patch in ((0, {"data": {"k": "v"}}), (1, {"metadata": {"labels": {"watched": "no"}}})):
        await first("PATCH", f"{MAPS}/w{number}", patch, content_type="application/merge-patch+json")
    await second("DELETE", f"{MAPS}/w2")
    await first("POST", MAPS, {**config_map("last"), "metadata": {"name": "last", "labels": {"watched": "yes"}}})
    types = []
    async for event in events:
        name = event["object"]["metadata"]["name"]
        types.append((event["type"], name))
        if event["type"] == "DELETED":
            del seen[name]
        else:
            seen[name] = event["object"]
        if name == "last":
            break
    _, after = await second("GET", f"{MAPS}?{query}")
    assert seen == {one["metadata"]["name"]: one for one in after["items"]}
    assert ("DELETED", "w1") in types  # it left the selection
    assert ("MODIFIED", "w0") in types


async def test_a_watch_list_ends_its_initial_events_with_a_bookmark(apis: tuple[Api, Api]) -> None:
    await apis[0]("POST", MAPS, config_map("initial"))
    query = "watch=1&sendInitialEvents=true&resourceVersionMatch=NotOlderThan&allowWatchBookmarks=true&timeoutSeconds=10"
    names = []
    async for event in apis[1].watch(f"{MAPS}?{query}"):
        if event["type"] == "BOOKMARK":
            assert event["object"]["metadata"]["annotations"] == {"k8s.io/initial-events-end": "true"}
            break
        names.append(event["object"]["metadata"]["name"])
    assert "initial" in names


async def test_pages_are_one_moment_of_the_collection(apis: tuple[Api, Api]) -> None:
    base = "/api/v1/namespaces/kube-public/configmaps"
    for number in range(7):
        await apis[0]("POST", base, config_map(f"page-{number}"))
    code, page = await apis[0]("GET", f"{base}?limit=3")
    assert (code, len(page["items"])) == (200, 3)
    assert page["metadata"]["remainingItemCount"] >= 4
    await apis[1]("POST", base, config_map("page-later"))
    await apis[1]("DELETE", f"{base}/page-6")
    names = [one["metadata"]["name"] for one in page["items"]]
    while token := page["metadata"].get("continue"):
        _, page = await apis[0]("GET", f"{base}?limit=3&continue={token}")
        names += [one["metadata"]["name"] for one in page["items"]]
    assert [name for name in names if name.startswith("page-")] == [f"page-{number}" for number in range(7)]


def compact(etcd: str, revision: int) -> None:
    command = ["etcdctl", "--endpoints", etcd, "compact", str(revision)]
    subprocess.run(command, check=True, capture_output=True, env={**os.environ, "ETCDCTL_API": "3"})


async def test_what_is_too_old_is_expired_and_what_is_too_new_is_told_to_wait(apis: tuple[Api, Api], servers: tuple[Server, Server]) -> None:
    code, answer = await apis[0]("GET", f"{MAPS}?resourceVersion=999999999&resourceVersionMatch=NotOlderThan")
    assert (code, answer["details"]["causes"][0]["reason"]) == (504, "ResourceVersionTooLarge")
    _, made = await apis[0]("POST", MAPS, config_map("compacted"))
    revision = int(made["metadata"]["resourceVersion"])
    await apis[0]("POST", MAPS, config_map("compacted-2"))
    await asyncio.to_thread(compact, servers[0].etcd, revision)
    code, answer = await apis[0]("GET", f"{MAPS}?resourceVersion={revision - 1}&resourceVersionMatch=Exact")
    assert (code, answer["reason"]) == (410, "Expired")
    async for event in apis[0].watch(f"{MAPS}?watch=1&resourceVersion=1&timeoutSeconds=5"):
        assert (event["type"], event["object"]["code"]) == ("ERROR", 410)
        break


async def test_a_dry_run_writes_nothing(apis: tuple[Api, Api]) -> None:
    code, answer = await apis[0]("POST", f"{MAPS}?dryRun=All", config_map("dry"))
    assert (code, answer["metadata"]["name"]) == (201, "dry")
    assert (await apis[0]("GET", f"{MAPS}/dry"))[0] == 404


async def test_unknown_fields_are_refused_or_warned_about(apis: tuple[Api, Api]) -> None:
    body = {**config_map("strict"), "nonsense": 1}
    code, answer = await apis[0]("POST", f"{MAPS}?fieldValidation=Strict", body)
    assert code == 400
    assert 'unknown field "nonsense"' in answer["message"]
    code, answer = await apis[0]("POST", MAPS, body)
    assert code == 201
    assert "nonsense" not in answer


async def test_a_finalizer_keeps_the_object_until_it_is_taken_away(apis: tuple[Api, Api]) -> None:
    """INV-A8."""
    body = {**config_map("kept"), "metadata": {"name": "kept", "finalizers": ["example.com/hold"]}}
    await apis[0]("POST", MAPS, body)
    code, answer = await apis[0]("DELETE", f"{MAPS}/kept")
    assert (code, bool(answer["metadata"]["deletionTimestamp"])) == (200, True)
    patch = {"metadata": {"finalizers": None}}
    assert (await apis[1]("PATCH", f"{MAPS}/kept", patch, content_type="application/merge-patch+json"))[0] == 200
    assert (await apis[0]("GET", f"{MAPS}/kept"))[0] == 404


async def test_a_running_pod_goes_in_two_steps(apis: tuple[Api, Api]) -> None:
    pods = "/api/v1/namespaces/default/pods"
    await apis[0]("POST", "/api/v1/namespaces/default/serviceaccounts", {"metadata": {"name": "default"}})
    pod = {"metadata": {"name": "two"}, "spec": {"containers": [{"name": "c", "image": "x"}]}}
    assert (await apis[0]("POST", pods, pod))[0] == 201
    binding = {"metadata": {"name": "two"}, "target": {"kind": "Node", "name": "n1"}}
    assert (await apis[0]("POST", f"{pods}/two/binding", binding))[0] == 201
    assert (await apis[1]("POST", f"{pods}/two/binding", binding))[0] == 409
    _, marked = await apis[0]("DELETE", f"{pods}/two")
    assert marked["metadata"]["deletionGracePeriodSeconds"] == 30
    assert (await apis[0]("GET", f"{pods}/two"))[0] == 200
    await apis[0]("DELETE", f"{pods}/two", {"gracePeriodSeconds": 0, "preconditions": {"uid": marked["metadata"]["uid"]}})
    assert (await apis[1]("GET", f"{pods}/two"))[0] == 404


async def test_a_budget_blocks_an_eviction(apis: tuple[Api, Api]) -> None:
    api, pods = apis[0], "/api/v1/namespaces/default/pods"
    await api("POST", "/api/v1/namespaces/default/serviceaccounts", {"metadata": {"name": "default"}})
    pod = {"metadata": {"name": "guarded", "labels": {"app": "g"}}, "spec": {"containers": [{"name": "c", "image": "x"}]}}
    assert (await api("POST", pods, pod))[0] == 201
    running = {"status": {"phase": "Running", "conditions": [{"type": "Ready", "status": "True"}]}}
    assert (await api("PATCH", f"{pods}/guarded/status", running, content_type="application/merge-patch+json"))[0] == 200
    budget = {"metadata": {"name": "g"}, "spec": {"minAvailable": 1, "selector": {"matchLabels": {"app": "g"}}}}
    budgets = "/apis/policy/v1/namespaces/default/poddisruptionbudgets"
    assert (await api("POST", budgets, budget))[0] == 201
    state = {"status": {"observedGeneration": 1, "disruptionsAllowed": 0, "currentHealthy": 1, "desiredHealthy": 1, "expectedPods": 1}}
    assert (await api("PATCH", f"{budgets}/g/status", state, content_type="application/merge-patch+json"))[0] == 200
    eviction = {"metadata": {"name": "guarded"}}
    code, answer = await api("POST", f"{pods}/guarded/eviction", eviction)
    assert (code, answer["message"]) == (429, "Cannot evict pod as it would violate the pod's disruption budget.")
    allowed = {"status": {"disruptionsAllowed": 1}}
    await api("PATCH", f"{budgets}/g/status", allowed, content_type="application/merge-patch+json")
    assert (await api("POST", f"{pods}/guarded/eviction", eviction))[0] == 201
    assert (await api("GET", f"{pods}/guarded"))[0] == 404
    _, spent = await api("GET", f"{budgets}/g")
    assert spent["status"].get("disruptionsAllowed", 0) == 0


async def test_strangers_get_what_rbac_gives_them(apis: tuple[Api, Api]) -> None:
    code, answer = await apis[0]("GET", MAPS, Authorization="Bearer usertoken")
    assert code == 403
    assert answer["message"].startswith(
        'configmaps is forbidden: User "user" cannot list resource "configmaps" in API group "" in the namespace "default"'
    )
    assert (await apis[0]("GET", MAPS, Authorization="Bearer wrong"))[0] == 401
    assert (await apis[0]("GET", "/version", Authorization=""))[0] == 200


async def test_a_body_too_large_is_refused(apis: tuple[Api, Api]) -> None:
    code, answer = await apis[0]("POST", MAPS, config_map("big", k="x" * (3 * 1024 * 1024)))
    assert (code, answer["reason"]) == (413, "RequestEntityTooLarge")
