"""The storage helper: a person's files, kept by a file server, as a file system in the pod."""
