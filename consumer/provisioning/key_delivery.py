"""Handing a key over in an outcome: encrypted for the one receiver whose public key the settings hold."""

from collections.abc import Mapping
from typing import Any, Final

from joserfc import jwe
from joserfc.jwk import ECKey, RSAKey

_CONTENT_ENCRYPTION: Final = "A256GCM"
_DEFAULT_ALGORITHMS: Final = {"RSA": "RSA-OAEP-256", "EC": "ECDH-ES+A256KW"}
_KEYS: Final[Mapping[str, Any]] = {"RSA": RSAKey, "EC": ECKey}


def encrypt_for(jwk: Mapping[str, Any], secret: str) -> str:
    """Encrypt a secret as a compact JWE that only the holder of the private key can read.

    Args:
        jwk: The receiver's public key, RSA or EC; its `alg` is used where it names one, its `kid` is copied.
        secret: The plaintext.

    Raises:
        ValueError: The JWK is of another kind, or cannot be used.
    """
    kind = str(jwk.get("kty"))
    if kind not in _KEYS:
        raise ValueError("the delivery key must be an RSA or EC key")
    algorithm = jwk.get("alg", _DEFAULT_ALGORITHMS[kind])
    header: dict[str, Any] = {"alg": algorithm, "enc": _CONTENT_ENCRYPTION}
    if "kid" in jwk:
        header["kid"] = jwk["kid"]
    # Only the public numbers are taken: a `use` or `key_ops` written for the receiver would get in the way.
    public = {name: jwk[name] for name in ("kty", "n", "e", "crv", "x", "y") if name in jwk}
    token: str = jwe.encrypt_compact(
        header, secret, _KEYS[kind].import_key(public), algorithms=[algorithm, _CONTENT_ENCRYPTION]
    )
    return token
