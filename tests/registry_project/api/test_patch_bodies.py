"""Controls set by request: what is taken, and hostile bodies, none of which changes anything or fails the server."""

import json

import pytest

from background_migrations.models import Control, Event
from tests.factories import BackgroundMigrationFactory
from tests.registry_project.api.asking import MIGRATIONS, TO_WRITE, assert_error

pytestmark = pytest.mark.django_db(databases=["default", "registry", "rails"])
NO_JSON, VALUE, TYPE = "INVALID_JSON_BODY", "INVALID_BODY_PARAMETER", "INVALID_BODY_PARAMETER_TYPE"
ANY = (NO_JSON, VALUE, TYPE)


@pytest.fixture
def migration():
    return BackgroundMigrationFactory()


@pytest.fixture
def patch(ask, signer, migration):
    """Send a body for the migration's controls."""

    def send(body, content_type="application/json", **extra):
        content = body if isinstance(body, bytes) else json.dumps(body).encode()
        authorization = signer.grant(TO_WRITE, sub="an operator")
        path = f"{MIGRATIONS}{migration.pk}/"
        return ask(path, authorization, method="PATCH", body=content, content_type=content_type, **extra)

    return send


TAKEN = {
    "batch_size": 1,
    "sub_batch_size": 0,
    "interval_seconds": 0.5,
    "max_parallel_jobs": 1_000,
    "hold_until": "2027-01-02T03:04:05Z",
    "job_timeout_seconds": 0,
    "adaptive": False,
    "target_seconds": 30,
    "min_batch_size": 10,
    "max_batch_size": 50_000,
    "shares_table": True,
}


@pytest.mark.parametrize(("name", "value"), TAKEN.items())
def test_a_control_is_set_and_set_back(patch, name, value):
    answer = patch({name: value})
    assert (answer.status_code, answer.headers["Content-Type"]) == (200, "application/json"), answer.content
    assert set(answer.json()) == {"controls"}
    assert set(answer.json()["controls"]) == set(TAKEN)
    assert answer.json()["controls"] == dict.fromkeys(TAKEN) | {name: value}
    assert patch({name: None}).json()["controls"][name] is None


def test_all_controls_are_set_at_once_and_by_whom_is_kept(patch, migration):
    assert patch(TAKEN).json()["controls"] == TAKEN
    event = Event.objects.using("registry").get(background_migration_id=migration.pk)
    assert event.kind == "controls"
    assert "an operator" in event.actor


def test_an_empty_object_changes_nothing(patch):
    answer = patch({})
    assert (answer.status_code, answer.json()["controls"]) == (200, dict.fromkeys(TAKEN))


HOSTILE = {
    "nothing": (b"", (NO_JSON,)),
    "white space": (b" \n", (NO_JSON,)),
    "half an object": (b'{"batch_size":', (NO_JSON,)),
    "two objects": (b"{}{}", (NO_JSON,)),
    "a comma behind": (b'{"batch_size":5,}', (NO_JSON,)),
    "single quotes": (b"{'batch_size':5}", (NO_JSON,)),
    "a comment": (b'{"batch_size":5}//', (NO_JSON,)),
    "invalid UTF-8": (b'{"batch_size\xff":5}', (NO_JSON,)),
    "UTF-16": (json.dumps({"batch_size": 5}).encode("utf-16"), (NO_JSON,)),
    "a bare NUL": (b'{"batch_size":5}\x00', (NO_JSON,)),
    "a NUL in text": (b'{"hold_until":"\x00"}', (NO_JSON,)),
    "NaN": (b'{"interval_seconds":NaN}', (NO_JSON,)),
    "Infinity": (b'{"interval_seconds":Infinity}', (NO_JSON,)),
    "negative Infinity": (b'{"job_timeout_seconds":-Infinity}', (NO_JSON,)),
    "deep lists": (b"[" * 100_000 + b"]" * 100_000, ANY),
    "deep lists without end": (b"[" * 1_000_000, (NO_JSON,)),
    "deep objects": (b'{"batch_size":' * 50_000 + b"1" + b"}" * 50_000, ANY),
    "depth in a value": (b'{"batch_size":' + b"[" * 5_000 + b"]" * 5_000 + b"}", ANY),
    "four megabytes": (b'{"batch_size":"' + b"x" * 4_000_000 + b'"}', ANY),
    "many names": (json.dumps({f"name_{number}": 1 for number in range(10_000)}).encode(), (NO_JSON, VALUE)),
    "a name of a megabyte": (json.dumps({"n" * 1_000_000: 1}).encode(), (NO_JSON, VALUE)),
    "a list": (b"[]", ANY),
    "a list of objects": (b'[{"batch_size":5}]', ANY),
    "text": (b'"batch_size"', ANY),
    "a number": (b"5", ANY),
    "null": (b"null", ANY),
    "true": (b"true", ANY),
    "an unknown name": ({"batch_sizes": 5}, (VALUE,)),
    "an unknown name beside a good one": ({"batch_size": 5, "status": 2}, (VALUE,)),
    "a column of the table": ({"status": 2}, (VALUE,)),
    "a column of the controls": ({"throttled_by": "me"}, (VALUE,)),
    "the id": ({"background_migration_id": 5}, (VALUE,)),
    "an empty name": ({"": 5}, (VALUE,)),
    "a name with a capital": ({"Batch_size": 5}, (VALUE,)),
    "a name with NUL": ({"batch_size\x00": 5}, (VALUE,)),
    "a name of half a pair": (b'{"\\ud800":5}', ANY),
    "a name with SQL": ({'batch_size" = 1; --': 5}, (VALUE,)),
    "a name of Python's": ({"__class__": 5}, (VALUE,)),
    "a size as text": ({"batch_size": "5"}, (TYPE,)),
    "a size as a fraction": ({"batch_size": 5.5}, (TYPE,)),
    "a size as a list": ({"batch_size": [5]}, (TYPE,)),
    "a size as an object": ({"batch_size": {"a": 5}}, (TYPE,)),
    "a size that is true": ({"batch_size": True}, (TYPE,)),
    "a size of 0": ({"batch_size": 0}, (VALUE,)),
    "a negative size": ({"sub_batch_size": -1}, (VALUE,)),
    "a size of 2^31": ({"batch_size": 2**31}, (VALUE,)),
    "a size of 2^63": ({"max_batch_size": 2**63}, (VALUE,)),
    "a size of 5000 digits": (b'{"batch_size":' + b"9" * 5_000 + b"}", ANY),
    "an interval as text": ({"interval_seconds": "5"}, (TYPE,)),
    "an interval of 1e999": (b'{"interval_seconds":1e999}', ANY),
    "an interval of 5000 digits": (b'{"interval_seconds":' + b"9" * 5_000 + b"}", ANY),
    "an interval of 400 digits": (b'{"interval_seconds":' + b"9" * 400 + b"}", (VALUE,)),
    "a negative interval": ({"interval_seconds": -0.001}, (VALUE,)),
    "an interval of a lifetime": ({"interval_seconds": 2_000_001}, (VALUE,)),
    "a target of 0": ({"target_seconds": 0}, (VALUE,)),
    "too many jobs": ({"max_parallel_jobs": 1_001}, (VALUE,)),
    "no jobs": ({"max_parallel_jobs": 0}, (VALUE,)),
    "a time as a number": ({"hold_until": 1_800_000_000}, (TYPE,)),
    "a time that is none": ({"hold_until": "tomorrow"}, (TYPE, VALUE)),
    "an empty time": ({"hold_until": ""}, (TYPE, VALUE)),
    "a time without a zone": ({"hold_until": "2027-01-02T03:04:05"}, (TYPE, VALUE)),
    "a day": ({"hold_until": "2027-01-02"}, (TYPE, VALUE)),
    "a day that is none": ({"hold_until": "2027-02-30T03:04:05Z"}, (TYPE, VALUE)),
    "a year beyond all": ({"hold_until": "99999-01-01T00:00:00Z"}, (TYPE, VALUE)),
    "a time before all": ({"hold_until": "0001-01-01T00:00:00+23:59"}, ANY),
    "a time after all": ({"hold_until": "9999-12-31T23:59:59-23:59"}, ANY),
    "a time of half a pair": (b'{"hold_until":"\\ud800"}', ANY),
    "a time with NUL": ({"hold_until": "2027-01-02T03:04:05Z\x00"}, ANY),
    "yes as text": ({"adaptive": "true"}, (TYPE,)),
    "yes as a number": ({"adaptive": 1}, (TYPE,)),
    "a good one and a bad one": ({"batch_size": 5, "adaptive": "x"}, (TYPE,)),
    "a name twice": (b'{"batch_size":5,"batch_size":"x"}', ANY),
}


@pytest.mark.parametrize(("body", "codes"), HOSTILE.values(), ids=HOSTILE)
def test_a_hostile_body_changes_nothing(patch, migration, body, codes):
    answer = patch(body)
    code = answer.json()["errors"][0]["code"]
    assert code in codes
    assert_error(answer, status=400, code=code)
    assert not Control.objects.using("registry").filter(background_migration_id=migration.pk).exists()
    assert not Event.objects.using("registry").filter(background_migration_id=migration.pk).exists()


OTHER_TYPES = {
    "a form": (b"batch_size=5", "application/x-www-form-urlencoded"),
    "parts": (
        b'--x\r\nContent-Disposition: form-data; name="batch_size"\r\n\r\n5\r\n--x--',
        "multipart/form-data; boundary=x",
    ),
    "parts without a boundary": (b"x", "multipart/form-data"),
    "XML": (b"<batch_size>5</batch_size>", "application/xml"),
    "a patch of another kind": (b'[{"op":"replace","path":"/batch_size","value":5}]', "application/json-patch+json"),
}


@pytest.mark.parametrize(("body", "content_type"), OTHER_TYPES.values(), ids=OTHER_TYPES)
def test_what_is_no_json_is_refused_whatever_its_type(patch, migration, body, content_type):
    assert_error(patch(body, content_type), status=400, code=NO_JSON)
    assert not Control.objects.using("registry").filter(background_migration_id=migration.pk).exists()


@pytest.mark.parametrize(
    "content_type", ["application/json; charset=utf-8", "Application/JSON", "application/json;a=b"]
)
def test_parameters_of_the_content_type_do_no_harm(patch, content_type):
    assert patch({"batch_size": 5}, content_type).status_code == 200


def test_bounds_that_cross_are_a_conflict_whichever_is_set_first(patch):
    conflict = {"status": 409, "code": "BBM_CONFLICTING_CONTROLS"}
    assert_error(patch({"min_batch_size": 10, "max_batch_size": 9}), **conflict)
    assert patch({"max_batch_size": 9}).status_code == 200
    assert_error(patch({"min_batch_size": 10}), **conflict)


def test_of_a_name_that_comes_twice_the_last_counts(patch):
    assert patch(b'{"batch_size":5,"batch_size":6}').json()["controls"]["batch_size"] == 6


@pytest.mark.parametrize("content_type", ["text/plain", "nonsense"])
def test_a_body_is_read_as_json_whatever_its_type(patch, content_type):
    assert patch({"batch_size": 5}, content_type).status_code == 200


def test_a_nameless_hostile_body_is_not_even_read_without_access(ask, signer, migration):
    answer = ask(f"{MIGRATIONS}{migration.pk}/", signer.bearer(), method="PATCH", body=b"[" * 1_000_000)
    assert answer.status_code == 401
