"""Published keys: registry, enrolment and events."""
