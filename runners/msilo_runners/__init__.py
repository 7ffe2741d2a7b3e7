"""msilo on a network: the server for trio and asyncio applications, and the command line."""

from msilo_runners.driver import TransportStatistics
from msilo_runners.errors import SettingsError, StartError
from msilo_runners.server import BatchCounts, Server
from msilo_runners.settings import ServerConfig

__all__ = ["BatchCounts", "Server", "ServerConfig", "SettingsError", "StartError", "TransportStatistics"]
