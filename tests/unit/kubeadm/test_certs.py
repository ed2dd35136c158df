"""`kubeadm certs`: what it says about expiry, and what renewal keeps and changes."""

import base64
import datetime
import json
import subprocess
from pathlib import Path

import pytest
import yaml

from kubette.kubeadm import config, expiration, pki, renewal, tables
from kubette.kubeadm.cli import main
from kubette.kubeadm.config import Cluster, Local
from kubette.kubeadm.expiration import Finding
from kubette.kubeadm.phases import certs, kubeconfig
from kubette.kubeadm.phases.context import Context

NOW = datetime.datetime(2026, 11, 22, 23, 36, tzinfo=datetime.UTC)


@pytest.fixture(scope="module")
def machine(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A control plane's files, as init makes them; made once, because keys take their time."""
    root = tmp_path_factory.mktemp("kubernetes")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(config, "KUBERNETES_DIR", str(root))
        context = Context(Cluster("v1.37.0", certificates_dir=str(root / "pki")), Local("controlplane", "192.168.56.11"), lambda _: None)
        certs.run(context, NOW)
        kubeconfig.run(context, NOW)
    return root


@pytest.fixture
def place(machine: Path, tmp_path: Path) -> renewal.Place:
    subprocess.run(["cp", "-a", f"{machine}/.", str(tmp_path)], check=True)
    return renewal.Place(tmp_path / "pki", tmp_path)


def openssl(*args: str) -> str:
    return subprocess.run(["openssl", *args], capture_output=True, text=True, check=True).stdout


def test_report_is_upstreams_two_tables() -> None:
    year = NOW + datetime.timedelta(days=364, hours=23)
    leaves = [
        Finding("admin.conf", "ca", year),
        Finding("apiserver-kubelet-client", "ca", year, external=True),
        Finding("etcd-peer", "etcd-ca", None),
    ]
    text = expiration.report(leaves, [Finding("ca", "", NOW + datetime.timedelta(days=3649))], NOW)
    assert text.splitlines() == [
        "CERTIFICATE                EXPIRES                  RESIDUAL TIME   CERTIFICATE AUTHORITY   EXTERNALLY MANAGED",
        "admin.conf                 Nov 22, 2027 22:36 UTC   364d            ca                      no      ",
        "apiserver-kubelet-client   Nov 22, 2027 22:36 UTC   364d            ca                      yes     ",
        "!MISSING! etcd-peer                                                                         ",
        "",
        "CERTIFICATE AUTHORITY   EXPIRES                  RESIDUAL TIME   EXTERNALLY MANAGED",
        "ca                      Nov 18, 2036 23:36 UTC   9y              no      ",
    ]


@pytest.mark.parametrize(
    ("seconds", "text"), [(-5, "<invalid>"), (-0.5, "0s"), (59, "59s"), (3599, "59m"), (86399, "23h"), (86400 * 364, "364d"), (86400 * 3649, "9y")]
)
def test_residual_time_is_in_the_largest_whole_unit(seconds: float, text: str) -> None:
    assert tables.short_duration(seconds) == text


@pytest.mark.slow
def test_renewal_keeps_names_and_changes_key_and_date(place: renewal.Place) -> None:
    before = {managed.name: place.read(managed) for managed in expiration.MANAGED}
    said: list[str] = []
    renewal.renew(place, list(expiration.MANAGED), NOW + datetime.timedelta(days=100), said.append)
    assert said[1] == "certificate for serving the Kubernetes API renewed"
    assert len(said) == len(expiration.MANAGED)
    for managed in expiration.MANAGED:
        old, new = before[managed.name], place.read(managed)
        assert old is not None
        assert new is not None
        assert new.subject == old.subject
        assert new.public_key() != old.public_key()
        assert new.not_valid_after_utc - old.not_valid_after_utc == datetime.timedelta(days=100)
    certificate = str(place.certificates / "apiserver.crt")
    moment = str(int((NOW + datetime.timedelta(days=400)).timestamp()))
    openssl("verify", "-attime", moment, "-purpose", "sslserver", "-CAfile", str(place.certificates / "ca.crt"), certificate)
    assert "IP Address:192.168.56.11" in openssl("x509", "-in", certificate, "-noout", "-ext", "subjectAltName")


def test_a_renewed_kubeconfig_file_holds_a_key_that_fits_its_certificate(place: renewal.Place) -> None:
    chosen = [managed for managed in expiration.MANAGED if managed.name == "admin.conf"]
    server = yaml.safe_load((place.kubernetes_dir / "admin.conf").read_text())["clusters"][0]["cluster"]["server"]
    renewal.renew(place, chosen, NOW, lambda _: None)
    document = yaml.safe_load((place.kubernetes_dir / "admin.conf").read_text())
    user = document["users"][0]["user"]
    for name in ("client-certificate-data", "client-key-data"):
        (place.kubernetes_dir / name).write_bytes(base64.b64decode(user[name]))
    public = openssl("x509", "-in", str(place.kubernetes_dir / "client-certificate-data"), "-noout", "-pubkey")
    assert public == openssl("pkey", "-in", str(place.kubernetes_dir / "client-key-data"), "-pubout")
    assert document["clusters"][0]["cluster"]["server"] == server


def test_an_authority_without_its_key_renews_nothing(place: renewal.Place) -> None:
    (place.certificates / "ca.key").unlink()
    before = (place.certificates / "apiserver.crt").read_bytes()
    said: list[str] = []
    renewal.renew(place, [managed for managed in expiration.MANAGED if managed.name in ("apiserver", "front-proxy-client")], NOW, said.append)
    assert said == [
        "Detected external ca, certificate for serving the Kubernetes API can't be renewed",
        "certificate for the front proxy client renewed",
    ]
    assert (place.certificates / "apiserver.crt").read_bytes() == before


def test_check_expiration_works_without_a_cluster(place: renewal.Place, capsys: pytest.CaptureFixture[str]) -> None:
    words = ["certs", "check-expiration", f"--cert-dir={place.certificates}", "--kubeconfig=/nonexistent"]
    assert main(words) == 0
    text = capsys.readouterr().out
    assert "[check-expiration] Error reading configuration from the Cluster. Falling back to default configuration" in text
    assert any(line.split()[:1] == ["etcd-server"] for line in text.splitlines())
    assert main([*words, "-o", "json"]) == 0
    document = json.loads(capsys.readouterr().out)
    assert {entry["name"] for entry in document["certificateAuthorities"]} == {"ca", "etcd-ca", "front-proxy-ca"}


def test_renewing_an_unknown_certificate_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["certs", "renew", "kubelet.conf"]) == 1
    assert 'unknown command "kubelet.conf" for "kubeadm certs renew"' in capsys.readouterr().err


def test_kubeconfig_user_makes_a_client_of_its_organizations(place: renewal.Place, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["kubeconfig", "user"]) == 1
    assert 'required flag(s) "client-name" not set' in capsys.readouterr().err
    file = tmp_path / "cluster.yaml"
    file.write_text(
        "apiVersion: kubeadm.k8s.io/v1beta4\nkind: ClusterConfiguration\nkubernetesVersion: v1.37.0\n"
        f"controlPlaneEndpoint: api.example:6443\ncertificatesDir: {place.certificates}\n"
    )
    words = ["kubeconfig", "user", f"--config={file}", "--client-name=jane", "--org=dev,ops", "--validity-period=10h"]
    assert main(words) == 0
    document = yaml.safe_load(capsys.readouterr().out)
    assert document["clusters"][0]["cluster"]["server"] == "https://api.example:6443"
    (tmp_path / "jane.crt").write_bytes(base64.b64decode(document["users"][0]["user"]["client-certificate-data"]))
    assert openssl("x509", "-in", str(tmp_path / "jane.crt"), "-noout", "-subject").strip() == "subject=O = dev, O = ops, CN = jane"
    certificate = pki.load_certificate(tmp_path / "jane.crt")
    left = certificate.not_valid_after_utc - datetime.datetime.now(datetime.UTC)
    assert datetime.timedelta(hours=9) < left <= datetime.timedelta(hours=10)
