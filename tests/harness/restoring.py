"""`kubette backup` and `kubette restore` driven through a whole story, on a cluster of any shape: nothing lost unsaid, interrupted, finished."""

import json
import re
import subprocess
from pathlib import Path

from harness import judges
from harness.cluster import Cluster
from harness.eventually import eventually


def section(said: str, title: str) -> list[str]:
    """The names below a title that ends with a count and a colon."""
    found = re.search(rf"^{re.escape(title)} \((\d+)\):\n((?:  .*\n)+)", said, re.MULTILINE)
    return [line.strip() for line in found[2].splitlines()] if found else []


def backed_up(cluster: Cluster, file: Path) -> None:
    """A verified snapshot, which the real etcdctl reads alike."""
    said = cluster("backup", str(file))
    shown = re.fullmatch(
        rf"{re.escape(str(file))}: revision (\d+), (\d+) keys, hash ([0-9a-f]+), \d+ bytes; verified \(hash of the keys [0-9a-f]+\)\n", said
    )
    assert shown, said
    assert file.stat().st_mode & 0o777 == 0o600
    if (etcdctl := judges.find("etcdctl")) is not None:
        line = [etcdctl, "snapshot", "status", str(file), "-w", "json"]
        status = json.loads(subprocess.run(line, capture_output=True, check=True, env={"ETCDCTL_API": "3"}).stdout)
        assert (status["revision"], f"{status['hash']:x}") == (int(shown[1]), shown[3])


def story(cluster: Cluster, folder: Path) -> None:
    kubectl, file = cluster.kubectl, folder / "backup.db"
    kubectl("create", "configmap", "treasure", "--from-literal=gold=yes")
    kubectl("create", "configmap", "changed", "--from-literal=at=first")
    backed_up(cluster, file)
    kubectl("delete", "configmap", "treasure")
    kubectl("create", "configmap", "later")
    kubectl("patch", "configmap", "changed", "--patch", '{"data": {"at": "second"}}')

    # What would be lost is said, and nothing done without a yes.
    said = cluster("restore", str(file), "--dry-run")
    assert "configmaps default/later" in section(said, "Newer than the snapshot, and lost")
    assert "configmaps default/changed" in section(said, "Changed since, and taken back")
    assert "configmaps default/treasure" in section(said, "Deleted since, and there again")
    assert "Stopping etcd (" in said
    refused = cluster.run("restore", str(file), stdin="n\n")
    assert (refused.returncode, refused.stdout.endswith("aborted: nothing was changed\n")) == (1, True), refused.stdout
    assert "configmap/later" in kubectl("get", "configmap", "later", "-o", "name")
    bad = folder / "bad.db"
    bad.write_bytes(file.read_bytes()[:-1] + b"x")
    assert "expected sha256 [" in cluster.run("restore", str(bad), "--yes").stderr

    # Killed half way, with etcd stopped everywhere, and finished by typing it again.
    journal = cluster.home / cluster.name / "restore.json"
    process = subprocess.Popen(
        cluster.command("restore", str(file), "--yes"), stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True, env=cluster.environment
    )
    eventually(lambda: json.loads(journal.read_text())["done"], lambda done: "stop-etcd" in done or process.poll() is not None, 120)
    assert process.poll() is None, process.communicate()[1]
    process.kill()
    process.communicate()
    assert "a restore of" in cluster.run("restore", str(bad)).stderr
    done = cluster.run("restore", timeout_s=180)
    assert done.returncode == 0, done.stderr
    assert f"Going on with the restore of {file}" in done.stderr
    assert "✓ Comparing with the snapshot" in done.stderr
    assert not journal.exists()
    names = kubectl("get", "configmaps", "-o", "name").split()
    assert "configmap/treasure" in names
    assert "configmap/later" not in names
    assert kubectl.jsonpath("{.data.at}", "configmap", "changed") == "first"
    # Everybody lists again and goes on: a new deployment gets its replica set from a controller.
    kubectl("create", "deployment", "after", "--image=nginx", "--replicas=1")
    eventually(lambda: kubectl("get", "replicasets", "-l", "app=after", "-o", "name"), timeout_s=60, what="controllers go on")
    kubectl("delete", "deployment", "after")
    kubectl("delete", "configmap", "treasure", "changed")
