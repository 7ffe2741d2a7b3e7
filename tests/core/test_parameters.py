"""The parameters of msilo: what each takes, and what it says to what it does not."""

from typing import Any

import pytest

from msilo_core import LocalError, SiloConfig
from msilo_core.parameters import COLUMNS

SECONDS = "give 1 to 4294967295"


@pytest.mark.parametrize(
    ("name", "values"),
    [
        ("expire_time", (1, 2**32 - 1)), ("check_time", (1, 2**32 - 1)), ("send_time", (0, 2**32 - 1)),
        ("clean_period", (1, 2**32 - 1)), ("use_contact", (0, 1)), ("add_date", (0, 1)),
        ("max_messages", (0, 2**31 - 1)), ("add_contact", (0, 1)), ("skip_notification_flag", (-1, 31)),
        ("use_mode", (0, 1)), ("imdn", (0, 1)), ("max_bytes", (0, 2**53)), ("max_messages_per_sender", (0, 2**31 - 1)),
    ],
)  # fmt: skip
def test_numbers(name: str, values: tuple[int, int]) -> None:
    low, high = values
    for value in values:
        given: dict[str, Any] = {name: value}
        assert getattr(SiloConfig(**given), name) == value
    for value in (low - 1, high + 1):
        wrong: dict[str, Any] = {name: value}
        with pytest.raises(LocalError, match=f"^{name} = {value} is out of range: give {low} (to|or) {high}$"):
            SiloConfig(**wrong)


@pytest.mark.parametrize(
    ("given", "complaint"),
    [
        ({"db_table": "my silo"}, "db_table = 'my silo' is no name: give up to 63 letters, digits and _"),
        ({"db_table": "x" * 64}, "is no name"),
        ({"sc_mid": ""}, "sc_mid = '' is no name"),
        ({"sc_body": "1body"}, "sc_body = '1body' is no name"),
        ({"sc_body": "ctype"}, "is the column of sc_ctype too: give another name"),
        ({"sc_callid": "CSEQ"}, "sc_callid = 'CSEQ' is the column of msilo itself too"),
        ({"from_address": "sip:$xx"}, r"from_address: the pseudo-variable \$xx in"),
        (
            {"from_address": "registrar@example.com"},
            "from_address = 'registrar@example.com' is no SIP URI: give one such as sip:registrar@example.com",
        ),
        ({"from_address": "<sip:$rU@example.com>"}, r"from_address = '<sip:\$rU@example.com>' is no SIP URI"),
        ({"from_address": "sip:example.com"}, "from_address = 'sip:example.com' is no SIP URI"),
        ({"from_address": "sip:$rU@example.com\r\nX: y"}, "is no SIP URI"),
        ({"offline_message": "$"}, "offline_message: a dollar sign stands alone"),
        ({"contact_hdr": "sip:a@b"}, "contact_hdr: 'sip:a@b' is no header line: give one such as 'Contact: value'"),
        ({"contact_hdr": "Contact"}, "contact_hdr: 'Contact' is no header line"),
        ({"contact_hdr": "Contact: <sip:a@b>\r\nX: y\r\n"}, "contact_hdr: 'X: y' is no header line"),
        ({"content_type_hdr": "text/plain"}, "give one such as 'Content-Type: value'"),
        ({"content_type_hdr": "Content-Type: "}, "give one such as 'Content-Type: value'"),
        (
            {"content_type_hdr": "Content-Type: a/b\r\nContent-Type: c/d"},
            r"content_type_hdr = 'Content-Type: a/b\\r\\nContent-Type: c/d' is more than one line: give one$",
        ),
        ({"extra_hdrs": "X-A: b\nX-C: d"}, "extra_hdrs: .* is no header line: give one such as 'X-Name: value'"),
        ({"extra_hdrs": "To: <sip:a@b>\r\n"}, "extra_hdrs: To is written by the server: leave it out"),
        ({"extra_hdrs": "X-A: b\r\nv : SIP/2.0/UDP a"}, "extra_hdrs: v is written by the server: leave it out"),
        (
            {"extra_hdrs": "X-A: b\r\nm: <sip:a@b>", "add_contact": 1},
            "extra_hdrs: add_contact = 1 writes a Contact too: leave one of the two out",
        ),
        ({"extra_hdrs": "l: 5"}, "extra_hdrs: l is written by the server: leave it out"),
        (
            {"offline_message": "later"},
            "content_type_hdr = '' does not go with offline_message: give one such as",
        ),
        ({"reminder": "reminder"}, "reminder = 'reminder' is no SIP URI: give one such as sip:reminder@example.com"),
        ({"reminder": "reminder@example.com"}, "reminder = 'reminder@example.com' is no SIP URI"),
        (
            {"outbound_proxy": "sip:proxy.example.com"},
            "outbound_proxy = .*: host names are not looked up: give the URI",
        ),
        ({"outbound_proxy": "192.0.2.9"}, "outbound_proxy = '192.0.2.9' is not known: give the URI of a proxy such as"),
        ({"outbound_proxy": "sips:192.0.2.9"}, "only UDP and TCP are supported"),
        ({"snd_time_avp": "time"}, "snd_time_avp: 'time' is no AVP"),
        ({"extra_hdrs_avp": "$var(x)"}, r"extra_hdrs_avp: '\$var\(x\)' is no AVP"),
        ({"time_zone": "Rome"}, "time_zone = 'Rome' is not known: give a name such as Europe/Rome, or UTC"),
        ({"time_zone": "../etc"}, "time_zone = '../etc' is not known"),
        ({"content_types": ("text",)}, "content_types: 'text' is no media type: give one such as text/plain or text/"),
    ],
)
def test_what_nobody_can_run_with(given: dict[str, Any], complaint: str) -> None:
    with pytest.raises(LocalError, match=complaint):
        SiloConfig(**given)


@pytest.mark.parametrize(
    "text",
    [
        "sip:$rU@$rd",
        "sip:$rU@$rd:$rp",
        "sip:silo@[$Ri]",
        "sip:silo@[$Ri]:50$var(a)",
        "sip:$rU@$rd:$rp;transport=$pr",
        "sips:a$(rU)@b.example.com",
        "$fu",
        "$avp(f)@x",
    ],
)
def test_address_that_may_be_one(text: str) -> None:
    assert SiloConfig(from_address=text).from_address == text


def test_what_kamailio_takes() -> None:
    columns: dict[str, Any] = {name: f"c_{default}" for name, default in COLUMNS.items()}
    config = SiloConfig(
        db_table="messages", **columns,
        from_address="sip:registrar@example.org", contact_hdr="Contact: <sip:null@example.com>\r\n",
        offline_message="*** User $rU is offline!", content_type_hdr="Content-Type: text/plain\r\n",
        extra_hdrs="X-Foo: $fu\r\nX-Bar: 1\r\n", reminder="sip:registrar@example.org",
        outbound_proxy="sip:192.0.2.9", snd_time_avp="$avp(i:23)", extra_hdrs_avp="$avp(hdrs)",
        time_zone="Europe/Rome", content_types=("text/*", "message/cpim"),
    )  # fmt: skip
    assert config.sc_stored_hdrs == "c_extra_hdrs"
    assert str(config.zone) == "Europe/Rome"


def test_there_are_all_of_them() -> None:
    ours = {"reminder_sender", "time_zone", "content_types", "imdn", "max_bytes", "max_messages_per_sender"}
    # The 34th is db_url, the storage URL.
    assert len(set(SiloConfig.__struct_fields__) - ours) == 33
