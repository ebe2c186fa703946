"""The auth helper: an HTTP/1 reverse proxy on a path socket in front of one app.

    connection  →  rules (may this request pass?)  →  exchange  →  upstream (the app)
        │              sessions, login                 headers, cookies
        └→ own (everything below /.dit4c/), pages

One task per client connection reads requests one after the other; a body is passed on as it comes.
"""
