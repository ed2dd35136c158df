"""Pure: certificates, keys and kubeconfigs: what has expired, what does not belong together, who may read what."""

import re
from collections.abc import Iterator
from datetime import UTC, datetime

from kubette.cli.doctor.facts import MANIFESTS, Certificate, Facts, Machine
from kubette.cli.doctor.finding import ERROR, WARNING, Condition, Seen

SOON_S = 30 * 86400.0  # kubeadm's certificates live a year; a month is time enough to notice
_PRIVATE = re.compile(r"\.key$|/pki/kubelet-client-.*\.pem$|^/etc/kubernetes/[^/]+\.conf$|\.kubeconfig$|/var/lib/(kubelet|kube-proxy)/kubeconfig$")
# Who must have signed what: certificate → CA, as kubeadm lays them out and as the hard way does.
_SIGNERS = {
    "/etc/kubernetes/pki/apiserver.crt": "/etc/kubernetes/pki/ca.crt",
    "/etc/kubernetes/pki/apiserver-kubelet-client.crt": "/etc/kubernetes/pki/ca.crt",
    "/etc/kubernetes/pki/apiserver-etcd-client.crt": "/etc/kubernetes/pki/etcd/ca.crt",
    "/etc/kubernetes/pki/etcd/server.crt": "/etc/kubernetes/pki/etcd/ca.crt",
    "/etc/kubernetes/pki/etcd/peer.crt": "/etc/kubernetes/pki/etcd/ca.crt",
    "/etc/kubernetes/pki/etcd/healthcheck-client.crt": "/etc/kubernetes/pki/etcd/ca.crt",
    "/etc/kubernetes/pki/front-proxy-client.crt": "/etc/kubernetes/pki/front-proxy-ca.crt",
    "/etc/etcd/etcd-server.crt": "/etc/etcd/ca.crt",
    "/var/lib/kubernetes/etcd-client.crt": "/var/lib/kubernetes/etcd-ca.crt",
    "/var/lib/kubernetes/kube-api-server.crt": "/var/lib/kubernetes/ca.crt",
    "/var/lib/kubelet/kubelet.crt": "/var/lib/kubelet/ca.crt",
}
_AUTHORITIES = ("/etc/kubernetes/pki/ca.crt", "/var/lib/kubernetes/ca.crt", "/var/lib/kubelet/ca.crt")
# Flag with a certificate of etcd's clients or of etcd, and the flag on the other side that must have signed it.
_TRUST = (
    ("kube-apiserver", "etcd-certfile", "etcd", "trusted-ca-file", "etcd does not know the CA of this client certificate and refuses the connection"),
    ("etcd", "cert-file", "kube-apiserver", "etcd-cafile", "kube-apiserver does not know the CA that signed etcd's serving certificate"),
    ("kube-apiserver", "kubelet-client-certificate", "kube-apiserver", "client-ca-file", "kubelets do not know the CA of this client certificate"),
)
_PAIRS = (
    ("tls-cert-file", "tls-private-key-file"),
    ("etcd-certfile", "etcd-keyfile"),
    ("cert-file", "key-file"),
    ("peer-cert-file", "peer-key-file"),
)


def _by_path(machine: Machine) -> dict[str, Certificate]:
    return {certificate.path: certificate for certificate in machine.certificates}


def _date(seconds: float) -> str:
    return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def _renewal(facts: Facts, path: str) -> str:
    if facts.style == "systemd":
        return f"openssl x509 -in {path.partition(' ')[0]} -noout -dates; sign a new one with the CA and restart what uses it"
    if "/var/lib/kubelet/pki" in path or path.startswith("/etc/kubernetes/kubelet.conf"):
        return (
            "rm /var/lib/kubelet/pki/kubelet-client-*; kubeadm init phase kubeconfig kubelet (workers: kubeadm join again); systemctl restart kubelet"
        )
    return "kubeadm certs check-expiration; kubeadm certs renew all; then restart the control plane's static pods"


def _in_use(machine: Machine) -> Iterator[Certificate]:
    """The kubelet keeps its old client certificates: the one in `kubelet-client-current.pem` counts."""
    for certificate in machine.certificates:
        if not re.search(r"/kubelet-client-\d{4}-", certificate.path):
            yield certificate


def expired(facts: Facts) -> Iterator[Seen]:
    for machine in facts.machines:
        for certificate in _in_use(machine):
            if certificate.not_after <= facts.now:
                what = (
                    "x509: certificate has expired or is not yet valid: current time " + f"{_date(facts.now)} is after {_date(certificate.not_after)}"
                )
                yield Seen(machine.name, f"{certificate.path}: {what}", f"{certificate.subject} ended", _renewal(facts, certificate.path))
            elif certificate.not_before > facts.now + 60:
                what = (
                    "x509: certificate has expired or is not yet valid: current time "
                    + f"{_date(facts.now)} is before {_date(certificate.not_before)}"
                )
                yield Seen(machine.name, f"{certificate.path}: {what}", "the clock was ahead when it was made", _renewal(facts, certificate.path))


def expiring(facts: Facts) -> Iterator[Seen]:
    for machine in facts.machines:
        for certificate in _in_use(machine):
            left = certificate.not_after - facts.now
            if 0 < left < min(SOON_S, (certificate.not_after - certificate.not_before) / 3):
                what = f"{certificate.path} expires {_date(certificate.not_after)}"
                yield Seen(machine.name, what, f"in {int(left // 86400)} days nobody accepts it any more", _renewal(facts, certificate.path))


def wrong_signer(facts: Facts) -> Iterator[Seen]:
    for machine in facts.machines:
        known = _by_path(machine)
        for path, authority in _SIGNERS.items():
            if path in known and authority in known and not _is_signed_by(known[path], known[authority], known):
                what = f"{path}: x509: certificate signed by unknown authority"
                by = (
                    f"it was signed by {known[path].signer}" if known[path].signer else f"its issuer {known[path].issuer} is not a CA of this machine"
                )
                yield Seen(machine.name, what, f"{by}, not by {authority}", f"openssl verify -CAfile {authority} {path}; {_renewal(facts, path)}")


def _is_signed_by(leaf: Certificate, authority: Certificate, known: dict[str, Certificate]) -> bool:
    """The same CA may lie in several files."""
    return leaf.signer in known and known[leaf.signer].key == authority.key


def trust(facts: Facts) -> Iterator[Seen]:
    """The certificates named by flags, whatever they are called."""
    for machine in facts.control_planes:
        known = _by_path(machine)
        for component, flag, judge, judge_flag, why in _TRUST:
            path, authority = machine.flags(component).get(flag, ""), machine.flags(judge).get(judge_flag, "")
            if path in known and authority in known and not _is_signed_by(known[path], known[authority], known):
                where = f"{MANIFESTS}/{component}.yaml" if facts.style == "kubeadm" else f"/etc/systemd/system/{component}.service"
                what = f"{component} --{flag}={path}: x509: certificate signed by unknown authority"
                yield Seen(machine.name, what, f"{why} ({judge} --{judge_flag}={authority})", f"vi {where}")


def key_mismatch(facts: Facts) -> Iterator[Seen]:
    for machine in facts.machines:
        known = _by_path(machine)
        pairs = {(path, path.removesuffix(".crt") + ".key") for path in known if path.endswith(".crt")}
        pairs |= {(p, p.replace("(client certificate)", "(client key)")) for p in known if p.endswith("(client certificate)")}
        for component in ("etcd", "kube-apiserver"):
            flags = machine.flags(component)
            pairs |= {(flags.get(certificate, ""), flags.get(key, "")) for certificate, key in _PAIRS}
        for certificate, key in sorted(pairs):
            if certificate in known and machine.keys.get(key) and machine.keys[key] != known[certificate].key:
                what = f"{certificate}, {key}: tls: private key does not match public key"
                yield Seen(machine.name, what, "certificate and key are of two different pairs", _renewal(facts, certificate))


def service_account_key(facts: Facts) -> Iterator[Seen]:
    for machine in facts.control_planes:
        apiserver, manager = machine.flags("kube-apiserver"), machine.flags("kube-controller-manager")
        verify, sign = apiserver.get("service-account-key-file", ""), apiserver.get("service-account-signing-key-file", "")
        known = dict(machine.keys) | {c.path: c.key for c in machine.certificates if c.path not in machine.keys}
        for other, who in ((sign, "kube-apiserver"), (manager.get("service-account-private-key-file", ""), "kube-controller-manager")):
            if known.get(verify) and known.get(other) and known[verify] != known[other]:
                what = f"{verify} is not the public key of {other}"
                yield Seen(
                    machine.name, what, f"tokens that {who} signs are refused: Unauthorized", f"openssl pkey -in {other} -pubout -out {verify}"
                )


def serving_names(facts: Facts) -> Iterator[Seen]:
    """kube-apiserver's certificate must carry the addresses by which it is asked."""
    for machine in facts.control_planes:
        path = machine.flags("kube-apiserver").get("tls-cert-file", "")
        certificate = _by_path(machine).get(path)
        wanted = [machine.address, facts.endpoint.rpartition(":")[0], "kubernetes.default.svc"]
        for name in dict.fromkeys(filter(None, wanted if certificate else ())):
            if certificate and name not in certificate.names:
                kind = "IP SANs" if name[0].isdigit() else "SANs"
                what = f"x509: certificate is valid for {', '.join(certificate.names)}, not {name}"
                remedy = f"rm {path.removesuffix('.crt')}.*; kubeadm init phase certs apiserver --apiserver-cert-extra-sans={name}"
                yield Seen(machine.name, what, f"{path} lacks {name} among its {kind}: clients that use it refuse the server", remedy)


def permissions(facts: Facts) -> Iterator[Seen]:
    for machine in facts.machines:
        for path, file in machine.files.items():
            if _PRIVATE.search(path) and file.text and file.mode & 0o077:
                what = f"{path}: permissions 0{file.mode:o} are too open"
                yield Seen(machine.name, what, "whoever reads this private key can act in its name", f"chmod 600 {path}")


def _kubeconfigs(machine: Machine) -> Iterator[tuple[str, str]]:
    for path, file in machine.files.items():
        found = re.search(r"^\s*server:\s*[\"']?(\S+?)[\"']?\s*$", file.text, re.MULTILINE)
        if found and "certificate-authority" in file.text and (path.endswith((".conf", "config"))):
            yield path, found[1]


def kubeconfig_server(facts: Facts) -> Iterator[Seen]:
    for machine in facts.machines:
        allowed = {f"https://{facts.endpoint}"}
        if machine.is_control_plane:
            allowed |= {f"https://{host}:6443" for host in (machine.address, "127.0.0.1", "localhost", *(m.address for m in facts.control_planes))}
        for path, server in _kubeconfigs(machine):
            if server.rstrip("/") not in allowed:
                what = f"{path}: server: {server}"
                why = f"the API server answers at https://{facts.endpoint}: whoever uses this file is told connection refused, or nothing"
                yield Seen(machine.name, what, why, f"kubectl config set-cluster kubernetes --server=https://{facts.endpoint} --kubeconfig={path}")


def kubeconfig_authority(facts: Facts) -> Iterator[Seen]:
    """A kubeconfig of another cluster, or of this one before its CA was made anew."""
    keys = {c.key for m in facts.control_planes for c in m.certificates if c.path in _AUTHORITIES}
    for machine in facts.machines if keys else ():
        for certificate in machine.certificates:
            path, _, part = certificate.path.partition(" (")
            if part == "certificate authority)" and certificate.key not in keys:
                what = f"{path}: x509: certificate signed by unknown authority"
                why = "its certificate-authority-data is not this cluster's CA: its user does not trust the API server"
                yield Seen(
                    machine.name,
                    what,
                    why,
                    f"take certificate-authority-data from another kubeconfig, or: kubeadm init phase kubeconfig {_phase(path)}",
                )


def kubeconfig_client(facts: Facts) -> Iterator[Seen]:
    authorities = {c.path: c.key for m in facts.control_planes for c in m.certificates if c.path in _AUTHORITIES}
    for machine in facts.machines:
        known = _by_path(machine)
        for certificate in machine.certificates:
            path, _, part = certificate.path.partition(" (")
            # A worker has the CA only; kubeadm does not give it the key, but the certificate is there to verify with.
            if part == "client certificate)" and authorities and any(a in known for a in _AUTHORITIES):
                if certificate.signer not in known or known[certificate.signer].key not in authorities.values():
                    what = f"{path}: You must be logged in to the server (Unauthorized)"
                    why = f"its client certificate {certificate.subject} was not signed by this cluster's CA"
                    yield Seen(machine.name, what, why, f"kubeadm init phase kubeconfig {_phase(path)}")


def _phase(path: str) -> str:
    stem = path.rpartition("/")[2].removesuffix(".conf")
    return stem if stem in ("admin", "super-admin", "kubelet", "controller-manager", "scheduler") else "admin"


CONDITIONS = (
    Condition("certificate-expired", ERROR, "a certificate has expired", expired),
    Condition("certificate-expiring", WARNING, "a certificate expires soon", expiring),
    Condition("certificate-signer-wrong", ERROR, "a certificate was signed by another CA than its readers trust", wrong_signer),
    Condition("certificate-not-trusted", ERROR, "a flag names a certificate that the other side does not trust", trust),
    Condition("certificate-key-mismatch", ERROR, "a certificate and its private key do not belong together", key_mismatch),
    Condition("service-account-key-mismatch", ERROR, "service account tokens are signed with one key and verified with another", service_account_key),
    Condition("apiserver-certificate-names", ERROR, "kube-apiserver's certificate lacks an address it is asked by", serving_names),
    Condition("key-permissions", WARNING, "a private key or kubeconfig can be read by everybody", permissions),
    Condition("kubeconfig-server-wrong", ERROR, "a kubeconfig points to a server or port where no API server is", kubeconfig_server),
    Condition("kubeconfig-ca-mismatch", ERROR, "a kubeconfig trusts another CA than this cluster's", kubeconfig_authority),
    Condition("kubeconfig-client-unknown", ERROR, "a kubeconfig's client certificate is not of this cluster", kubeconfig_client),
)
