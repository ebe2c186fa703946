"""What a caller of the API may see, as checks for schemathesis.

Who calls says ``DIT4C_FUZZ_AS``; ``DIT4C_FUZZ_KEEP`` lists the ids of the caller and of the
caller's token, which are to last for the whole run. Loaded by schemathesis itself
(``SCHEMATHESIS_HOOKS``), see ``lib.api_fuzz``.
"""

import os

import schemathesis

_CALLER = os.environ.get("DIT4C_FUZZ_AS", "nobody")
_KEEP = os.environ.get("DIT4C_FUZZ_KEEP", "").split()
# Neither the endpoint nor anything of it: no such route, not such a method, not such a target.
_NOT_THERE = (400, 404, 405)
# The database or a scheduler is not there, which the document says.
_SAID = (503, 504)


@schemathesis.hook
def before_call(ctx, case, kwargs):
    """Schemathesis learns ids from answers, and would end the token that it calls with."""
    if case.path_parameters.get("token") in _KEEP:
        case.path_parameters["token"] = "another"
    kept = case.method == "PATCH" and case.path_parameters.get("id") in _KEEP
    if kept and isinstance(case.body, dict):
        case.body = {key: value for key, value in case.body.items() if key == "name"}


@schemathesis.check
def no_mistake(ctx, response, case):
    """Nothing is answered with a server error that the document does not tell of."""
    assert response.status_code < 500 or response.status_code in _SAID, response.text
    if response.status_code >= 400 and case.method != "HEAD":
        assert response.headers["content-type"][0].startswith("application/problem+json")


@schemathesis.check
def no_unauthorised_answer(ctx, response, case):
    """Without a token nothing is answered, and to a user nothing that is for admins."""
    for_admins = "For admins." in case.operation.definition.raw.get("description", "")
    if _CALLER == "nobody":
        assert response.status_code in (401, *_NOT_THERE), "answered without a token"
    elif _CALLER == "user" and for_admins:
        assert response.status_code in (401, 403, *_NOT_THERE), "answered a user like an admin"
