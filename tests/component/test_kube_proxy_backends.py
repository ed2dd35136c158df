"""Both back-ends in a network namespace of their own: a Service address answers, is refused without endpoints, and leaves nothing behind."""

import subprocess
import sys

import pytest

# Runs inside the namespace: one HTTP server on 127.0.0.2:8080 behind the Service address 10.96.0.5:80 and node port 30080.
_SCRIPT = """
import asyncio, subprocess, sys, urllib.request, urllib.error
from kubette.component_base.metrics import Registry
from kubette.kube_proxy.change_tracker import service_ports
from kubette.kube_proxy.iptables import Iptables
from kubette.kube_proxy.userspace import Userspace
from kubette.stdx.tasks import Scope

spec = {"type": "NodePort", "clusterIP": "10.96.0.5", "ports": [{"name": "http", "port": 80, "nodePort": 30080}]}
service = {"metadata": {"name": "web", "namespace": "default"}, "spec": spec}
labels = {"kubernetes.io/service-name": "web"}
slice_ = {"metadata": {"name": "s", "namespace": "default", "labels": labels}, "addressType": "IPv4",
          "ports": [{"name": "http", "port": 8080}], "endpoints": [{"addresses": ["127.0.0.2"], "nodeName": "n1"}]}

async def answer(reader, writer):
    await reader.readuntil(b"\\r\\n\\r\\n")
    writer.write(b"HTTP/1.0 200 OK\\r\\nContent-Length: 5\\r\\n\\r\\nhello")
    await writer.drain()
    writer.close()

def get(url):
    try:
        return urllib.request.urlopen(url, timeout=5).read().decode()
    except (urllib.error.URLError, ConnectionError) as error:
        return "refused" if "refused" in str(error).lower() or "reset" in str(error).lower() else str(error)

async def main():
    for command in ("ip link set lo up", "ip link add d0 type bridge", "ip addr add 192.0.2.1/24 dev d0", "ip link set d0 up", "ip route add default dev d0"):
        subprocess.run(command.split(), check=True)
    await asyncio.start_server(answer, "127.0.0.2", 8080)
    async with Scope() as scope:
        backend = Iptables("10.244.0.0/16", False, Registry()) if sys.argv[1] == "iptables" else Userspace(scope)
        await backend.prepare()
        await backend.apply(service_ports([service], [slice_], "n1"))
        for url in ("http://10.96.0.5/", "http://192.0.2.1:30080/"):
            print(await asyncio.to_thread(get, url))
        await backend.apply(service_ports([service], [], "n1"))
        print(await asyncio.to_thread(get, "http://10.96.0.5/"))
        await backend.apply([])
        await backend.cleanup()
        if sys.argv[1] == "iptables":
            print(subprocess.run(["iptables-save"], capture_output=True, text=True).stdout.count("KUBE-"))
        else:
            print(subprocess.run(["ip", "addr"], capture_output=True, text=True).stdout.count("10.96."))

from kubette.component_base.run import run_loop
run_loop(main())
"""


@pytest.mark.slow
@pytest.mark.needs("unshare", "ip")
@pytest.mark.parametrize("mode", [pytest.param("iptables", marks=pytest.mark.needs("iptables-restore")), "userspace"])
def test_a_service_answers_is_refused_without_endpoints_and_is_cleaned_up(mode: str) -> None:
    command = ["unshare", "--user", "--map-root-user", "--net", sys.executable, "-c", _SCRIPT, mode]
    result = subprocess.run(command, capture_output=True, text=True, timeout=60)
    assert result.stdout.splitlines() == ["hello", "hello", "refused", "0"], result.stderr
