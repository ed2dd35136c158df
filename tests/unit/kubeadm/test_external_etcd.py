"""An etcd that is not kubeadm's: what is read of it, what is refused, and what is not made."""

import datetime
from pathlib import Path
from typing import Any

import pytest
import yaml

from kubette.kubeadm import documents, images, manifests, renewal, shared_certs
from kubette.kubeadm.config import Cluster, ConfigError, Local
from kubette.kubeadm.phases import certs, control_plane, preflight
from kubette.kubeadm.phases.context import Context, PhaseError

FILES = {"caFile": "/etc/kubernetes/pki/etcd/ca.crt", "certFile": "/pki/client.crt", "keyFile": "/pki/client.key"}
EXTERNAL: dict[str, Any] = {"endpoints": ["https://10.0.0.9:2379", "https://10.0.0.8:2379"], **FILES}
LOCAL = Local("controlplane", "192.168.56.11")


def load(version: str = "v1beta4", **etcd: Any) -> Cluster:
    document = {"apiVersion": f"kubeadm.k8s.io/{version}", "kind": "ClusterConfiguration", "kubernetesVersion": "v1.37.0", "etcd": etcd}
    return documents.load(yaml.safe_dump(document)).cluster()


@pytest.mark.parametrize("version", ["v1beta3", "v1beta4"])
def test_it_is_read_and_kept(version: str) -> None:
    cluster = load(version, external=EXTERNAL)
    assert cluster.etcd_external == EXTERNAL
    document = cluster.to_dict()
    assert document["etcd"] == {"external": EXTERNAL}
    assert Cluster.from_dict(document) == cluster


@pytest.mark.parametrize(
    ("etcd", "words"),
    [
        ({"external": EXTERNAL, "local": {"dataDir": "/x"}}, "mutually exclusive"),
        ({"external": EXTERNAL | {"keyFile": ""}}, "either both or none of .Etcd.External.CertFile and .Etcd.External.KeyFile must be set"),
        ({"external": EXTERNAL | {"caFile": ""}}, "requires .Etcd.External.CAFile"),
        ({"external": EXTERNAL | {"endpoints": ["http://10.0.0.9:2379"]}}, "the URL must be using the HTTPS scheme"),
        ({"external": EXTERNAL | {"endpoints": ["10.0.0.9:2379"]}}, "not a valid URL"),
        ({"external": EXTERNAL | {"certFile": "client.crt"}}, "not an absolute path"),
    ],
)
def test_what_cannot_be_is_refused(etcd: dict[str, Any], words: str) -> None:
    with pytest.raises(ConfigError, match=words):
        load(**etcd)


def test_the_api_server_goes_there_with_its_files() -> None:
    flags = manifests.apiserver_flags(load(external=EXTERNAL), LOCAL)
    assert flags["etcd-servers"] == "https://10.0.0.9:2379,https://10.0.0.8:2379"
    assert [flags[name] for name in ("etcd-cafile", "etcd-certfile", "etcd-keyfile")] == list(FILES.values())
    plain = manifests.apiserver_flags(load(external={"endpoints": ["http://10.0.0.9:2379"]}), LOCAL)
    assert not {"etcd-cafile", "etcd-certfile", "etcd-keyfile"} & plain.keys()


@pytest.mark.slow
def test_none_of_its_certificates_is_made_and_no_member(tmp_path: Path) -> None:
    lines: list[str] = []
    cluster = Cluster("v1.37.0", certificates_dir=str(tmp_path / "pki"), etcd_external=EXTERNAL)
    context = Context(cluster, LOCAL, lines.append, dry_run_directory=tmp_path / "pki")
    certs.run(context, datetime.datetime(2026, 11, 22, tzinfo=datetime.UTC))
    assert not list((tmp_path / "pki").rglob("*etcd*"))
    assert (tmp_path / "pki" / "apiserver.crt").exists()
    assert "[certs] External etcd mode: Skipping etcd/ca certificate authority generation" in lines
    assert "[certs] External etcd mode: Skipping apiserver-etcd-client certificate generation" in lines
    control_plane.run_etcd(context)
    assert not (tmp_path / "pki" / "etcd.yaml").exists()


@pytest.mark.slow
def test_its_certificates_are_not_kubeadms_to_renew(tmp_path: Path) -> None:
    certs.run(
        Context(Cluster("v1.37.0", certificates_dir=str(tmp_path)), LOCAL, lambda _: None), datetime.datetime(2026, 11, 22, tzinfo=datetime.UTC)
    )
    place = renewal.Place(tmp_path, tmp_path)
    for with_etcd in (True, False):
        leaves, authorities = renewal.findings(place, with_etcd)
        assert any("etcd" in found.name for found in (*leaves, *authorities)) == with_etcd


def test_other_control_planes_get_its_certificates_and_not_its_authority() -> None:
    shared = shared_certs.files_of(load(external=EXTERNAL), Path("/pki"))
    assert {name: str(path) for name, path in shared.items() if "etcd" in name} == {
        "external-etcd-ca.crt": FILES["caFile"],
        "external-etcd.crt": FILES["certFile"],
        "external-etcd.key": FILES["keyFile"],
    }


def test_no_image_of_it_is_needed_and_a_missing_certificate_is_told() -> None:
    cluster = load(external=EXTERNAL | {"caFile": "/nonexistent/ca.crt"})
    assert not [image for image in images.required("v1.37.0", with_etcd=False) if "etcd" in image]
    said: list[str] = []
    with pytest.raises(PhaseError) as refused:
        preflight.run(Context(cluster, LOCAL, said.append), joining=False)
    assert "[ERROR ExternalEtcdClientCertificates]: /nonexistent/ca.crt doesn't exist" in str(refused.value)
