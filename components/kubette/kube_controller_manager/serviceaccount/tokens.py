"""Fills Secrets of type kubernetes.io/service-account-token with a token that does not expire (upstream's serviceaccount-token controller).

Nothing creates such Secrets by itself any more; a user who wants one makes it, naming the account in an annotation. Its token is signed
with --service-account-private-key-file. A Secret whose account is gone is deleted.
"""

import base64
from pathlib import Path
from typing import Any

from kubette.apimachinery import meta, status
from kubette.client import resources
from kubette.client.controller import DONE, Result
from kubette.client.informer import Handler
from kubette.component_base.run import StartupError
from kubette.kube_controller_manager.context import Context

Object = dict[str, Any]

TYPE = "kubernetes.io/service-account-token"
ACCOUNT_NAME, ACCOUNT_UID = "kubernetes.io/service-account.name", "kubernetes.io/service-account.uid"
LEGACY_ISSUER = "kubernetes/serviceaccount"


def claims(account: Object, secret: Object) -> Object:
    """Pure: what a token bound to nothing but its Secret says."""
    namespace, name = meta.namespace(account), meta.name(account)
    prefix = "kubernetes.io/serviceaccount/"
    return {
        "iss": LEGACY_ISSUER,
        "sub": f"system:serviceaccount:{namespace}:{name}",
        prefix + "namespace": namespace,
        prefix + "secret.name": meta.name(secret),
        prefix + "service-account.name": name,
        prefix + "service-account.uid": meta.uid(account),
    }


class Signer:
    """Signs with the private key of a file: RSA or ECDSA, the key's id as the API server computes it."""

    def __init__(self, key_file: str) -> None:
        from cryptography.hazmat.primitives import hashes, serialization
        from cryptography.hazmat.primitives.asymmetric import ec

        try:
            self._key: Any = serialization.load_pem_private_key(Path(key_file).read_bytes(), None)
        except (ValueError, TypeError) as error:
            raise StartupError(f"error reading key for service account token controller: {key_file}: {error}") from error
        curves = {256: "ES256", 384: "ES384", 521: "ES512"}
        self._algorithm = curves[self._key.curve.key_size] if isinstance(self._key, ec.EllipticCurvePrivateKey) else "RS256"
        public = self._key.public_key().public_bytes(serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo)
        digest = hashes.Hash(hashes.SHA256())
        digest.update(public)
        self._key_id = base64.urlsafe_b64encode(digest.finalize()).rstrip(b"=").decode()

    def sign(self, payload: Object) -> str:
        import jwt

        return jwt.encode(payload, self._key, algorithm=self._algorithm, headers={"kid": self._key_id})


class TokensController:
    def __init__(self, context: Context) -> None:
        options = context.options
        # Secrets of every namespace: this controller alone acts with the rights of the process itself, as upstream's.
        self._client = context.root
        self._signer = Signer(options.service_account_private_key_file)
        self._ca = Path(options.root_ca_file).read_bytes() if options.root_ca_file else b""
        self._accounts = context.informer(resources.SERVICEACCOUNTS)
        self._secrets = context.informer(resources.SECRETS, field_selector=f"type={TYPE}")
        self._controller = context.controller("serviceaccount_tokens_secret", self.reconcile, (self._accounts, self._secrets))
        enqueue = self._controller.enqueue
        self._secrets.add_handler(Handler(enqueue, lambda _, new: enqueue(new)))
        self._accounts.add_handler(Handler(on_add=self._account_changed, on_delete=self._account_changed))

    def _account_changed(self, account: Object) -> None:
        for secret in self._secrets.list():
            if meta.namespace(secret) == meta.namespace(account) and meta.annotations(secret).get(ACCOUNT_NAME) == meta.name(account):
                self._controller.enqueue(secret)

    async def run(self) -> None:
        await self._controller.run()

    async def reconcile(self, key: str) -> Result:
        secret = self._secrets.get(key)
        name = meta.annotations(secret).get(ACCOUNT_NAME) if secret is not None else None
        if secret is None or not name or meta.is_being_deleted(secret):
            return DONE
        account = await self._account(meta.namespace(secret), name)
        uid = meta.annotations(secret).get(ACCOUNT_UID)
        if account is None or (uid and uid != meta.uid(account)):
            await self._delete(secret)
            return DONE
        wanted = {"namespace": meta.namespace(secret).encode()} | ({"ca.crt": self._ca} if self._ca else {})
        data = dict(secret.get("data") or {})
        complete = bool(data.get("token")) and uid == meta.uid(account)
        if complete and all(data.get(k) == base64.b64encode(v).decode() for k, v in wanted.items()):
            return DONE
        if not data.get("token"):
            wanted["token"] = self._signer.sign(claims(account, secret)).encode()
        data |= {k: base64.b64encode(v).decode() for k, v in wanted.items()}
        metadata = {**secret["metadata"], "annotations": {**meta.annotations(secret), ACCOUNT_UID: meta.uid(account)}}
        await self._client.update(resources.SECRETS, {**secret, "metadata": metadata, "data": data})
        return DONE

    async def _account(self, namespace: str, name: str) -> Object | None:
        cached = self._accounts.get(f"{namespace}/{name}")
        if cached is not None:
            return cached
        try:
            return await self._client.get(resources.SERVICEACCOUNTS, namespace, name)
        except status.ApiError as error:
            if status.is_not_found(error):
                return None
            raise

    async def _delete(self, secret: Object) -> None:
        try:
            await self._client.delete(resources.SECRETS, meta.namespace(secret), meta.name(secret), uid=meta.uid(secret))
        except status.ApiError as error:
            if not status.is_not_found(error):
                raise
