"""msilo's sans-IO core: octets, completions and time in, actions out.

The one class to meet is :class:`Engine`; :class:`UserAgent` is a small phone in the same shape.
"""

from msilo_core.actions import *
from msilo_core.agent import *
from msilo_core.clock import *
from msilo_core.compose import *
from msilo_core.config import *
from msilo_core.engine import *
from msilo_core.errors import *
from msilo_core.fields import *
from msilo_core.flow import *
from msilo_core.headers import *
from msilo_core.limits import *
from msilo_core.message import *
from msilo_core.parameters import *
from msilo_core.route import *
from msilo_core.statistics import *
from msilo_core.tel import *
from msilo_core.uri import *
from msilo_core.users import *
from msilo_core.worker import *

__version__ = "0.1.0"
