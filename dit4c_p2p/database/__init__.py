"""Databases of the components in one process, opened together: SQLite files or PostgreSQL.

    async with databases([DatabaseSpec("portal", folder / "portal.sqlite3"), …]):
        async with in_transaction("portal"):
            …

Opening migrates each database to the newest schema in one transaction. A migration that fails or is
killed changes nothing; of several processes that migrate at once, one does the work. A component's
models are in ``dit4c_p2p.<app>.models``, its migrations in
``dit4c_p2p.<app>.migrations``. After a change of the models::

    python -m dit4c_p2p.database makemigrations portal [--name what_changed]

writes the migration, and ``… check portal`` fails if one is missing. A new column that may not be
NULL needs ``db_default=``.

A task that is started inside a transaction inherits it: start tasks after the ``async with`` ends.

- ``spec``       where a database is, as a setting says it
- ``transaction`` all or nothing, and what is told once it is committed
- ``opening``    migrating and opening
- ``serving``    opening as the one process that serves from them
- ``sqlite``     what a file needs, ``sqlite_client`` how it is spoken to
- ``postgresql`` what a server needs, ``postgresql_client`` how it is spoken to,
  ``postgresql_hold`` how it is held
- ``command``    ``python -m dit4c_p2p.database``
"""

from dit4c_p2p.database.opening import FAILURES, databases, missing_migrations
from dit4c_p2p.database.serving import serving
from dit4c_p2p.database.spec import DatabaseSpec
from dit4c_p2p.database.transaction import in_transaction, once_committed

__all__ = [
    "FAILURES",
    "DatabaseSpec",
    "databases",
    "in_transaction",
    "missing_migrations",
    "once_committed",
    "serving",
]
