"""Senders that are programs are not told that their message waits.

    msilo serve --route examples.quiet:Quiet --set skip_notification_flag=5 \\
        --set 'from_address=sip:silo@example.com' --set 'offline_message=$rU is away' \\
        --set 'content_type_hdr=Content-Type: text/plain'
"""

from msilo_core import Call, ServerRoute

__all__ = ["Quiet"]


class Quiet(ServerRoute):
    """The server's own route, with a flag on what a program sent."""

    flag = 5

    def request_route(self, call: Call) -> None:
        """Set the flag; then as usual."""
        if call.evaluate("$ua").lower().startswith("monitor"):
            call.flags.add(self.flag)
        super().request_route(call)
