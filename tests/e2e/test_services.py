"""Services from wherever one may ask: machines, pods, the host; by address and by name; TCP and UDP."""

import json
import urllib.request
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from harness.cluster import Cluster
from harness.eventually import eventually
from harness.kubectl import Kubectl

MACHINES = ("controlplane", "node01", "node02")
ECHO_UDP = """
import socket
server = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
server.bind(("0.0.0.0", 5353))
while True:
    data, peer = server.recvfrom(2048)
    server.sendto(b"echo " + data, peer)
"""
ASK_UDP = """
import socket, sys
client = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
client.settimeout(2)
client.sendto(b"hello", (sys.argv[1], 53530))
print(client.recv(2048).decode())
"""


def pod(name: str, node: str, image: str, command: list[str], **labels: str) -> dict[str, Any]:
    spec = {"nodeName": node, "containers": [{"name": "main", "image": image, "command": command}], "terminationGracePeriodSeconds": 1}
    return {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": name, "labels": labels}, "spec": spec}


@pytest.fixture(scope="module")
def web(cluster: Cluster) -> Iterator[Kubectl]:
    """Two pods of nginx, one on each worker; a service `web`, a node port 30080; a client on each worker."""
    admin = cluster.kubectl
    admin("create", "namespace", "services")
    kubectl = admin.in_namespace("services")
    kubectl.wait("create", "serviceaccount/default")
    for node in ("node01", "node02"):
        kubectl.apply(
            pod(f"web-{node}", node, "nginx", ["sh", "-c", "hostname > /usr/share/nginx/html/index.html; exec nginx -g 'daemon off;'"], app="web"),
            pod(f"client-{node}", node, "python", ["sleep", "100000"]),
        )
    kubectl.wait("condition=Ready", "pods", "--all")
    kubectl("expose", "pod", "web-node01", "--name=web", "--port=80", "--selector=app=web")
    kubectl("create", "service", "nodeport", "outside", "--tcp=80:80", "--node-port=30080")
    kubectl("set", "selector", "service/outside", "app=web")
    yield kubectl
    admin("delete", "namespace", "services", "--wait=false")


def both(ask: Callable[[], str]) -> None:
    """Both backends answer within some tries (each is chosen by chance)."""
    answers: set[str] = set()

    def look() -> set[str]:
        answers.update(ask().split())
        return answers

    eventually(look, lambda seen: seen == {"web-node01", "web-node02"}, timeout_s=30)


@pytest.mark.parametrize("machine", MACHINES)
def test_the_cluster_ip_answers_on_each_machine(web: Kubectl, cluster: Cluster, machine: str) -> None:
    address = web.jsonpath("{.spec.clusterIP}", "service", "web")
    both(lambda: cluster.run("ssh", machine, "--", "sh", "-c", f"for i in 1 2 3 4 5 6; do curl -s -m 2 http://{address}; done").stdout)


@pytest.mark.parametrize("client", ["client-node01", "web-node02"])
def test_the_cluster_ip_answers_inside_a_pod_also_on_the_backends_node_and_in_the_backend_itself(web: Kubectl, client: str) -> None:
    address = web.jsonpath("{.spec.clusterIP}", "service", "web")
    both(lambda: web.run("exec", client, "--", "sh", "-c", f"for i in 1 2 3 4 5 6; do curl -s -m 2 http://{address}; done").stdout)


def test_pods_reach_pods_without_translation(web: Kubectl) -> None:
    backend = web.jsonpath("{.status.podIP}", "pod", "web-node02")
    client = web.jsonpath("{.status.podIP}", "pod", "client-node01")
    assert web.exec("client-node01", f"curl -s -m 5 http://{backend}") == "web-node02\n"
    eventually(lambda: web("logs", "web-node02"), lambda text: client in text)


@pytest.mark.parametrize("machine", MACHINES)
def test_the_node_port_answers_on_the_address_of_each_machine(web: Kubectl, cluster: Cluster, machine: str) -> None:
    address = {"controlplane": "192.168.56.11", "node01": "192.168.56.12", "node02": "192.168.56.13"}[machine]
    both(lambda: cluster.run("ssh", "node01", "--", "sh", "-c", f"for i in 1 2 3 4 5 6; do curl -s -m 2 http://{address}:30080; done").stdout)


def test_the_node_port_answers_on_the_hosts_loopback(web: Kubectl) -> None:
    def ask() -> str:
        with urllib.request.urlopen("http://127.0.0.1:30080/", timeout=5) as answer:
            return str(answer.read().decode())

    both(ask)


@pytest.mark.parametrize("name", ["web", "web.services", "web.services.svc", "web.services.svc.cluster.local", "web.services.svc.cluster.local."])
def test_names_are_found_through_the_search_path(web: Kubectl, name: str) -> None:
    address = web.jsonpath("{.spec.clusterIP}", "service", "web")
    found = eventually(lambda: web.run("exec", "client-node01", "--", "getent", "ahostsv4", name).stdout, timeout_s=20)
    assert found.split()[0] == address


def test_other_names_of_dns(web: Kubectl) -> None:
    def resolve(name: str) -> list[str]:
        script = f"import socket; print(*sorted({{a[4][0] for a in socket.getaddrinfo({name!r}, None, socket.AF_INET)}}))"
        return web.run("exec", "client-node02", "--", "python3", "-c", script).stdout.split()

    assert resolve("kubernetes.default") == ["10.96.0.1"]
    assert resolve("kube-dns.kube-system") == ["10.96.0.10"]
    assert resolve("nothing.services.svc.cluster.local") == []
    web("create", "service", "clusterip", "headless", "--clusterip=None", "--tcp=80")
    web("set", "selector", "service/headless", "app=web")
    pods = sorted(p["status"]["podIP"] for p in web.json("get", "pods", "-l", "app=web")["items"])
    assert eventually(lambda: resolve("headless"), lambda seen: len(seen) == 2) == pods
    options = web.exec("client-node01", "cat /etc/resolv.conf")
    assert "nameserver 10.96.0.10" in options
    assert "search services.svc.cluster.local svc.cluster.local cluster.local" in options
    assert "ndots:5" in options


def test_a_udp_service(web: Kubectl) -> None:
    web.apply(
        pod("echo", "node02", "python", ["python3", "-c", ECHO_UDP], app="echo"),
        {
            "apiVersion": "v1",
            "kind": "Service",
            "metadata": {"name": "echo"},
            "spec": {"selector": {"app": "echo"}, "ports": [{"port": 53530, "targetPort": 5353, "protocol": "UDP"}]},
        },
    )
    web.wait("condition=Ready", "pod/echo")
    address = web.jsonpath("{.spec.clusterIP}", "service", "echo")

    def answers() -> list[str]:
        return [web.run("exec", client, "--", "python3", "-c", ASK_UDP, address).stdout for client in ("client-node01", "client-node02")]

    eventually(answers, lambda seen: seen == ["echo hello\n"] * 2)


def test_endpoints_follow_readiness(web: Kubectl) -> None:
    shy = pod("shy", "node01", "nginx", ["sh", "-c", "exec nginx -g 'daemon off;'"], app="shy")
    shy["spec"]["containers"][0]["readinessProbe"] = {"exec": {"command": ["cat", "/tmp/ready"]}, "periodSeconds": 1, "failureThreshold": 1}
    web.apply(shy)
    web("expose", "pod", "shy", "--port=80")

    def ready() -> list[bool]:
        slices = json.loads(web("get", "endpointslices", "-l", "kubernetes.io/service-name=shy", "-o", "json"))["items"]
        return [endpoint["conditions"]["ready"] for one in slices for endpoint in one.get("endpoints") or []]

    web.wait("jsonpath={.status.phase}=Running", "pod/shy")
    eventually(ready, lambda seen: seen == [False])
    assert web.run("exec", "client-node01", "--", "curl", "-s", "-m", "1", "http://shy").returncode != 0
    web.exec("shy", "touch /tmp/ready")
    web.wait("condition=Ready", "pod/shy")
    eventually(ready, lambda seen: seen == [True])
    eventually(lambda: web.run("exec", "client-node01", "--", "curl", "-s", "-m", "1", "http://shy").returncode, lambda code: code == 0)
    web.exec("shy", "rm /tmp/ready")
    eventually(ready, lambda seen: seen == [False])


def test_session_affinity_keeps_a_client_at_its_backend(web: Kubectl) -> None:
    web("expose", "pod", "web-node01", "--name=sticky", "--port=80", "--selector=app=web", "--session-affinity=ClientIP")
    address = web.jsonpath("{.spec.clusterIP}", "service", "sticky")
    eventually(lambda: web.run("exec", "client-node01", "--", "curl", "-s", "-m", "1", f"http://{address}").returncode, lambda code: code == 0)
    answers = web.exec("client-node01", f"for i in 1 2 3 4 5 6 7 8 9 10; do curl -s -m 2 http://{address}; done").split()
    assert len(answers) == 10
    assert len(set(answers)) == 1
