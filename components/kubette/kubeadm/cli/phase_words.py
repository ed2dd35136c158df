"""Pure: what upstream says of the parts of each phase (kubeadm's reference, `kubeadm init phase … --help`)."""

USES = {"init": "init", "join": "join [api-server-endpoint]", "reset": "reset", "upgrade apply": "apply [version]", "upgrade node": "node"}

_ALL = {
    "certs": "Generate all certificates",
    "kubeconfig": "Generate all kubeconfig files",
    "control-plane": "Generate all static Pod manifest files",
    "upload-config": "Upload all configuration to a config map",
    "kubelet-finalize": "Run all kubelet-finalize phases",
    "addon": "Install all the addons",
    "control-plane-prepare": "Prepare the machine for serving a control plane",
    "control-plane-join": "Join a machine as a control plane instance",
}

_CHILDREN = {
    "certs/ca": "Generate the self-signed Kubernetes CA to provision identities for other Kubernetes components",
    "certs/apiserver": "Generate the certificate for serving the Kubernetes API",
    "certs/apiserver-kubelet-client": "Generate the certificate for the API server to connect to kubelet",
    "certs/front-proxy-ca": "Generate the self-signed CA to provision identities for front proxy",
    "certs/front-proxy-client": "Generate the certificate for the front proxy client",
    "certs/etcd-ca": "Generate the self-signed CA to provision identities for etcd",
    "certs/etcd-server": "Generate the certificate for serving etcd",
    "certs/etcd-peer": "Generate the certificate for etcd nodes to communicate with each other",
    "certs/etcd-healthcheck-client": "Generate the certificate for liveness probes to healthcheck etcd",
    "certs/apiserver-etcd-client": "Generate the certificate the apiserver uses to access etcd",
    "certs/sa": "Generate a private key for signing service account tokens along with its public key",
    "kubeconfig/admin": "Generate a kubeconfig file for the admin to use and for kubeadm itself",
    "kubeconfig/super-admin": "Generate a kubeconfig file for the super-admin",
    "kubeconfig/kubelet": "Generate a kubeconfig file for the kubelet to use *only* for cluster bootstrapping purposes",
    "kubeconfig/controller-manager": "Generate a kubeconfig file for the controller manager to use",
    "kubeconfig/scheduler": "Generate a kubeconfig file for the scheduler to use",
    "etcd/local": "Generate the static Pod manifest file for a local, single-node local etcd instance",
    "control-plane/apiserver": "Generates the kube-apiserver static Pod manifest",
    "control-plane/controller-manager": "Generates the kube-controller-manager static Pod manifest",
    "control-plane/scheduler": "Generates the kube-scheduler static Pod manifest",
    "upload-config/kubeadm": "Upload the kubeadm ClusterConfiguration to a ConfigMap",
    "upload-config/kubelet": "Upload the kubelet component config to a ConfigMap",
    "kubelet-finalize/enable-client-cert-rotation": "Enable kubelet client certificate rotation",
    "addon/coredns": "Install the CoreDNS addon to a Kubernetes cluster",
    "addon/kube-proxy": "Install the kube-proxy addon to a Kubernetes cluster",
    "control-plane-prepare/download-certs": "Download certificates shared among control-plane nodes from the kubeadm-certs Secret",
    "control-plane-prepare/certs": "Generate the certificates for the new control plane components",
    "control-plane-prepare/kubeconfig": "Generate the kubeconfig for the new control plane components",
    "control-plane-prepare/control-plane": "Generate the manifests for the new control plane components",
    "control-plane-join/etcd": "Add a new local etcd member",
    "control-plane-join/mark-control-plane": "Mark a node as a control-plane",
}


def child(phase: str, name: str) -> str:
    return _CHILDREN.get(f"{phase}/{name}", "")


def everything(phase: str) -> str:
    return _ALL.get(phase, f"Run all phases of {phase}")
