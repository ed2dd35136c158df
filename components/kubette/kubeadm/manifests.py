"""Pure: the static Pods of a control plane (upstream: cmd/kubeadm/app/phases/controlplane and etcd).

Command lines are ordered like upstream's: the program first, then its flags by name.
"""

from typing import Any

from kubette.kubeadm import config, images
from kubette.kubeadm.config import Cluster, Local


def command_line(program: str, flags: dict[str, str]) -> list[str]:
    return [program, *(f"--{name}={value}" for name, value in sorted(flags.items()))]


def etcd_flags(cluster: Cluster, local: Local, initial_cluster: dict[str, str], state: str) -> dict[str, str]:
    """`initial_cluster` is member name -> peer URL, this machine included; `state` is `new` or `existing`."""
    pki, address = f"{cluster.certificates_dir}/etcd", local.advertise_address
    flags = {
        "advertise-client-urls": f"https://{address}:2379",
        "cert-file": f"{pki}/server.crt",
        "client-cert-auth": "true",
        "data-dir": cluster.etcd_data_dir,
        "initial-advertise-peer-urls": f"https://{address}:2380",
        "initial-cluster": ",".join(f"{name}={url}" for name, url in initial_cluster.items()),
        "key-file": f"{pki}/server.key",
        "listen-client-urls": f"https://127.0.0.1:2379,https://{address}:2379",
        "listen-metrics-urls": "http://127.0.0.1:2381",
        "listen-peer-urls": f"https://{address}:2380",
        "name": local.node_name,
        "peer-cert-file": f"{pki}/peer.crt",
        "peer-client-cert-auth": "true",
        "peer-key-file": f"{pki}/peer.key",
        "peer-trusted-ca-file": f"{pki}/ca.crt",
        "snapshot-count": "10000",
        "trusted-ca-file": f"{pki}/ca.crt",
    }
    if images.minor_of(cluster.kubernetes_version) >= 34:  # etcd 3.6 graduated these two
        flags["feature-gates"] = "InitialCorruptCheck=true"
        flags["watch-progress-notify-interval"] = "5s"
    else:
        flags["experimental-initial-corrupt-check"] = "true"
        flags["experimental-watch-progress-notify-interval"] = "5s"
    if state == "existing":
        flags["initial-cluster-state"] = "existing"
    return flags | cluster.extra_args("etcd")


_EXTERNAL_ETCD_FILES = {"etcd-cafile": "caFile", "etcd-certfile": "certFile", "etcd-keyfile": "keyFile"}


def apiserver_flags(cluster: Cluster, local: Local) -> dict[str, str]:
    pki = cluster.certificates_dir
    issuer = f"https://kubernetes.default.svc.{cluster.dns_domain}"
    flags = {
        "advertise-address": local.advertise_address,
        "allow-privileged": "true",
        "authorization-mode": "Node,RBAC",
        "client-ca-file": f"{pki}/ca.crt",
        "enable-admission-plugins": "NodeRestriction",
        "enable-bootstrap-token-auth": "true",
        "etcd-cafile": f"{pki}/etcd/ca.crt",
        "etcd-certfile": f"{pki}/apiserver-etcd-client.crt",
        "etcd-keyfile": f"{pki}/apiserver-etcd-client.key",
        "etcd-servers": "https://127.0.0.1:2379",
        "kubelet-client-certificate": f"{pki}/apiserver-kubelet-client.crt",
        "kubelet-client-key": f"{pki}/apiserver-kubelet-client.key",
        "kubelet-preferred-address-types": "InternalIP,ExternalIP,Hostname",
        "proxy-client-cert-file": f"{pki}/front-proxy-client.crt",
        "proxy-client-key-file": f"{pki}/front-proxy-client.key",
        "requestheader-allowed-names": "front-proxy-client",
        "requestheader-client-ca-file": f"{pki}/front-proxy-ca.crt",
        "requestheader-extra-headers-prefix": "X-Remote-Extra-",
        "requestheader-group-headers": "X-Remote-Group",
        "requestheader-username-headers": "X-Remote-User",
        "secure-port": str(local.bind_port),
        "service-account-issuer": issuer,
        "service-account-key-file": f"{pki}/sa.pub",
        "service-account-signing-key-file": f"{pki}/sa.key",
        "service-cluster-ip-range": cluster.service_subnet,
        "tls-cert-file": f"{pki}/apiserver.crt",
        "tls-private-key-file": f"{pki}/apiserver.key",
    }
    if external := cluster.etcd_external:
        flags |= {"etcd-servers": ",".join(external["endpoints"])}
        flags |= {name: str(external.get(key) or "") for name, key in _EXTERNAL_ETCD_FILES.items()}
        flags = {name: value for name, value in flags.items() if value or name not in _EXTERNAL_ETCD_FILES}
    return flags | cluster.extra_args("apiServer")


def controller_manager_flags(cluster: Cluster, external_ca: bool = False) -> dict[str, str]:
    """With an external CA its key is not here, and the controllers sign nothing."""
    pki, kubeconfig = cluster.certificates_dir, f"{config.KUBERNETES_DIR}/controller-manager.conf"
    flags = {
        "authentication-kubeconfig": kubeconfig,
        "authorization-kubeconfig": kubeconfig,
        "bind-address": "127.0.0.1",
        "client-ca-file": f"{pki}/ca.crt",
        "cluster-name": cluster.cluster_name,
        "cluster-signing-cert-file": f"{pki}/ca.crt",
        "cluster-signing-key-file": f"{pki}/ca.key",
        "controllers": "*,bootstrapsigner,tokencleaner",
        "kubeconfig": kubeconfig,
        "leader-elect": "true",
        "requestheader-client-ca-file": f"{pki}/front-proxy-ca.crt",
        "root-ca-file": f"{pki}/ca.crt",
        "service-account-private-key-file": f"{pki}/sa.key",
        "use-service-account-credentials": "true",
    }
    if cluster.pod_subnet:
        flags |= {"allocate-node-cidrs": "true", "cluster-cidr": cluster.pod_subnet, "service-cluster-ip-range": cluster.service_subnet}
    if external_ca:
        del flags["cluster-signing-cert-file"], flags["cluster-signing-key-file"]
    return flags | cluster.extra_args("controllerManager")


def scheduler_flags(cluster: Cluster) -> dict[str, str]:
    kubeconfig = f"{config.KUBERNETES_DIR}/scheduler.conf"
    return {
        "authentication-kubeconfig": kubeconfig,
        "authorization-kubeconfig": kubeconfig,
        "bind-address": "127.0.0.1",
        "kubeconfig": kubeconfig,
        "leader-elect": "true",
    } | cluster.extra_args("scheduler")


def _extra_mounts(cluster: Cluster, component: str) -> dict[str, tuple[str, str, str, bool]]:
    """extraVolumes: volume name -> (path on the machine, path in the container, hostPath type, read only)."""
    return {
        volume["name"]: (volume["hostPath"], volume["mountPath"], volume.get("pathType") or "", bool(volume.get("readOnly")))
        for volume in cluster.extra_volumes(component)
    }


def _probe(path: str, port: int | str, host: str, scheme: str, failures: int, period: int = 10) -> dict[str, Any]:
    get = {"host": host, "path": path, "port": port, "scheme": scheme}
    return {"failureThreshold": failures, "httpGet": get, "initialDelaySeconds": 10, "periodSeconds": period, "timeoutSeconds": 15}


def _static_pod(name: str, image: str, command: list[str], cpu: str, mounts: dict[str, tuple[str, str, bool]], **container: Any) -> dict[str, Any]:
    """`mounts` is volume name -> (path, hostPath type, read only), the path being the same on both sides; `extra` those of the configuration."""
    extra: dict[str, tuple[str, str, str, bool]] = container.pop("extra", {})
    every = {volume: (path, path, kind, read_only) for volume, (path, kind, read_only) in mounts.items()} | extra
    resources: dict[str, Any] = {"requests": {"cpu": cpu}}
    if "memory" in container:
        resources["requests"]["memory"] = container.pop("memory")
    annotations = container.pop("annotations", None)
    metadata: dict[str, Any] = {"labels": {"component": name, "tier": "control-plane"}, "name": name, "namespace": "kube-system"}
    if annotations:
        metadata["annotations"] = annotations
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": metadata,
        "spec": {
            "containers": [
                {
                    "command": command,
                    "image": image,
                    "imagePullPolicy": "IfNotPresent",
                    "name": name,
                    "resources": resources,
                    "volumeMounts": [
                        {"mountPath": inside, "name": volume} | ({"readOnly": True} if read_only else {})
                        for volume, (_path, inside, _kind, read_only) in sorted(every.items())
                    ],
                    **container,
                }
            ],
            "hostNetwork": True,
            "priority": 2000001000,
            "priorityClassName": "system-node-critical",
            "securityContext": {"seccompProfile": {"type": "RuntimeDefault"}},
            "volumes": [{"hostPath": {"path": path, "type": kind}, "name": volume} for volume, (path, _in, kind, _ro) in sorted(every.items())],
        },
        "status": {},
    }


def etcd(cluster: Cluster, local: Local, initial_cluster: dict[str, str], state: str = "new") -> dict[str, Any]:
    mounts = {
        "etcd-certs": (f"{cluster.certificates_dir}/etcd", "DirectoryOrCreate", False),
        "etcd-data": (cluster.etcd_data_dir, "DirectoryOrCreate", False),
    }
    return _static_pod(
        "etcd",
        images.etcd(cluster.kubernetes_version, cluster.image_repository, *cluster.image_of("etcd")),
        command_line("etcd", etcd_flags(cluster, local, initial_cluster, state)),
        "100m",
        mounts,
        memory="100Mi",
        annotations={"kubeadm.kubernetes.io/etcd.advertise-client-urls": f"https://{local.advertise_address}:2379"},
        ports=[{"containerPort": 2381, "name": "probe-port", "protocol": "TCP"}],
        livenessProbe=_probe("/livez", "probe-port", "127.0.0.1", "HTTP", 8),
        readinessProbe=_probe("/readyz", "probe-port", "127.0.0.1", "HTTP", 3, 1) | {"initialDelaySeconds": 0},
        startupProbe=_probe("/readyz", "probe-port", "127.0.0.1", "HTTP", 24)
        | {"initialDelaySeconds": 0, "periodSeconds": 1, "failureThreshold": 240},
    )


def kube_apiserver(cluster: Cluster, local: Local) -> dict[str, Any]:
    mounts = {
        "ca-certs": ("/etc/ssl/certs", "DirectoryOrCreate", True),
        "k8s-certs": (cluster.certificates_dir, "DirectoryOrCreate", True),
        "usr-share-ca-certificates": ("/usr/share/ca-certificates", "DirectoryOrCreate", True),
    }
    host = local.advertise_address
    return _static_pod(
        "kube-apiserver",
        images.component("kube-apiserver", cluster.kubernetes_version, cluster.image_repository),
        command_line("kube-apiserver", apiserver_flags(cluster, local)),
        "250m",
        mounts,
        extra=_extra_mounts(cluster, "apiServer"),
        annotations={"kubeadm.kubernetes.io/kube-apiserver.advertise-address.endpoint": local.local_endpoint()},
        ports=[{"containerPort": local.bind_port, "name": "probe-port", "protocol": "TCP"}],
        livenessProbe=_probe("/livez", "probe-port", host, "HTTPS", 8),
        readinessProbe=_probe("/readyz", "probe-port", host, "HTTPS", 3, 1) | {"initialDelaySeconds": 0},
        startupProbe=_probe("/livez", "probe-port", host, "HTTPS", 240, 1) | {"initialDelaySeconds": 0},
    )


def kube_controller_manager(cluster: Cluster, local: Local, external_ca: bool = False) -> dict[str, Any]:
    mounts = {
        "ca-certs": ("/etc/ssl/certs", "DirectoryOrCreate", True),
        "k8s-certs": (cluster.certificates_dir, "DirectoryOrCreate", True),
        "kubeconfig": (f"{config.KUBERNETES_DIR}/controller-manager.conf", "FileOrCreate", True),
        "usr-share-ca-certificates": ("/usr/share/ca-certificates", "DirectoryOrCreate", True),
    }
    return _static_pod(
        "kube-controller-manager",
        images.component("kube-controller-manager", cluster.kubernetes_version, cluster.image_repository),
        command_line("kube-controller-manager", controller_manager_flags(cluster, external_ca)),
        "200m",
        mounts,
        extra=_extra_mounts(cluster, "controllerManager"),
        ports=[{"containerPort": 10257, "name": "probe-port", "protocol": "TCP"}],
        livenessProbe=_probe("/healthz", "probe-port", "127.0.0.1", "HTTPS", 8),
        startupProbe=_probe("/healthz", "probe-port", "127.0.0.1", "HTTPS", 240, 1) | {"initialDelaySeconds": 0},
    )


def kube_scheduler(cluster: Cluster, local: Local) -> dict[str, Any]:
    return _static_pod(
        "kube-scheduler",
        images.component("kube-scheduler", cluster.kubernetes_version, cluster.image_repository),
        command_line("kube-scheduler", scheduler_flags(cluster)),
        "100m",
        {"kubeconfig": (f"{config.KUBERNETES_DIR}/scheduler.conf", "FileOrCreate", True)},
        extra=_extra_mounts(cluster, "scheduler"),
        ports=[{"containerPort": 10259, "name": "probe-port", "protocol": "TCP"}],
        livenessProbe=_probe("/livez", "probe-port", "127.0.0.1", "HTTPS", 8),
        readinessProbe=_probe("/readyz", "probe-port", "127.0.0.1", "HTTPS", 3, 1) | {"initialDelaySeconds": 0},
        startupProbe=_probe("/livez", "probe-port", "127.0.0.1", "HTTPS", 240, 1) | {"initialDelaySeconds": 0},
    )
