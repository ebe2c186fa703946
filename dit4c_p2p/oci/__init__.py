"""OCI images: references and archives."""
