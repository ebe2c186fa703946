"""Use cases: each does its work, writes it into the audit log and tells who has to know.

API, pages and peers call these; the transaction, the audit line and the announcement stand here.
"""
