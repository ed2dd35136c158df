"""The rows of the article this project makes true: every command and picture of it, by section. A test names its rows first: `test_e02_…`, `test_r01_r02_…`."""

import re

STYLES = ("kubeadm", "systemd")
SECTIONS = {
    "N": ("machines and their shells", 5),
    "E": ("etcd", 16),
    "A": ("kube-apiserver", 11),
    "C": ("kube-controller-manager", 9),
    "S": ("kube-scheduler", 5),
    "K": ("kubelet", 6),
    "P": ("kube-proxy", 5),
    "O": ("drain, cordon, lost nodes", 15),
    "R": ("releases and skew", 9),
    "U": ("upgrades", 21),
    "B": ("backup and restore", 20),
}
ROWS = [f"{section}{number:02}" for section, (_, count) in SECTIONS.items() for number in range(1, count + 1)]
_NAME = re.compile(r"test_((?:[a-z]\d\d_)+)")


def rows_of(test: str) -> list[str]:
    """The rows that a test's name begins with; `test_b07_b16_restore` → B07, B16."""
    found = _NAME.match(test)
    return [row.upper() for row in found[1].split("_") if row] if found else []
