"""What Bedrock's errors mean: by the name of the exception, then by its words.

The name stands in the header ``x-amzn-errortype`` (``Name:http://...``) or in the
body's ``__type`` (``namespace#Name``), and is missing altogether where a proxy has
taken it away: then the status and the words decide. In a stream it is the event's.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

import attrs

from duckservice.errors import (
    ContextLengthExceeded,
    ModelNotFound,
    PermissionDenied,
    ProviderAuthError,
    ProviderError,
    ProviderTimeout,
    QuotaExceeded,
    RateLimited,
)
from duckservice.providers.failures import Complaint, read_complaint, rule
from duckservice.providers.reading import mapping_or_empty, text_or

_STATUSES: Final[Mapping[str, int]] = {
    "validationexception": 400,
    "accessdeniedexception": 403,
    "resourcenotfoundexception": 404,
    "modeltimeoutexception": 408,
    "modelerrorexception": 424,
    "modelstreamerrorexception": 424,
    "throttlingexception": 429,
    "modelnotreadyexception": 429,
    "internalserverexception": 500,
    "serviceunavailableexception": 503,
}

RULES: Final = (
    rule(
        ProviderAuthError,
        words="unrecognizedclientexception invalidsignatureexception"
        " expiredtokenexception missingauthenticationtokenexception"
        " incompletesignatureexception signaturedoesnotmatch invalidclienttokenid"
        " optinrequired notauthorized",
    ),
    # The health check's list. Who may not see it may still chat.
    rule(PermissionDenied, 403, says=r"bedrock:listasyncinvokes"),
    rule(QuotaExceeded, words="servicequotaexceededexception", retryable=False),
    rule(RateLimited, 429, says=r"per day\b", retryable=False),
    rule(RateLimited, words="throttlingexception toomanyrequestsexception"),
    rule(ProviderTimeout, words="modeltimeoutexception"),
    # The model's server failed, not the request: another try may be better.
    rule(ProviderError, 424, retryable=True),
    rule(ModelNotFound, 404, words="resourcenotfoundexception"),
    rule(
        ModelNotFound,
        400,
        404,
        says=r"model identifier is invalid|with on-demand throughput isn.t supported"
        r"|has reached the end of its life|marked by provider as legacy",
    ),
    rule(
        ContextLengthExceeded,
        400,
        says=r"input tokens exceeded|input is too long|too many input tokens"
        r"|exceeds? (the )?maximum (input )?(length|tokens)|prompt is too long"
        r"|exceed context limit",
    ),
)


def read(status: int, headers: Mapping[str, str], body: object) -> Complaint:
    """Read an error of Bedrock's, or of a proxy before it."""
    complaint = read_complaint(status, headers, body)
    fields = mapping_or_empty(body)
    names = (headers.get("x-amzn-errortype"), fields.get("__type"), fields.get("code"))
    words = {_bare_name(name) for name in names if isinstance(name, str)}
    message = complaint.message or text_or(fields.get("Message"), "")
    return attrs.evolve(
        complaint,
        words=complaint.words | words,
        # What comes behind it quotes the request's headers, the session token too.
        message=message.partition("The Canonical String")[0].rstrip(),
    )


def status_of(name: object) -> int:
    """Return the status that an exception would have had which came with a 200."""
    return _STATUSES.get(_bare_name(name), 500) if isinstance(name, str) else 500


def _bare_name(name: str) -> str:
    return name.rpartition("#")[2].partition(":")[0].strip().lower()
