"""Bodies of type message/cpim: what is read of one is refused or makes an IMDN, which asks for none."""

import contextlib
import xml.etree.ElementTree as ET

from msilo_core.cpim import parse_cpim, unescape_cpim
from msilo_core.errors import PeerError
from msilo_core.imdn import CPIM_TYPE, Disposition, build_imdn, is_imdn, read_im

__all__ = ["cpim"]


def cpim(data: bytes) -> None:
    """The octets are a body; what they ask for is told of."""
    with contextlib.suppress(PeerError):
        for _, _, value in parse_cpim(data).headers:
            unescape_cpim(value).encode()
    im = read_im(CPIM_TYPE, data)
    if im is None:
        return
    assert not is_imdn(CPIM_TYPE, data), "an IMDN is told of"
    for disposition in Disposition:
        body = build_imdn(
            im, disposition, "1", sender_uri="sip:a@b", recipient_uri="sip:c@d", stored_s=0, now_s=1
        )  # fmt: skip
        assert len(body) < 20_000
        assert is_imdn(CPIM_TYPE, body), body
        assert read_im(CPIM_TYPE, body) is None, body
        parsed = parse_cpim(body)
        assert [parsed.values(name) for name in ("From", "To")] == [
            [im.recipient or "<sip:c@d>"],
            [im.sender or "<sip:a@b>"],
        ]
        document = ET.fromstring(body.split(b"\r\n\r\n", 2)[2])
        assert len(document) == 5, body
