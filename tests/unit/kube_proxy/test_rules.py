"""From Services and EndpointSlices to rules."""

from typing import Any

from kubette.kube_proxy import rules
from kubette.kube_proxy.change_tracker import service_ports


def service(name: str = "web", **spec: Any) -> dict[str, Any]:
    base = {"type": "ClusterIP", "clusterIP": "10.96.0.5", "ports": [{"name": "http", "port": 80, "protocol": "TCP"}]}
    return {"metadata": {"name": name, "namespace": "default"}, "spec": base | spec}


def endpoint_slice(*endpoints: dict[str, Any], service: str = "web") -> dict[str, Any]:
    labels = {"kubernetes.io/service-name": service}
    ports = [{"name": "http", "port": 8080, "protocol": "TCP"}]
    return {"metadata": {"name": "s", "namespace": "default", "labels": labels}, "addressType": "IPv4", "ports": ports, "endpoints": list(endpoints)}


def endpoint(address: str, node: str = "n1", **conditions: bool) -> dict[str, Any]:
    return {"addresses": [address], "nodeName": node, "conditions": conditions}


def test_only_ready_endpoints_get_traffic_and_serving_ones_when_none_is_ready() -> None:
    ready = endpoint("10.244.1.2", ready=True)
    going = endpoint("10.244.1.3", ready=False, serving=True, terminating=True)
    dead = endpoint("10.244.1.4", ready=False, serving=False)
    (port,) = service_ports([service()], [endpoint_slice(ready, going, dead)], "n1")
    assert [e.address for e in port.endpoints] == ["10.244.1.2"]
    (port,) = service_ports([service()], [endpoint_slice(going, dead)], "n1")
    assert [e.address for e in port.endpoints] == ["10.244.1.3"]


def test_headless_and_external_names_are_not_proxied() -> None:
    assert service_ports([service(clusterIP="None"), service(type="ExternalName")], [], "n1") == []


def test_traffic_is_spread_evenly_over_endpoint_chains() -> None:
    slices = [endpoint_slice(*(endpoint(f"10.244.1.{i}") for i in (2, 3, 4)))]
    (port,) = service_ports([service()], slices, "n1")
    text = rules.render([port], "10.244.0.0/16")
    chain = rules.service_chain(port)
    chances = [
        line.split("--probability ")[1].split()[0] for line in text.splitlines() if line.startswith(f"-A {chain} ") and "--probability" in line
    ]
    assert chances == ["0.3333333333", "0.5000000000"]
    assert f'-A KUBE-SERVICES -m comment --comment "default/web:http cluster IP" -m tcp -p tcp -d 10.96.0.5 --dport 80 -j {chain}' in text
    assert text.count("-j DNAT --to-destination 10.244.1.") == 3
    assert "! -s 10.244.0.0/16 -j KUBE-MARK-MASQ" in text


def test_a_service_without_endpoints_is_refused_at_once() -> None:
    (port,) = service_ports([service(type="NodePort", ports=[{"name": "http", "port": 80, "nodePort": 30080}])], [], "n1")
    text = rules.render([port], "")
    assert '"default/web:http has no endpoints" -m tcp -p tcp -d 10.96.0.5 --dport 80 -j REJECT' in text
    assert "--dst-type LOCAL -m tcp -p tcp --dport 30080 -j REJECT" in text
    assert "KUBE-SVC-" not in text


def test_node_ports_with_local_policy_use_the_endpoints_of_this_node() -> None:
    spec = {"type": "NodePort", "externalTrafficPolicy": "Local", "ports": [{"name": "http", "port": 80, "nodePort": 30080}]}
    slices = [endpoint_slice(endpoint("10.244.1.2", "n1"), endpoint("10.244.2.2", "n2"))]
    (port,) = service_ports([service(**spec)], slices, "n1")
    text = rules.render([port], "10.244.0.0/16")
    local = [line for line in text.splitlines() if line.startswith(f"-A {rules.local_chain(port)} ")]
    assert len(local) == 1
    assert "10.244.1.2" in local[0]


def test_chains_that_are_gone_are_deleted_and_every_used_chain_is_declared() -> None:
    slices = [endpoint_slice(endpoint("10.244.1.2"))]
    ports = service_ports([service(sessionAffinity="ClientIP")], slices, "n1")
    text = rules.render(ports, "10.244.0.0/16", ["KUBE-SVC-OLD", rules.service_chain(ports[0])])
    assert "-X KUBE-SVC-OLD" in text
    assert f"-X {rules.service_chain(ports[0])}" not in text
    declared = {line[1:].split()[0] for line in text.splitlines() if line.startswith(":")}
    used = {line.split()[1] for line in text.splitlines() if line.startswith("-A ")}
    assert used <= declared
