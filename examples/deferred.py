"""Messages that ask for a time: ``X-Deliver-At: 20261224180000`` is not delivered before.

    msilo serve --route examples.deferred:Deferred --set 'snd_time_avp=$avp(due)' --set send_time=10

``X-Deliver-At`` is in the zone of ``time_zone``, and counts for users who are there as well.
"""

from msilo_core import Call, ServerRoute

__all__ = ["Deferred"]


class Deferred(ServerRoute):
    """The server's own route, but for MESSAGEs with a time."""

    def request_route(self, call: Call) -> None:
        """Store what is deferred; all else as usual."""
        due = call.request.get("x-deliver-at")
        if call.method != "MESSAGE" or not call.is_local or due is None:
            super().request_route(call)
            return
        call.avps["due"] = due
        if not call.m_store():
            call.reply(call.status, call.reason)
