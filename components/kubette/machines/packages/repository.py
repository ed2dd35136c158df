"""Pure: what pkgs.k8s.io serves, line by line: the packages of every release in the list of releases.

`/core:/stable:/v1.31/deb/` holds the releases v1.31.0 and later of that line, `/core:/prerelease:/v1.31/deb/` its alpha, beta and rc releases. The packages
of a line are the programs that carry the release's version, and the cri-tools and kubernetes-cni that came out with it.
"""

import re

from kubette.api import releases
from kubette.machines.packages.control_file import Stanza
from kubette.machines.packages.sources import Source

NAMES = ("cri-tools", "kubeadm", "kubectl", "kubelet", "kubernetes-cni")
HOST = "pkgs.k8s.io"
KEY_ID = "234654DA9A296436"  # of the project isv:kubernetes, which signs the indexes
REVISION = "1.1"
RELEASES_DIRECTORY = "/var/lib/kubette/releases"  # where component_base.version looks

_ADDRESS = re.compile(r"https?://pkgs\.k8s\.io/core:/(stable|prerelease):/v1\.(\d+)/deb/?")
_ABOUT = {
    "cri-tools": ("Command-line utility for interacting with a container runtime", "/usr/bin/crictl"),
    "kubeadm": ("Command-line utility for administering a Kubernetes cluster", "/usr/bin/kubeadm"),
    "kubectl": ("Command-line utility for interacting with a Kubernetes cluster", "/usr/bin/kubectl"),
    "kubelet": ("Node agent for Kubernetes clusters", "/usr/bin/kubelet"),
    "kubernetes-cni": ("Binaries required to provision kubernetes container networking", ""),
}
# The program whose release a package decides. kubectl is the official binary, as it is: its package is a number alone.
_PROGRAMS = {"cri-tools": "crictl", "kubeadm": "kubeadm", "kubelet": "kubelet"}


def package_version(release: releases.Release) -> str:
    """`1.31.0-1.1`; a tilde sorts a pre-release before the release."""
    return f"{str(release)[1:].replace('-', '~', 1)}-{REVISION}"


def stable_address(release: releases.Release) -> str:
    """The repository of a release's line."""
    return f"https://{HOST}/core:/stable:/{release.line}/deb/"


def serve(source: Source, architecture: str) -> list[Stanza] | None:
    """The Packages index at a source's address; None when there is no such repository."""
    found = _ADDRESS.fullmatch(source.uri)
    if found is None or source.suite != "/":
        return None
    minor = int(found[2])
    listed = releases.RELEASES if found[1] == "stable" else releases.PRERELEASES
    of_line = [release for release in listed if release.minor == minor]
    if not of_line:
        return None
    stanzas = [package(name, package_version(r), minor, architecture) for r in of_line for name in ("kubeadm", "kubectl", "kubelet")]
    return [*companion_packages(minor, architecture), *stanzas]


def companion_packages(minor: int, architecture: str) -> list[Stanza]:
    """cri-tools and kubernetes-cni of a line."""
    line = releases.companions(minor)
    versions = {"cri-tools": line.cri_tools, "kubernetes-cni": line.cni_plugins}
    return [package(name, f"{number}-{REVISION}", minor, architecture) for name, number in versions.items()]


def package(name: str, package_version: str, minor: int, architecture: str) -> Stanza:
    """The index's stanza of one package."""
    depends = {"kubelet": "kubernetes-cni (>= 1.2.0)", "kubeadm": "cri-tools (>= 1.30.0)" if minor < 32 else ""}.get(name, "")
    return {
        "Package": name,
        "Priority": "optional",
        "Section": "net" if name in ("kubelet", "kubernetes-cni") else "admin",
        "Maintainer": "Kubernetes Authors <dev@kubernetes.io>",
        "Architecture": architecture,
        "Version": package_version,
        **({"Depends": depends} if depends else {}),
        "Filename": f"{architecture}/{name}_{package_version}_{architecture}.deb",
        "Description": f"{_ABOUT[name][0]}\n {_ABOUT[name][0]}.",
        "Homepage": "https://kubernetes.io",
    }


def content(stanza: Stanza) -> dict[str, str]:
    """The files a package brings: the release of its program. (The program itself is there for all releases.)"""
    program = _PROGRAMS.get(stanza["Package"])
    number = "v" + stanza["Version"].rpartition("-")[0].replace("~", "-")
    return {f"{RELEASES_DIRECTORY}/{program}": number + "\n"} if program else {}


def paths(stanza: Stanza) -> list[str]:
    """What `dpkg -L` lists."""
    program = _ABOUT[stanza["Package"]][1]
    return [path for path in (program, *content(stanza)) if path]
