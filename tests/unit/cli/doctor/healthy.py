"""A cluster in which nothing is wrong, written down small: what each story of the doctor begins with."""

from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

from kubette.cli.doctor.facts import Certificate, Container, Etcd, Facts, File, Machine, Manifest

NOW = 1_800_000_000.0
YEAR = 365 * 86400.0
PKI = "/etc/kubernetes/pki"
MANIFESTS = "/etc/kubernetes/manifests"
FLAGS = {
    "etcd": {
        "data-dir": "/var/lib/etcd",
        "cert-file": f"{PKI}/etcd/server.crt",
        "key-file": f"{PKI}/etcd/server.key",
        "trusted-ca-file": f"{PKI}/etcd/ca.crt",
        "listen-client-urls": "https://127.0.0.1:2379,https://192.168.56.11:2379",
        "initial-cluster": "controlplane=https://192.168.56.11:2380",
    },
    "kube-apiserver": {
        "authorization-mode": "Node,RBAC",
        "client-ca-file": f"{PKI}/ca.crt",
        "etcd-cafile": f"{PKI}/etcd/ca.crt",
        "etcd-certfile": f"{PKI}/apiserver-etcd-client.crt",
        "etcd-keyfile": f"{PKI}/apiserver-etcd-client.key",
        "etcd-servers": "https://127.0.0.1:2379",
        "service-account-key-file": f"{PKI}/sa.pub",
        "service-account-signing-key-file": f"{PKI}/sa.key",
        "tls-cert-file": f"{PKI}/apiserver.crt",
        "tls-private-key-file": f"{PKI}/apiserver.key",
    },
    "kube-controller-manager": {
        "controllers": "*,bootstrapsigner,tokencleaner",
        "kubeconfig": "/etc/kubernetes/controller-manager.conf",
        "service-account-private-key-file": f"{PKI}/sa.key",
    },
    "kube-scheduler": {"kubeconfig": "/etc/kubernetes/scheduler.conf", "leader-elect": "true"},
}
LEAVES = {
    "apiserver": "ca",
    "apiserver-etcd-client": "etcd/ca",
    "etcd/server": "etcd/ca",
}
KUBECONFIG = "certificate-authority-data: x\n    server: https://192.168.56.11:6443\n"


def stamp(seconds_ago: float) -> str:
    return datetime.fromtimestamp(NOW - seconds_ago, UTC).isoformat().replace("+00:00", "Z")


def obj(name: str, namespace: str = "", *, age_s: float = 3600, labels: dict[str, str] | None = None, **rest: Any) -> dict[str, Any]:
    metadata: dict[str, Any] = {"name": name, "uid": f"uid-{namespace}-{name}", "creationTimestamp": stamp(age_s), "labels": labels or {}}
    if namespace:
        metadata["namespace"] = namespace
    return {"metadata": metadata, **rest}


def manifest(component: str, flags: dict[str, str]) -> Manifest:
    container = {
        "name": component,
        "image": f"registry.k8s.io/{component}:v1.37.0",
        "command": [component, *(f"--{flag}={value}" for flag, value in flags.items())],
        "volumeMounts": [{"name": n, "mountPath": p} for n, p in (("pki", PKI), ("data", "/var/lib/etcd"), ("conf", "/etc/kubernetes"))],
    }
    volumes = [{"name": "pki", "hostPath": {"path": PKI}}, {"name": "data", "hostPath": {"path": "/var/lib/etcd"}}, {"name": "conf"}]
    document = {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": component}, "spec": {"containers": [container], "volumes": volumes}}
    return Manifest(f"{MANIFESTS}/{component}.yaml", document)


def certificate(path: str, signer: str, key: str, **rest: Any) -> Certificate:
    return replace(Certificate(path, f"CN={path}", f"CN={signer}", NOW - 1000, NOW + YEAR, signer=signer, key=key), **rest)


def running(unit: str) -> dict[str, str]:
    return {
        "Id": f"{unit}.service",
        "LoadState": "loaded",
        "ActiveState": "active",
        "SubState": "running",
        "Result": "success",
        "NeedDaemonReload": "no",
        "UnitFileState": "enabled",
    }


def control_plane() -> Machine:
    certificates = [certificate(f"{PKI}/{ca}.crt", f"{PKI}/{ca}.crt", f"key of {ca}", is_ca=True) for ca in ("ca", "etcd/ca")]
    for leaf, ca in LEAVES.items():
        names = ("192.168.56.11", "kubernetes.default.svc") if leaf == "apiserver" else ()
        certificates.append(certificate(f"{PKI}/{leaf}.crt", f"{PKI}/{ca}.crt", f"key of {leaf}", names=names))
    certificates.append(certificate("/etc/kubernetes/kubelet.conf (certificate authority)", f"{PKI}/ca.crt", "key of ca"))
    certificates.append(certificate("/etc/kubernetes/admin.conf (client certificate)", f"{PKI}/ca.crt", "key of admin"))
    files = {f"{PKI}/{stem}.crt": File("certificate") for stem in ("ca", "etcd/ca", *LEAVES)}
    files |= {f"{PKI}/{stem}.key": File("key", 0o600) for stem in (*LEAVES, "sa")} | {f"{PKI}/sa.pub": File("key")}
    files |= {f"/etc/kubernetes/{name}.conf": File(KUBECONFIG, 0o600) for name in ("admin", "kubelet", "scheduler", "controller-manager")}
    files["/var/lib/kubelet/config.yaml"] = File(f"clusterDNS:\n- 10.96.0.10\nstaticPodPath: {MANIFESTS}\n")
    keys = {f"{PKI}/{leaf}.key": f"key of {leaf}" for leaf in LEAVES} | {f"{PKI}/sa.key": "key of sa", f"{PKI}/sa.pub": "key of sa"}
    member = {"ID": 1, "name": "controlplane", "clientURLs": ["https://192.168.56.11:2379"]}
    status = {"Endpoint": "https://192.168.56.11:2379", "Status": {"header": {"member_id": 1}, "dbSize": 1 << 20}}
    return Machine(
        "controlplane",
        "control-plane",
        "192.168.56.11",
        files=files,
        folders={"/var/lib/etcd": File("member", 0o700), MANIFESTS: File()},
        manifests=tuple(manifest(component, flags) for component, flags in FLAGS.items()),
        certificates=tuple(certificates),
        keys=keys,
        units={unit: running(unit) for unit in ("kubelet", "containerd")},
        containers=tuple(Container(component, f"{component}-controlplane", "kube-system", "CONTAINER_RUNNING", 0) for component in FLAGS),
        commands={component: (component, *(f"--{flag}={value}" for flag, value in flags.items())) for component, flags in FLAGS.items()},
        etcd=Etcd((member,), (status,)),
    )


def worker() -> Machine:
    return Machine(
        "node01",
        "worker",
        "192.168.56.12",
        files={
            "/etc/kubernetes/kubelet.conf": File(KUBECONFIG, 0o600),
            "/var/lib/kubelet/config.yaml": File(f"clusterDNS:\n- 10.96.0.10\nstaticPodPath: {MANIFESTS}\n"),
        },
        units={unit: running(unit) for unit in ("kubelet", "containerd")},
    )


def node(name: str) -> dict[str, Any]:
    conditions = [{"type": "Ready", "status": "True", "reason": "KubeletReady", "message": "kubelet is posting ready status"}]
    status = {"conditions": conditions, "nodeInfo": {"kubeletVersion": "v1.37.0"}}
    return obj(name, spec={"podCIDR": "10.244.0.0/24"}, status=status)


def pod(name: str, namespace: str = "default", *, node_name: str = "node01", image: str = "nginx", **rest: Any) -> dict[str, Any]:
    """Running and Ready."""
    spec = {"nodeName": node_name, "containers": [{"name": "main", "image": image, "ports": [{"containerPort": 80, "name": "http"}]}]}
    conditions = [{"type": "PodScheduled", "status": "True"}, {"type": "Ready", "status": "True"}]
    container = {"name": "main", "image": image, "imageID": "sha256:1", "state": {"running": {}}, "restartCount": 0}
    return obj(name, namespace, spec=spec, status={"phase": "Running", "conditions": conditions, "containerStatuses": [container]}, **rest)


def waiting(one: dict[str, Any], reason: str, message: str = "", **status: Any) -> dict[str, Any]:
    """The pod with its container waiting."""
    container = {**one["status"]["containerStatuses"][0], "imageID": "", "state": {"waiting": {"reason": reason, "message": message}}, **status}
    return {**one, "status": {**one["status"], "phase": "Pending", "conditions": one["status"]["conditions"][:1], "containerStatuses": [container]}}


def objects() -> dict[str, list[dict[str, Any]]]:
    lease = {"holderIdentity": "controlplane_1", "leaseDurationSeconds": 15, "renewTime": stamp(2)}
    system = [
        pod(
            f"{component}-controlplane",
            "kube-system",
            node_name="controlplane",
            image=f"registry.k8s.io/{component}:v1.37.0",
            labels={"component": component},
        )
        for component in FLAGS
    ]
    proxy = "registry.k8s.io/kube-proxy:v1.37.0"
    system += [pod(f"kube-proxy-{n}", "kube-system", node_name=n, image=proxy, labels={"k8s-app": "kube-proxy"}) for n in ("controlplane", "node01")]
    system.append(pod("coredns-1", "kube-system", labels={"k8s-app": "kube-dns"}))
    web = pod("web-1", labels={"app": "web"})
    service = obj("web", "default", spec={"selector": {"app": "web"}, "clusterIP": "10.96.1.1", "ports": [{"port": 80, "targetPort": 80}]})
    dns = obj("kube-dns", "kube-system", spec={"selector": {"k8s-app": "kube-dns"}, "clusterIP": "10.96.0.10", "ports": [{"port": 53}]})
    dns["spec"]["ports"][0]["targetPort"] = "http"
    return {
        "nodes": [node("controlplane"), node("node01")],
        "pods": [*system, web],
        "services": [service, dns],
        "deployments": [obj("coredns", "kube-system", spec={"replicas": 2}, status={"availableReplicas": 2})],
        "daemonsets": [obj("kube-proxy", "kube-system")],
        "leases": [obj(name, "kube-system", spec=lease) for name in ("kube-scheduler", "kube-controller-manager")],
        "namespaces": [obj(name, status={"phase": "Active"}) for name in ("default", "kube-system")],
        "serviceaccounts": [obj("default", name) for name in ("default", "kube-system")],
    }


def facts() -> Facts:
    return Facts(NOW, "kubeadm", "v1.37.0", "192.168.56.11:6443", True, (control_plane(), worker()), objects())
