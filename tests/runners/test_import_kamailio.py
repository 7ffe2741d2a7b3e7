"""`msilo config import-kamailio`: what a kamailio.cfg says is carried over as it is, or named in a comment."""

import os
import re
import stat
import string
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from msilo_core import SiloConfig
from msilo_runners import SettingsError
from msilo_runners.kamailio import Imported, import_kamailio, parse_define_option
from msilo_runners.kamailio.zone import machine_zone
from msilo_runners.settings import ServerConfig, parse_settings
from tests.runners.service import run_msilo

_FILES = Path(__file__).parent / "kamailio"

ROME = ("Europe/Rome", "TZ")


def imported(path: Path, *defines: str, environ: dict[str, str] | None = None) -> Imported:
    given = dict(parse_define_option(text) for text in defines)
    return import_kamailio(path, defines=given, environ=environ or {}, zone=ROME)


def settings_of(text: str) -> ServerConfig:
    return parse_settings(text).server


def of_text(directory: Path, text: str, *defines: str, **environ: str) -> str:
    """Return what becomes of a file with this text."""
    path = directory / "kamailio.cfg"
    path.write_bytes(text.encode("utf-8", "surrogateescape"))
    return imported(path, *defines, environ=environ).text


def silo_of(directory: Path, text: str, *defines: str, **environ: str) -> SiloConfig:
    return settings_of(of_text(directory, text, *defines, **environ)).silo


def comments(text: str) -> str:
    """Return all comments in one line, without where they were broken."""
    return " ".join(line.lstrip("# ") for line in text.splitlines() if line.startswith("#"))


# -- Whole files -------------------------------------------------------------------------------------------------------


def test_minimal() -> None:
    made = imported(_FILES / "minimal.cfg")
    assert settings_of(made.text) == ServerConfig(
        listen=("udp://192.0.2.10:5060",),
        domains=("example.com", "192.0.2.10"),
        storage="postgresql://kamailio:kamailiorw@db.example.com/kamailio",
        silo=SiloConfig(expire_time=36_000, add_date=1, time_zone="Europe/Rome"),
    )
    assert (made.carried, made.left) == (4, 0)
    assert f"expire_time = 36000  # {_FILES}/minimal.cfg:12" in made.text.splitlines()
    said = comments(made.text)
    assert "The URL holds a password" in said
    assert "functions of msilo that the routes call: m_dump (17), m_store (21)" in said
    # What an operator has to decide himself.
    assert 'If Kamailio stays, and sends here what is for people who are away, write "silo"' in said
    assert "Before others than this machine can be served, say who may" in said


def test_defines_and_substitutions() -> None:
    made = imported(_FILES / "defines.cfg")
    assert settings_of(made.text) == ServerConfig(
        listen=(
            "udp://198.51.100.7:5120",
            "tcp://198.51.100.7:5120",
            "tcp://198.51.100.7:5080",
            "udp://[2001:db8::7]:5080",
        ),
        domains=("sip.example.net", "EXAMPLE.NET", "198.51.100.7", "[2001:db8::7]"),
        storage="postgresql://silo:p%40ss%2Fword%3A1%25@db.example.net:5433/sip",
        silo=SiloConfig(
            expire_time=172_800,
            check_time=15,
            clean_period=8,
            use_contact=0,
            add_date=1,
            skip_notification_flag=-1,
            from_address="sip:silo@example.net",
            offline_message='$rU is away. "Later" !! costs $$2; C:\\temp \\d',
            content_type_hdr="Content-Type: text/plain;charset=UTF-8\r\n",
            reminder="sip:clock@clock.example.net",
            time_zone="Europe/Rome",
        ),
    )
    assert made.left == 0
    assert "auto_aliases" not in made.text


def test_included_files() -> None:
    made = imported(_FILES / "included.cfg")
    assert settings_of(made.text) == ServerConfig(
        listen=("udp://127.0.0.1:5060",),
        domains=("home.example.org", "127.0.0.1"),
        storage="sqlite:////var/lib/kamailio/silo.sqlite",
        silo=SiloConfig(expire_time=1200, max_messages=50, add_date=1, time_zone="Europe/Rome"),
    )
    said = comments(made.text)
    assert (
        f"{_FILES}/included.cfg:2: {_FILES}/site/not-there.cfg is not there, and passed over as Kamailio does" in said
    )
    assert f"{_FILES}/site/time.cfg:1: it has another value at {_FILES}/site/silo.cfg:1 expire_time = 600" in said
    assert f"m_store_addrs ({_FILES}/site/route.cfg:2)" in said
    assert "say who may" not in said

    elsewhere = imported(_FILES / "included.cfg", "FAR_AWAY")
    assert settings_of(elsewhere.text) == settings_of(made.text)
    assert elsewhere.left == 0


def test_every_parameter_renamed_and_set() -> None:
    made = imported(_FILES / "renamed.cfg")
    server = settings_of(made.text)
    assert (server.listen, server.domains) == (("udp://192.0.2.20:5060",), ("sip.example.org", "192.0.2.20"))
    assert server.storage == "postgresql://[2001:db8::5]:5432/silo"
    assert server.silo == SiloConfig(
        db_table="offline",
        sc_mid="mid",
        sc_from="dst_addr",
        sc_to="src_addr",
        sc_uri_user="owner_user",
        sc_uri_host="owner_host",
        sc_body="message_body",
        sc_ctype="content_type",
        sc_exp_time="expire_time",
        sc_inc_time="incoming_time",
        sc_snd_time="send_reminder_time",
        sc_stored_hdrs="extra_headers",
        sc_callid="call_id",
        sc_status="state",
        from_address="sip:$rU@example.org",
        contact_hdr="Contact: <sip:null@example.org>\r\n",
        offline_message="<em>$rU is away, says $hdr(X-Who) of $avp(s:team)</em>",
        content_type_hdr="Content-Type: text/html\r\n",
        extra_hdrs="X-Extra: $tu\r\nY-Extra: foo\r\n",
        reminder="sip:registrar@example.org",
        outbound_proxy="sip:192.0.2.21;transport=tcp",
        check_time=10,
        send_time=60,
        clean_period=3,
        use_contact=0,
        snd_time_avp="$avp(i:123)",
        add_date=0,
        max_messages=20,
        add_contact=1,
        extra_hdrs_avp="$avp(msilo_extra_hdrs)",
        skip_notification_flag=18,
        use_mode=1,
        time_zone="Europe/Rome",
    )
    parameters = tomllib.loads(made.text)["msilo"].keys() - {"time_zone"}
    assert len(parameters) + len({"db_url"}) == 34
    assert f'not carried over: {_FILES}/renamed.cfg:2: name "inner": there is nothing like it here' in comments(
        made.text
    )


def test_what_cannot_be_carried_over_is_named_with_its_line_and_the_reason() -> None:
    made = imported(_FILES / "messy.cfg")
    server = settings_of(made.text)
    assert server == ServerConfig(
        listen=("udp://192.0.2.33:5060", "udp://192.0.2.34:5070"),
        domains=("example.com", "example.org", "192.0.2.33", "192.0.2.34"),
        silo=SiloConfig(add_date=1, time_zone="Europe/Rome"),
    )
    assert (made.carried, made.left) == (5, 30)
    assert "tell-nobody" not in made.text
    lines = made.text.splitlines()
    assert 'from_address = "sip:$(fu{uri.user})@example.com"' in [line.removeprefix("# ") for line in lines]
    assert '# db_url = "mysql://kamailio:***@localhost/kamailio"' in lines
    said = comments(made.text).replace(f"{_FILES}/messy.cfg", "FILE")
    for complaint in [
        "FILE:4: listen = tls:192.0.2.30:5061: 'tls://192.0.2.30:5061': tls is not supported yet: give udp or tcp",
        "FILE:5: listen = eth0: 'udp://eth0:5060': 'eth0' is not an IP address: give one such as 127.0.0.1",
        "FILE:6: listen = udp:sip.example.com:5060: 'udp://sip.example.com:5060': 'sip.example.com' is not an IP",
        "FILE:7: listen = (192.0.2.31,192.0.2.32): this is no address that can be listened on here",
        'FILE:8: advertise 203.0.113.9:5060 name "outer" virtual: there is nothing like it here',
        "FILE:11: alias = with space.example.com: 'with space.example.com' is not a domain",
        "FILE:15: strange words here: this is not understood",
        "FILE:17: module domain: domains that are in its table must be named here",
        "FILE:18: module auth_db: its users can log in here",
        "FILE:20: mysql is not supported: msilo has PostgreSQL and SQLite",
        "FILE:21: from_address: the pseudo-variable $fu{uri.user} in",
        "FILE:23: contact_hdr: 'X-Contact: <sip:a@example.com>' is no header line",
        "FILE:24: extra_hdrs: Via is written by the server",
        "FILE:25: it has another value at FILE:26",
        "FILE:26: reminder = 'nobody' is no SIP URI",
        "FILE:27: Kamailio wants a text outbound_proxy = 5",
        "FILE:28: Kamailio computes LATER at FILE:2",
        'FILE:29: Kamailio wants a number check_time = "10"',
        "FILE:30: EVERY_MINUTE is no number, and not defined: if Kamailio is started with -A, give --define here",
        "FILE:31: clean_period = 0 is out of range",
        "FILE:32: use_contact = 2 is out of range",
        "FILE:33: snd_time_avp: '$var(when)' is no AVP",
        "FILE:34: it has another value at FILE:35 add_date = 0",
        "FILE:36: skip_notification_flag = 32 is out of range",
        "FILE:37: sc_mid = 'message id' is no name",
        "FILE:38: sc_status = 'lease_node' is the column of msilo itself too",
        "FILE:39: $env(NO_SUCH_VARIABLE) has a value in Kamailio alone",
        "FILE:40: it is not UTF-8",
        "FILE:41: msilo has no such parameter registrar =",
    ]:  # fmt: skip
        assert complaint in said
    assert "parameters of tm: fr_timer (42)" in said
    assert "core: debug (4), pstn.gateway (13), flags (14), loadpath (16)" in said
    assert "routes: event_route[tm:local-request] (43), failure_route[OFFLINE] (44)" in said


@pytest.mark.parametrize("name", sorted(path.stem for path in _FILES.glob("*.cfg")))
def test_msilo_config_check_reads_what_is_made(name: str, tmp_path: Path) -> None:
    output = tmp_path / "msilo.toml"
    done = run_msilo("config", "import-kamailio", str(_FILES / f"{name}.cfg"), "--output", str(output))
    assert (done.returncode, done.stdout) == (0, "")
    assert re.fullmatch(r".*\.cfg: \d+ settings carried over, \d+ not: see the comments\n", done.stderr)
    done = run_msilo("config", "check", str(output))
    assert (done.returncode, done.stdout, done.stderr) == (0, f"{output}: ok\n", "")
    assert all(len(line) <= 120 for line in output.read_text().splitlines() if line.startswith("#   "))


# -- Defaults ----------------------------------------------------------------------------------------------------------


def test_where_kamailio_does_otherwise_by_default_that_is_written_out(tmp_path: Path) -> None:
    text = of_text(tmp_path, "port=5070")
    server = settings_of(text)
    assert server.silo == SiloConfig(add_date=1, time_zone="Europe/Rome")
    assert (server.listen, server.domains) == (("udp://127.0.0.1:5070", "tcp://127.0.0.1:5070"), ())
    assert server.storage == "sqlite:///msilo.db"
    said = comments(text)
    assert "listen is not set: Kamailio then listens on every address of the machine." in said
    assert '["udp://0.0.0.0:5070", "tcp://0.0.0.0:5070"]' in said
    assert "No alias is set" in said
    assert "db_url is not set: Kamailio's default is a MySQL on this machine" in said
    assert "The module msilo is not loaded in this file" in said
    assert "auto_aliases" not in said


@pytest.mark.parametrize(
    ("proxy", "is_kept"),
    [
        ("sip:192.0.2.10", False), ("sip:192.0.2.10:5060;lr", False), ("sip:[2001:DB8:0::1]:5070", False),
        ("sip:192.0.2.10;transport=tcp", True), ("sip:192.0.2.10:5062", True), ("sip:192.0.2.11", True),
    ],
)  # fmt: skip
def test_kamailio_is_not_the_outbound_proxy_of_who_takes_its_place(proxy: str, is_kept: bool, tmp_path: Path) -> None:
    listen = "disable_tcp=yes\nlisten=udp:192.0.2.10:5060\nlisten=udp:[2001:db8::1]:5070\n"
    text = of_text(tmp_path, f'{listen}modparam("msilo", "outbound_proxy", "{proxy}")\n')
    assert settings_of(text).silo.outbound_proxy == (proxy if is_kept else "")
    assert ("it is Kamailio itself" in comments(text)) is not is_kept


def test_add_date_is_on_where_its_value_is_refused(tmp_path: Path) -> None:
    assert silo_of(tmp_path, 'modparam("msilo", "add_date", 2)').add_date == 1


def test_a_time_zone_that_cannot_be_told_is_asked_for(tmp_path: Path) -> None:
    path = tmp_path / "kamailio.cfg"
    path.touch()
    text = import_kamailio(path, defines={}, environ={}, zone=None).text
    assert settings_of(text).silo.time_zone == "UTC"
    assert "which could not be told. Here it is UTC until another is named:" in comments(text)
    assert '# time_zone = "Europe/Rome"' in text.splitlines()


def test_the_notification_goes_without_its_type(tmp_path: Path) -> None:
    # Kamailio does not start with this; what is left is what can be run.
    text = of_text(
        tmp_path,
        'modparam("msilo", "from_address", "sip:a@example.com")\nmodparam("msilo", "offline_message", "Away.")',
    )
    assert settings_of(text).silo == SiloConfig(
        from_address="sip:a@example.com", add_date=1, time_zone="Europe/Rome"
    )  # fmt: skip
    assert "content_type_hdr = '' does not go with offline_message" in comments(text)


@pytest.mark.parametrize(
    ("tz", "localtime", "timezone", "told"),
    [
        ("Europe/Rome", "/usr/share/zoneinfo/Asia/Tokyo", None, ("Europe/Rome", "TZ")),
        (":Europe/Rome", None, None, ("Europe/Rome", "TZ")),
        ("CET-1CEST,M3.5.0,M10.5.0/3", "/usr/share/zoneinfo/Asia/Tokyo", "Asia/Tokyo", None),
        ("", None, None, None),
        (None, "/usr/share/zoneinfo/Asia/Tokyo", "Europe/Rome", ("Asia/Tokyo", "/etc/localtime")),
        (None, "../usr/share/zoneinfo/posix/Asia/Tokyo", None, ("Asia/Tokyo", "/etc/localtime")),
        (None, "/etc/my-zone", "Europe/Rome\n", ("Europe/Rome", "/etc/timezone")),
        (None, None, "Middle-earth", None),
        (None, None, "\xff", None),
        (None, None, None, None),
    ],
)
def test_the_zone_of_the_machine(
    tz: str | None, localtime: str | None, timezone: str | None, told: tuple[str, str] | None, tmp_path: Path
) -> None:
    (tmp_path / "etc").mkdir()
    if localtime is not None:
        (tmp_path / "etc" / "localtime").symlink_to(localtime)
    if timezone is not None:
        (tmp_path / "etc" / "timezone").write_text(timezone, "latin-1")
    assert machine_zone({} if tz is None else {"TZ": tz}, tmp_path) == told


# -- Databases ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("db_url", "storage"),
    [
        ("postgres://silo@db.example.com/sip", "postgresql://silo@db.example.com/sip"),
        ("postgres://silo:pw@192.0.2.5:5433/sip", "postgresql://silo:pw@192.0.2.5:5433/sip"),
        ("db_postgres://silo:pw@localhost/sip", "postgresql://silo:pw@localhost/sip"),
        ("postgres://silo:a@b:c/d@localhost/sip", "postgresql://silo:a%40b%3Ac%2Fd@localhost/sip"),
        ("postgres://localhost/sip", "postgresql://localhost/sip"),
        ("sqlite:///var/lib/silo.db", "sqlite:////var/lib/silo.db"),
        ("sqlite:////var/lib/silo.db", "sqlite:////var/lib/silo.db"),
    ],
)
def test_a_database_that_we_have_too(db_url: str, storage: str, tmp_path: Path) -> None:
    assert settings_of(of_text(tmp_path, f'modparam("msilo", "db_url", "{db_url}")')).storage == storage


@pytest.mark.parametrize(
    ("db_url", "why"),
    [
        (
            '"mysql://kamailio:tell-nobody@localhost/kamailio"',
            "mysql is not supported: msilo has PostgreSQL and SQLite",
        ),
        ('"text:///var/lib/dbtext"', "text is not supported: msilo has PostgreSQL and SQLite"),
        ('"sqlite://silo.db"', "this is no absolute path: where it is depends on where Kamailio was started"),
        ('"postgres://silo@db.example.com"', "this is no database URL"),
        ('"kamailio"', "this is no database URL"),
        ("5", "Kamailio wants a text"),
        ('"postgres://silo:tell-nobody\\0x@db/sip"', "it holds a NUL"),
    ],
)
def test_a_database_that_we_do_not_have(db_url: str, why: str, tmp_path: Path) -> None:
    text = of_text(tmp_path, f'modparam("msilo", "db_url", {db_url.replace("0x", "x00")})')
    assert settings_of(text).storage == "sqlite:///msilo.db"
    assert f"kamailio.cfg:1: {why} db_url = " in comments(text)
    assert "tell-nobody" not in text


# -- The language ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "changes"),
    [
        ('modparam("msilo","check_time",0x1F)', {"check_time": 31}),
        ('modparam("msilo","check_time",101b)', {"check_time": 5}),
        ('modparam("msilo", "max_messages", 0)', {}),
        ('modparam ( "msilo" ,\n "check_time" ,\n 7 )', {"check_time": 7}),
        ("modparam('msilo', 'check_time', 7)", {"check_time": 7}),
        ('modparam("ms" "ilo", "check_time", 7)', {"check_time": 7}),
        ('modparam("usrloc|msilo", "check_time", 7)', {"check_time": 7}),
        ('modparam("ms.*", "check_time", 7)', {"check_time": 7}),
        ('modparam("^MSILO$", "check_time", 7)', {"check_time": 7}),
        ('modparam("msil", "check_time", 7)', {}),
        ('modparam("msilo2", "check_time", 7)', {}),
        ('# modparam("msilo", "check_time", 7)', {}),
        ('// modparam("msilo", "check_time", 7)', {}),
        ('/* modparam("msilo", "check_time", 7) */', {}),
        ('/* # */ modparam("msilo", "check_time", 7) /* // */', {"check_time": 7}),
        ('#!unknown modparam("msilo", "check_time", 7)', {}),
        ('debug=2 modparam("msilo", "check_time", 7)', {"check_time": 7}),
        ('debug=2; modparam("msilo", "check_time", 7);', {"check_time": 7}),
        ('flags\n A:1,\n B\navpflags\n C;\nmodparam("msilo", "check_time", 7)', {"check_time": 7}),
        ('#!define A B\n#!define B 7\nmodparam("msilo", "check_time", A)', {"check_time": 7}),
        ('#!define A "check_time", 7)\nmodparam("msilo", A', {"check_time": 7}),
        ('#!define A\nmodparam("msilo", "check_time", A 7)', {"check_time": 7}),
        ('#!def A 7\n#!trydefine A 8\nmodparam("msilo", "check_time", A)', {"check_time": 7}),
        ('#!def A 7\n#!redef A 8\nmodparam("msilo", "check_time", A)', {"check_time": 8}),
        ('#!tryundef A\n!!ifndef A\nmodparam("msilo", "check_time", 7)\n!!endif', {"check_time": 7}),
        ('#!ifdef A\n#!ifdef B\n#!else\n#!endif\n#!else\nmodparam("msilo","check_time",7)\n#!endif', {"check_time": 7}),
        ('#!ifdef A\r\n#!else\r\nmodparam("msilo","check_time",7)\r\n#!endif\r\n', {"check_time": 7}),
        ('#!ifdef A\n "unclosed /* \n#!endif', {}),
        (
            '#!subst "/a(b)c/[\\\\1]\\\\//"\nmodparam("msilo", "offline_message", "abcabc")',
            {"offline_message": "[b]/abc"},
        ),
        ('#!subst "/^x/y/g"\nmodparam("msilo", "offline_message", "xx")', {"offline_message": "yx"}),
        ('#!subst "/X/y/ig"\nmodparam("msilo", "offline_message", "xX")', {"offline_message": "yy"}),
        ('modparam("msilo", "offline_message", "x")\n#!subst "/x/y/"', {"offline_message": "x"}),
        ('#!substdef "/X/7/"\nmodparam("msilo", "check_time", X)', {"check_time": 7}),
        ('#!substdef "/X/$def(Y)/"\n', {}),
        ('#!define Y 7\n#!substdef "/X/$def(Y)/"\nmodparam("msilo", "check_time", X)', {"check_time": 7}),
        ('modparamx("msilo", "offline_message", "$$$$1 $env(WHO)")', {"offline_message": "$$1 me"}),
        ('#!define A "x"\nmodparamx("msilo", "offline_message", "$defv(A)$(def(A))")', {"offline_message": 'x"x"'}),
        ('#!defenv WHO\n#!ifdef WHO\nmodparam("msilo", "check_time", 7)\n#!endif', {"check_time": 7}),
        ('#!defenvs A=WHO\nmodparam("msilo", "offline_message", A)', {"offline_message": "me"}),
        ('#!trydefenv NOBODY\n#!ifndef NOBODY\nmodparam("msilo", "check_time", 7)\n#!endif', {"check_time": 7}),
        ('modparam("msilo", "offline_message", "\\t\\a\\x41\\x7f\\12\\q")', {"offline_message": "\t\aA\x7f\n\\q"}),
        ('modparam("msilo", "offline_message", "a\\\nb")', {"offline_message": "ab"}),
        ('modparam("msilo", "offline_message", "\\xc3\\xa9é")', {"offline_message": "éé"}),
        ("modparam('msilo', 'offline_message', 'a\\n\"')", {"offline_message": 'a\\n"'}),
    ],
)  # fmt: skip
def test_what_kamailio_understands(text: str, changes: dict[str, object], tmp_path: Path) -> None:
    values: dict[str, object] = {"add_date": 1, "time_zone": "Europe/Rome", **changes}
    if "offline_message" in values:
        # The one does not go without the other.
        values["content_type_hdr"] = "Content-Type: a/b"
        text += '\nmodparam("msilo", "content_type_hdr", "Content-Type: a/b")'
    assert silo_of(tmp_path, text, WHO="me") == SiloConfig(**values)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]


@pytest.mark.parametrize(
    ("text", "listen"),
    [
        ("listen=udp:192.0.2.2:5070", ["udp://192.0.2.2:5070"]),
        ("listen=UDP:192.0.2.2", ["udp://192.0.2.2:5060"]),
        ("listen = tcp : 192.0.2.2 : 5070", ["tcp://192.0.2.2:5070"]),
        ("listen=192.0.2.2:*", ["udp://192.0.2.2:5060", "tcp://192.0.2.2:5060"]),
        ("listen=*:192.0.2.2:5070\ndisable_tcp=yes", ["udp://192.0.2.2:5070"]),
        ('listen="192.0.2.2"', ["udp://192.0.2.2:5060", "tcp://192.0.2.2:5060"]),
        ('listen=udp:"192.0.2.2":5070', ["udp://192.0.2.2:5070"]),
        ("listen=tcp:[2001:db8::2]:5070", ["tcp://[2001:db8::2]:5070"]),
        ("listen=2001:db8::2\ndisable_tcp=1", ["udp://[2001:db8::2]:5060"]),
        ("port=5070\nlisten=udp:0.0.0.0", ["udp://0.0.0.0:5070"]),
        ("listen=udp:192.0.2.2:5060\n  192.0.2.3\ndebug=1\n", [
            "udp://192.0.2.2:5060", "udp://192.0.2.3:5060", "tcp://192.0.2.3:5060",
        ]),
        ("listen=udp:192.0.2.2:5060\n  tcp:192.0.2.2:5060\nalias=a", ["udp://192.0.2.2:5060", "tcp://192.0.2.2:5060"]),
        ("listen=udp:192.0.2.2:5060 alias=a", ["udp://192.0.2.2:5060"]),
        ("listen=udp:192.0.2.2:5060\nlisten=udp:192.0.2.2:5060", ["udp://192.0.2.2:5060"]),
        ("socket = { bind = 192.0.2.2:5070; virtual = yes; advertise = 192.0.2.3:5060 }", [
            "udp://192.0.2.2:5070", "tcp://192.0.2.2:5070",
        ]),
        ("listen=wss:192.0.2.2:443", ["udp://127.0.0.1:5060", "tcp://127.0.0.1:5060"]),
        ('listen="udp:192.0.2.2:5060"', ["udp://127.0.0.1:5060", "tcp://127.0.0.1:5060"]),
        ("listen=udp:192.0.2.2:99999", ["udp://127.0.0.1:5060", "tcp://127.0.0.1:5060"]),
        ("listen=udp:192.0.2.2:5060;\n", ["udp://192.0.2.2:5060"]),
        ("listen=udp:192.0.2.2:5060\n[2001:db8::2]:5060\ndisable_tcp=on", [
            "udp://192.0.2.2:5060", "udp://[2001:db8::2]:5060",
        ]),
        ("listen=udp:192.0.2.2:5060 *:192.0.2.3:5060\ndisable_tcp=on", [
            "udp://192.0.2.2:5060", "udp://192.0.2.3:5060",
        ]),
        ("listen=udp:192.0.2.2:5060\n$x", ["udp://192.0.2.2:5060"]),
        ("listen=tcp:192.0.2.2:5060\ndisable_tcp=on", ["udp://127.0.0.1:5060", "tcp://127.0.0.1:5060"]),
        ("socket = { bind = udp:192.0.2.2:5060-5070 }", ["udp://127.0.0.1:5060", "tcp://127.0.0.1:5060"]),
        ("#!defexp A 1+1\nlisten=udp:A:5060", ["udp://127.0.0.1:5060", "tcp://127.0.0.1:5060"]),
    ],
)  # fmt: skip
def test_listen(text: str, listen: list[str], tmp_path: Path) -> None:
    made = of_text(tmp_path, text)
    assert list(settings_of(made).listen) == listen
    # Where nothing is left of it, that is said.
    assert "127.0.0.1" not in listen[0] or "not carried over: " in made


@pytest.mark.parametrize(
    ("text", "domains"),
    [
        ("alias=example.com", ["example.com"]),
        ('alias="example.com"', ["example.com"]),
        ("alias=tcp:my-sip.example.com:5070", ["my-sip.example.com"]),
        ("alias=\"a.example\" 'b.example'\nalias=c.example", ["a.example", "b.example", "c.example"]),
        # Strings in double quotes that follow one another are one to Kamailio.
        ('alias="a." "example"', ["a.example"]),
        ("domain=example.com", ["example.com"]),
        ("alias=[2001:db8::2]:5060", ["[2001:db8::2]"]),
        ("listen=udp:0.0.0.0:5060", []),
        ('alias="example.com:5060"', []),
    ],
)  # fmt: skip
def test_alias(text: str, domains: list[str], tmp_path: Path) -> None:
    assert list(settings_of(of_text(tmp_path, text)).domains) == domains


# -- Mistakes ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ('modparam("msilo", "check_time" 7)', '1: this should be modparam("module", "parameter", value)'),
        ("\n\nmodparam(", '3: this should be modparam("module", "parameter", value)'),
        ('x="abc', "1: a string without its end"),
        ("x='abc", "1: a string without its end"),
        ("\n/* /* */", "2: a comment without its */"),
        ("route[1]\n", "1: a route without its {"),
        ("loadmodule msilo", '1: this should be loadmodule "module"'),
        ("listen=", "1: listen wants an address, such as udp:192.0.2.2:5060"),
        ("socket = { name = x }", "1: a socket wants bind = udp:192.0.2.2:5060 or the like"),
        ("port=SIP", "1: port wants a number: SIP is no number, and not defined: if Kamailio is started with -A, give "
                     "--define here"),
        ("port=", "1: port wants a number: the file ends"),
        ("#!ifdef A\n#!ifdef B\n#!endif\n", "1: an #!ifdef without its #!endif"),
        ("\n#!endif\n", "2: an #!endif without its #!ifdef"),
        ("#!ifdef A\n#!else # not A\n#!endif\n", "2: this should be #!else and nothing else"),
        ("#!ifdef 1\n#!endif\n", "1: this should be #!ifdef NAME and nothing else"),
        (
            "#!ifexp A == 1\n#!endif\n",
            "1: #!ifexp is not understood here: write #!ifdef in its place, and give the name by --define",
        ),
        ("#!define\n", "1: this should be #!define NAME value"),
        ("#!define a-b 1\n", "1: this should be #!define NAME value"),
        (
            "#!define A 1\n#!define A 2\n",
            "2: A is defined already, at kamailio.cfg:1: Kamailio does not start with this; "
            "write #!trydef or #!redefine",
        ),
        ("#!undef A\n", "1: A is not defined: Kamailio does not start with this; write #!tryundef"),
        ("#!define A B\n#!define B A\nx=A", "3: A stands for itself, by way of kamailio.cfg:1"),
        ("#!defenv NOBODY\n", "1: there is no environment variable NOBODY: set it to what it is for Kamailio"),
        ("#!subst /a/b/\n", "1: #!subst wants a string behind it, such as '!NAME!value!g'"),
        ("#!subst '/a/b'\n", "1: '/a/b' is no substitution: give one such as '/NAME/value/g'"),
        ("#!subst '/a/b/x'\n", "1: '/a/b/x' is no substitution: give one such as '/NAME/value/g'"),
        (
            "#!subst '/a|ab/b/'\n",
            "1: the expression 'a|ab' is not understood here: write it without |, classes and escapes",
        ),
        (
            "#!subst '/a**/b/'\n",
            "1: the expression 'a**' is not understood here: write it without |, classes and escapes",
        ),
        ("#!subst '/a/\\1/'\n", "1: '\\\\1' names a group that 'a' does not have"),
        ("#!subst '//b/'\n", "1: '//b/' is no substitution: give one such as '/NAME/value/g'"),
        ('#!subst "/X/a.cfg\\\\u/"\ninclude_file "X"\n', '2: include_file "X": \\u stands for the URI of a request'),
        ('include_file "a\x00b"\n', "1: 'a\\x00b' is no name of a file"),
        ('include_file "none.cfg"\n', "1: none.cfg: No such file or directory"),
        ("include_file none.cfg\n", "1: 'none.cfg' is no name of a file: give it in double quotes: \"FILE\""),
        ("include_file\n", '1: this should be include_file "FILE"'),
        ('include_file "kamailio.cfg"\n', "1: more than 10 files within one another"),
    ],
)  # fmt: skip
def test_what_cannot_be_understood_is_named_with_file_and_line(
    text: str, complaint: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("kamailio.cfg").write_text(text)
    with pytest.raises(SettingsError) as caught:
        imported(Path("kamailio.cfg"))
    assert str(caught.value) == f"kamailio.cfg:{complaint}"


def test_a_mistake_in_an_included_file_names_that(tmp_path: Path) -> None:
    (tmp_path / "inner.cfg").write_text("\n\nx='")
    with pytest.raises(SettingsError, match=r"/inner\.cfg:3: a string without its end$"):
        of_text(tmp_path, '\ninclude_file "inner.cfg"\n')


def test_a_route_that_does_not_end_is_named(tmp_path: Path) -> None:
    text = of_text(tmp_path, 'modparam("msilo", "send_time", 8)\nroute {\n{ m_dump();\n}\nfailure_route { exit; }')
    assert settings_of(text).silo.send_time == 8
    said = comments(text)
    assert "kamailio.cfg:2: a { without its }, so that all behind it belongs to it: this is not understood" in said
    assert "m_dump (3)" in said


def test_an_expression_for_modules_that_is_not_understood_is_no_end(tmp_path: Path) -> None:
    text = of_text(tmp_path, 'modparam("m[[:alpha:]]*", "check_time", 7)\nmodparam("msilo", "send_time", 8)')
    assert settings_of(text).silo.send_time == 8
    assert "kamailio.cfg:1: the expression 'm[[:alpha:]]*' for modules is not understood check_time = 7" in comments(
        text
    )


# -- Whatever it says --------------------------------------------------------------------------------------------------

_NAMES = st.sampled_from([*SiloConfig.__struct_fields__, "db_url", "registrar"])
_VALUES = st.one_of(st.integers(-5, 2**40), st.text(max_size=20), st.sampled_from(["$avp(x)", "X-A: b\r\n", "sip:a@b"]))
_SIGNS = st.sampled_from(
    ['modparam("msilo",', "listen=", "alias=", "udp:", "192.0.2.2", '"', "'", "\\", "(", ")", "{", "}", "=", "\n", " ",
     "#!define A ", "A", "#!ifdef A\n", "#!else\n", "#!endif\n", "#!subst ", "/a/b/", "route", "$(", "/*", "*/", "//",
     "."]
)  # fmt: skip


@given(st.lists(st.tuples(_NAMES, _VALUES), max_size=8))
def test_what_is_made_can_be_read_whatever_the_values(
    tmp_path_factory: pytest.TempPathFactory, values: list[tuple[str, int | str]]
) -> None:
    lines = [f'modparam("msilo", "{name}", {_written(value)})' for name, value in values]
    text = of_text(tmp_path_factory.mktemp("any"), "\n".join(lines))
    silo = settings_of(text).silo
    last = dict(values)
    for name, value in tomllib.loads(text)["msilo"].items():
        assert getattr(silo, name) == value
        if name in last and name not in ("add_date", "time_zone"):
            assert value == last[name]


def _written(value: int | str) -> str:
    if isinstance(value, int):
        return str(value)
    return '"' + "".join(f"\\x{octet:02x}" for octet in value.encode("utf-8", "surrogatepass")) + '"'


@given(st.lists(st.one_of(_SIGNS, st.text(string.printable, max_size=5)), max_size=30).map("".join))
@example("alias=*/")
def test_whatever_a_file_holds_there_is_a_complaint_or_something_that_can_be_read(
    tmp_path_factory: pytest.TempPathFactory, text: str
) -> None:
    complaint = ""
    try:
        settings_of(of_text(tmp_path_factory.mktemp("any"), text))
    except SettingsError as error:
        complaint = str(error)
    assert not complaint or re.match(r"\S+/kamailio\.cfg:\d+: ", complaint)


# -- The commands ------------------------------------------------------------------------------------------------------


def test_import_prints_or_writes_and_overwrites_nothing(tmp_path: Path) -> None:
    source, output = _FILES / "minimal.cfg", tmp_path / "msilo.toml"
    printed = run_msilo("config", "import-kamailio", str(source))
    assert printed.returncode == 0
    assert printed.stderr == f"{source}: 4 settings carried over, 0 not: see the comments\n"
    assert run_msilo("config", "import-kamailio", str(source), "--output", str(output)).stdout == ""
    assert output.read_text() == printed.stdout
    # It may hold a password.
    assert stat.S_IMODE(output.stat().st_mode) == 0o600
    again = run_msilo("config", "import-kamailio", str(source), "--output", str(output))
    assert again.stderr == f"msilo: error: {output} is there already: give another name, or remove it\n"
    assert (again.returncode, again.stdout) == (2, "")
    nowhere = run_msilo("config", "import-kamailio", str(source), "--output", str(tmp_path / "no" / "msilo.toml"))
    assert (nowhere.returncode, nowhere.stderr) == (
        2, f"msilo: error: {tmp_path}/no/msilo.toml: No such file or directory\n",
    )  # fmt: skip


def test_names_are_defined_as_kamailio_is_told(tmp_path: Path) -> None:
    path = tmp_path / "kamailio.cfg"
    path.write_text('#!ifdef WITH_SILO\nmodparam("msilo", "check_time", PERIOD)\n#!endif\n')
    done = run_msilo("config", "import-kamailio", "-A", "WITH_SILO", "--define", "PERIOD=7", str(path))
    assert tomllib.loads(done.stdout)["msilo"]["check_time"] == 7
    wrong = run_msilo("config", "import-kamailio", "-A", "7=8", str(path))
    assert (wrong.returncode, wrong.stderr) == (
        2, "msilo: error: '7=8' defines nothing: give NAME or NAME=VALUE\n",
    )  # fmt: skip


def test_check_tells_a_mistake_in_one_line(tmp_path: Path) -> None:
    path = tmp_path / "msilo.toml"
    path.write_text("[msilo]\nexpire_tim = 1\n")
    done = run_msilo("config", "check", str(path))
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr == (
        f"msilo: error: {path}: msilo.expire_tim is not a known key: did you mean msilo.expire_time?\n"
    )


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
def test_a_file_that_may_not_be_read(tmp_path: Path) -> None:
    path = tmp_path / "kamailio.cfg"
    path.touch(0o000)
    done = run_msilo("config", "import-kamailio", str(path))
    assert (done.returncode, done.stderr) == (2, f"msilo: error: {path}: Permission denied\n")


def test_the_module_needs_no_event_loop() -> None:
    code = "import msilo_runners.kamailio, sys; print([m for m in ('trio', 'asyncpg') if m in sys.modules])"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, check=True, text=True).stdout == "[]\n"
