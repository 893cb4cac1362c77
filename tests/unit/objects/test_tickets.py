from datetime import UTC, datetime, timedelta
from urllib.parse import urlsplit, urlunsplit
from uuid import UUID

from minio.credentials.credentials import Credentials as MinioCredentials
from minio.signer import presign_v4

from infra.objects.presign import Credentials, Request, presign
from infra.objects.settings import ObjectStoreSettings
from infra.objects.tickets import TicketOffice
from schemas import keys
from schemas.ids import ModelId, TaskId, TrainingId

NOON = datetime(2030, 1, 2, 12, tzinfo=UTC)
SETTINGS = ObjectStoreSettings(url="http://inner:9000", access_key="key", secret_key="very-secret")


def test_the_signature_is_the_one_of_the_published_example() -> None:
    credentials = Credentials("AKIAIOSFODNN7EXAMPLE", "wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY", "us-east-1")
    request = Request("GET", "https://examplebucket.s3.amazonaws.com/test.txt")
    url = presign(request, credentials, datetime(2013, 5, 24, tzinfo=UTC), 86_400)
    assert url.endswith("=aeeed9bbccd4d02ee5c0109b86d86835f995330da4c265957d157751f604d404")


def test_without_headers_the_url_is_the_one_that_the_sdk_makes() -> None:
    place = urlsplit("http://inner:9000/warren/models/1.safetensors")
    theirs = presign_v4(
        method="PUT",
        url=place,
        region="us-east-1",
        credentials=MinioCredentials("key", "very-secret"),
        date=NOON,
        expires=60,
    )
    credentials = Credentials("key", "very-secret", "us-east-1")
    ours = presign(Request("PUT", urlunsplit(place)), credentials, NOON, 60)
    assert ours == urlunsplit(theirs)


def test_an_upload_ticket_names_the_exact_headers_and_its_end() -> None:
    ticket = TicketOffice(SETTINGS.model_copy(update={"write_once": True})).upload("k", 10, NOON, 60)
    assert ticket.headers == {"content-length": "10", "if-none-match": "*"}
    assert ticket.expires_at == NOON + timedelta(minutes=1)
    assert "SignedHeaders=content-length%3Bhost%3Bif-none-match&" in ticket.url.get_secret_value()


def test_an_upload_ticket_without_a_size_leaves_it_open() -> None:
    ticket = TicketOffice(SETTINGS).upload("k", None, NOON, 60)
    assert ticket.headers == {}
    assert "SignedHeaders=host&" in ticket.url.get_secret_value()


def test_a_ticket_leads_to_the_public_address() -> None:
    office = TicketOffice(SETTINGS.model_copy(update={"public_url": "https://objects.example:443"}))
    url = office.download("models/1", NOON, 60).url.get_secret_value()
    assert url.startswith("https://objects.example/warren/models/1?")


def test_neither_tickets_nor_settings_show_a_secret() -> None:
    ticket = TicketOffice(SETTINGS).download("models/1", NOON, 60)
    for text in (repr(ticket), str(ticket), ticket.model_dump_json(), repr(SETTINGS)):
        assert "Signature" not in text
        assert "very-secret" not in text


def test_no_key_is_the_folder_of_another() -> None:
    one = UUID(int=1)
    made = {
        keys.uploaded_model(ModelId(one)),
        keys.model_version(TrainingId(one), 1, 1),
        keys.model_version(TrainingId(one), 11, 1),
        keys.update(TrainingId(one), 1, TaskId(one)),
        keys.reduce_plan(TrainingId(one), 1, 1),
        *(keys.shard(TrainingId(one), 1, epoch, index) for epoch in (1, 11) for index in (0, 1, 10)),
    }
    assert not [(a, b) for a in made for b in made if b.startswith(f"{a}/")]
