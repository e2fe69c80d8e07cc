"""Which algorithms a key of the bundle may have signed with; a text that everybody knows is no key."""

import pytest
from cryptography.hazmat.primitives.asymmetric.utils import encode_dss_signature
from cryptography.hazmat.primitives.serialization import Encoding

from tests.registry_project.api.asking import PRESENCE, assert_refused
from tests.registry_project.api.building import signed_by
from tests.registry_project.api.certificates import bundle, pem, trusted
from tests.registry_project.api.issuer import (
    ABSENT,
    Signer,
    encode,
    key,
    key_id,
    public_bytes,
    segment,
    sign,
    usual_claims,
    usual_header,
)


def shared_secret(algorithm, secret):
    """A token signed with a text that everybody knows."""
    return lambda: Signer().bearer(header={"alg": algorithm}, algorithm=algorithm, secret=secret())


def unsigned(signature=b"", **header):
    """A token that says nobody signed it."""
    return lambda: (
        f"bearer {segment(usual_header(key('trusted'), **header))}.{segment(usual_claims())}.{encode(signature)}"
    )


def der_signature():
    """A token whose signature is a structure instead of two numbers."""
    private = key("trusted-p256")
    content = f"{segment(usual_header(private))}.{segment(usual_claims())}"
    numbers = sign(content.encode(), private=private, algorithm="ES256")
    structure = encode_dss_signature(int.from_bytes(numbers[:32], "big"), int.from_bytes(numbers[32:], "big"))
    return f"bearer {content}.{encode(structure)}"


def infinite_signature():
    """A token whose signature is two zeros, which a careless verifier takes for anybody's."""
    private = key("trusted-p256")
    return f"bearer {segment(usual_header(private))}.{segment(usual_claims())}.{encode(bytes(64))}"


BELIEVED = {
    "RS256": signed_by("trusted", "RS256", alg="RS256"),
    "RS384": signed_by("trusted", "RS384", alg="RS384"),
    "RS512": signed_by("trusted", "RS512", alg="RS512"),
    "ES256": signed_by("trusted-p256"),
    "ES384": signed_by("trusted-p384"),
    "ES512": signed_by("trusted-p521"),
}

NOT_BELIEVED = {
    "none": unsigned(alg="none"),
    "None": unsigned(alg="None"),
    "NONE": unsigned(alg="NONE"),
    "nOnE": unsigned(alg="nOnE"),
    "none with a signature": signed_by("trusted", "RS256", alg="none"),
    "none without a kid": unsigned(alg="none", kid=ABSENT),
    "no algorithm": signed_by("trusted", alg=ABSENT),
    "a null algorithm": signed_by("trusted", alg=None),
    "an empty algorithm": signed_by("trusted", alg=""),
    "rs256": signed_by("trusted", alg="rs256"),
    "es256": signed_by("trusted-p256", alg="es256"),
    "RS256 and a space": signed_by("trusted", alg="RS256 "),
    "SHA256withRSA": signed_by("trusted", alg="SHA256withRSA"),
    "ALG for alg": signed_by("trusted", alg=ABSENT, ALG="RS256"),
    "Kid for kid": signed_by("trusted", kid=ABSENT, Kid=lambda: key_id(key("trusted"))),
    "PS256": signed_by("trusted", "PS256", alg="PS256"),
    "PS384": signed_by("trusted", "PS384", alg="PS384"),
    "PS512": signed_by("trusted", "PS512", alg="PS512"),
    "EdDSA": signed_by("trusted", alg="EdDSA"),
    "ES256K": signed_by("trusted-p256", alg="ES256K"),
    "RS512 that is RS256": signed_by("trusted", "RS256", alg="RS512"),
    "RS256 that is PS256": signed_by("trusted", "PS256", alg="RS256"),
    "ES256 with an RSA key": signed_by("trusted", "RS256", alg="ES256"),
    "RS256 with a key on a curve": signed_by("trusted-p256", "ES256", alg="RS256"),
    "ES384 with a key on P-256": signed_by("trusted-p256", "ES384", alg="ES384"),
    "ES256 with a key on P-384": signed_by("trusted-p384", "ES256", alg="ES256"),
    "ES512 that is ES256": signed_by("trusted-p521", "ES256", alg="ES512"),
    "a signature as a structure": der_signature,
    "a signature of two zeros": infinite_signature,
    "HS256 with the public key": shared_secret("HS256", lambda: public_bytes(key("trusted"), encoding=Encoding.PEM)),
    "HS256 with the public key's bytes": shared_secret("HS256", lambda: public_bytes(key("trusted"))),
    "HS256 with the certificate": shared_secret("HS256", lambda: pem(trusted("trusted"))),
    "HS384 with the bundle": shared_secret("HS384", bundle),
    "HS512 with nothing": shared_secret("HS512", lambda: b""),
    "RS256 that is HS256": lambda: Signer().bearer(algorithm="HS256", secret=pem(trusted("trusted"))),
}


@pytest.mark.parametrize("build", BELIEVED.values(), ids=BELIEVED)
def test_an_algorithm_of_the_key_is_believed(ask, build):
    answer = ask(PRESENCE, build())
    assert (answer.status_code, answer.content) == (200, b"{}"), answer.headers


@pytest.mark.parametrize("build", NOT_BELIEVED.values(), ids=NOT_BELIEVED)
def test_any_other_algorithm_is_invalid(ask, build):
    assert_refused(ask(PRESENCE, build()), error="invalid_token")
