"""What `kubette up --etcd external` writes: kubeadm takes it, and it fits etcd's unit."""

import datetime

import pytest
import yaml

from kubette.cli import bring_up, external_etcd, kubeadm_config
from kubette.etcd import flag_table
from kubette.init import unit_file
from kubette.kubeadm import documents
from kubette.machines import spec

NOW = datetime.datetime(2026, 1, 1, tzinfo=datetime.UTC)
SOLO = spec.plan("dev", 1, 1, "v1.37.0", etcd="external")
TRIO = spec.plan("dev", 3, 0, "v1.30.0", etcd="external")
TOKEN = "abcdef.0123456789abcdef"


@pytest.mark.parametrize("cluster", [SOLO, TRIO])
def test_kubeadm_takes_the_configuration(cluster: spec.Cluster) -> None:
    read = documents.load(yaml.safe_dump_all(kubeadm_config.configuration(cluster, TOKEN, "ab" * 32))).cluster()
    assert read.kubernetes_version == cluster.kubernetes_version
    address = cluster.etcd_members[0].address
    assert read.etcd_external["endpoints"] == [f"https://{address}:2379"]
    assert read.external_etcd_files() == [
        f"/etc/kubernetes/pki/{name}" for name in ("etcd/ca.crt", "apiserver-etcd-client.crt", "apiserver-etcd-client.key")
    ]
    assert read.control_plane_endpoint == (cluster.endpoint if len(cluster.control_planes) > 1 else "")
    command = bring_up.init_command(cluster)
    assert command[:3] == ["kubeadm", "init", "--config=/root/kubeadm-config.yaml"]
    assert ("--upload-certs" in command) == (len(cluster.control_planes) > 1)


@pytest.mark.slow
def test_the_unit_finds_its_files_and_the_authoritys_key_stays_with_etcd() -> None:
    machine = SOLO.etcd_members[0]
    pairs = external_etcd.issue(machine, NOW)
    etcd = external_etcd.etcd_tree(machine, pairs, external_etcd.unit_text())
    command = unit_file.parse(external_etcd.unit_text()).value("Service", "ExecStart").split()
    options = flag_table.flag_set().parse([word for word in command[1:] if word != "\\"])
    for path in (options.cert_file, options.key_file, options.trusted_ca_file, options.peer_cert_file, options.peer_key_file):
        assert path[1:] in etcd.files
    assert all(mode == 0o600 for path, (_, mode) in etcd.files.items() if path.endswith(".key"))
    control_plane = external_etcd.control_plane_tree(pairs)
    assert "etc/kubernetes/pki/etcd/ca.crt" in control_plane.files
    assert "etc/kubernetes/pki/etcd/ca.key" not in control_plane.files
