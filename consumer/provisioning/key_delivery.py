"""Handing a key over in an outcome: encrypted for the one receiver whose public key the settings hold."""

from collections.abc import Mapping
from typing import Any, Final

_CONTENT_ENCRYPTION: Final = "A256GCM"
_DEFAULT_ALGORITHMS: Final = {"RSA": "RSA-OAEP-256", "EC": "ECDH-ES+A256KW"}


def encrypt_for(jwk: Mapping[str, Any], secret: str) -> str:
    """Encrypt a secret as a compact JWE that only the holder of the private key can read.

    Args:
        jwk: The receiver's public key, RSA or EC; its `alg` is used where it names one, its `kid` is copied.
        secret: The plaintext.

    Raises:
        ValueError: The JWK is of another kind, or cannot be used.
    """
    from joserfc import jwe  # noqa: PLC0415 - slow to load, and few have such a key
    from joserfc.jwk import ECKey, RSAKey  # noqa: PLC0415 - the same

    kind = str(jwk.get("kty"))
    if kind not in _DEFAULT_ALGORITHMS:
        raise ValueError("the delivery key must be an RSA or EC key")
    algorithm = jwk.get("alg", _DEFAULT_ALGORITHMS[kind])
    header: dict[str, Any] = {"alg": algorithm, "enc": _CONTENT_ENCRYPTION}
    if "kid" in jwk:
        header["kid"] = jwk["kid"]
    # Only the public numbers are taken: a `use` or `key_ops` written for the receiver would get in the way.
    public = {name: jwk[name] for name in ("kty", "n", "e", "crv", "x", "y") if name in jwk}
    key = (RSAKey if kind == "RSA" else ECKey).import_key(public)
    token: str = jwe.encrypt_compact(header, secret, key, algorithms=[algorithm, _CONTENT_ENCRYPTION])
    return token
