"""Everything that can go wrong, as one tree; each class is one code of the HTTP API.

    DuckError
    ├── RequestError                  the caller's request is at fault
    │   ├── InvalidRequest            invalid_request 400
    │   ├── ContentFiltered           content_filtered 400
    │   ├── ContextLengthExceeded     context_length_exceeded 400
    │   ├── PermissionDenied          permission_denied 403
    │   ├── NotFound                  not_found 404
    │   ├── ModelNotFound             model_not_found 404
    │   ├── Conflict                  conflict 409
    │   ├── RequestTooLarge           request_too_large 413
    │   └── Unprocessable             unprocessable 422
    ├── ProviderError                 provider_error 502; a provider failed, or said no
    │   ├── ProviderAuthError         provider_auth_error 401
    │   ├── RateLimited               rate_limited 429
    │   ├── QuotaExceeded             quota_exceeded 429
    │   ├── BadProviderResponse       bad_provider_response 502
    │   └── ProviderTimeout           timeout 504
    └── ServiceError                  duckservice itself cannot serve it now
        ├── BudgetExceeded            budget_exceeded 402
        ├── QueueFull                 queue_full 429
        ├── Cancelled                 cancelled 499
        ├── InternalError             internal_error 500
        ├── NoAvailableProvider       no_available_provider 503
        ├── CircuitOpen               circuit_open 503
        ├── Draining                  draining 503
        ├── Unavailable               unavailable 503
        └── DeadlineExceeded          deadline_exceeded 504

``retryable`` says whether the same request may succeed later, or elsewhere.
A provider may also answer with one of the ``RequestError`` codes; ``provider``
is then set.
"""

from __future__ import annotations

from typing import ClassVar


class DuckError(Exception):
    """Base of every error that duckservice raises on purpose.

    ``str(error)`` is safe to show: it holds no secret and no prompt.
    """

    code: ClassVar[str] = "internal_error"
    status: ClassVar[int] = 500

    #: Default of :attr:`retryable`; an instance may say otherwise.
    retryable_by_default: ClassVar[bool] = False

    def __init__(
        self,
        message: str,
        *,
        provider: str | None = None,
        retry_after: float | None = None,
        retryable: bool | None = None,
        param: str | None = None,
    ) -> None:
        super().__init__(message)
        self.message = message
        self.provider = provider
        """The provider that failed, where one was asked."""
        self.retry_after = retry_after
        """Seconds after which the request may succeed, where known."""
        self.retryable = self.retryable_by_default if retryable is None else retryable
        """Whether the same request may succeed later, or elsewhere."""
        self.param = param
        """The field of the request that is at fault, where one is."""
        self.upstream_status: int | None = None
        """The HTTP status that the provider answered with, or that its error in a
        200 names; None without one. Whoever reads the answer sets it."""
        self.quotes_provider = False
        """Whether the message holds the provider's own words. They are for the
        client: they may quote its prompt, so they stay out of the log."""
        self.never_sent = False
        """Whether the provider has surely not got the request."""
        self.job: str | None = None
        """The job that failed; whoever has given it one sets it."""
        self.request_id: str | None = None
        """The request's id, caller's or ours; set on the way out."""


class RequestError(DuckError):
    """The caller's request is at fault; sending it again changes nothing."""

    code = "invalid_request"
    status = 400


class InvalidRequest(RequestError):
    """The request is malformed, or asks for what cannot be translated."""


class ContentFiltered(RequestError):
    """The provider refused the content of the prompt or of its own reply."""

    code = "content_filtered"


class ContextLengthExceeded(RequestError):
    """The prompt and the asked reply do not fit the model's context window."""

    code = "context_length_exceeded"


class PermissionDenied(RequestError):
    """The caller may not do this."""

    code = "permission_denied"
    status = 403


class NotFound(RequestError):
    """There is nothing of that name."""

    code = "not_found"
    status = 404


class ModelNotFound(RequestError):
    """No configured provider serves the model."""

    code = "model_not_found"
    status = 404


class Conflict(RequestError):
    """The request contradicts the present state."""

    code = "conflict"
    status = 409


class RequestTooLarge(RequestError):
    """The request's body is larger than the limit."""

    code = "request_too_large"
    status = 413


class Unprocessable(RequestError):
    """The request is well-formed, but a provider cannot make sense of it."""

    code = "unprocessable"
    status = 422


class ProviderError(DuckError):
    """One request to one provider failed: 5xx, connection, protocol."""

    code = "provider_error"
    status = 502
    retryable_by_default = True


class ProviderAuthError(ProviderError):
    """The provider refuses our key. Another provider may still serve."""

    code = "provider_auth_error"
    status = 401
    retryable_by_default = False


class RateLimited(ProviderError):
    """The provider, or our own limit for it, asks to wait."""

    code = "rate_limited"
    status = 429


class QuotaExceeded(ProviderError):
    """The account at the provider is used up; waiting does not help."""

    code = "quota_exceeded"
    status = 429
    retryable_by_default = False


class BadProviderResponse(ProviderError):
    """The provider sent what is not an answer: wrong type, truncated, broken."""

    code = "bad_provider_response"


class ProviderTimeout(ProviderError):
    """The provider did not answer in the time configured for it."""

    code = "timeout"
    status = 504


class ServiceError(DuckError):
    """duckservice cannot serve the request now."""

    code = "unavailable"
    status = 503


class BudgetExceeded(ServiceError):
    """The request's worst case does not fit what may still be spent."""

    code = "budget_exceeded"
    status = 402

    budget: str | None = None
    """The budget of the config that is at its end; None: the request's own limit."""


class QueueFull(ServiceError):
    """Too many requests wait already."""

    code = "queue_full"
    status = 429
    retryable_by_default = True


class Cancelled(ServiceError):
    """The request was cancelled by its owner."""

    code = "cancelled"
    status = 499


class InternalError(ServiceError):
    """A bug in duckservice. The log has the details, under the request's id."""

    code = "internal_error"
    status = 500


class NoAvailableProvider(ServiceError):
    """Every provider that serves the model was refused or has failed."""

    code = "no_available_provider"
    retryable_by_default = True


class CircuitOpen(ServiceError):
    """Every provider that serves the model is taking a rest after failures."""

    code = "circuit_open"
    retryable_by_default = True


class Draining(ServiceError):
    """The daemon is about to stop and takes no new work."""

    code = "draining"
    retryable_by_default = True


class Unavailable(ServiceError):
    """A part that the request needs cannot take work now."""

    code = "unavailable"
    retryable_by_default = True


class DeadlineExceeded(ServiceError):
    """The request's own deadline has passed."""

    code = "deadline_exceeded"
    status = 504


#: What is told to who goes on asking a service whose block is over.
HAS_ENDED = "the service has ended; what is to be asked belongs into its block"


def forget_frames(error: BaseException) -> None:
    """Have *error*, and what it came from, lead to no frames any more.

    For whoever has answered it, and prints no traceback. A frame holds what its function
    had in hand, be it 32 MiB of a body, and mostly the error, too: such a pair stays in
    memory until the garbage collector looks for pairs, which may take minutes.
    """
    seen: list[BaseException] = []
    left: list[BaseException | None] = [error]
    while left:
        its = left.pop()
        if its is not None and its not in seen:
            seen.append(its)
            its.__traceback__ = None
            left += [its.__cause__, its.__context__]
