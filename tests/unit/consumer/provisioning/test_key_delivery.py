import pytest
from joserfc import jwe
from joserfc.jwk import ECKey, RSAKey

from consumer.provisioning.key_delivery import encrypt_for

SECRET = "sk-virtual-key"


@pytest.mark.parametrize(
    ("key", "algorithm"),
    [
        (RSAKey.generate_key(2048), "RSA-OAEP-256"),
        (ECKey.generate_key("P-256"), "ECDH-ES+A256KW"),
        (ECKey.generate_key("P-384"), "ECDH-ES+A256KW"),
    ],
)
def test_the_holder_of_the_private_key_reads_the_key(key: RSAKey | ECKey, algorithm: str) -> None:
    public = {**key.as_dict(private=False), "kid": "receiver-1", "use": "enc", "key_ops": ["decrypt"]}
    token = encrypt_for(public, SECRET)
    assert SECRET not in token
    opened = jwe.decrypt_compact(token, key, algorithms=[algorithm, "A256GCM"])
    assert opened.plaintext == SECRET.encode()
    assert opened.protected["alg"] == algorithm
    assert opened.protected["enc"] == "A256GCM"
    assert opened.protected["kid"] == "receiver-1"


def test_the_keys_own_algorithm_is_used() -> None:
    key = ECKey.generate_key("P-256")
    token = encrypt_for({**key.as_dict(private=False), "alg": "ECDH-ES"}, SECRET)
    opened = jwe.decrypt_compact(token, key, algorithms=["ECDH-ES", "A256GCM"])
    assert opened.plaintext == SECRET.encode()
    assert "kid" not in opened.protected


@pytest.mark.parametrize("jwk", [{}, {"kty": "oct", "k": "c2VjcmV0"}])
def test_other_kinds_of_keys_are_refused(jwk: dict[str, str]) -> None:
    with pytest.raises(ValueError, match="RSA or EC"):
        encrypt_for(jwk, SECRET)
