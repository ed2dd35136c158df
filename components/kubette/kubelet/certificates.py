"""The kubelet's own certificates: the client's by TLS bootstrap and rotation, the server's self-signed (kubelet/certificate).

Bootstrap: with the credentials of the bootstrap kubeconfig a CertificateSigningRequest for `system:node:<name>` is made, approved and
signed by the cluster; key and certificate go into one file, `kubelet-client-current.pem` is a link to the newest, and the kubeconfig
points at that link. Rotation does the same with the node's own credentials when 70-90 % of the certificate's life is over.
"""

import asyncio
import datetime
import hashlib
import os
import random
import time
from pathlib import Path
from typing import Any

from kubette.apimachinery.status import ApiError
from kubette.client import kubeconfig, resources
from kubette.client.kubeconfig import ClientConfig
from kubette.client.rest import Client
from kubette.client.transport import TransportError
from kubette.component_base import logs
from kubette.component_base.run import StartupError
from kubette.kubelet.config import Config
from kubette.stdx import files
from kubette.stdx.clock import Clock

log = logs.logger(__name__)

SIGNER = "kubernetes.io/kube-apiserver-client-kubelet"
CURRENT = "kubelet-client-current.pem"
CERTIFICATE_WAIT_S = 15 * 60.0  # upstream's certificateWaitTimeout
POLL_S = 0.5
RETRY_S = 2.0
ROTATION_RETRY_S = 60.0
SERVING_DAYS = 365


class ClientCertificates:
    """The node's client certificate and where it is kept."""

    def __init__(self, config: Config, clock: Clock) -> None:
        self._config, self._clock = config, clock
        self.current = Path(config.cert_dir) / CURRENT

    # The kubeconfig

    def client_config(self) -> ClientConfig:
        """The API server and the credentials to use. Raises KubeconfigError."""
        found = kubeconfig.load(self._config.kubeconfig)
        if not self._config.rotate_certificates:
            return found
        if not self.current.exists() and found.cert_data and found.key_data:
            # kubeadm's first kubelet.conf carries the certificate itself: from now on it is ours to rotate.
            self._store((found.cert_data.rstrip("\n") + "\n" + found.key_data).encode())
        if self.current.exists():
            import dataclasses

            return dataclasses.replace(found, cert_data="", key_data="", cert_file=str(self.current), key_file=str(self.current))
        return found

    def _valid(self) -> bool:
        """Whether the kubeconfig can be used as it is."""
        if not Path(self._config.kubeconfig).exists():
            return False
        try:
            found = kubeconfig.load(self._config.kubeconfig)
            pem = found.cert_data.encode() or Path(found.cert_file).read_bytes()
        except (kubeconfig.KubeconfigError, OSError):
            return False
        return _not_after(pem) > self._clock.wall()

    # Bootstrap

    async def bootstrap(self) -> None:
        """Make sure that the kubeconfig exists and is valid. Raises StartupError if there is nothing to bootstrap with."""
        if self._valid():
            log.info("Kubeconfig exists and is valid, skipping bootstrap")
            return
        try:
            found = kubeconfig.load(self._config.bootstrap_kubeconfig)
            document = kubeconfig.read_document(self._config.bootstrap_kubeconfig)
        except kubeconfig.KubeconfigError as error:
            raise StartupError(f"failed to run Kubelet: unable to load bootstrap kubeconfig: {error}") from error
        log.info("Using bootstrap kubeconfig to generate TLS client cert, key and kubeconfig file")
        async with Client(found, "kubelet-bootstrap") as client:
            while True:
                try:
                    pem = await self._request(client)
                    break
                except (ApiError, TransportError) as error:
                    log.error("Failed to request the node's client certificate, will retry", err=error)
                    await asyncio.sleep(RETRY_S)
        self._store(pem)
        self._write_kubeconfig(document)
        log.info("Bootstrap is done", certificate=str(self.current))

    def _write_kubeconfig(self, bootstrap: dict[str, Any]) -> None:
        """The node's kubeconfig: the bootstrap's cluster, our certificate."""
        import yaml

        name = bootstrap.get("current-context")
        contexts = bootstrap.get("contexts") or [{}]
        context = next((c.get("context") or {} for c in contexts if c.get("name") == name), contexts[0].get("context") or {})
        clusters = bootstrap.get("clusters") or []
        cluster = next((c for c in clusters if c.get("name") == context.get("cluster")), clusters[0])
        credentials = {"client-certificate": str(self.current), "client-key": str(self.current)}
        document = {
            "apiVersion": "v1",
            "kind": "Config",
            "clusters": [{"name": "default-cluster", "cluster": cluster["cluster"]}],
            "contexts": [{"name": "default-context", "context": {"cluster": "default-cluster", "namespace": "default", "user": "default-auth"}}],
            "current-context": "default-context",
            "preferences": {},
            "users": [{"name": "default-auth", "user": credentials}],
        }
        path = Path(self._config.kubeconfig)
        path.parent.mkdir(parents=True, exist_ok=True)
        files.write_atomic(path, yaml.safe_dump(document, sort_keys=False), mode=0o600, durable=True)

    async def _request(self, client: Client) -> bytes:
        """A new key and its signed certificate, as one PEM. A key not yet certified is kept, so that a restart asks for the same."""
        from cryptography import x509
        from cryptography.hazmat.primitives import hashes, serialization
        from cryptography.hazmat.primitives.asymmetric import ec

        directory = Path(self._config.cert_dir)
        directory.mkdir(parents=True, exist_ok=True)
        pending = directory / "kubelet-client.key.tmp"
        key: Any = None
        if pending.exists():
            try:
                key = serialization.load_pem_private_key(pending.read_bytes(), None)
            except ValueError:
                key = None
        if key is None:
            key = ec.generate_private_key(ec.SECP256R1())
        encoding, form = serialization.Encoding.PEM, serialization.PrivateFormat.TraditionalOpenSSL
        key_pem = key.private_bytes(encoding, form, serialization.NoEncryption())
        files.write_atomic(pending, key_pem, mode=0o600)
        organization = x509.NameAttribute(x509.NameOID.ORGANIZATION_NAME, "system:nodes")
        common_name = x509.NameAttribute(x509.NameOID.COMMON_NAME, f"system:node:{self._config.node_name}")
        request = x509.CertificateSigningRequestBuilder().subject_name(x509.Name([organization, common_name])).sign(key, hashes.SHA256())
        certificate = await self._sign(client, request.public_bytes(encoding))
        pending.unlink(missing_ok=True)
        return certificate.rstrip(b"\n") + b"\n" + bytes(key_pem)

    async def _sign(self, client: Client, request_pem: bytes) -> bytes:
        """Send the request and wait until it is signed. Raises ApiError, TransportError; StartupError if it is denied."""
        import base64

        usages = ["digital signature", "client auth"]
        digest = hashlib.sha256(request_pem).digest()
        spec = {"request": base64.b64encode(request_pem).decode(), "signerName": SIGNER, "usages": usages}
        body = {"metadata": {"generateName": "csr-"}, "spec": spec}
        if self._config.bootstrap_kubeconfig and not self.current.exists():
            # A name made of the request: a kubelet that restarts while it waits asks for the same object.
            body["metadata"] = {
                "name": f"node-csr-{base64.urlsafe_b64encode(digest).decode().rstrip('=').replace('_', 'x').replace('-', 'y').lower()}"
            }
        created = await client.create(resources.CERTIFICATESIGNINGREQUESTS, "", body)
        name = created["metadata"]["name"]
        log.info("Certificate signing request was sent", csr=name)
        deadline = self._clock.monotonic() + CERTIFICATE_WAIT_S
        while self._clock.monotonic() < deadline:
            status = created.get("status") or {}
            if status.get("certificate"):
                return base64.b64decode(status["certificate"])
            for condition in status.get("conditions") or []:
                if condition["type"] in ("Denied", "Failed"):
                    reason, message = condition.get("reason", ""), condition.get("message", "")
                    raise StartupError(f"certificate signing request is not approved, reason: {reason}, message: {message}")
            await asyncio.sleep(POLL_S)
            created = await client.get(resources.CERTIFICATESIGNINGREQUESTS, "", name)
        raise TransportError(f"timed out waiting for the certificate signing request {name} to be approved and signed", definite=True)

    def _store(self, pem: bytes) -> None:
        """A new file, then the link: who reads the link sees the old pair or the new one."""
        directory = Path(self._config.cert_dir)
        directory.mkdir(parents=True, exist_ok=True)
        path = directory / f"kubelet-client-{time.strftime('%Y-%m-%d-%H-%M-%S', time.gmtime(self._clock.wall()))}.pem"
        files.write_atomic(path, pem, mode=0o600, durable=True)
        temporary = directory / f".{CURRENT}.tmp"
        temporary.unlink(missing_ok=True)
        temporary.symlink_to(path)
        os.replace(temporary, self.current)

    # Rotation

    async def rotate(self, client: Client) -> None:
        """Renew the certificate in time, for ever. The client reads the file again when it changes."""
        rng = random.Random()
        while True:
            if not self.current.exists():
                return
            begin, end = _validity(self.current.read_bytes())
            deadline = begin + (end - begin) * (0.7 + 0.2 * rng.random())
            log.info("Certificate rotation is planned", expiration=int(end), rotation=int(deadline))
            await asyncio.sleep(max(0.0, deadline - self._clock.wall()))
            try:
                self._store(await self._request(client))
                log.info("Certificate was rotated", certificate=str(self.current))
            except (ApiError, TransportError, StartupError) as error:
                log.error("Certificate request was not signed", err=error)
                await asyncio.sleep(ROTATION_RETRY_S)


def _validity(pem: bytes) -> tuple[float, float]:
    from cryptography import x509

    certificate = x509.load_pem_x509_certificate(pem)
    return certificate.not_valid_before_utc.timestamp(), certificate.not_valid_after_utc.timestamp()


def _not_after(pem: bytes) -> float:
    try:
        return _validity(pem)[1]
    except ValueError:
        return 0.0


def serving_pair(config: Config, names: tuple[str, ...], now: float) -> tuple[str, str]:
    """The server's certificate and key files: those configured, or a self-signed pair made once, as upstream makes it."""
    if config.tls_cert_file:
        return config.tls_cert_file, config.tls_key_file
    directory = Path(config.cert_dir)
    cert_file, key_file = directory / "kubelet.crt", directory / "kubelet.key"
    if cert_file.exists() and key_file.exists() and _not_after(cert_file.read_bytes()) > now:
        return str(cert_file), str(key_file)
    _make_serving_pair(cert_file, key_file, config.hostname, names, now)
    return str(cert_file), str(key_file)


def _make_serving_pair(cert_file: Path, key_file: Path, hostname: str, names: tuple[str, ...], now: float) -> None:
    import ipaddress

    from cryptography import x509
    from cryptography.hazmat.primitives import hashes, serialization
    from cryptography.hazmat.primitives.asymmetric import ec

    begin = datetime.datetime.fromtimestamp(now, datetime.UTC) - datetime.timedelta(hours=1)
    end = begin + datetime.timedelta(days=SERVING_DAYS)
    ca_key, key = ec.generate_private_key(ec.SECP256R1()), ec.generate_private_key(ec.SECP256R1())
    ca_name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, f"{hostname}-ca@{int(now)}")])
    builder = x509.CertificateBuilder().not_valid_before(begin).not_valid_after(end)
    ca = (
        builder.subject_name(ca_name)
        .issuer_name(ca_name)
        .public_key(ca_key.public_key())
        .serial_number(x509.random_serial_number())
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(ca_key, hashes.SHA256())
    )
    alternatives: list[x509.GeneralName] = [x509.DNSName(hostname)]
    for name in names:
        try:
            alternatives.append(x509.IPAddress(ipaddress.ip_address(name)))
        except ValueError:
            continue
    leaf = (
        builder.subject_name(x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, f"{hostname}@{int(now)}")]))
        .issuer_name(ca_name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .add_extension(x509.SubjectAlternativeName(alternatives), critical=False)
        .add_extension(x509.ExtendedKeyUsage([x509.oid.ExtendedKeyUsageOID.SERVER_AUTH]), critical=False)
        .sign(ca_key, hashes.SHA256())
    )
    pem = serialization.Encoding.PEM
    cert_file.parent.mkdir(parents=True, exist_ok=True)
    key_bytes = key.private_bytes(pem, serialization.PrivateFormat.TraditionalOpenSSL, serialization.NoEncryption())
    files.write_atomic(key_file, key_bytes, mode=0o600)
    files.write_atomic(cert_file, leaf.public_bytes(pem) + ca.public_bytes(pem), mode=0o644)
