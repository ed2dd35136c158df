"""Service-account tokens and the union of authenticators."""

import datetime
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import rsa

from kubette.kube_apiserver.auth import reviews
from kubette.kube_apiserver.auth.authenticators import TokenFile, Union
from kubette.kube_apiserver.auth.interfaces import Credentials, Unauthorized
from kubette.kube_apiserver.auth.service_account_tokens import ServiceAccountToken, TokenIssuer
from kubette.kube_apiserver.identity import Identity, UnionAuthorizer
from unit.kube_apiserver.auth.test_rbac import Objects

ISSUER = "https://kubernetes.default.svc.cluster.local"


def bearer(token: str) -> Credentials:
    return Credentials({"Authorization": f"Bearer {token}"})


def key_files(directory: Path) -> tuple[str, str]:
    key = rsa.generate_private_key(public_exponent=65537, key_size=2048)
    private, public = directory / "sa.key", directory / "sa.pub"
    private.write_bytes(key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.TraditionalOpenSSL, serialization.NoEncryption()))
    public.write_bytes(key.public_key().public_bytes(serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo))
    return str(private), str(public)


def thing(kind: str, name: str, uid: str) -> dict[str, Any]:
    return {"kind": kind, "metadata": {"name": name, "namespace": "default", "uid": uid}}


async def test_a_bound_token_ends_with_its_pod(tmp_path: Path) -> None:
    private, public = key_files(tmp_path)
    objects = Objects(thing("ServiceAccount", "web", "u1"), thing("Pod", "web-0", "u2"))
    bound = {"pod": {"name": "web-0", "uid": "u2"}}
    token, _ = TokenIssuer(ISSUER, private).issue("default", objects.objects[0], [ISSUER], 600, bound)
    recogniser = ServiceAccountToken([ISSUER], [public], [ISSUER], objects)
    user = await recogniser.authenticate(bearer(token))
    assert user is not None
    assert user.name == "system:serviceaccount:default:web"
    assert "system:serviceaccounts:default" in user.groups
    assert user.extra["authentication.kubernetes.io/pod-name"] == ("web-0",)
    with pytest.raises(Unauthorized):
        await recogniser.authenticate_token(token, ["https://elsewhere"])
    objects.objects.pop()
    with pytest.raises(Unauthorized, match="bound to a pod that was deleted"):
        await recogniser.authenticate(bearer(token))


async def test_a_certificate_serves_as_the_public_key(tmp_path: Path) -> None:
    private, _ = key_files(tmp_path)
    key = serialization.load_pem_private_key(Path(private).read_bytes(), None)
    assert isinstance(key, rsa.RSAPrivateKey)
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "service-accounts")])
    start = datetime.datetime(2026, 1, 1, tzinfo=datetime.UTC)
    builder = x509.CertificateBuilder().subject_name(name).issuer_name(name).public_key(key.public_key()).serial_number(1)
    certificate = builder.not_valid_before(start).not_valid_after(start + datetime.timedelta(days=1)).sign(key, hashes.SHA256())
    (tmp_path / "sa.crt").write_bytes(certificate.public_bytes(serialization.Encoding.PEM))
    objects = Objects(thing("ServiceAccount", "web", "u1"))
    token, _ = TokenIssuer(ISSUER, private).issue("default", objects.objects[0], [ISSUER], 600, {})
    assert await ServiceAccountToken([ISSUER], [str(tmp_path / "sa.crt")], [ISSUER], objects).authenticate(bearer(token)) is not None


@pytest.mark.slow
async def test_a_token_of_another_key_is_not_ours(tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    (tmp_path / "b").mkdir()
    private, _ = key_files(tmp_path / "a")
    _, public = key_files(tmp_path / "b")
    objects = Objects(thing("ServiceAccount", "web", "u1"))
    token, _ = TokenIssuer(ISSUER, private).issue("default", objects.objects[0], [ISSUER], 600, {})
    assert await ServiceAccountToken([ISSUER], [public], [ISSUER], objects).authenticate(bearer(token)) is None


async def test_an_unknown_token_is_refused_and_no_token_is_anonymous(tmp_path: Path) -> None:
    path = tmp_path / "tokens.csv"
    path.write_text('secret,admin,1,"system:masters,ops"\n')
    union = Union([TokenFile(str(path))], anonymous=True)
    known = await union.authenticate(bearer("secret"))
    assert known is not None
    assert known.groups == ("system:masters", "ops", "system:authenticated")
    with pytest.raises(Unauthorized):
        await union.authenticate(bearer("guess"))
    anonymous = await union.authenticate(Credentials({}))
    assert anonymous is not None
    assert anonymous.name == "system:anonymous"
    assert await Union([], anonymous=False).authenticate(Credentials({})) is None


async def test_a_token_review_names_only_the_audiences_of_the_token(tmp_path: Path) -> None:
    private, public = key_files(tmp_path)
    objects = Objects(thing("ServiceAccount", "web", "u1"))
    tokens = ServiceAccountToken([ISSUER], [public], [ISSUER], objects)
    path = tmp_path / "tokens.csv"
    path.write_text("secret,admin,1\n")
    union = Union([TokenFile(str(path)), tokens], anonymous=True)
    identity = Identity(union, UnionAuthorizer([]), None, tokens, None, (ISSUER,))

    async def review(token: str, *audiences: str) -> dict[str, Any]:
        body = {"spec": {"token": token, "audiences": list(audiences)}}
        answer: dict[str, Any] = (await reviews.token_review(body, identity.authenticate_token, identity.audiences))["status"]
        return answer

    token, _ = TokenIssuer(ISSUER, private).issue("default", objects.objects[0], ["vault"], 600, {})
    found = await review(token, "vault", "elsewhere")
    assert found["authenticated"]
    assert found["audiences"] == ["vault"]
    assert "system:authenticated" in found["user"]["groups"]
    assert "authenticated" not in await review(token, "elsewhere")
    # A token without audiences is the API server's own.
    assert (await review("secret"))["audiences"] == [ISSUER]
    assert "authenticated" not in await review("secret", "vault")
