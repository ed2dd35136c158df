"""etcd's flags of security: which certificates are made, shown and let in, by which versions and ciphers. See test_etcd_flags.py."""

import asyncio
import datetime
import socket
import ssl
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.x509.oid import NameOID

from harness import etcd_processes as etcd
from harness import pki
from harness.etcd_cluster import WAIT_S
from harness.etcd_processes import OURS, Member
from harness.eventually import eventually

pytestmark = pytest.mark.slow
flag = pytest.mark.flag
REQUEST = b"GET /version HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n"


@dataclass(frozen=True)
class Ports:
    client: int
    peer: int
    member: Member


@contextmanager
def secured(directory: Path, *flags: str, more_members: str = "") -> Iterator[Ports]:
    """A member with https on both sides."""
    client, peer = etcd.free_ports(2)
    urls = f"https://127.0.0.1:{client}", f"https://127.0.0.1:{peer}"
    where = [f"--listen-client-urls={urls[0]}", f"--advertise-client-urls={urls[0]}", f"--listen-peer-urls={urls[1]}"]
    where += [f"--initial-advertise-peer-urls={urls[1]}", f"--initial-cluster=m0={urls[1]}{more_members}"]
    member = Member(OURS, directory / "data", client, peer, *where, *flags)
    try:
        if not more_members:
            member.wait_serving()
        yield Ports(client, peer, member)
        assert "Traceback" not in member.log, member.log[-3000:]
    finally:
        member.stop()


def talk(port: int, context: ssl.SSLContext) -> tuple[str, str, bytes] | None:
    """Version, cipher and the server's certificate of a connection that gets an answer."""
    try:
        with socket.create_connection(("127.0.0.1", port), timeout=10) as plain, context.wrap_socket(plain, server_hostname="127.0.0.1") as stream:
            stream.sendall(REQUEST)
            if not stream.recv(100):
                return None
            cipher = stream.cipher()
            assert cipher is not None
            return stream.version() or "", cipher[0], stream.getpeercert(binary_form=True) or b""
    except (ssl.SSLError, ConnectionError):
        return None


def only(context: ssl.SSLContext, version: ssl.TLSVersion) -> ssl.SSLContext:
    context.minimum_version = context.maximum_version = version
    return context


@flag("cert-file", "key-file", "trusted-ca-file", "client-cert-auth", "client-crl-file", "client-cert-allowed-hostname")
@flag("peer-cert-file", "peer-key-file", "peer-trusted-ca-file", "peer-client-cert-auth", "peer-crl-file", "peer-cert-allowed-cn")
@flag("cipher-suites", "tls-max-version")
def test_who_is_let_in_and_how_is_what_the_flags_say(tmp_path: Path) -> None:
    ours, others = pki.Authority(tmp_path, "ours"), pki.Authority(tmp_path, "others")
    here = ["127.0.0.1"]
    server = ours.issue("server", addresses=here)
    good, elsewhere = ours.issue("good", names=["good.example"]), ours.issue("elsewhere", names=["bad.example"])
    revoked = ours.issue("revoked", names=["good.example"])
    peer, peer_revoked, stranger = (ours.issue(name, addresses=here) for name in ("member", "member", "stranger"))
    away = ours.issue("member", addresses=["10.1.1.1"])
    list_of_both = ours.revoke(revoked, peer_revoked)
    flags = [f"--cert-file={server.cert}", f"--key-file={server.key}", f"--trusted-ca-file={ours.cert}", "--client-cert-auth"]
    flags += [f"--client-crl-file={list_of_both}", "--client-cert-allowed-hostname=good.example"]
    flags += [f"--peer-cert-file={peer.cert}", f"--peer-key-file={peer.key}", f"--peer-trusted-ca-file={ours.cert}", "--peer-client-cert-auth"]
    flags += [f"--peer-crl-file={list_of_both}", "--peer-cert-allowed-cn=member"]
    flags += ["--tls-max-version=TLS1.2", "--cipher-suites=TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256"]
    with secured(tmp_path, *flags) as ports:
        for port, certificate, cases in (
            (ports.client, server, ((good, True), (elsewhere, False), (revoked, False))),
            (ports.peer, peer, ((peer, True), (peer_revoked, False), (stranger, False), (away, False))),
        ):
            for issued, is_let_in in cases:
                found = talk(port, ours.client_context(issued))
                assert (found is not None) is is_let_in, (port == ports.peer, issued.cert)
                if found is not None:
                    version, cipher, shown = found
                    assert (version, cipher) == ("TLSv1.2", "ECDHE-ECDSA-AES128-GCM-SHA256")
                    assert x509.load_der_x509_certificate(shown).serial_number == certificate.serial
            mine = others.issue("member", addresses=here, names=["good.example"])
            foreign = ours.client_context()
            foreign.load_cert_chain(mine.cert, mine.key)
            assert talk(port, foreign) is None
            assert talk(port, ours.client_context()) is None
            let_in = good if port == ports.client else peer
            assert talk(port, only(ours.client_context(let_in), ssl.TLSVersion.TLSv1_3)) is None
            other_cipher = only(ours.client_context(let_in), ssl.TLSVersion.TLSv1_2)
            other_cipher.set_ciphers("ECDHE-ECDSA-AES256-GCM-SHA384")
            assert talk(port, other_cipher) is None


@flag("auto-tls", "peer-auto-tls", "self-signed-cert-validity", "tls-min-version")
def test_certificates_are_made_when_that_is_asked_for(tmp_path: Path) -> None:
    with secured(tmp_path, "--auto-tls", "--peer-auto-tls", "--self-signed-cert-validity=3", "--tls-min-version=TLS1.3") as ports:
        for port, side in ((ports.client, "client"), (ports.peer, "peer")):
            context = ssl.create_default_context()
            context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
            found = talk(port, context)
            assert found is not None
            assert found[0] == "TLSv1.3"
            shown = x509.load_der_x509_certificate(found[2])
            assert shown == x509.load_pem_x509_certificate((tmp_path / "data" / "fixtures" / side / "cert.pem").read_bytes())
            years = (shown.not_valid_after_utc - shown.not_valid_before_utc) / datetime.timedelta(days=365)
            assert 2.9 < years < 3.1
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                assert talk(port, only(context, ssl.TLSVersion.TLSv1_2)) is None


@flag("peer-client-cert-file", "peer-client-key-file", "peer-skip-client-san-verification", "peer-cert-allowed-hostname")
async def test_a_member_shows_its_own_certificate_to_members_and_looks_at_theirs_as_told(tmp_path: Path) -> None:
    ours = pki.Authority(tmp_path, "ours")
    server, caller = (ours.issue(name, addresses=["127.0.0.1"], names=["member.example"]) for name in ("server", "caller"))
    away = ours.issue("away", addresses=["10.1.1.1"], names=["member.example"])
    unnamed = ours.issue("unnamed", addresses=["127.0.0.1"])
    shown = asyncio.get_running_loop().create_future()

    async def other_member(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if not shown.done():
            shown.set_result(x509.load_der_x509_certificate(writer.get_extra_info("ssl_object").getpeercert(binary_form=True)))
        writer.close()

    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH, cafile=ours.cert)
    context.verify_mode = ssl.CERT_REQUIRED
    context.load_cert_chain(server.cert, server.key)
    listening = await asyncio.start_server(other_member, "127.0.0.1", 0, ssl=context)
    flags = [f"--peer-cert-file={server.cert}", f"--peer-key-file={server.key}", f"--peer-trusted-ca-file={ours.cert}", "--peer-client-cert-auth"]
    flags += [f"--peer-client-cert-file={caller.cert}", f"--peer-client-key-file={caller.key}"]
    flags += ["--peer-skip-client-san-verification", "--peer-cert-allowed-hostname=member.example"]
    flags += [f"--cert-file={server.cert}", f"--key-file={server.key}"]
    other = f",m1=https://127.0.0.1:{listening.sockets[0].getsockname()[1]}"
    async with listening, asyncio.timeout(WAIT_S):
        with secured(tmp_path, *flags, more_members=other) as ports:
            name = (await shown).subject.get_attributes_for_oid(NameOID.COMMON_NAME)[0].value
            assert name == "caller"
            # From an address that is not in it, which is not looked at; the name is.
            await asyncio.to_thread(eventually, lambda: talk(ports.peer, ours.client_context(away)))
            assert await asyncio.to_thread(talk, ports.peer, ours.client_context(unnamed)) is None
