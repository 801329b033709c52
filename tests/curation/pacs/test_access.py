"""Which archive may be asked, and as whom."""

import base64
import os
import socket

import pytest

from sono.curation.core.errors import SonoError
from sono.curation.pacs.access import authorization, check_address, origin_of


@pytest.fixture
def hosts(monkeypatch: pytest.MonkeyPatch) -> None:
    known = {
        "pacs.inside": ["10.1.2.3"],
        "pacs.outside": ["8.8.8.8"],
        "pacs.both": ["192.168.0.4", "2001:4860:4860::8888"],
        "pacs.mapped": ["::ffff:8.8.8.8"],
        "pacs.link": ["fe80::1%eth0"],
        "127.0.0.1": ["127.0.0.1"],
        "::1": ["::1"],
    }

    def look_up(host: str, port: int, **_: object) -> list[object]:
        if host not in known:
            raise socket.gaierror(-2, "Name or service not known")
        return [(0, 0, 0, "", (address, port)) for address in known[host]]

    monkeypatch.setattr(socket, "getaddrinfo", look_up)


@pytest.mark.parametrize(
    "url",
    [
        "http://127.0.0.1:8042/dicom-web",
        "http://[::1]:8042/dicom-web",
        "http://pacs.inside/dicom-web",
        "http://pacs.link/dicom-web",
        "https://pacs.outside/dicom-web",
    ],
)
def test_private_addresses_and_https_will_do(hosts: None, url: str) -> None:
    assert check_address(url + "/") == url


@pytest.mark.parametrize("host", ["pacs.outside", "pacs.both", "pacs.mapped"])
def test_plain_http_to_any_public_address_needs_a_word(hosts: None, host: str) -> None:
    with pytest.raises(SonoError, match="plain http to a public address"):
        check_address(f"http://{host}/dicom-web")
    assert (
        check_address(f"http://{host}/dicom-web", insecure_http=True) == f"http://{host}/dicom-web"
    )


@pytest.mark.parametrize(
    "url",
    [
        "https://reader:Secret1@pacs.inside/x",
        "reader:Secret1@pacs.inside",
        "https://pacs.inside/x?key=Secret1",
    ],
)
def test_a_password_in_the_address_is_refused_and_not_repeated(hosts: None, url: str) -> None:
    with pytest.raises(SonoError, match="SONO_PACS_PASSWORD") as caught:
        check_address(url)
    assert "Secret1" not in str(caught.value)


@pytest.mark.parametrize(
    "url",
    [
        "pacs.inside/dicom-web",
        "ftp://pacs.inside",
        "https://",
        "https://[::1",
        "http://a:x/",
        "http://.../",
        f"https://{'a' * 300}/",
    ],
)
def test_what_is_no_address_is_refused(hosts: None, url: str) -> None:
    with pytest.raises(SonoError, match=r"https://pacs\.example"):
        check_address(url)


def test_a_scheme_in_capitals_is_put_right(hosts: None) -> None:
    assert check_address("HTTP://pacs.inside/Dicom-Web/") == "http://pacs.inside/Dicom-Web"


def test_an_unknown_host_is_said_so(hosts: None) -> None:
    with pytest.raises(SonoError, match="nowhere: no such host"):
        check_address("http://nowhere/dicom-web")


def test_credentials_come_as_basic_or_bearer_or_not_at_all() -> None:
    assert authorization({}) is None
    assert authorization({"SONO_PACS_TOKEN": "abc.def\n"}) == "Bearer abc.def"
    # RFC 7617 section 2: the example of the standard
    named = {"SONO_PACS_USER": "Aladdin", "SONO_PACS_PASSWORD": "open sesame"}
    assert authorization(named) == "Basic QWxhZGRpbjpvcGVuIHNlc2FtZQ=="


def test_a_password_that_is_no_utf_8_goes_out_as_it_came() -> None:
    named = {"SONO_PACS_USER": "é", "SONO_PACS_PASSWORD": os.fsdecode(b"\xff")}
    assert base64.b64decode(authorization(named).partition(" ")[2]) == "é:".encode() + b"\xff"


@pytest.mark.parametrize(
    ("environment", "fact"),
    [
        ({"SONO_PACS_USER": "reader"}, "SONO_PACS_PASSWORD is not set"),
        ({"SONO_PACS_PASSWORD": "Secret1"}, "SONO_PACS_USER is not set"),
        (
            {"SONO_PACS_PASSWORD": "Secret1", "SONO_PACS_USER": "r", "SONO_PACS_TOKEN": "t"},
            "both set",
        ),
        ({"SONO_PACS_TOKEN": "Secret1 Secret1"}, "has a space"),
        ({"SONO_PACS_TOKEN": "Secret1\nX: y"}, "has a space"),
        ({"SONO_PACS_TOKEN": "Secret1é"}, "has a space or a character"),
    ],
)
def test_half_given_credentials_are_refused_and_not_repeated(
    environment: dict[str, str], fact: str
) -> None:
    with pytest.raises(SonoError, match=fact) as caught:
        authorization(environment)
    assert "Secret1" not in str(caught.value)


def test_messages_show_neither_path_nor_query_nor_password() -> None:
    assert (
        origin_of("https://a:b@pacs.inside:8443/x/studies?PatientID=7")
        == "https://pacs.inside:8443"
    )
    assert origin_of("/login?PatientID=7") == "another path of the same server"
