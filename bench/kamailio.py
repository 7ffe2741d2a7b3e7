"""Kamailio with its module msilo, as Debian packages them: registrar, bindings in memory, and silo on PostgreSQL.

Its routes are the least that does what our server does: a MESSAGE for somebody who is registered is relayed, for
anybody else stored, and a REGISTER has what waits sent. What its module sends is addressed to the domain: it comes back
to itself by ``outbound_proxy``, and goes to the phone's contact from there, as where its manual has a proxy do both.
"""

import contextlib
import tempfile
from collections.abc import Generator
from pathlib import Path
from typing import Final

from bench.servers import Server, UdpProcess
from bench.setting import Setting
from tests.interop.kamailio import Kamailio, create_tables, missing_packages
from tests.postgres import schema_in

__all__ = ["kamailio", "missing_packages"]

_TEMPLATE: Final = """\
#!KAMAILIO
debug=0
log_stderror=yes
children={children}
disable_tcp=yes
auto_aliases=no
alias="{domain}"
listen=udp:127.0.0.1:{{port}}
# As much for what waits to be read as the kernel gives.
maxbuffer=8388608

loadmodule "tm.so"
loadmodule "sl.so"
loadmodule "rr.so"
loadmodule "pv.so"
loadmodule "textops.so"
loadmodule "siputils.so"
loadmodule "maxfwd.so"
loadmodule "usrloc.so"
loadmodule "registrar.so"
loadmodule "db_postgres.so"
loadmodule "msilo.so"

modparam("usrloc", "db_mode", 0)
modparam("usrloc", "hash_size", 14)
{{parameters}}

request_route {{{{
    if (is_method("REGISTER")) {{{{
        save("location");
        m_dump();
        exit;
    }}}}
    if (is_method("OPTIONS")) {{{{
        sl_send_reply("200", "OK");
        exit;
    }}}}
    if (!is_method("MESSAGE") || !mf_process_maxfwd_header("10") || !t_newtran()) {{{{
        sl_reply_error();
        exit;
    }}}}
    $var(owner) = $ru;
    if (lookup("location")) {{{{
        if (!t_relay()) {{{{
            t_reply("500", "Not Relayed");
        }}}}
        exit;
    }}}}
    if (src_ip == myself && $sp == {{port}}) {{{{
        t_reply("480", "Away");
        exit;
    }}}}
    if (m_store("$var(owner)")) {{{{
        t_reply("202", "Accepted");
    }}}} else {{{{
        t_reply("503", "Not Stored");
    }}}}
    exit;
}}}}
"""

# Whole inboxes, each message a transaction.
_MEMORY_MB: Final = 512
_MEMORY_EACH_MB: Final = 64


@contextlib.contextmanager
def kamailio(setting: Setting, children: int) -> Generator[Server]:
    """A Kamailio, on empty tables in the PostgreSQL of the setting.

    Args:
        setting: with the URL of a PostgreSQL.
        children: processes that take requests.
    """
    template = _TEMPLATE.format(children=children, domain=setting.domain)
    with tempfile.TemporaryDirectory(prefix="bench-") as directory, schema_in(setting.storage) as storage:
        create_tables(storage)
        with Kamailio(
            Path(directory), storage=storage, parameters={"add_date": 0}, template=template,
            memory_mb=_MEMORY_MB, memory_each_mb=_MEMORY_EACH_MB,
        ) as process:  # fmt: skip
            yield UdpProcess(process.pid, process.udp)
