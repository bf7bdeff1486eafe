"""The HTTP application in front of the service, one module per API."""

from duckservice.gateway.app.api import (
    PROVIDER_ACTIONS as PROVIDER_ACTIONS,
    DaemonControl as DaemonControl,
    ProviderAction as ProviderAction,
    ServiceApi as ServiceApi,
)
from duckservice.gateway.app.application import make_app as make_app
