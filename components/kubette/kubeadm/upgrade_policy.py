"""Pure: which upgrades are allowed, and which there are (upstream: cmd/kubeadm/app/phases/upgrade, policy.go and compute.go)."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

from kubette.api import releases
from kubette.api.releases import Release

MINORS_AT_ONCE = 1


@dataclass(frozen=True, slots=True)
class Allowed:
    """What --allow-…-upgrades permit."""

    experimental: bool = False
    candidates: bool = False

    def permits(self, release: Release) -> bool:
        return release.stage == releases.STABLE or self.experimental or (release.stage == "rc" and self.candidates)


@dataclass(frozen=True, slots=True)
class Objections:
    """`mandatory` ones stand; `skippable` ones yield to --force."""

    mandatory: tuple[str, ...] = ()
    skippable: tuple[str, ...] = ()


def objections(wanted: Release, cluster: Release, kubeadm: Release, kubelets: Iterable[str], allowed: Allowed) -> Objections:
    """What speaks against running the cluster as `wanted`."""
    mandatory: list[str] = []
    skippable: list[str] = []
    # A prerelease may break the rules on minors, by force.
    by_stage = mandatory if wanted.stage == releases.STABLE else skippable
    if wanted.minor < releases.OLDEST_MINOR:
        mandatory.append(
            f'Specified version to upgrade to "{wanted}" is equal to or lower than the minimum supported version "{cluster}". '
            "Please specify a higher version to upgrade to"
        )
    if wanted.minor > cluster.minor + MINORS_AT_ONCE:
        by_stage.append(f'Specified version to upgrade to "{wanted}" is too high; kubeadm can upgrade only {MINORS_AT_ONCE} minor version at a time')
    if wanted.minor < cluster.minor - MINORS_AT_ONCE:
        by_stage.append(
            f'Specified version to downgrade to "{wanted}" is too low; kubeadm can downgrade only {MINORS_AT_ONCE} minor version at a time'
        )
    if kubeadm < wanted:
        if wanted.minor > kubeadm.minor:
            by_stage.append(
                f'Specified version to upgrade to "{wanted}" is at least one minor release higher than the kubeadm minor release '
                f"({wanted.minor} > {kubeadm.minor}). Such an upgrade is not supported"
            )
        else:
            skippable.append(
                f'Specified version to upgrade to "{wanted}" is higher than the kubeadm version "{kubeadm}". '
                "Upgrade kubeadm first using the tool you used to install kubeadm"
            )
    if kubeadm.minor > wanted.minor:
        skippable.append(f"Kubeadm version {kubeadm} can only be used to upgrade to Kubernetes version {kubeadm.major}.{kubeadm.minor}")
    if not allowed.permits(wanted):
        skippable.append(
            f'Specified version to upgrade to "{wanted}" is an unstable version and such upgrades weren\'t allowed '
            "via setting the --allow-*-upgrades flags"
        )
    too_old = sorted({version for version in kubelets if releases.parse(version) < releases.oldest_kubelet(wanted)})
    if too_old:
        skippable.append(f"There are kubelets in this cluster that are too old that have these versions [{' '.join(too_old)}]")
    return Objections(tuple(mandatory), tuple(skippable))


def too_old(control_plane: Release, kubeadm: Release) -> str:
    """Why this kubeadm cannot deal with a control plane of that release; empty when it can. It knows its own minor line and the one before."""
    oldest = kubeadm.minor - MINORS_AT_ONCE
    if control_plane.minor >= oldest:
        return ""
    return (
        f"this version of kubeadm only supports deploying clusters with the control plane version >= {kubeadm.major}.{oldest}.0. "
        f"Current version: {control_plane}"
    )


def refusal(found: Objections, force: bool) -> str:
    """Why the version is refused, to follow its name; empty when it is not."""
    if found.mandatory:
        return (
            f"is invalid due to these fatal errors:\n\n{bullets(found.mandatory)}\n"
            "Please fix the misalignments highlighted above and try upgrading again"
        )
    if found.skippable and not force:
        return f"is invalid due to these errors:\n\n{bullets(found.skippable)}\nCan be bypassed if you pass the --force flag"
    return ""


def bullets(lines: Sequence[str]) -> str:
    return "".join(f"\t- {line}\n" for line in lines)


@dataclass(frozen=True, slots=True)
class State:
    """The versions a cluster runs: component -> version -> machines (`""` for what belongs to no machine)."""

    cluster: Release
    kubeadm: Release
    components: dict[str, dict[str, list[str]]] = field(default_factory=dict)
    kubelets: dict[str, list[str]] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Upgrade:
    """One possibility: `description` completes "Upgrade to the latest …"."""

    description: str
    target: Release
    kubeadm: Release


def skews(state: State) -> list[str]:
    """What runs too far from the API servers already, by the version-skew policy."""
    servers = [releases.parse(version) for version in state.components.get("kube-apiserver", {})] or [state.cluster]
    found = []
    if max(servers).minor - min(servers).minor > 1:
        found.append(f"the kube-apiservers are more than one minor version apart: {min(servers)} and {max(servers)}")
    for component in ("kube-controller-manager", "kube-scheduler"):
        for version, nodes in sorted(state.components.get(component, {}).items()):
            against = releases.component_skew(releases.parse(version), min(servers))
            against = against or releases.component_skew(releases.parse(version), max(servers))
            if against:
                found.append(f"{component} {version} on {' '.join(nodes)} {against}")
    for version, nodes in sorted(state.kubelets.items()):
        if releases.parse(version) < releases.oldest_kubelet(max(servers)):
            found.append(f"kubelet {version} on {' '.join(nodes)} is too old for kube-apiserver {max(servers)}")
        elif releases.is_newer_line(releases.parse(version), min(servers)):
            found.append(f"kubelet {version} on {' '.join(nodes)} must not be newer than kube-apiserver {min(servers)}")
    return found


def stable(kubeadm: Release) -> tuple[Release, Release]:
    """(the newest release that this kubeadm knows how to install, the newest there is)."""
    newest = releases.latest()
    return (newest if newest.minor <= kubeadm.minor else releases.latest(kubeadm.line)), newest


def possible(state: State, target: Release, in_series: Release, allowed: Allowed) -> list[Upgrade]:
    """The upgrade to `in_series`, the newest of the cluster's own line; then the one to `target`; then an unstable one that was allowed."""
    found: list[Upgrade] = []
    to_minor = state.cluster < target
    if target >= state.cluster:
        to_minor = in_series < target
        if state.cluster < in_series:
            found.append(Upgrade(f"version in the {state.cluster.line} series", in_series, max(in_series, state.kubeadm)))
    if to_minor:
        found.append(Upgrade("stable version", target, target if state.kubeadm < target else state.kubeadm))
    unstable = [each for each in releases.PRERELEASES if allowed.permits(each) and each > max(target, state.cluster)]
    if unstable:
        newest = max(unstable)
        found.append(Upgrade("release candidate version" if newest.stage == "rc" else "experimental version", newest, newest))
    return found
