"""Non-INVITE transactions: RFC 3261 section 17.1.2 (client, figure 6) and section 17.2.2 (server, figure 8).

Each figure is a table from (state, event) to (handler, next state). A handler returns the actions that the figure's
arrow is labelled with and may arm timers; the state changes in one place, after the handler has returned. A pair that
is not in a table is an event that the figure does not draw for that state (a response after the final one, a timer
that was overtaken): it is ignored.

RFC 4320 adds to figure 8 what it took away from whoever answers: no 408 to a non-INVITE request, so that a transaction
may end without a final response, and a 100 for one that takes its time.

Outside the tables are, on purpose: finding the transaction (sections 17.1.3 and 17.2.3), which the two classes do
with dicts; the initial arrow, which is ``begin``; and the bound on their number, which the RFC does not have.

The user of a client transaction (the "TU" of the RFC) is told of each response, and of a time-out or a transport
error as the status that section 8.1.3.1 says to treat it as. Its answer, a list of actions, comes out of the same call.
"""

from msilo_core.transactions.client import (
    CLIENT_TABLE,
    ClientEvent,
    ClientState,
    ClientTransaction,
    ClientTransactions,
    ClientUser,
)
from msilo_core.transactions.server import (
    SERVER_TABLE,
    ServerEvent,
    ServerState,
    ServerTransaction,
    ServerTransactions,
    server_key,
)
from msilo_core.transactions.timers import TIMED_OUT, TRANSPORT_FAILED

__all__ = [
    "CLIENT_TABLE",
    "SERVER_TABLE",
    "TIMED_OUT",
    "TRANSPORT_FAILED",
    "ClientEvent",
    "ClientState",
    "ClientTransaction",
    "ClientTransactions",
    "ClientUser",
    "ServerEvent",
    "ServerState",
    "ServerTransaction",
    "ServerTransactions",
    "server_key",
]
