"""Why a server or a client cannot start.

::

    SipError
    └─ StartError                 nothing was started; the text is one line and names the remedy
       └─ SettingsError           a setting is wrong, as opposed to the machine it is to run on
"""

from msilo_core import SipError

__all__ = ["SettingsError", "StartError"]


class StartError(SipError):
    """A port is taken, the database is down or its tables are missing: what was begun has been undone."""


class SettingsError(StartError):
    """A setting that nobody can run with; the text names it, its value and what to give instead."""
