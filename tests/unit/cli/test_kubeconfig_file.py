"""Our context goes into the user's kubeconfig and out again; nobody else's entry is touched."""

from pathlib import Path

import pytest
import yaml

from kubette.cli import kubeconfig_file
from kubette.cli.errors import CommandError

ADMIN = {
    "clusters": [{"name": "kubernetes", "cluster": {"server": "https://192.168.56.11:6443", "certificate-authority-data": "Q0E="}}],
    "users": [{"name": "kubernetes-admin", "user": {"client-certificate-data": "Qw==", "client-key-data": "Sw=="}}],
}
OTHERS = {
    "apiVersion": "v1",
    "kind": "Config",
    "clusters": [{"name": "prod", "cluster": {"server": "https://prod"}}],
    "users": [{"name": "me", "user": {"token": "secret"}}],
    "contexts": [{"name": "prod", "context": {"cluster": "prod", "user": "me"}}],
    "current-context": "prod",
    "extensions": ["kept"],
}


def test_a_context_comes_and_goes_beside_others(tmp_path: Path) -> None:
    path = tmp_path / "config"
    path.write_text(yaml.safe_dump(OTHERS))
    kubeconfig_file.add(path, kubeconfig_file.for_host(ADMIN, "kubette", 6444))
    kubeconfig_file.add(path, kubeconfig_file.for_host(ADMIN, "kubette", 6445))
    config = yaml.safe_load(path.read_text())
    assert [c["name"] for c in config["contexts"]] == ["prod", "kubette"]
    assert config["clusters"][1]["cluster"]["server"] == "https://127.0.0.1:6445"
    assert config["current-context"] == "kubette"
    assert path.stat().st_mode & 0o777 == 0o600
    kubeconfig_file.remove(path, "kubette")
    assert yaml.safe_load(path.read_text()) == OTHERS | {"current-context": ""}
    assert not path.with_name("config.lock").exists()


def test_removing_what_is_not_there_writes_nothing(tmp_path: Path) -> None:
    path = tmp_path / "config"
    kubeconfig_file.remove(path, "kubette")
    assert not path.exists()
    path.write_text("# a comment that a rewrite would lose\n" + yaml.safe_dump(OTHERS))
    kubeconfig_file.remove(path, "kubette")
    assert path.read_text().startswith("# a comment")


def test_a_file_that_is_no_kubeconfig_is_not_destroyed(tmp_path: Path) -> None:
    path = tmp_path / "config"
    path.write_text("- a list\n")
    with pytest.raises(CommandError):
        kubeconfig_file.add(path, kubeconfig_file.for_host(ADMIN, "kubette", 6443))
    assert path.read_text() == "- a list\n"


def test_a_new_context_goes_to_the_first_existing_file(tmp_path: Path) -> None:
    existing = tmp_path / "b"
    existing.write_text("")
    assert kubeconfig_file.default_path({"KUBECONFIG": f"{tmp_path}/a:{existing}:{tmp_path}/c"}) == existing
    assert kubeconfig_file.default_path({"KUBECONFIG": f"{tmp_path}/a:{tmp_path}/c"}) == tmp_path / "c"
    assert kubeconfig_file.default_path({}) == Path.home() / ".kube" / "config"


def test_the_last_other_cluster_of_ours_becomes_current_when_the_current_one_goes() -> None:
    def config(*names: str) -> dict[str, object]:
        entries = [{"name": name} for name in names]
        return {"clusters": entries, "users": entries, "contexts": entries, "current-context": names[-1]}

    assert kubeconfig_file.without(config("production", "kubette", "kubette-ha"), "kubette-ha")["current-context"] == "kubette"
    assert kubeconfig_file.without(config("production", "kubette-ha"), "kubette-ha")["current-context"] == ""  # somebody else's: never unasked
    assert kubeconfig_file.without(config("kubette", "kubette-a", "kubette-b"), "kubette-b")["current-context"] == ""
    assert kubeconfig_file.without(config("kubette-ha", "production"), "kubette-ha")["current-context"] == "production"
