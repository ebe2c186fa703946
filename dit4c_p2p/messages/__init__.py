"""Records that cross a wire, as plain types; imports no component and does no I/O.

``codec`` turns them into JSON and back, checked. One module per conversation:

- ``registry``   the published keys' documents and events
- ``public``     ``GET /config.json``
- ``link``       portal ⇄ scheduler, over a WebSocket
- ``node``       scheduler ⇄ node agent, over an SSH subsystem
- ``pod``        what a node agent gives its pod's helpers, and what they say back
- ``helper``     helper → portal
- ``router``     router → portal
- ``grants``     portal ⇄ file server: whose files, and which keys have logged in
- ``instances``  the states of an instance
- ``image``      how an image is called
"""
