"""Messages that the tests of the parser share, and any message."""

from hypothesis import strategies as st

from tests.core.wire import crlf

__all__ = ["MESSAGE", "OK", "TORTUOUS", "changed", "messages", "without"]

MESSAGE = crlf("""
    MESSAGE sip:user2@domain.com SIP/2.0
    Via: SIP/2.0/TCP user1pc.domain.com;branch=z9hG4bK776sgdkse
    Max-Forwards: 70
    From: "Alice" <sip:user1@domain.com>;tag=49583
    To: sip:user2@domain.com
    Call-ID: asd88asd77a@1.2.3.4
    CSeq: 1 MESSAGE
    Content-Type: text/plain
    Content-Length: 18

    Watson, come here.""")

TORTUOUS = crlf("""
    MESSAGE sip:vivekg@chair-dnrc.example.com;unknownparam SIP/2.0
    TO :
     sip:vivekg@chair-dnrc.example.com ;   tag    = 1918181833n
    from   : "J Rosenberg \\\\\\""       <sip:jdrosen@example.com>
      ;
      tag = 98asjd8
    MaX-fOrWaRdS: 0068
    Call-ID: wsinv.ndaksdj@192.0.2.1
    Content-Length   : 4
    cseq: 0009
      MESSAGE
    Via  : SIP  /   2.0
     /UDP
        192.0.2.2;branch=390skdjuw
    s :
    NewFangledHeader:   newfangled value
     continued newfangled value
    UnknownHeaderWithUnusualValue: ;;,,;;,;
    Content-Type: text/plain
    Route:
     <sip:services.example.com;lr;unknownwith=value;unknown-no-value>
    v:  SIP  / 2.0  / TCP     spindle.example.com   ;
      branch  =   z9hG4bK9ikj8  ,
     SIP  /    2.0   / UDP  192.168.255.111   ; branch=
     z9hG4bK30239
    m:"Quoted string \\"\\"" <sip:jdrosen@example.com> ; newparam =
          newvalue ;
      secondparam ; q = 0.33

    v=0.""")

OK = crlf("""
    SIP/2.0 200 OK
    Via: SIP/2.0/UDP 192.0.2.1:5060;branch=z9hG4bKours;rport=5060
    Via: SIP/2.0/TCP user1pc.domain.com;branch=z9hG4bK776sgdkse;received=1.2.3.4
    From: sip:user1@domain.com;tag=49583
    To: sip:user2@domain.com;tag=ab8asdasd9
    Call-ID: asd88asd77a@1.2.3.4
    CSeq: 1 MESSAGE
    Content-Length: 0

    """)


def changed(*pairs: tuple[str, str], data: bytes = MESSAGE) -> bytes:
    """Return a message with each first text replaced by the second."""
    for old, new in pairs:
        assert old.encode() in data
        data = data.replace(old.encode(), new.encode("utf-8", "surrogateescape"), 1)
    return data


def without(name: str, data: bytes = MESSAGE) -> bytes:
    """Return a message without the lines of one header."""
    lines = data.split(b"\r\n")
    return b"\r\n".join(line for line in lines if not line.startswith(name.encode() + b":"))


_tokens = st.from_regex(r"[A-Za-z0-9\-.!%*_+`'~]{1,12}", fullmatch=True)
_texts = st.text(alphabet=st.characters(exclude_characters="\r\n\0", exclude_categories=["Cc", "Cs"]), max_size=20)
_blanks = st.sampled_from(["", " ", "  ", "\t", "\r\n ", " \r\n\t "])
_lines = st.builds(
    "{}{}:{}{}{}".format,
    _tokens.filter(lambda name: len(name) > 1),
    st.sampled_from(["", " ", "\t"]),
    _blanks,
    _texts,
    _blanks,
).map(lambda line: f"X-{line}")


@st.composite
def messages(draw: st.DrawFn) -> bytes:
    """Return the octets of a valid message, spelt in any way."""

    def line(names: list[str], value: str) -> str:
        colon = draw(st.sampled_from([": ", ":", " : ", ":\r\n ", "\t:\t"]))
        return f"{draw(st.sampled_from(names))}{colon}{value}{draw(_blanks)}"

    method, body = draw(_tokens), draw(st.binary(max_size=20))
    start = draw(
        st.sampled_from(
            [f"{method} sip:bob@example.com SIP/2.0", f"SIP/2.0 {draw(st.integers(100, 699))} {draw(_texts)}"]
        )
    )
    tag = draw(_tokens)
    needed = [
        line(["Via", "v", "VIA"], f"SIP/2.0/UDP h{draw(_blanks)};branch={draw(_tokens)}"),
        line(["From", "f", "fRom"], f'"\\"{draw(_tokens)}" {draw(_blanks)}<sip:a@b>;tag={tag}'),
        line(["To", "t", "TO"], "sip:bob@example.com"),
        line(["Call-ID", "i"], draw(_tokens)),
        line(["CSeq", "cseq"], f"{draw(st.integers(0, 2**31 - 1))} {draw(_blanks)} {method}"),
        line(["Content-Length", "l"], str(len(body))),
        *draw(st.lists(_lines, max_size=4)),
    ]
    lines = draw(st.permutations(needed))
    return "\r\n".join([start, *lines, "", ""]).encode("utf-8", "surrogateescape") + body
