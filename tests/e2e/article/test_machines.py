"""Rows N01-N05: the shells that every later row assumes."""

from harness.cluster import Cluster


def test_n01_each_machine_has_its_own_name_and_files(cluster: Cluster) -> None:
    assert cluster.typed("node01", "hostname") == "node01\n"
    assert cluster.typed("node02", "hostname") == "node02\n"
    cluster.typed("node01", "touch /opt/only-here")
    try:
        assert cluster.typed("node02", "ls /opt/only-here || true") == "ls: cannot access '/opt/only-here': No such file or directory\n"
    finally:
        cluster.typed("node01", "rm /opt/only-here")
