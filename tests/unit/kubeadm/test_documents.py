"""The file of --config: what is refused, what v1beta3 becomes, what the defaults are."""

from pathlib import Path

import pytest
import yaml

from kubette.kubeadm import documents, manifests
from kubette.kubeadm.cli import main
from kubette.kubeadm.config import Cluster, ConfigError, Local

V1BETA3 = """
apiVersion: kubeadm.k8s.io/v1beta3
kind: ClusterConfiguration
kubernetesVersion: v1.36.0
apiServer:
  certSANs: [api.example]
  extraArgs: {v: "4", audit-log-path: /var/log/audit.log}
  extraVolumes:
  - {name: audit, hostPath: /var/log, mountPath: /logs, pathType: DirectoryOrCreate}
etcd:
  local: {dataDir: /data/etcd}
---
apiVersion: kubeadm.k8s.io/v1beta3
kind: InitConfiguration
nodeRegistration:
  kubeletExtraArgs: {node-labels: zone=a}
"""
HEAD = "apiVersion: kubeadm.k8s.io/v1beta4\nkind: ClusterConfiguration\nkubernetesVersion: v1.37.0\n"


@pytest.mark.parametrize(
    ("text", "words"),
    [
        (HEAD + "podSubnet: 10.0.0.0/8\n", 'Kind:"ClusterConfiguration"}: strict decoding error: unknown field "podSubnet"'),
        (HEAD + "networking: {podCidr: x, podSubnets: y}\n", 'unknown field "networking.podCidr", unknown field "networking.podSubnets"'),
        (
            HEAD + "apiServer: {extraArgs: {v: '4'}}\n",
            "json: cannot unmarshal object into Go struct field ClusterConfiguration.apiServer.extraArgs of type slice",
        ),
        (HEAD + "clusterName: 5\n", "cannot unmarshal number into Go struct field ClusterConfiguration.clusterName of type string"),
        (HEAD + "encryptionAlgorithm: ECDSA-P256\n", 'encryptionAlgorithm: Unsupported value: "ECDSA-P256": supported values: "RSA-2048"'),
        (HEAD + "certificateValidityPeriod: 5 days\n", 'certificateValidityPeriod: Invalid value: "5 days"'),
        (HEAD + "---\n" + HEAD, 'kind "ClusterConfiguration" is specified twice'),
        ("kind: ClusterConfiguration\n", "kind and apiVersion is mandatory information"),
        ("apiVersion: kubeadm.k8s.io/v1beta1\nkind: ClusterConfiguration\n", 'uses an old API spec: "kubeadm.k8s.io/v1beta1"'),
        ("apiVersion: v1\nkind: Pod\n", "no InitConfiguration, ClusterConfiguration or JoinConfiguration kind was found"),
        ("a: [", "error converting YAML to JSON"),
    ],
)
def test_what_is_not_a_configuration_is_refused_by_name(text: str, words: str) -> None:
    with pytest.raises(ConfigError) as caught:
        documents.load(text).cluster()
    assert words in str(caught.value)


def test_v1beta3_reaches_the_manifests_in_v1beta4s_form() -> None:
    loaded = documents.load(V1BETA3)
    assert "uses a deprecated API spec" in loaded.warnings[0]
    cluster = loaded.cluster()
    assert loaded.by_kind["InitConfiguration"]["nodeRegistration"]["kubeletExtraArgs"] == [{"name": "node-labels", "value": "zone=a"}]
    pod = manifests.kube_apiserver(cluster, Local("cp", "192.168.56.11"))
    container = pod["spec"]["containers"][0]
    assert "--v=4" in container["command"]
    assert {"mountPath": "/logs", "name": "audit"} in container["volumeMounts"]
    assert {"hostPath": {"path": "/var/log", "type": "DirectoryOrCreate"}, "name": "audit"} in pod["spec"]["volumes"]
    assert "--data-dir=/data/etcd" in manifests.etcd(cluster, Local("cp", "192.168.56.11"), {})["spec"]["containers"][0]["command"]


def test_what_is_stored_is_read_back_the_same() -> None:
    cluster = documents.load(V1BETA3).cluster()
    assert Cluster.from_dict(yaml.safe_load(documents.dump([cluster.to_dict()]))) == cluster


def test_printed_defaults_are_valid_and_migrate_to_themselves(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for kind in ("init", "join"):
        assert main(["config", "print", f"{kind}-defaults"]) == 0
        text = capsys.readouterr().out
        (tmp_path / "file.yaml").write_text(text)
        assert main(["config", "validate", f"--config={tmp_path / 'file.yaml'}"]) == 0
        assert capsys.readouterr().out == "ok\n"
        assert main(["config", "migrate", f"--old-config={tmp_path / 'file.yaml'}"]) == 0
        assert capsys.readouterr().out == text


def test_migrate_writes_the_new_file(tmp_path: Path) -> None:
    (tmp_path / "old.yaml").write_text(V1BETA3)
    assert main(["config", "migrate", f"--old-config={tmp_path / 'old.yaml'}", f"--new-config={tmp_path / 'new.yaml'}"]) == 0
    kinds = [(d["apiVersion"], d["kind"]) for d in yaml.safe_load_all((tmp_path / "new.yaml").read_text())]
    assert kinds == [("kubeadm.k8s.io/v1beta4", "ClusterConfiguration"), ("kubeadm.k8s.io/v1beta4", "InitConfiguration")]


@pytest.mark.parametrize(
    ("label", "release"), [("1.36.0", "v1.36.0"), ("stable-1.31", "v1.31.14"), ("stable", "v1.37.1"), ("latest-1.32", "v1.32.13")]
)
def test_labels_of_releases_are_resolved(label: str, release: str) -> None:
    assert documents.resolve_version(label) == release
