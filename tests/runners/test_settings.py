"""The settings file and what is said about a wrong one: the key, the value and the remedy, in one line."""

import re
from pathlib import Path

import msgspec
import pytest

from msilo_core import SiloConfig
from msilo_core.config import Account, AuthConfig, Config, DeliveryConfig
from msilo_core.limits import Limits
from msilo_core.uri import parse_aor
from msilo_runners import ServerConfig, SettingsError
from msilo_runners.addresses import TransportAddress, parse_transport_address
from msilo_runners.settings import Settings, parse_settings, read_settings, with_parameters

EVERYTHING = """
[server]
listen = ["udp://192.0.2.2:5060", "tcp://[2001:db8::2]"]
role = "silo"
backend = "trio"
domain = ["example.com", "example.org"]
trust = ["192.0.2.0/24", "2001:db8::/32"]
foreign = "sip:192.0.2.9:5060"
path_mode = "lazy"
expires_default = 600
expires_min = 120
expires_max = 7200
grace = 3

[storage]
url = "sqlite:////var/lib/msilo.db"

[auth]
users = "/etc/msilo/users"
algorithms = ["SHA-256", "MD5"]
nonce_lifetime = 60

[delivery]
lease = 30
retry_min = 10
retry_max = 600
retry_look = 3
window = 4
devices = "each"
device_window = 600
username = "silo"
password = "secret"
realm = "example.com"

[limits]
batch_max = 100

[msilo]
expire_time = 3600
add_date = 1
"""


DELIVERY = DeliveryConfig(
    lease_s=30,
    retry_min_s=10,
    retry_max_s=600,
    retry_look_s=3,
    window=4,
    account=Account("silo", "secret", "example.com"),
    devices="each",
    device_window_s=600,
)


def test_a_file_may_set_everything() -> None:
    assert parse_settings(EVERYTHING) == Settings(
        ServerConfig(
            listen=("udp://192.0.2.2:5060", "tcp://[2001:db8::2]"),
            storage="sqlite:////var/lib/msilo.db",
            role="silo",
            domains=("example.com", "example.org"),
            trusted=("192.0.2.0/24", "2001:db8::/32"),
            users="/etc/msilo/users",
            auth=AuthConfig(algorithms=("SHA-256", "MD5"), nonce_lifetime_s=60),
            foreign="sip:192.0.2.9:5060",
            path_mode="lazy",
            expires_default_s=600,
            expires_min_s=120,
            expires_max_s=7200,
            grace_s=3.0,
            delivery=DELIVERY,
            limits=Limits(batch_max=100),
            silo=SiloConfig(expire_time=3600, add_date=1),
        ),
        "trio",
    )


def test_what_the_engine_is_told() -> None:
    server = parse_settings(EVERYTHING).server
    assert server.engine_config("here") == Config(
        node="here",
        domains=frozenset({"example.com", "example.org"}),
        foreign="sip:192.0.2.9:5060",
        trusted=("192.0.2.0/24", "2001:db8::/32"),
        auth=AuthConfig(algorithms=("SHA-256", "MD5"), nonce_lifetime_s=60),
        path_mode="lazy",
        expires_default_s=600,
        expires_min_s=120,
        expires_max_s=7200,
        delivery=DELIVERY,
        silo=SiloConfig(expire_time=3600, add_date=1),
    )


@pytest.mark.parametrize(
    ("written", "domain"),
    [
        ("example.com", "example.com"), ("EXAMPLE.com", "example.com"), ("example.com.", "example.com"),
        ("localhost", "localhost"), ("xn--bcher-kva.example", "xn--bcher-kva.example"),
        ("192.0.2.1", "192.0.2.1"), ("192.000.002.001", "192.0.2.1"),
        ("[2001:db8::1]", "[2001:db8::1]"), ("2001:DB8:0:0::1", "[2001:db8::1]"),
        ("::ffff:192.0.2.1", "[::ffff:192.0.2.1]"),
    ],
)  # fmt: skip
def test_a_domain_is_compared_as_those_of_addresses_are(written: str, domain: str) -> None:
    assert ServerConfig(domains=(written,)).engine_config("n").domains == frozenset({domain})
    bracketed = f"[{written}]" if written.count(":") > 1 and not written.startswith("[") else written
    assert parse_aor(f"sip:bob@{bracketed}").domain == domain


@pytest.mark.parametrize(
    "written",
    [
        "", ".", "sip:example.com", "bob@example.com", "example.com:5060", "example.com;lr", "example.com?x=y",
        "exa mple.com", "bücher.example", "example.com,example.org", "[192.0.2.1]", "[2001:db8::1]:5060",
        "fe80::1%eth0", "1.2.3", "x" * 256,
    ],
)  # fmt: skip
def test_a_domain_that_is_none(written: str) -> None:
    with pytest.raises(SettingsError) as caught:
        ServerConfig(domains=("example.com", written))
    assert str(caught.value) == f"{written!r} is not a domain: give a host name such as example.com, or an IP address"


def test_with_users_nobody_is_trusted_unless_it_is_said() -> None:
    assert ServerConfig().engine_config("n") == Config(node="n")
    assert ServerConfig(users="store").engine_config("n") == Config(node="n", trusted=(), auth=AuthConfig())
    assert ServerConfig(users="store", trusted=("10.0.0.0/8",)).engine_config("n").trusted == ("10.0.0.0/8",)


def test_an_empty_file_sets_nothing() -> None:
    assert parse_settings("") == Settings(ServerConfig(), "asyncio")


@pytest.mark.parametrize("name", Limits.__struct_fields__)
def test_every_limit_can_be_set(name: str) -> None:
    assert getattr(parse_settings(f"[limits]\n{name} = 12345").server.limits, name) == 12345


NO_NAME = "is no name: give up to 63 letters, digits and _, not a digit first"

# Of each parameter: a value, how `--set` says it, one that is refused in a file, and what is said then.
PARAMETERS: list[tuple[str, object, str, str, str]] = [
    ("db_table", "messages", "messages", '"my silo"', f"db_table = 'my silo' {NO_NAME}"),
    *[
        (column, f"my_{column}", f"my_{column}", '"1st"', f"{column} = '1st' {NO_NAME}")
        for column in (
            "sc_mid", "sc_from", "sc_to", "sc_uri_user", "sc_uri_host", "sc_inc_time", "sc_exp_time", "sc_snd_time",
            "sc_ctype", "sc_body", "sc_stored_hdrs", "sc_callid", "sc_status",
        )
    ],
    ("from_address", "sip:$rU@example.com", "sip:$rU@example.com", "1", "from_address = 1 does not fit: give a text"),
    (
        "contact_hdr", "Contact: <sip:silo@example.com>\r\n", "Contact: <sip:silo@example.com>\r\n",
        '"X-Contact: a"', "contact_hdr: 'X-Contact: a' is no header line: give one such as 'Contact: value'",
    ),
    ("offline_message", "$rU is away", "$rU is away", '"5 $"', "offline_message: a dollar sign stands alone"),
    (
        "content_type_hdr", "Content-Type: text/plain", "Content-Type: text/plain",
        '"text/plain"', "content_type_hdr: 'text/plain' is no header line: give one such as 'Content-Type: value'",
    ),
    (
        "extra_hdrs", "X-One: $tu\r\nX-Two: 2\r\n", "X-One: $tu\r\nX-Two: 2\r\n",
        '"Via: x"', "extra_hdrs: Via is written by the server: leave it out",
    ),
    ("reminder", "sip:clock@example.com", "sip:clock@example.com", '"clock"', "reminder = 'clock' is no SIP URI: give"),
    ("outbound_proxy", "sip:192.0.2.9", "sip:192.0.2.9", "false", "outbound_proxy = false does not fit: give a text"),
    ("expire_time", 3600, "3600", "0", "expire_time = 0 is out of range: give 1 to 4294967295"),
    ("check_time", 30, "30", "0", "check_time = 0 is out of range: give 1 to 4294967295"),
    ("send_time", 60, "60", "-1", "send_time = -1 is out of range: give 0 to 4294967295"),
    ("clean_period", 3, "3", '"3"', 'clean_period = "3" does not fit: give a whole number'),
    ("use_contact", 0, "0", "2", "use_contact = 2 is out of range: give 0 or 1"),
    (
        "snd_time_avp", "$avp(when)", "$avp(when)",
        '"when"', "snd_time_avp: 'when' is no AVP: give one such as $avp(snd_time)",
    ),
    ("add_date", 1, "1", "true", "add_date = true does not fit: give a whole number"),
    ("max_messages", 100, "100", "-1", "max_messages = -1 is out of range: give 0 to 2147483647"),
    ("add_contact", 1, "1", "-1", "add_contact = -1 is out of range: give 0 or 1"),
    (
        "extra_hdrs_avp", "$avp(s:headers)", "$avp(s:headers)",
        '"$var(x)"', "extra_hdrs_avp: '$var(x)' is no AVP: give one such as $avp(snd_time)",
    ),
    ("skip_notification_flag", 31, "31", "32", "skip_notification_flag = 32 is out of range: give -1 to 31"),
    ("use_mode", 1, "1", "2", "use_mode = 2 is out of range: give 0 or 1"),
    # Ours.
    (
        "reminder_sender", "original", "original",
        '"me"', 'reminder_sender = "me" does not fit: give "reminder" or "original"',
    ),
    (
        "time_zone", "Europe/Rome", "Europe/Rome",
        '"CEST"', "time_zone = 'CEST' is not known: give a name such as Europe/Rome, or UTC",
    ),
    (
        "content_types", ("text/plain", "text/*"), "text/plain, text/*",
        '["text"]', "content_types: 'text' is no media type: give one such as text/plain or text/*",
    ),
    ("imdn", 0, "0", "2", "imdn = 2 is out of range: give 0 or 1"),
    ("max_bytes", 1_000_000, "1000000", "-1", "max_bytes = -1 is out of range: give 0 to 9007199254740992"),
    (
        "max_messages_per_sender", 20, "20",
        '"20"', 'max_messages_per_sender = "20" does not fit: give a whole number',
    ),
]  # fmt: skip


def test_the_table_of_parameters_is_whole() -> None:
    names = [name for name, *_ in PARAMETERS]
    assert names == list(SiloConfig.__struct_fields__)
    # Kamailio's are 34 with db_url, which is the storage URL.
    ours = {"reminder_sender", "time_zone", "content_types", "imdn", "max_bytes", "max_messages_per_sender"}
    assert len(set(names) - ours) + len({"db_url"}) == 34


@pytest.mark.parametrize(("name", "value", "text", "wrong", "complaint"), PARAMETERS)
def test_every_parameter_of_msilo_can_be_set_in_both_ways(
    name: str, value: object, text: str, wrong: str, complaint: str
) -> None:
    needed = {"content_type_hdr": "Content-Type: text/plain"} if name == "offline_message" else {}
    others = msgspec.structs.replace(SiloConfig(), **needed)
    expected = msgspec.structs.replace(others, **{name: value})
    assert expected != others
    lines = [f"{key} = {msgspec.json.encode(given).decode()}" for key, given in {name: value, **needed}.items()]
    assert parse_settings("\n".join(["[msilo]", *lines])).server.silo == expected
    given = [f"{name}={text}", *(f"{key}={other}" for key, other in needed.items())]
    assert with_parameters(SiloConfig(), given) == expected
    with pytest.raises(SettingsError, match=f"^{re.escape(f'msilo.{complaint}')}"):
        parse_settings(f"[msilo]\n{name} = {wrong}")


def test_a_list_may_be_emptied_on_the_command_line() -> None:
    assert with_parameters(SiloConfig(content_types=("text/plain",)), ["content_types="]) == SiloConfig()


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("x =", "not TOML: Invalid value (at end of document)"),
        ("[servr]", "servr is not a known table: did you mean server?"),
        ("[metrics]", "metrics is not a known table: known are auth, delivery, limits, msilo, server, storage"),
        ("server = 3", "server = 3 is not a table: write [server] above its keys"),
        ("[server]\nlisen = []", "server.lisen is not a known key: did you mean server.listen?"),
        (
            "[server]\nport = 5060",
            "server.port is not a known key: known are backend, domain, expires_default, expires_max, expires_min, "
            "foreign, grace, listen, path_mode, role, route, trust",
        ),
        ("[server]\nworkers = 2", "server.workers is not for a file: give --workers N to msilo serve"),
        (
            '[server]\nlisten = "udp://127.0.0.1"',
            'server.listen = "udp://127.0.0.1" does not fit: give a list of texts, such as ["one", "two"]',
        ),
        ("[server]\nlisten = []", "nowhere to listen: give a transport address such as udp://127.0.0.1:5060"),
        ('[server]\nrole = "proxy"', 'server.role = "proxy" does not fit: give "server" or "silo"'),
        ('[server]\nbackend = "curio"', 'server.backend = "curio" does not fit: give "asyncio" or "trio"'),
        ('[server]\ngrace = "5 s"', 'server.grace = "5 s" does not fit: give a number'),
        ("[server]\ngrace = -1", "a grace of -1.0 is out of range: give seconds, 0 or more"),
        ('[delivery]\npassword = "secret"', "delivery.username is empty: give the name that the password is of"),
        ('[delivery]\nrealm = "example.com"', "delivery.username is empty: give the name that the password is of"),
        (
            '[delivery]\nusername = "silo"\npassword = "secret"',
            "delivery.realm is empty: give the realm of the outbound proxy, which username and password are for",
        ),
        ("[delivery]\npassword = 4711", "delivery.password = … does not fit: give a text in quotes"),
        ("[delivery]\nlease = 2", "delivery.lease = 2 is out of range: give 3 to 4294967295"),
        (
            "[delivery]\nretry_min = 1000",
            "delivery.retry_min = 1000, retry_max = 900 is out of order: give them ascending",
        ),
        ("[server]\ngrace = nan", "a grace of nan is out of range: give seconds, 0 or more"),
        ("[server]\ngrace = inf", "a grace of inf is out of range: give seconds, 0 or more"),
        (
            "[server]\ntrust = [1]",
            'server.trust = [1] does not fit: give a list of texts, such as ["one", "two"]',
        ),
        ('[server]\ntrust = ["lan"]', "'lan' is not a network: give one such as 10.0.0.0/8"),
        ('[server]\ntrust = ["10.1.2.3/8"]', "'10.1.2.3/8' is an address within a network: give 10.0.0.0/8"),
        (
            '[server]\nforeign = "500"',
            "foreign = '500' is not known: give 404, 403, or the URI of a proxy such as sip:192.0.2.9:5060",
        ),
        (
            '[server]\nforeign = "sip:192.0.2.9?x=y"',
            "foreign = 'sip:192.0.2.9?x=y': the URI of a proxy has no headers: give 404, 403, or the URI of a proxy "
            "such as sip:192.0.2.9:5060",
        ),
        ('[server]\npath_mode = "off"', 'server.path_mode = "off" does not fit: give "strict" or "lazy"'),
        (
            "[server]\nexpires_min = 4000",
            "expires_min = 4000, expires_default = 3600, expires_max = 86400 is out of order: "
            "give them ascending, from 1 to 4294967295",
        ),
        (
            '[auth]\nalgorithms = ["SHA-1"]',
            "auth.algorithms: 'SHA-1' is not one that this machine has: give SHA-256 or SHA-512-256 or MD5",
        ),
        (
            '[auth]\nalgorithms = ["MD5", "MD5"]',
            "auth.algorithms = ['MD5', 'MD5'] is out of range: give one or more, each once",
        ),
        ("[auth]\nalgorithms = []", "auth.algorithms = [] is out of range: give one or more, each once"),
        ("[auth]\nnonce_lifetime = 0", "auth.nonce_lifetime = 0 is out of range: give 1 to 4294967295"),
        ("[auth]\nuser = 1", "auth.user is not a known key: did you mean auth.users?"),
        ("[storage]\nurl = 1", "storage.url = 1 does not fit: give a text in quotes"),
        ("[limits]\nbatch_mx = 1", "limits.batch_mx is not a known key: did you mean limits.batch_max?"),
        ("[limits]\nbatch_max = true", "limits.batch_max = true does not fit: give a whole number"),
        ("[limits]\nbatch_max = 1.5", "limits.batch_max = 1.5 does not fit: give a whole number"),
        ("[limits]\nbatch_max = 0", "limits.batch_max = 0 is out of range: give 1 to 2147483647"),
        ("[limits]\nbatch_max = 2147483648", "limits.batch_max = 2147483648 is out of range: give 1 to 2147483647"),
        ("[msilo]\nexpire_time = 0", "msilo.expire_time = 0 is out of range: give 1 to 4294967295"),
        ("[msilo]\nadd_date = 2", "msilo.add_date = 2 is out of range: give 0 or 1"),
        ("[msilo]\nexpire_tme = 1", "msilo.expire_tme is not a known key: did you mean msilo.expire_time?"),
        (
            '[msilo]\nsc_to = "src_addr"',
            "msilo.sc_to = 'src_addr' is the column of sc_from too: give another name",
        ),
        (
            '[msilo]\nsc_body = "reason"',
            "msilo.sc_body = 'reason' is the column of msilo itself too: give another name",
        ),
        (
            '[msilo]\nfrom_address = "sip:silo@example.com"\noffline_message = "Away."',
            "msilo.content_type_hdr = '' does not go with offline_message: give one such as 'Content-Type: text/plain'",
        ),
        (
            '[msilo]\ndb_url = "x"',
            "msilo.db_url has another place here: give --storage URL, or url under [storage]",
        ),
    ],
)
def test_a_wrong_file(text: str, complaint: str) -> None:
    with pytest.raises(SettingsError) as caught:
        parse_settings(text)
    assert str(caught.value) == complaint


def test_a_complaint_names_the_file(tmp_path: Path) -> None:
    path = tmp_path / "msilo.toml"
    with pytest.raises(SettingsError, match=r"msilo\.toml: No such file or directory$"):
        read_settings(path)
    path.write_bytes(b"\xff")
    with pytest.raises(SettingsError, match=r"msilo\.toml: not a text in UTF-8$"):
        read_settings(path)
    path.write_text("[servr]")
    with pytest.raises(SettingsError, match=r"msilo\.toml: servr is not a known table: did you mean server\?$"):
        read_settings(path)
    path.write_text(EVERYTHING)
    assert read_settings(path) == parse_settings(EVERYTHING)


@pytest.mark.parametrize(
    ("assignments", "complaint"),
    [
        (["expire_time"], "'expire_time' sets nothing: give PARAM=VALUE, such as expire_time=3600"),
        (["expire_time=soon"], 'msilo.expire_time = "soon" does not fit: give a whole number'),
        (["expire_time="], 'msilo.expire_time = "" does not fit: give a whole number'),
        (["check_time=0"], "msilo.check_time = 0 is out of range: give 1 to 4294967295"),
        (["db_url=memory:"], "msilo.db_url has another place here: give --storage URL, or url under [storage]"),
        (
            ["content_types=text/plain,"],
            "msilo.content_types: '' is no media type: give one such as text/plain or text/*",
        ),
        (["Expire_time=1"], "msilo.Expire_time is not a known key: did you mean msilo.expire_time?"),
    ],
)
def test_a_wrong_assignment(assignments: list[str], complaint: str) -> None:
    with pytest.raises(SettingsError) as caught:
        with_parameters(SiloConfig(), assignments)
    assert str(caught.value) == complaint


def test_assignments_win_over_what_stands_and_the_later_over_the_earlier() -> None:
    stands = SiloConfig(expire_time=1, check_time=2)
    assert with_parameters(stands, [" expire_time = 7 ", "expire_time=8"]) == SiloConfig(expire_time=8, check_time=2)


@pytest.mark.parametrize(
    ("uri", "transport", "host", "port", "text"),
    [
        ("udp://127.0.0.1:5070", "udp", "127.0.0.1", 5070, "udp://127.0.0.1:5070"),
        ("TCP://127.0.0.1", "tcp", "127.0.0.1", 5060, "tcp://127.0.0.1:5060"),
        ("udp://[::1]:0/", "udp", "::1", 0, "udp://[::1]:0"),
        ("tcp://[fe80::1%eth0]:65535", "tcp", "fe80::1%eth0", 65535, "tcp://[fe80::1%eth0]:65535"),
    ],
)
def test_a_transport_address(uri: str, transport: str, host: str, port: int, text: str) -> None:
    where = parse_transport_address(uri)
    assert (where.transport, where.host, where.port, where.address) == (transport, host, port, (host, port))
    assert str(where) == text


@pytest.mark.parametrize(
    ("uri", "complaint"),
    [
        ("", "'' is not a transport address: give one such as udp://127.0.0.1:5060"),
        ("127.0.0.1:5060", "'127.0.0.1:5060' is not a transport address: give one such as udp://127.0.0.1:5060"),
        ("udp://::1:5060", "'udp://::1:5060' is not a transport address: give one such as udp://127.0.0.1:5060"),
        ("udp://127.0.0.1:x", "'udp://127.0.0.1:x' is not a transport address: give one such as udp://127.0.0.1:5060"),
        ("udp://127.0.0.1:65536", "'udp://127.0.0.1:65536': port 65536 is out of range: give 0 to 65535"),
        ("tls://127.0.0.1", "'tls://127.0.0.1': tls is not supported yet: give udp or tcp"),
        ("wss://127.0.0.1", "'wss://127.0.0.1': wss is not supported yet: give udp or tcp"),
        ("http://127.0.0.1", "'http://127.0.0.1': http is not a transport: give udp or tcp"),
        ("udp://localhost", "'udp://localhost': 'localhost' is not an IP address: give one such as 127.0.0.1"),
        ("udp://[localhost]", "'udp://[localhost]': 'localhost' is not an IPv6 address"),
        ("udp://[127.0.0.1]:5060", "'udp://[127.0.0.1]:5060': '127.0.0.1' is not an IPv6 address"),
    ],
)
def test_a_wrong_transport_address(uri: str, complaint: str) -> None:
    with pytest.raises(SettingsError) as caught:
        parse_transport_address(uri)
    assert str(caught.value) == complaint


def test_a_server_may_be_named() -> None:
    where = parse_transport_address("udp://sip.example.com", names_allowed=True)
    assert where == TransportAddress("udp", "sip.example.com", 5060)
    assert not where.is_loopback


@pytest.mark.parametrize(
    ("uri", "is_loopback"),
    [
        ("udp://127.0.0.1", True),
        ("udp://127.255.0.9", True),
        ("udp://[::1]", True),
        ("udp://0.0.0.0", False),
        ("udp://[::]", False),
        ("udp://192.0.2.1", False),
        ("udp://[::ffff:192.0.2.1]", False),
    ],
)
def test_what_only_this_machine_reaches(uri: str, is_loopback: bool) -> None:
    assert parse_transport_address(uri).is_loopback is is_loopback
