"""``/api/v1``: for programs, with ``Authorization: Bearer TOKEN``. Cookies count for nothing here.

| request                          | answer                                                      |
|----------------------------------|-------------------------------------------------------------|
| GET images                       | 200 ``[{name, title, description, image, icon}]``           |
| POST instances {image, name?}    | 201 an instance, ``Location``                               |
| GET instances[?all=1]            | 200 ``[instance]``, newest first; ``all``: discarded ones too |
| GET instances/{id}               | 200 an instance                                             |
| GET instances/{id}/events        | events ``state``: an instance each, until it is discarded   |
| GET instances/{id}/logs[?lines=] | 200 text, or JSON ``{text}`` by ``Accept``                  |
| POST instances/{id}/discard      | 202 an instance                                             |
| GET keys                         | 200 ``[key]``                                               |
| POST keys/challenge              | 201 ``{nonce, expires_in}``, see ``portal.enrolment``       |
| POST keys                        | 201 a key                                                   |
| POST keys/{fingerprint}/revoke   | 200 a key                                                   |
| GET whoami                       | 200 ``{kind, id, name, admin}``, also for peers             |

What begins with ``keys`` is for admins.
An instance is ``{id, name, state, info, progress, url, image, actions, created}``, a key
``{fingerprint, name, kind, id, published, revoked, last_seen, in_force}``. Every error is an
RFC 9457 problem document. What belongs to somebody else looks as if it were not there.
"""
