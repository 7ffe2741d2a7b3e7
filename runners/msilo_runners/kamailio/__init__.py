"""A ``kamailio.cfg``, read for what it says of offline messages, and our settings made of it.

::

    preprocessor.py   #!define, #!subst and their kin: what names stand for
    tokens.py         the file and those it includes, as tokens with their places
    statements.py     the statements that matter here: modparam, listen, alias; of the rest the names
    convert.py        our TOML, with a comment for whatever could not be carried over
    zone.py           the time zone of this machine, which is Kamailio's
"""

from msilo_runners.kamailio.convert import Imported, import_kamailio
from msilo_runners.kamailio.preprocessor import Define, parse_define_option

__all__ = ["Define", "Imported", "import_kamailio", "parse_define_option"]
