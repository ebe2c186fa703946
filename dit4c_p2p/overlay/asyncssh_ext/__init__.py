"""Extensions of asyncssh that depend on its private parts, each checked at import."""
