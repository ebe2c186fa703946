"""``/api/v1``: for programs, with ``Authorization: Bearer TOKEN``. Cookies count for nothing here.

| request                                 | answer                                               |
|-----------------------------------------|------------------------------------------------------|
| GET images                              | 200 ``[image]``: what can be started                 |
| GET tools[?offered]                     | 200 ``[tool]``, also what was withdrawn (admins)     |
| POST tools {name, title, image, description?, icon?} | 201 a tool, ``Location`` (admins)       |
| GET tools/{name}                        | 200 a tool (admins)                                  |
| PATCH tools/{name} {title?, description?, icon?, image?, offered?} | 200 a tool (admins)       |
| POST instances {image, name?} or {from, kept_on?, name?} | 201 an instance, ``Location``       |
| GET instances[?all, state, image, q]    | 200 ``[instance]``, newest first                     |
| GET instances/{id}                      | 200 an instance                                      |
| PATCH instances/{id} {name?, checkpoint_minutes?} | 200 an instance                            |
| GET instances/{id}/events               | events ``state``: an instance each                   |
| GET instances/{id}/logs[?lines=]        | 200 text, or JSON ``{text}`` by ``Accept``           |
| POST instances/{id}/stop, start, save, checkpoint, go-on, discard | 202 an instance            |
| GET, PATCH people/{id}/checkpoints {minutes} | 200 how often they are made (admins; oneself)   |
| POST instances/{id}/pull-secrets {hours} | 201 what a container engine logs in and pulls with  |
| GET instances/{id}/pull-secrets         | 200 ``[secret]``: those in force                     |
| POST instances/{id}/pull-secrets/{secret}/revoke | 200 ``[secret]``                            |
| GET clusters                            | 200 ``[cluster]``                                    |
| GET people[?state, q]                   | 200 ``[person]``, newest first (admins)              |
| POST people {name, id?, admin?, ends?, link_hours?} | 201 a person with ``login`` (admins)     |
| GET people/{id}                         | 200 a person (admins; oneself)                       |
| PATCH people/{id} {name?, ends?, disabled?} | 200 a person (admins)                            |
| POST people/{id}/login-links {link_hours?} | 201 ``{url, expires}`` (admins)                   |
| GET people/{id}/tokens                  | 200 ``[token]`` (admins; oneself)                    |
| POST people/{id}/tokens {label, days?, scopes?} | 201 a token with its text (admins)            |
| POST people/{id}/tokens/{token}/revoke  | 200 ``[token]`` (admins; oneself)                    |
| GET invitations                         | 200 ``[invitation]``, newest first (admins)          |
| POST invitations {label, expires, uses?, …} | 201 an invitation with ``url`` (admins)           |
| POST invitations/{id}/end               | 200 an invitation (admins)                           |
| GET keys[?kind, in_force]               | 200 ``[key]``, newest first (admins)                 |
| POST keys/challenge                     | 201 ``{nonce, expires_in}``, see ``portal.enrolment`` |
| POST keys                               | 201 a key (admins)                                   |
| POST keys/{fingerprint}/revoke          | 200 a key (admins)                                   |
| GET whoami                              | 200 ``{kind, id, name, admin}``, also for peers      |

``records`` has the form of each, ``table`` the declarations, and ``/api/openapi.json`` says it all
to programs. Lists take ``limit`` and ``cursor`` and go on at ``Link: <…>; rel="next"``. Every error
is an RFC 9457 problem document. What belongs to somebody else looks as if it were not there.
"""
