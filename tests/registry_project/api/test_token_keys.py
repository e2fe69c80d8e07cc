"""Which key a token's header leads to, by a chain of certificates, a key in the header itself, or a key's id."""

import base64
import hashlib

import pytest
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from tests.registry_project.api.asking import PRESENCE, assert_refused
from tests.registry_project.api.building import GOOD_KID, by_chain, by_jwk, child, root, signed_by
from tests.registry_project.api.certificates import (
    CODE_SIGNING,
    NO_AUTHORITY,
    UNKNOWN,
    certificate,
    chain,
    intermediate,
    leaf,
    pem,
    trusted,
    x5c,
)
from tests.registry_project.api.issuer import (
    ABSENT,
    encode,
    fingerprint,
    jwk,
    key,
    key_id,
    private_member,
    public_bytes,
)


def stranger_named_as_the_root():
    return certificate("stranger", subject="trusted", authority=True)


def pkcs1_kid():
    return fingerprint(public_bytes(key("trusted"), form=PublicFormat.PKCS1))


BELIEVED = {
    "kid": signed_by("trusted"),
    "kid of another key of the bundle": signed_by("second"),
    "kid of an expired certificate": signed_by("expired"),
    "kid of a certificate without the authority flag": signed_by("flagless"),
    "a chain": by_chain("leaf", leaf, intermediate),
    "a chain and a kid of nobody": by_chain("leaf", leaf, intermediate, kid="nonsense"),
    "a chain and no kid": by_chain("leaf", leaf, intermediate, kid=ABSENT),
    "a chain and another's kid": by_chain("leaf", leaf, intermediate, kid=GOOD_KID),
    "a chain of one that the root signed": by_chain("intermediate", intermediate),
    "a chain that ends with the root": by_chain("leaf", leaf, intermediate, root("trusted")),
    "a chain with others in it": by_chain("leaf", leaf, root("second"), intermediate, root("flagless")),
    "a chain of ten": by_chain("leaf", leaf, *[intermediate] * 9),
    "a root as its own leaf": by_chain("trusted", root("trusted"), kid=ABSENT),
    "a root without the authority flag as its own leaf": by_chain("flagless", root("flagless"), kid=ABSENT),
    "a leaf for signing code": by_chain("leaf", child("leaf", extensions=[(CODE_SIGNING, False)]), intermediate),
    "a leaf with an unknown extension": by_chain("leaf", child("leaf", extensions=[(UNKNOWN, False)]), intermediate),
    "a leaf on a curve": by_chain("leaf-p256", child("leaf-p256"), intermediate),
    "an intermediate on a curve": by_chain(
        "leaf", child("leaf", "middle-p384"), lambda: certificate("middle-p384", issuer="trusted", authority=True)
    ),
    "an empty x5c beside a kid": signed_by("trusted", x5c=[]),
    "a null x5c beside a kid": signed_by("trusted", x5c=None),
    "jwk of the bundle": by_jwk("trusted"),
    "jwk of the bundle on a curve": by_jwk("trusted-p384"),
    "jwk with its own kid": by_jwk("trusted", kid=lambda: key_id(key("trusted"))),
    "jwk with other members": by_jwk("trusted", use="sig", alg="RS256", other=1),
    "jwk with a chain": by_jwk("leaf", x5c=chain),
    "jwk with a null chain": by_jwk("trusted", x5c=None),
    "jwk with a kid of nobody beside it": signed_by("trusted", jwk=lambda: jwk(key("trusted")), kid="nonsense"),
    "a null jwk beside a kid": signed_by("trusted", jwk=None),
    "addresses of keys beside a kid": signed_by("trusted", jku="http://127.0.0.1:1/", x5u="http://127.0.0.1:1/"),
}

NOT_BELIEVED = {
    "the key of a stranger": signed_by("stranger"),
    "the key of a stranger with a good kid": signed_by("stranger", kid=GOOD_KID),
    "a trusted key with the kid of another": signed_by("second", kid=GOOD_KID),
    "a kid in small letters": signed_by("trusted", kid=lambda: key_id(key("trusted")).lower()),
    "a kid without colons": signed_by("trusted", kid=lambda: key_id(key("trusted")).replace(":", "")),
    "a kid with a space": signed_by("trusted", kid=lambda: key_id(key("trusted")) + " "),
    "a beginning of a kid": signed_by("trusted", kid=lambda: key_id(key("trusted"))[:-5]),
    "a kid of the other key format": signed_by("trusted", kid=pkcs1_kid),
    "a kid of the certificate": signed_by(
        "trusted", kid=lambda: fingerprint(trusted("trusted").public_bytes(Encoding.DER))
    ),
    "a thumbprint in hexadecimal": signed_by(
        "trusted", kid=lambda: hashlib.sha256(public_bytes(key("trusted"))).hexdigest()
    ),
    "an empty kid": signed_by("trusted", kid=""),
    "a null kid": signed_by("trusted", kid=None),
    "a path as the kid": signed_by("trusted", kid="../../../../dev/null"),
    "a query as the kid": signed_by("trusted", kid="' OR 1=1 --"),
    "a long kid": signed_by("trusted", kid="A" * 100_000),
    "no header fields but addresses": signed_by("trusted", kid=ABSENT, jku="http://127.0.0.1:1/", x5u="http://[::1]:1"),
    "a leaf without its intermediate": by_chain("leaf", leaf),
    "a chain in the wrong order": by_chain("leaf", intermediate, leaf),
    "a chain to another's key": by_chain("stranger", leaf, intermediate),
    "a chain of a stranger": by_chain("stranger", lambda: certificate("stranger", authority=True)),
    "a chain of a stranger beside a good kid": by_chain(
        "trusted", lambda: certificate("stranger", authority=True), kid=GOOD_KID
    ),
    "a chain to another key beside a good kid": by_chain("trusted", leaf, intermediate, kid=GOOD_KID),
    "a leaf that a stranger signed": by_chain("leaf", child("leaf", signed_by="stranger"), intermediate),
    "an intermediate that a stranger signed": by_chain(
        "leaf", leaf, lambda: certificate("intermediate", issuer="trusted", signed_by="stranger", authority=True)
    ),
    "a leaf that a stranger signed in the root's name": by_chain(
        "leaf", child("leaf", "trusted", signed_by="stranger")
    ),
    "a chain to a stranger of the root's name": by_chain(
        "other", child("other", "trusted", signed_by="stranger"), stranger_named_as_the_root
    ),
    "an expired leaf": by_chain("leaf", child("leaf", days=(-9, -1)), intermediate),
    "a leaf of tomorrow": by_chain("leaf", child("leaf", days=(1, 9)), intermediate),
    "an expired intermediate": by_chain(
        "leaf", leaf, lambda: certificate("intermediate", issuer="trusted", authority=True, days=(-9, -1))
    ),
    "an expired root as its own leaf": by_chain("expired", root("expired"), kid=ABSENT),
    "a leaf of an expired root": by_chain("leaf", child("leaf", "expired")),
    "an intermediate without the authority flag": by_chain(
        "leaf", leaf, lambda: certificate("intermediate", issuer="trusted")
    ),
    "an intermediate that says it is no authority": by_chain(
        "leaf",
        leaf,
        lambda: certificate("intermediate", issuer="trusted", extensions=[(NO_AUTHORITY, True)]),
    ),
    "a leaf of a root without the authority flag": by_chain("leaf", child("leaf", "flagless")),
    "a leaf of a leaf": by_chain("other", child("other", "leaf"), leaf, intermediate),
    "an authority below one that may have none": by_chain(
        "other",
        child("other", "lower"),
        lambda: certificate("lower", issuer="intermediate", authority=True),
        lambda: certificate("intermediate", issuer="trusted", authority=True, path_length=0),
    ),
    "a leaf with a critical extension that nobody knows": by_chain(
        "leaf", child("leaf", extensions=[(UNKNOWN, True)]), intermediate
    ),
    "a chain of eleven": by_chain("leaf", leaf, *[intermediate] * 10),
    "a chain of thousands": by_chain("leaf", leaf, *[intermediate] * 2_000),
    "a chain in the token's own alphabet": signed_by(
        "leaf", x5c=lambda: [encode(each.public_bytes(Encoding.DER)) for each in (leaf(), intermediate())]
    ),
    "a chain as PEM": signed_by("leaf", x5c=lambda: [pem(leaf()).decode(), pem(intermediate()).decode()]),
    "a chain that is text": signed_by("leaf", x5c=lambda: chain()[0]),
    "a chain of numbers": signed_by("trusted", x5c=[1]),
    "a chain of null": signed_by("trusted", x5c=[None]),
    "a chain of nothing": signed_by("trusted", x5c=[""]),
    "a chain of nonsense": signed_by("trusted", x5c=["bm9uc2Vuc2U="]),
    "a chain with nonsense behind the leaf": signed_by("leaf", x5c=lambda: [*chain(), "bm9uc2Vuc2U="]),
    "bytes behind a certificate": signed_by(
        "leaf", x5c=lambda: [base64.b64encode(leaf().public_bytes(Encoding.DER) + b"x").decode(), chain()[1]]
    ),
    "jwk of a stranger": by_jwk("stranger"),
    "jwk of a stranger beside a good kid": signed_by("stranger", jwk=lambda: jwk(key("stranger")), kid=GOOD_KID),
    "jwk of a stranger, signed with a trusted key": signed_by("trusted", jwk=lambda: jwk(key("stranger"))),
    "jwk of another key of the bundle": signed_by("trusted", jwk=lambda: jwk(key("second"))),
    "jwk with a kid of another": by_jwk("trusted", kid=lambda: key_id(key("second"))),
    "jwk with a private member": by_jwk("trusted", d=lambda: private_member("trusted")),
    "jwk on a curve with a private member": by_jwk("trusted-p256", d="AQAB"),
    "jwk with a chain to another key": by_jwk("trusted", x5c=chain),
    "jwk with a chain to another key, which signed": signed_by(
        "leaf", jwk=lambda: jwk(key("trusted"), x5c=chain()), kid=ABSENT
    ),
    "jwk with a chain of a stranger": by_jwk("stranger", x5c=lambda: x5c(certificate("stranger", authority=True))),
    "jwk of the bundle with a chain of nonsense": by_jwk("trusted", x5c=["bm9uc2Vuc2U="]),
    "jwk of a leaf without its chain": by_jwk("leaf"),
    "jwk with no kind": by_jwk("trusted", kty=ABSENT),
    "jwk of a number's kind": by_jwk("trusted", kty=5),
    "jwk of a secret": by_jwk("trusted", kty="oct", k="c2VjcmV0"),
    "jwk of an Edwards curve": by_jwk("trusted", kty="OKP", crv="Ed25519", x="AA"),
    "jwk without a modulus": by_jwk("trusted", n=ABSENT),
    "jwk with a modulus of nothing": by_jwk("trusted", n=""),
    "jwk with a modulus that is no base64": by_jwk("trusted", n="!"),
    "jwk with a modulus that is a number": by_jwk("trusted", n=5),
    "jwk with a tiny modulus": by_jwk("trusted", n="Aw"),
    "jwk with a huge modulus": by_jwk("trusted", n="AQAB" * 20_000),
    "jwk with an exponent of 1": by_jwk("trusted", e="AQ"),
    "jwk with an even exponent": by_jwk("trusted", e="AQAA"),
    "jwk with a huge exponent": by_jwk("trusted", e="AQAB" * 100),
    "jwk without a curve": by_jwk("trusted-p256", crv=ABSENT),
    "jwk with an unknown curve": by_jwk("trusted-p256", crv="secp256k1"),
    "jwk with another curve": by_jwk("trusted-p256", crv="P-384"),
    "jwk off its curve": by_jwk("trusted-p256", y=lambda: jwk(key("trusted-p256"))["x"]),
    "jwk at infinity": by_jwk("trusted-p256", x="AA", y="AA"),
    "an empty jwk": signed_by("trusted", jwk={}),
    "a jwk that is text": signed_by("trusted", jwk="trusted"),
    "a jwk that is a list": signed_by("trusted", jwk=[]),
    "a jwk that is false": signed_by("trusted", jwk=False),
    "an untrusted chain beside a trusted jwk": by_chain(
        "trusted", lambda: certificate("stranger", authority=True), jwk=lambda: jwk(key("trusted"))
    ),
}


@pytest.mark.parametrize("build", BELIEVED.values(), ids=BELIEVED)
def test_a_key_that_leads_to_the_bundle_is_believed(ask, build):
    answer = ask(PRESENCE, build())
    assert (answer.status_code, answer.content) == (200, b"{}"), answer.headers


@pytest.mark.parametrize("build", NOT_BELIEVED.values(), ids=NOT_BELIEVED)
def test_any_other_key_is_invalid(ask, build):
    assert_refused(ask(PRESENCE, build()), error="invalid_token")


def test_the_tests_write_the_kid_of_an_rsa_key_as_it_is_known():
    der = base64.b64decode(
        "MIIBIjANBgkqhkiG9w0BAQEFAAOCAQ8AMIIBCgKCAQEAvb7RnNLuEs5/fuVFtNAkUZhPDVeej2XukJo/k/14Ijd+Z8xPD52GZLK904X45TSw"
        "hRy84PBvgzMdUE0sHTCBUKk13jylXgiAAWLztZvIhp0p0V8W7pBZ3C7R8NVY+Tth6aisNZd5gASwo55md6RuQu2Vd8fZUieNS+5LYR0lmDbz"
        "Wdq1gA9Xu9UKMlr/j0JpgB0q9ydsyZMABC9U9izUaeR3ymqBxyAKm/WDU7ZlmMKf+XTtCourFB1nquVZDOa65TS5U77Ioulvj53nuAvywARG"
        "WemZ6UlS1xPeKbsvqJg5MJL0LThUtji2anXuJfDhDvwiJqHJ/Xkv+EDxD+YYdwIDAQAB"
    )
    assert fingerprint(der) == "IHK5:OVTO:BZU6:IQK7:UFXR:B2VZ:HK6Z:EIDK:3FUB:55GB:2LAI:QV2T"


def test_the_tests_write_the_kid_of_a_key_on_a_curve_as_it_is_known():
    x, y = (
        int.from_bytes(base64.urlsafe_b64decode(member + "="), "big")
        for member in ("m7zUpx3b-zmVE5cymSs64POG9QcyEpJaYCD82-549_Q", "dU3biz8sZ_8GPB-odm8Wxz3lNDr1xcAQQPQaOcr1fmc")
    )
    public = ec.EllipticCurvePublicNumbers(x, y, ec.SECP256R1()).public_key()
    der = public.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    assert fingerprint(der) == "PYYO:TEWU:V7JH:26JV:AQTZ:LJC3:SXVJ:XGHA:34F2:2LAQ:ZRMK:Z7Q6"
