"""What schemathesis cannot know of this API by itself.

Loaded by SCHEMATHESIS_HOOKS. MESTO_FREE names free slots, as DESK,START, so that bookings are made and not only refused.
"""

import os
import random

import schemathesis
from schemathesis.generation import GenerationMode
from schemathesis.specs.openapi.checks import negative_data_rejection

FREE = [tuple(cell.split(",")) for cell in os.environ["MESTO_FREE"].split()]
made = []
dice = random.Random(1)
PROBLEM_FIELDS = {"type", "title", "status", "detail", "code", "request_id", "retryable", "outcome", "errors"}
PROBLEM_TYPE = "application/problem+json"


def header(headers, name):
    """The value of a header of a request, whatever its letter case."""
    return next((value for key, value in (headers or {}).items() if key.lower() == name), None)


@schemathesis.hook
def before_call(context, case, kwargs):
    """Lets half of the valid requests be about a slot that was free when the run began, or a booking that was made."""
    if case.meta is None or case.meta.generation.mode != GenerationMode.POSITIVE or dice.random() < 0.5:
        return
    path, method = case.operation.path, case.operation.method.lower()
    if (path, method) == ("/api/v1/bookings", "post"):
        desk, starts_at = dice.choice(FREE)
        case.body = {"desk": desk, "starts_at": starts_at}
    elif path.startswith("/api/v1/bookings/{id}") and made:
        case.path_parameters = {"id": dice.choice(made)}


@schemathesis.hook
def after_call(context, case, response):
    """Remembers the bookings that were made."""
    if response.status_code == 201 and case.operation.path == "/api/v1/bookings":
        made.append(response.json()["id"])


@schemathesis.check
def no_failure_of_the_server(context, response, case):
    """No 5xx, but for an index that does not exist yet, or a freshness that nobody can vouch for."""
    if response.status_code < 500:
        return
    code = response.json().get("code")
    waited = code == "index_not_reached" and header(case.headers, "mesto-min-index") is not None
    stale = code == "too_stale" and "max_staleness_ms" in (case.query or {})
    assert waited or stale, f"{response.status_code} {code}"


@schemathesis.check
def invalid_data_is_refused(context, response, case):
    """As schemathesis has it, but every 4xx refuses, and HTTP lets a request carry headers that nobody asked for."""
    if 400 <= response.status_code < 500:
        return
    try:
        negative_data_rejection(context, response, case)
    except AssertionError as failure:
        if "in header - object with unexpected properties" not in str(failure):
            raise


@schemathesis.check
def problems_have_their_shape(context, response, case):
    """Every failure is a problem with all that the contract promises, and its headers."""
    if response.status_code < 400:
        return
    content_type = (response.headers.get("content-type") or [""])[0]
    assert content_type == PROBLEM_TYPE, f"a failure as {content_type}"
    problem = response.json()
    missing = PROBLEM_FIELDS - problem.keys()
    assert not missing, f"a problem without {missing}"
    assert problem["status"] == response.status_code
    assert problem["outcome"] in ("not_applied", "unknown")
    assert all({"pointer", "code", "detail"} <= error.keys() for error in problem["errors"])
    if response.status_code in (429, 503):
        assert response.headers.get("retry-after"), "nobody is told when to try again"


@schemathesis.check
def nothing_inner_is_shown(context, response, case):
    """No answer shows a path, a stack or a name of the code."""
    for word in ("panicked", "src/", ".rs:", "openraft", "sled", "/root/", "stack backtrace"):
        assert word not in response.text, f"an answer shows {word!r}"


@schemathesis.check
def answers_reflect_an_index(context, response, case):
    """Each successful answer of the API says which log index it reflects, and each answer has a request id."""
    assert response.headers.get("x-request-id"), "an answer without a request id"
    path = case.operation.path
    if response.status_code < 300 and path.startswith("/api/v1/") and not path.endswith("openapi.json"):
        index = response.headers.get("mesto-index")
        assert index and index[0].isdigit(), "an answer without an index"


@schemathesis.check
def valid_data_is_understood(context, response, case):
    """What the document allows is never called malformed: it is refused for a reason of its own, or carried out."""
    if case.meta is None or case.meta.generation.mode != GenerationMode.POSITIVE:
        return
    # The document forbids an empty tag, and yet schemathesis sends one as valid.
    if response.status_code != 400 or header(case.headers, "if-match") == "":
        return
    problem = response.json()
    # One parameter may depend on another, which a document cannot say; what a feature is called, and which years there
    # are, is said in words. Text with half a surrogate pair is valid JSON by the grammar and means nothing as Unicode.
    # Only a page gives a cursor.
    allowed = problem.get("parameter") in ("max_staleness_ms", "to", "feature", "date")
    allowed = allowed or problem["code"] in ("malformed_json", "invalid_cursor")
    assert allowed, f"400 {problem['code']}: {problem['detail']}"
