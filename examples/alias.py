"""Names that share an inbox: what is for ``sales@`` waits for whoever has the duty.

msilo serve --route examples.alias:Alias
"""

from typing import ClassVar

from msilo_core import Call, ServerRoute

__all__ = ["Alias"]


class Alias(ServerRoute):
    """The server's own route, but for MESSAGEs for an alias.

    Attributes:
        aliases: user parts of addresses, and of those whose inbox it is.
    """

    aliases: ClassVar[dict[str, str]] = {"sales": "bob", "support": "carol"}

    def request_route(self, call: Call) -> None:
        """Store what is for an alias; all else as usual."""
        owner = call.owner
        if call.method != "MESSAGE" or not call.is_local or owner is None or owner.username not in self.aliases:
            super().request_route(call)
            return
        inbox = f"sip:{self.aliases[owner.username]}@{owner.domain}"
        # Bob sees whom it was for: the recipient stays the alias.
        if not call.m_store_addrs(inbox, call.request.from_.uri_text, str(owner)):
            call.reply(call.status, call.reason)
