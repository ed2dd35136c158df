"""Addresses on disk, and paths that stay inside a root."""

from pathlib import Path

import pytest

from kubette.runtime import ipam, rootfs
from kubette.runtime.errors import CriError


def test_addresses_go_round_survive_a_restart_and_end(tmp_path: Path) -> None:
    def subnet() -> ipam.HostLocal:
        return ipam.HostLocal(tmp_path, "10.244.1.0/29")

    assert subnet().gateway == "10.244.1.1"
    assert [subnet().reserve(f"pod{n}") for n in range(5)] == [f"10.244.1.{n}" for n in (2, 3, 4, 5, 6)]
    with pytest.raises(CriError, match="no IP addresses available in range set"):
        subnet().reserve("late")
    subnet().release("pod1")
    assert subnet().reserve("pod2") == "10.244.1.4"
    assert subnet().reserve("late") == "10.244.1.3"


def test_a_released_address_is_not_the_next_one_handed_out(tmp_path: Path) -> None:
    addresses = ipam.HostLocal(tmp_path, "10.244.1.0/24")
    addresses.reserve("a")
    addresses.release("a")
    assert addresses.reserve("b") == "10.244.1.3"


def test_no_link_in_a_container_leads_out_of_it(tmp_path: Path) -> None:
    root = tmp_path / "root"
    (root / "var").mkdir(parents=True)
    (root / "var" / "run").symlink_to("/run")
    (root / "up").symlink_to("../../../..")
    (root / "loop").symlink_to("loop")
    assert rootfs.inside(str(root), "/var/run/secrets") == f"{root}/run/secrets"
    assert rootfs.inside(str(root), "/up/etc/passwd") == f"{root}/etc/passwd"
    assert rootfs.inside(str(root), "/../../etc") == f"{root}/etc"
    with pytest.raises(OSError, match="symbolic links"):
        rootfs.inside(str(root), "/loop/x")


def test_directories_that_an_image_writes_into_are_made_in_the_upper_layer(tmp_path: Path) -> None:
    """The kernel copies up no directory of an owner that the user namespace does not map: the host's root, for an ordinary user."""
    lower, upper = tmp_path / "usr", tmp_path / "upper"
    (lower / "share/doc").mkdir(parents=True)
    (lower / "share").chmod(0o711)
    (lower / "bin").mkdir()
    (lower / "sbin").symlink_to("bin")
    upper.mkdir()
    rootfs._own_directories(str(lower), str(upper), [f"{lower}/share/nginx/html/index.html", f"{lower}/sbin/nginx", "/etc/nginx/nginx.conf"])
    assert sorted(str(p.relative_to(upper)) for p in upper.rglob("*")) == ["share"]
    assert (upper / "share").stat().st_mode & 0o777 == 0o711
