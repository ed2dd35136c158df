"""Pure: the objects every cluster has from its first second."""

import json
from typing import Any

Object = dict[str, Any]

SYSTEM_NAMESPACES = ("default", "kube-node-lease", "kube-public", "kube-system")


def namespace(name: str) -> Object:
    return {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name}}


def priority_classes() -> list[Object]:
    """scheduling's SystemPriorityClasses."""
    return [
        _priority_class("system-node-critical", 2000001000, "Used for system critical pods that must not be moved from their current node."),
        _priority_class(
            "system-cluster-critical",
            2000000000,
            "Used for system critical pods that must run in the cluster, but can be moved to another node if necessary.",
        ),
    ]


def _priority_class(name: str, value: int, description: str) -> Object:
    return {
        "apiVersion": "scheduling.k8s.io/v1",
        "kind": "PriorityClass",
        "metadata": {"name": name},
        "value": value,
        "globalDefault": False,
        "description": description,
        "preemptionPolicy": "PreemptLowerPriority",
    }


def api_service(group: str, version: str, group_priority: int, version_priority: int) -> Object:
    """The entry of a group-version this server answers itself."""
    return {
        "apiVersion": "apiregistration.k8s.io/v1",
        "kind": "APIService",
        "metadata": {"name": f"{version}.{group}", "labels": {"kube-aggregator.kubernetes.io/automanaged": "onstart"}},
        "spec": {"group": group, "version": version, "groupPriorityMinimum": group_priority, "versionPriority": version_priority}
        if group
        else {"version": version, "groupPriorityMinimum": group_priority, "versionPriority": version_priority},
    }


def local_status(now: str) -> Object:
    """The status of an APIService without a service."""
    return {
        "conditions": [
            {
                "type": "Available",
                "status": "True",
                "lastTransitionTime": now,
                "reason": "Local",
                "message": "Local APIServices are always available",
            }
        ]
    }


# Flag of the API server -> key of extension-apiserver-authentication.
REQUEST_HEADER = {
    "requestheader_allowed_names": "requestheader-allowed-names",
    "requestheader_extra_headers_prefix": "requestheader-extra-headers-prefix",
    "requestheader_group_headers": "requestheader-group-headers",
    "requestheader_username_headers": "requestheader-username-headers",
}
_CERTIFICATE_END = "-----END CERTIFICATE-----\n"


def authentication_info(client_ca: str, proxy_ca: str, flags: dict[str, list[str]]) -> Object:
    """`kube-system/extension-apiserver-authentication` (upstream: controlplane/controller/clusterauthenticationtrust)."""
    data = {"client-ca-file": client_ca} if client_ca else {}
    if proxy_ca:
        data["requestheader-client-ca-file"] = proxy_ca
        data.update({key: json.dumps(list(flags[flag]), separators=(",", ":")) for flag, key in REQUEST_HEADER.items()})
    return {
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "metadata": {"name": "extension-apiserver-authentication", "namespace": "kube-system"},
        "data": data,
    }


def joined_authentication_info(current: Object, wanted: Object) -> Object:
    """What another server of the cluster wrote stays: certificates and names of both, each once."""
    data = dict(current.get("data") or {})
    for key, new in wanted["data"].items():
        old = data.get(key, "")
        if key.endswith("-file"):
            known = _certificates(old)
            data[key] = "".join(known + [one for one in _certificates(new) if one not in known])
        else:
            names = json.loads(old or "[]")
            data[key] = json.dumps(names + [one for one in json.loads(new) if one not in names], separators=(",", ":"))
    return {**current, "data": data}


def _certificates(bundle: str) -> list[str]:
    return [part.strip() + "\n" + _CERTIFICATE_END for part in bundle.split(_CERTIFICATE_END) if part.strip()]


def kubernetes_service(cluster_ip: str, port: int) -> Object:
    """`default/kubernetes`."""
    return {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": {"name": "kubernetes", "namespace": "default", "labels": {"component": "apiserver", "provider": "kubernetes"}},
        "spec": {
            "type": "ClusterIP",
            "clusterIP": cluster_ip,
            "clusterIPs": [cluster_ip],
            "sessionAffinity": "None",
            "ports": [{"name": "https", "port": 443, "protocol": "TCP", "targetPort": port}],
        },
    }


def endpoints(addresses: list[str], port: int) -> Object:
    """The Endpoints of `kubernetes`: one subset, addresses in order."""
    return {
        "apiVersion": "v1",
        "kind": "Endpoints",
        "metadata": {"name": "kubernetes", "namespace": "default", "labels": {"endpointslice.kubernetes.io/skip-mirror": "true"}},
        "subsets": [{"addresses": [{"ip": ip} for ip in addresses], "ports": [{"name": "https", "port": port, "protocol": "TCP"}]}],
    }


def endpoint_slice(addresses: list[str], port: int) -> Object:
    """The EndpointSlice beside it."""
    return {
        "apiVersion": "discovery.k8s.io/v1",
        "kind": "EndpointSlice",
        "metadata": {"name": "kubernetes", "namespace": "default", "labels": {"kubernetes.io/service-name": "kubernetes"}},
        "addressType": "IPv6" if ":" in addresses[0] else "IPv4",
        "endpoints": [{"addresses": [ip], "conditions": {"ready": True}} for ip in addresses],
        "ports": [{"name": "https", "port": port, "protocol": "TCP"}],
    }
