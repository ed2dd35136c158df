"""What `kubette up --style systemd` writes: it fits together, and each program takes what its unit gives it."""

import datetime
import re
from pathlib import Path
from typing import Any

import pytest
import yaml
from cryptography import x509

from kubette.cli import diagnosis, hard_way, hard_way_certificates, hard_way_files, kubeadm_config, tree_writer
from kubette.component_base.flags import FlagSet
from kubette.etcd import flag_table
from kubette.init import unit_file
from kubette.kube_apiserver import config as apiserver_config
from kubette.kube_controller_manager import config as kcm_config
from kubette.kube_proxy import config as proxy_config
from kubette.kube_scheduler import config as scheduler_config
from kubette.kubelet import config as kubelet_config
from kubette.machines import spec

NOW = datetime.datetime(2026, 1, 1, tzinfo=datetime.UTC)
SOLO = spec.plan("dev", 1, 1, "v1.37.0", "systemd")
TRIO = spec.plan("dev", 3, 1, "v1.37.0", "systemd")
UNITS = hard_way.unit_texts()
FLAGS: dict[str, FlagSet] = {
    "etcd": flag_table.flag_set(),
    "kube-apiserver": apiserver_config.flag_set(),
    "kube-controller-manager": kcm_config.flag_set(),
    "kube-scheduler": scheduler_config.flag_set(),
    "kubelet": kubelet_config.flag_set((1, 37)),
    "kube-proxy": proxy_config.flag_set(),
}


def dummy_pairs(cluster: spec.Cluster) -> hard_way_files.Pairs:
    stems = [*hard_way_certificates.AUTHORITIES, *(leaf.stem for leaf in hard_way_certificates.leaves(cluster))]
    return {stem: (f"certificate {stem}".encode(), f"key {stem}".encode()) for stem in stems}


def tree(cluster: spec.Cluster, name: str) -> hard_way_files.Tree:
    return hard_way_files.tree(cluster, cluster.machine(name), dummy_pairs(cluster), UNITS, kubeadm_config.audit_policy())


def command(made: hard_way_files.Tree, program: str) -> list[str]:
    """The command line of the unit of `program`, as its machine's drop-in makes it."""
    unit = unit_file.parse(made.files[f"etc/systemd/system/{program}.service"][0].decode())
    drop_in = made.files.get(f"etc/systemd/system/{program}.service.d/10-machine.conf", (b"", 0))[0].decode()
    unit.extend(unit_file.parse(drop_in))
    environment = dict(word.split("=", 1) for value in unit.values("Service", "Environment") for word in unit_file.split_words(value))
    (one,) = unit_file.parse_exec(unit.value("Service", "ExecStart"))
    return unit_file.expand_environment(one.argv, environment)


def options(made: hard_way_files.Tree, program: str) -> Any:
    return FLAGS[program].parse(command(made, program)[1:])


def test_each_program_knows_the_flags_of_its_unit() -> None:
    made = tree(TRIO, "controlplane02")
    for program in FLAGS:
        assert command(made, program)[0] == f"/usr/local/bin/{program}"
        options(made, program)
    etcd = options(made, "etcd")
    assert etcd.name == "controlplane02"
    assert etcd.initial_cluster == (
        "controlplane=https://192.168.56.11:2380,controlplane02=https://192.168.56.12:2380,controlplane03=https://192.168.56.13:2380"
    )
    apiserver = options(made, "kube-apiserver")
    assert apiserver.advertise_address == "192.168.56.12"
    assert apiserver.etcd_servers[0] == "https://127.0.0.1:2379"
    assert len(apiserver.etcd_servers) == 3


def test_every_file_that_a_unit_or_a_configuration_names_is_there() -> None:
    made = tree(TRIO, "controlplane03")
    texts = [content.decode() for path, (content, _) in made.files.items() if path.endswith((".service", ".yaml"))]
    named = {name for text in texts for name in re.findall(r"(?:/etc/etcd|/etc/kubernetes|/var/lib/kube\w+|/var/lib/kube-proxy)/[\w./-]+", text)}
    assert len(named) > 15
    assert {name for name in named if name[1:] not in made.files} == set()


def test_a_worker_has_its_kubelet_and_kube_proxy_and_no_key_of_an_authority() -> None:
    made = tree(SOLO, "node01")
    assert {Path(name).name for name in made.files if name.endswith(".service")} == set(hard_way_files.NODE_UNITS)
    assert not any("ca.key" in name or name.startswith(("etc/etcd", "var/lib/kubernetes")) for name in made.files)
    assert b"taint" not in made.files["var/lib/kubelet/kubelet-config.yaml"][0].lower()


@pytest.mark.parametrize("name", ["controlplane", "node01"])
def test_what_is_secret_is_for_root_alone(name: str) -> None:
    for path, (_, mode) in tree(SOLO, name).files.items():
        assert mode == (0o600 if path.endswith((".key", "kubeconfig")) else 0o644), path


def test_the_drop_in_of_the_kubeadm_packages_has_no_say() -> None:
    assert tree(SOLO, "node01").links["etc/systemd/system/kubelet.service.d/10-kubeadm.conf"] == "/dev/null"


def test_the_configurations_are_what_their_programs_read(tmp_path: Path) -> None:
    made = tree(SOLO, "controlplane")

    def with_file(program: str, path: str) -> Any:
        (tmp_path / program).write_bytes(made.files[path][0])
        chosen = options(made, program)
        assert chosen.config == f"/{path}"
        chosen.config = str(tmp_path / program)
        return chosen

    scheduler = with_file("kube-scheduler", "etc/kubernetes/config/kube-scheduler.yaml")
    assert scheduler_config.scheduler_names(scheduler) == ["default-scheduler"]
    assert scheduler.kubeconfig == "/var/lib/kubernetes/kube-scheduler.kubeconfig"
    proxy = proxy_config.load(with_file("kube-proxy", "var/lib/kube-proxy/kube-proxy-config.yaml"))
    assert proxy.kubeconfig == "/var/lib/kube-proxy/kubeconfig"
    chosen = with_file("kubelet", "var/lib/kubelet/kubelet-config.yaml")
    text = (tmp_path / "kubelet").read_text().replace("/var/lib/kubelet/ca.crt", str(tmp_path / "ca.crt"))
    (tmp_path / "kubelet").write_text(text)
    (tmp_path / "ca.crt").touch()  # the kubelet looks whether it is there
    kubelet = kubelet_config.load(chosen)
    assert kubelet.tls_cert_file == "/var/lib/kubelet/kubelet.crt"
    assert [t["key"] for t in kubelet.taints] == ["node-role.kubernetes.io/control-plane"]


def test_kubelets_of_several_control_planes_go_through_the_load_balancer() -> None:
    kubeconfig = yaml.safe_load(tree(TRIO, "node01").files["var/lib/kubelet/kubeconfig"][0])
    assert kubeconfig["clusters"][0]["cluster"]["server"] == "https://192.168.56.10:6443"


@pytest.mark.slow
def test_certificates_are_issued_by_their_authority_to_whom_they_name() -> None:
    pairs = {stem: x509.load_pem_x509_certificate(pair[0]) for stem, pair in hard_way_certificates.issue(SOLO, NOW).items()}
    for leaf in hard_way_certificates.leaves(SOLO):
        pairs[leaf.stem].verify_directly_issued_by(pairs[leaf.authority])
        # OpenSSL compares names without case: a leaf named like its issuer counts as self-signed.
        assert pairs[leaf.stem].subject.rfc4514_string().casefold() != pairs[leaf.authority].subject.rfc4514_string().casefold()
    assert pairs["kubelet/node01"].subject.rfc4514_string() == "CN=system:node:node01,O=system:nodes"
    names = pairs["kube-api-server"].extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    assert {str(address) for address in names.get_values_for_type(x509.IPAddress)} >= {"10.96.0.1", "127.0.0.1", "192.168.56.10", "192.168.56.11"}


def test_a_unit_that_failed_is_told_from_one_that_runs() -> None:
    at = "Nov 23 00:00:03 controlplane"
    assert not diagnosis.has_failed([f"{at} systemd[1]: Started etcd.service - etcd.", f"{at} etcd[4]: etcd.service: Failed with result"])
    assert diagnosis.has_failed([f"{at} systemd[1]: etcd.service: Failed with result 'exit-code'."])
    assert diagnosis.has_failed([f"{at} systemd[1]: Failed to start etcd.service - etcd."])


def test_what_is_written_is_on_the_machine(tmp_path: Path) -> None:
    made = tree(SOLO, "controlplane")
    for _ in range(2):  # again where it was interrupted
        tree_writer.write(tmp_path, made)
    assert (tmp_path / "var/lib/kubernetes/ca.key").read_bytes() == b"key ca"
    assert (tmp_path / "etc/systemd/system/multi-user.target.wants/etcd.service").readlink() == Path("/etc/systemd/system/etcd.service")
    assert yaml.safe_load((tmp_path / "root/.kube" / ".." / ".." / SOLO.admin_kubeconfig).read_text())["users"][0]["name"] == "admin"
