"""Pure: the files of a new machine that its packages left there: installed as a release, with that line's repository in the lists."""

from kubette.api import releases
from kubette.machines.packages import control_file, dpkg_status, repository, sources

LIST_FILE = "etc/apt/sources.list.d/kubernetes.list"
KEYRING = "etc/apt/keyrings/kubernetes-apt-keyring.gpg"
_KEYRING_TEXT = "This stands for the key of https://pkgs.k8s.io: kubette serves its packages from the list of releases, without a network.\n"


def files(kubernetes_version: str, architecture: str) -> dict[str, tuple[str, int]]:
    """Path (relative to the machine's root) to text and mode."""
    release = releases.parse(kubernetes_version)
    line = f"deb [signed-by=/{KEYRING}] {repository.stable_address(release)} /\n"
    number = repository.package_version(release)
    packages = [repository.package(name, number, release.minor, architecture) for name in ("kubeadm", "kubectl", "kubelet")]
    packages += repository.companion_packages(release.minor, architecture)
    packages.sort(key=lambda package: package["Package"])
    found = {
        LIST_FILE: line,
        KEYRING: _KEYRING_TEXT,
        "var/lib/dpkg/status": control_file.render(dpkg_status.installed(package) for package in packages),
        f"{repository.RELEASES_DIRECTORY[1:]}/default": f"{release}\n",
    }
    for package in packages:
        found[f"var/lib/dpkg/info/{package['Package']}.list"] = "".join(f"{path}\n" for path in repository.paths(package))
        found |= {path[1:]: text for path, text in repository.content(package).items()}
    for source in sources.parse(line, LIST_FILE):
        found[f"var/lib/apt/lists/{source.index_file}"] = control_file.render(repository.serve(source, architecture) or [])
    return {path: (text, 0o644) for path, text in found.items()}
