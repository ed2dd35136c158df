"""The client port under TLS: both protocols on it, users known by certificate, certificates renewed under way."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from harness import judges
from harness.etcd_pair import member
from harness.eventually import eventually

pytestmark = [pytest.mark.slow, pytest.mark.needs("etcdctl", "openssl", "curl")]


def _openssl(*words: str, stdin: str = "") -> str:
    program = judges.find("openssl")
    assert program is not None
    return subprocess.run([program, *words], input=stdin, capture_output=True, text=True, check=True).stdout


def _authority(directory: Path) -> None:
    key = ("-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes")
    _openssl("req", "-x509", *key, "-keyout", f"{directory}/ca.key", "-out", f"{directory}/ca.crt", "-days", "2", "-subj", "/CN=ca")
    (directory / "more").write_text("subjectAltName=IP:127.0.0.1\nextendedKeyUsage=serverAuth,clientAuth\n")
    for name in ("server", "root", "ann"):
        _openssl("req", *key, "-keyout", f"{directory}/{name}.key", "-out", f"{directory}/{name}.csr", "-subj", f"/CN={name}")
        _sign(directory, name)


def _sign(directory: Path, name: str) -> None:
    authority = ("-CA", f"{directory}/ca.crt", "-CAkey", f"{directory}/ca.key", "-CAcreateserial", "-extfile", f"{directory}/more")
    _openssl("x509", "-req", "-in", f"{directory}/{name}.csr", *authority, "-days", "2", "-out", f"{directory}/{name}.crt")


def _curl(directory: Path, *words: str, name: str = "root") -> subprocess.CompletedProcess[str]:
    program = judges.find("curl")
    assert program is not None
    files = ("--cacert", f"{directory}/ca.crt", *(("--cert", f"{directory}/{name}.crt", "--key", f"{directory}/{name}.key") if name else ()))
    return subprocess.run([program, "-s", *files, *words], capture_output=True, text=True, timeout=30)


def test_both_protocols_and_users_by_certificate(tmp_path: Path) -> None:
    _authority(tmp_path)
    flags = (f"--cert-file={tmp_path}/server.crt", f"--key-file={tmp_path}/server.key", f"--trusted-ca-file={tmp_path}/ca.crt", "--client-cert-auth")
    with member(tmp_path / "m", [sys.executable, "-m", "kubette.etcd"], *flags, tls=True) as server:

        def ctl(name: str, *words: str) -> tuple[int, str]:
            files = ("--cacert", f"{tmp_path}/ca.crt", "--cert", f"{tmp_path}/{name}.crt", "--key", f"{tmp_path}/{name}.key")
            return server.etcdctl(*files, *words)

        assert json.loads(_curl(tmp_path, f"{server.url}/health").stdout)["health"] == "true"  # curl offers h2 too
        assert json.loads(_curl(tmp_path, "-XPUT", "-dvalue=1", f"{server.url}/v2/keys/k").stdout)["node"]["value"] == "1"
        assert _curl(tmp_path, f"{server.url}/health", name="").returncode != 0
        for line in ("user add root --no-password", "user grant-role root root", "user add ann --no-password", "role add r"):
            assert ctl("root", *line.split())[0] == 0
        for line in ("role grant-permission r readwrite own", "user grant-role ann r", "auth enable"):
            assert ctl("root", *line.split())[0] == 0
        assert ctl("ann", "put", "own", "1") == (0, "OK\n")
        assert "permission denied" in ctl("ann", "put", "other", "1")[1]
        # The gateway does not go by certificates: a proxy's would speak for everybody.
        assert json.loads(_curl(tmp_path, "-d", '{"key":"b3du"}', f"{server.url}/v3/kv/range").stdout)["message"] == "etcdserver: user name is empty"


def test_the_log_says_why_a_client_was_rejected(tmp_path: Path) -> None:
    _authority(tmp_path)
    (tmp_path / "other").mkdir()
    _authority(tmp_path / "other")
    flags = (f"--cert-file={tmp_path}/server.crt", f"--key-file={tmp_path}/server.key", f"--trusted-ca-file={tmp_path}/ca.crt", "--client-cert-auth")
    with member(tmp_path / "m", [sys.executable, "-m", "kubette.etcd"], *flags, tls=True) as server:

        def pair(directory: Path) -> tuple[str, ...]:
            return "--cert", f"{directory}/ann.crt", "--key", f"{directory}/ann.key"

        def log_of(*words: str) -> str:
            before = (tmp_path / "m.log").read_text()
            code, said = server.etcdctl("--command-timeout=1s", "--dial-timeout=1s", *words, "get", "k")
            assert code != 0, said
            return eventually(lambda: (tmp_path / "m.log").read_text()[len(before) :], lambda new: "rejected connection" in new)

        authority = ("--cacert", f"{tmp_path}/ca.crt")
        assert "tls: client didn't provide a certificate" in log_of(*authority)
        assert "tls: failed to verify certificate: x509: certificate signed by unknown authority" in log_of(*authority, *pair(tmp_path / "other"))
        assert "remote error: tls: " in log_of("--cacert", f"{tmp_path}/other/ca.crt", *pair(tmp_path))
        plain = subprocess.run(["curl", "-s", "-m", "5", server.url.replace("https", "http") + "/version"], capture_output=True, check=False)
        assert plain.returncode != 0
        eventually(lambda: (tmp_path / "m.log").read_text(), lambda text: "first record does not look like a TLS handshake" in text)
        assert server.etcdctl(*authority, *pair(tmp_path), "put", "k", "v") == (0, "OK\n")
